"""What every reader yields, and the few checks that they share."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from thfm_ros.encoded_image import decode_image
from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.letterbox import Letterbox

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".avif", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Joints:
    """xyz (F, K, 3) metres in the camera frame, of a joint set; valid (F,) bool: the frames that count."""

    xyz: np.ndarray
    joint_set: str
    valid: np.ndarray


@dataclass(frozen=True)
class Recording:
    """One sequence (or photo) with its truth, read frame by frame on demand.

    image(i): uint8 RGB (H, W, 3). truth(i): any of alpha (H, W) float32 or uint8, normals (H, W, 3), depth (H, W)
    metres (inf or 0 where none), mask (H, W) bool (where normals or depth count). joints(): all frames at once.
    intrinsics: of the image, where the data set tells. files: what the truth comes from, and origin: the data set's
    folder; a row that was kept is used again only while both are the same.
    """

    name: str
    frames: int
    fps: float
    image: Callable[[int], np.ndarray]
    truth: Callable[[int], dict[str, np.ndarray]] | None = None
    joints: Callable[[], Joints] | None = None
    intrinsics: Intrinsics | None = None
    files: tuple[Path, ...] = ()
    origin: str = ""

    def stamp(self) -> list[Any]:
        """Everything about the data that is known without reading it: place, length, names, sizes and times."""
        return [self.origin, self.frames, self.fps, [_stamp(path) for path in self.files]]

    def still(self) -> np.ndarray:
        """(F, H, W, 3): a view that repeats the first frame, for predictors that look at the size alone."""
        image = self.image(0)
        return np.broadcast_to(image, (self.frames, *image.shape))

    def video(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """(F, h, w, 3) uint8, shrunk to fit into `size` (width, height) with its aspect kept; never enlarged."""
        frames: list[np.ndarray] = []
        for i in range(self.frames):
            image = self.image(i)
            if size is not None and (image.shape[1] > size[0] or image.shape[0] > size[1]):
                content = Letterbox.of((image.shape[1], image.shape[0]), size).content
                image = cv2.resize(image, content, interpolation=cv2.INTER_AREA)
            if frames and image.shape != frames[0].shape:
                raise UserError(f"{self.name}: frame {i} is {image.shape[1]}x{image.shape[0]}, unlike the first one")
            frames.append(image)
        return np.stack(frames)


def _stamp(path: Path) -> list[Any]:
    try:
        found = path.stat()
    except OSError:  # files that need not be there, such as joints computed elsewhere
        return [str(path.resolve()), None]
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def need(path: Path, what: str, source: str) -> Path:
    """`path`, or a UserError that says what it is and where to get it."""
    if not path.exists():
        raise UserError(f"{what} not found: expected {path}; {source}")
    return path


def some(items: list[Path], root: Path, pattern: str, source: str) -> list[Path]:
    """`items`, or a UserError if there are none."""
    if not items:
        raise UserError(f"nothing matches {pattern} in {root}; {source}")
    return items


def find_image(stem: Path) -> Path:
    """The image with that stem and any known suffix."""
    for suffix in IMAGES:
        path = stem.parent / (stem.name + suffix)
        if path.is_file():
            return path
    raise UserError(f"image not found: expected {stem}{{{','.join(IMAGES)}}}")


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names; [] where there is no such folder."""
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGES) if folder.is_dir() else []


def decode(data: bytes, name: object, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """An encoded image; colour as RGB (and RGBA under IMREAD_UNCHANGED). A photograph is turned as its EXIF says."""
    try:
        image = decode_image(data, flags)
    except ValueError as error:
        expected = "expected an image that OpenCV reads (AVIF needs OpenCV 4.11 or newer)"
        raise UserError(f"cannot decode {name}: {expected}, found {error}") from None
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return image


def load_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return decode(_bytes(path), path)


def load_gray(path: Path) -> np.ndarray:
    """(H, W) uint8."""
    return decode(_bytes(path), path, cv2.IMREAD_GRAYSCALE)


def load_rgba(path: Path) -> np.ndarray:
    """(H, W, 4) uint8; UserError where there is no alpha."""
    image = decode(_bytes(path), path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.shape[2] != 4:
        raise UserError(f"expected an RGBA image, found shape {image.shape}: {path}")
    return image


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def open_zip(path: Path, what: str, source: str) -> zipfile.ZipFile:
    """An archive that exists and is one."""
    try:
        return zipfile.ZipFile(need(path, what, source))
    except zipfile.BadZipFile:
        raise UserError(f"{path} is no zip archive: download it again") from None


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of an archive."""
    try:
        return archive.read(name)
    except Exception as error:  # zipfile and zlib raise whatever a damaged archive provokes
        raise UserError(f"cannot read {name} in {archive.filename}: {_first_line(error)}; download it again") from None


def load_npz(path: Path, names: Sequence[str], source: str, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays `names` of an .npz, and those of `optional` that it has.

    UserError for a damaged file, and for one of another version.
    """
    need(path, "an annotation file", source)
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = stored.files
            table = {name: stored[name] for name in (*names, *optional) if name in found}
    except Exception as error:  # numpy, zipfile and zlib raise whatever a damaged file provokes
        raise UserError(f"cannot read {path} as .npz: {_first_line(error)}; {source}") from None
    for name in names:
        if name not in table:
            raise UserError(f"{path}: expected entry '{name}', found {', '.join(found)}: another version? {source}")
    return table


def load_npy(path: Path, shape: Sequence[int], source: str) -> np.ndarray:
    """The array of an .npy, of `shape` (-1: any length)."""
    need(path, "an annotation file", source)
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it holds several arrays")
    except Exception as error:  # numpy raises whatever a damaged file provokes
        raise UserError(f"cannot read {path} as .npy: {_first_line(error)}; {source}") from None
    numbers(array, shape, path, "its array")
    return array


def load_json(path: Path, source: str) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        table = json.loads(_bytes(need(path, "an annotation file", source)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}; {source}") from None
    if not isinstance(table, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(table).__name__}; {source}")
    return table


def numbers(value: Any, shape: Sequence[int], path: Path, name: str) -> np.ndarray:
    """`value` as float64 of `shape` (-1: any length); UserError that names the file for anything else."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise UserError(f"{path}: expected numbers as {name}, found {kind}: damaged or another version?") from None
    if array.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
        wanted = "x".join("N" if n == -1 else str(n) for n in shape) or "one number"
        raise UserError(f"{path}: expected {name} of shape {wanted}, found {array.shape}: another version?")
    return array


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def opencv_intrinsics(matrix: np.ndarray, width: int, height: int) -> Intrinsics:
    """Converts a calibration whose integer coordinates are pixel centres (OpenCV's); ours count from the corner."""
    return Intrinsics(
        float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]) + 0.5, float(matrix[1, 2]) + 0.5, width, height
    )
