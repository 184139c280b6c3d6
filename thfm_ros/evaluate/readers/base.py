"""What every reader yields, and the few checks that they share."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.video import Fit

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".avif")


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
    intrinsics: of the image, where the data set tells.
    """

    name: str
    frames: int
    fps: float
    image: Callable[[int], np.ndarray]
    truth: Callable[[int], dict[str, np.ndarray]] | None = None
    joints: Callable[[], Joints] | None = None
    intrinsics: Intrinsics | None = None

    def video(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """(F, h, w, 3) uint8, shrunk to fit into `size` (width, height) with its aspect kept; never enlarged."""
        frames: list[np.ndarray] = []
        for i in range(self.frames):
            image = self.image(i)
            if size is not None and (image.shape[1] > size[0] or image.shape[0] > size[1]):
                content = Fit.of((image.shape[1], image.shape[0]), size).content
                image = cv2.resize(image, content, interpolation=cv2.INTER_AREA)
            if frames and image.shape != frames[0].shape:
                raise UserError(f"{self.name}: frame {i} is {image.shape[1]}x{image.shape[0]}, unlike the first one")
            frames.append(image)
        return np.stack(frames)


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
    """An encoded image; colour as RGB (and RGBA under IMREAD_UNCHANGED)."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise UserError(f"cannot decode {name}: expected an image that OpenCV reads (AVIF needs OpenCV 4.11 or newer)")
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


def opencv_intrinsics(matrix: np.ndarray, width: int, height: int) -> Intrinsics:
    """Of a calibration whose integer coordinates are pixel centres (OpenCV's); ours count from the corner."""
    return Intrinsics(
        float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]) + 0.5, float(matrix[1, 2]) + 0.5, width, height
    )
