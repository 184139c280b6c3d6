"""Folders of pictures that the user brings: panoramas that light a scene, photographs that stand behind people.

Panoramas (.hdr, .exr, .jpg, .png; twice as wide as high) become 256 x 512 of linear radiance, as the artefact's own
are. Photographs are shrunk as they are read. Every file is looked at when the folder is opened, so that what is wrong
with it is one line before any work. OpenCV is imported where pictures are read: a machine that only renders need not
have it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, files_below
from thfm_ros.paths import cache_folder
from thfm_ros.synth.assets import Assets
from thfm_ros.synth.materials import linear
from thfm_ros.synth.sample import Clip

SUFFIXES = {
    "panoramas": (".hdr", ".exr", ".jpg", ".jpeg", ".png"),
    "photographs": (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"),
}
PANORAMA = (256, 512)
PEAK = 2000.0  # radiance that half-floats hold without loss of what is below
SMALLEST = 64  # pixels along a photograph's or a panorama's shorter side
LARGEST = 640  # pixels along a photograph's longer side that are kept


@dataclass(frozen=True)
class PictureFolder:
    """A folder of pictures as it was when a run began; equal where kind, names and contents are, wherever it lies."""

    folder: str = field(compare=False)  # absolute: a worker may run in another directory
    kind: Literal["panoramas", "photographs"]
    sha256: str

    @classmethod
    def at(cls, folder: str | Path, kind: Literal["panoramas", "photographs"]) -> PictureFolder:
        """Reads every picture once. UserError names the folder or the picture that cannot be used, and why."""
        path = Path(folder).expanduser().resolve()
        if not path.is_dir():
            raise UserError(f"the folder of {kind} {folder} does not exist")
        total = hashlib.sha256()
        for file in _files(path, kind):
            content = file.read_bytes()
            _check(file, content, kind)
            total.update(f"{file.relative_to(path)}\n".encode())
            total.update(hashlib.sha256(content).digest())
        return cls(str(path), kind, total.hexdigest())

    @property
    def files(self) -> list[Path]:
        return _folder_files(self.folder, self.kind)


def _files(folder: Path, kind: str) -> list[Path]:
    """The pictures below the folder in a fixed order, at least one."""
    known = SUFFIXES[kind]
    found = [path for path in files_below(folder) if path.suffix.lower() in known]
    if not found:
        raise UserError(f"no {kind} in {folder}: expected files that end in {', '.join(known)}")
    return found


def left_out(folder: str | Path, kind: Literal["panoramas", "photographs"]) -> str:
    """How many pictures a folder has and how many files that are none, in words; empty where there are no others."""
    found = files_below(Path(folder).expanduser())
    count = sum(path.suffix.lower() in SUFFIXES[kind] for path in found)
    return f"{count} {kind}, {len(found) - count} other files left out" if count < len(found) else ""


@lru_cache(maxsize=8)
def _folder_files(folder: str, kind: str) -> list[Path]:
    return _files(Path(folder), kind)


def _check(file: Path, content: bytes, kind: str) -> None:
    import cv2

    if file.suffix.lower() == ".exr":
        height, width = _read_exr(file).shape[:2]
    else:
        # An eighth of a JPEG's size is decoded in a fraction of the time; shrunk is what a photograph becomes anyway.
        how = cv2.IMREAD_REDUCED_COLOR_2 if kind == "photographs" else cv2.IMREAD_UNCHANGED
        height, width = (n * (2 if kind == "photographs" else 1) for n in _picture(file, content, how).shape[:2])
    if min(height, width) < SMALLEST:
        raise UserError(f"{file} is {width}x{height}: expected {SMALLEST} pixels or more along each side; remove it")
    if kind == "panoramas" and not 1.9 < width / height < 2.1:
        raise UserError(
            f"{file} is {width}x{height}: expected an equirectangular panorama, twice as wide as high; remove it"
        )


def _picture(file: Path, content: bytes, how: int) -> np.ndarray:
    """A file's content as OpenCV reads it; UserError where it does not."""
    from thfm_ros.encoded_image import opencv_image

    image = opencv_image(content, how)
    if image is None:
        raise UserError(f"{file} is no picture that can be read: restore it, or remove it from the folder")
    return image


def _read_exr(file: Path) -> np.ndarray:
    """(H, W, 3) float32 of red, green, blue. OpenCV's wheels leave EXR out."""
    try:
        import OpenEXR
    except ImportError:
        raise UserError(f"reading {file} needs OpenEXR: pip install OpenEXR, or convert it to .hdr") from None
    try:
        with OpenEXR.File(str(file)) as exr:
            channels = exr.channels()
            joined = next((channels[c].pixels for c in ("RGB", "RGBA") if c in channels), None)
            image = joined[..., :3] if joined is not None else np.stack([channels[c].pixels for c in "RGB"], -1)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{file} cannot be read as EXR with red, green and blue: {error}") from None
    return np.asarray(image, np.float32)


def read_panorama(file: Path) -> np.ndarray:
    """(256, 512, 3) float32 linear radiance; pictures of 8 or 16 bits are taken for sRGB."""
    import cv2

    if file.suffix.lower() == ".exr":
        image = _read_exr(file)
    else:
        found = _picture(file, file.read_bytes(), cv2.IMREAD_UNCHANGED)
        image = np.atleast_3d(found)[..., :3]
        image = np.repeat(image, 3, -1) if image.shape[-1] == 1 else image[..., ::-1]
        if np.issubdtype(image.dtype, np.integer):
            image = linear(image / np.iinfo(image.dtype).max)
    image = np.clip(np.nan_to_num(image, nan=0.0, posinf=PEAK), 0, PEAK).astype(np.float32)
    return cv2.resize(np.ascontiguousarray(image), PANORAMA[::-1], interpolation=cv2.INTER_AREA)


