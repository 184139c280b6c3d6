"""Goliath: captures {m|s}--{date}--{time}--{id}--pilot--ProjectGoliath--{Head|ClothedBody|MinimalBody} of zip archives.

Depth is rendered from the scans (millimetres) into the cameras; images are half the calibration's size.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.mesh import render_mesh
from thfm_ros.evaluate.readers import pickles
from thfm_ros.evaluate.readers.base import Recording, decode, load_json, need, numbers, open_zip, read_member, some
from thfm_ros.geometry import Intrinsics

SOURCE = "get Goliath-4 from github.com/facebookresearch/goliath (its README links the downloads)"
KINDS = ("Head", "ClothedBody", "MinimalBody")


def read(
    root: Path,
    kind: str | None = None,
    cameras: tuple[str, ...] | None = None,
    camera_count: int = 12,
    frames: int = 16,
) -> list[Recording]:
    """One recording a (capture, camera): depth and normals of the scan, mask of the person.

    The published evaluation's 12 cameras and 16 frames are not listed anywhere: without `cameras`, `camera_count` are
    taken evenly from those with images, and `frames` evenly from those with a scan. The report names them.
    """
    pattern = f"*--ProjectGoliath--{kind or '*'}"
    captures = some(sorted(p for p in root.glob(pattern) if p.is_dir()), root, pattern, SOURCE)
    recordings = []
    for capture in captures:
        calibration = load_calibration(capture / "camera_calibration.json")
        present = sorted(p.stem.removeprefix("cam") for p in (capture / "image").glob("cam*.zip"))
        present = [c for c in present if c in calibration]
        chosen = _evenly(present, camera_count) if cameras is None else list(cameras)
        missing = [c for c in chosen if c not in present]
        if missing or not chosen:
            raise UserError(f"{capture}: expected cameras {missing or 'with images'}, found {present}; {SOURCE}")
        recordings += [_recording(capture, camera, *calibration[camera], frames) for camera in chosen]
    return recordings


def load_calibration(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Camera -> (K (3, 3) of the half-size images, pixel centres at integers; world-to-camera (3, 4), millimetres)."""
    entries = pickles.entry(load_json(need(path, "Goliath's calibration", SOURCE), SOURCE), path, "KRT")
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a list of cameras as KRT, found {type(entries).__name__}; {SOURCE}")
    cameras = {}
    for entry in entries:
        matrix = numbers(pickles.entry(entry, path, "K"), (3, 3), path, "K").T.copy()
        pose = numbers(pickles.entry(entry, path, "T"), (4, -1), path, "T").T
        matrix[:2, :2] /= 2
        matrix[:2, 2] = (matrix[:2, 2] + 0.5) / 2 - 0.5
        cameras[str(pickles.entry(entry, path, "cameraId"))] = (matrix, pose[:3])
    return cameras


def load_ply(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) of a PLY file."""
    try:
        import trimesh
    except ImportError:
        raise UserError("reading Goliath's scans needs the trimesh package: pip install trimesh") from None
    try:
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type="ply", process=False)
        return np.asarray(mesh.vertices), np.asarray(mesh.faces)
    except Exception as error:  # trimesh raises whatever a damaged file provokes
        raise UserError(f"cannot read {name} as PLY: {error}") from None


def _evenly(items: list, count: int) -> list:
    if len(items) <= count:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _numbers(names: list[str], suffix: str) -> dict[int, str]:
    return {int(Path(n).stem): n for n in names if n.endswith(suffix) and Path(n).stem.isdigit()}


def _recording(capture: Path, camera: str, matrix: np.ndarray, pose: np.ndarray, count: int) -> Recording:
    files = (
        capture / "image" / f"cam{camera}.zip",
        capture / "segmentation_parts" / f"cam{camera}.zip",
        capture / "scan_mesh" / "scan_mesh.zip",
    )
    whats = ("Goliath's images", "Goliath's segmentation", "Goliath's scans")
    images, masks, scans = (open_zip(path, what, SOURCE) for path, what in zip(files, whats, strict=True))
    image_of, mask_of, scan_of = (
        _numbers(archive.namelist(), suffix)
        for archive, suffix in ((images, ".avif"), (masks, ".png"), (scans, ".ply"))
    )
    chosen = _evenly(sorted(image_of.keys() & mask_of.keys() & scan_of.keys()), count)
    if not chosen:
        raise UserError(f"{capture}, camera {camera}: no frame has an image, a segmentation and a scan; {SOURCE}")

    def image(i: int) -> np.ndarray:
        return decode(read_member(images, image_of[chosen[i]]), image_of[chosen[i]])

    height, width = image(0).shape[:2]
    intrinsics = Intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5, width, height)
    metres = pose.copy()
    metres[:, 3] /= 1000.0

    @cache
    def mask(i: int) -> np.ndarray:
        return decode(read_member(masks, mask_of[chosen[i]]), mask_of[chosen[i]], cv2.IMREAD_GRAYSCALE) > 0

    def truth(i: int) -> dict[str, np.ndarray]:
        name = scan_of[chosen[i]]
        vertices, faces = load_ply(read_member(scans, name), name)
        depth, normals = render_mesh(vertices / 1000.0, faces, intrinsics, metres)
        return {"depth": depth, "normals": normals, "mask": mask(i) & np.isfinite(depth)}

    return Recording(
        f"{capture.name}-cam{camera}",
        len(chosen),
        1.0,
        image,
        truth,
        intrinsics=intrinsics,
        files=(capture / "camera_calibration.json", *files),
    )