def _panoramas(folder: PictureFolder) -> np.ndarray:
    """(N, 256, 512, 3) float16. Large ones take seconds each, so they are kept in the user's cache, if there is one."""
    try:
        file = cache_folder("panoramas") / f"{folder.sha256}.npz"
    except (OSError, RuntimeError):
        return _shrunk(folder)
    try:
        with np.load(file, allow_pickle=False) as kept:
            return kept["panoramas"]
    except (OSError, ValueError, KeyError, BadZipFile):  # none yet, or damaged
        made = _shrunk(folder)
    with suppress(OSError), atomic(file) as temporary, temporary.open("wb") as out:
        np.savez(out, panoramas=made)
    return made


def _shrunk(folder: PictureFolder) -> np.ndarray:
    return np.stack([read_panorama(f) for f in folder.files]).astype(np.float16)


@cache
def with_environments(assets: Assets, folder: PictureFolder) -> Assets:
    """The artefact with the folder's panoramas beside its own environments, under names of their own; made once."""
    path = Path(folder.folder)
    names = [f"{folder.sha256[:6]}/{f.relative_to(path)}" for f in folder.files]
    own = dict(zip(names, _panoramas(folder).astype(np.float32), strict=True))
    digest = hashlib.sha256(f"{assets.digest} {folder.sha256}".encode()).hexdigest()
    return replace(assets, environments=assets.environments | own, digest=digest)


@lru_cache(maxsize=256)
def read_photograph(file: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright as its EXIF says, at most LARGEST pixels wide or high."""
    import cv2

    image = _picture(file, file.read_bytes(), cv2.IMREAD_COLOR)
    scale = LARGEST / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1])


def views(
    rng: np.random.Generator, folder: PictureFolder, frames: int, height: int, width: int
) -> tuple[np.ndarray, str]:
    """Parts of one photograph as a camera would show it: (frames, height, width, 3) uint8, and the photograph's name.

    The photograph fills them; it is mirrored half of the time, out of focus now and then, and the camera pans slowly or
    stands still.
    """
    import cv2

    file = folder.files[int(rng.integers(len(folder.files)))]
    image = read_photograph(file)
    h, w = image.shape[:2]
    fill = max(height / h, width / w)
    scale = fill * float(np.exp(abs(rng.normal(0, 0.4))))
    low = np.zeros(2)
    high = np.array([w * scale - width, h * scale - height])
    start = rng.uniform(low, high)
    drift = rng.normal(0, 0.03, 2) * [width, height] * (rng.random() < 0.6)
    mirror, defocus = rng.random() < 0.5, rng.uniform(0.5, 3.0) * height / 144 * (rng.random() < 0.25)
    shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 0.7 else None
    made = []
    for share in np.linspace(-0.5, 0.5, frames) if frames > 1 else (0.0,):
        x, y = np.clip(start + share * drift, low, high)
        if shrunk is not None:
            source, factor = shrunk, 1.0
        else:
            source, factor = image, scale
        matrix = np.array([[1 / factor, 0, (x + 0.5) / factor - 0.5], [0, 1 / factor, (y + 0.5) / factor - 0.5]])
        view = cv2.warpAffine(
            source,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        view = cv2.GaussianBlur(view, (0, 0), defocus) if defocus else view
        made.append(view[:, ::-1] if mirror else view)
    return np.stack(made), file.name


def textures(rng: np.random.Generator, folder: PictureFolder, count: int) -> np.ndarray:
    """(count, 256, 256, 3) uint8 RGB: square parts of photographs, for the surfaces of things."""
    import cv2

    made = []
    for _ in range(count):
        image = read_photograph(folder.files[int(rng.integers(len(folder.files)))])
        size = int(min(image.shape[:2]) * rng.uniform(0.25, 1.0))
        y, x = (int(rng.integers(n - size + 1)) for n in image.shape[:2])
        how = cv2.INTER_AREA if size > 256 else cv2.INTER_LINEAR
        made.append(cv2.resize(image[y : y + size, x : x + size], (256, 256), interpolation=how))
    return np.stack(made)


def nobody(rng: np.random.Generator, folder: PictureFolder, frames: int, height: int, width: int, fps: float) -> Clip:
    """A clip that is a photograph without anybody: no mask and no joints, and nothing known of its depth."""
    rgb, name = views(rng, folder, frames, height, width)
    shape = (frames, height, width)
    focal = 0.9 * max(height, width)
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
    return Clip(
        rgb=rgb,
        depth=np.full(shape, np.inf, np.float32),
        normals=np.zeros((*shape, 3), np.float32),
        alpha=np.zeros(shape, np.float32),
        dense_pose=np.zeros((*shape, 3), np.float32),
        parts=np.zeros(shape, np.uint8),
        instances=np.zeros(shape, np.uint8),
        keypoints_2d=np.full((frames, 32, 2), np.nan, np.float32),
        keypoints_3d=np.full((frames, 32, 3), np.nan, np.float32),
        visibility=np.zeros((frames, 32), np.float32),
        intrinsics=np.tile(matrix, (frames, 1, 1)),
        world_to_camera=np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        fps=fps,
        has_scene=False,
        meta={"photograph": name},
    )
