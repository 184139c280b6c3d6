"""Hi4D: pairXX/actionXX/ with meshes, calibrated cameras and masks; normals are rendered from the meshes.

Also the layout of prepared normal maps: {sequence}/rgb/*.png, normal/*.npy, mask/*.png.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.mesh import render_mesh
from thfm_ros.evaluate.readers import pickles
from thfm_ros.evaluate.readers.base import (
    Recording,
    find_image,
    list_images,
    load_gray,
    load_npy,
    load_npz,
    load_rgb,
    need,
    numbers,
    opencv_intrinsics,
    some,
)

SOURCE = "get Hi4D from https://yifeiyin04.github.io/Hi4D (registration)"
PAIRS, CAMERA, FPS = (28, 32, 37), 4, 30.0


def read(root: Path, pairs: tuple[int, ...] = PAIRS, camera: int = CAMERA) -> list[Recording]:
    """One recording an action of the test pairs seen by `camera`; normals (rendered), mask of both people."""
    prepared = sorted(p.parent for p in root.rglob("normal") if p.is_dir() and (p.parent / "rgb").is_dir())
    if prepared:
        return [_prepared(folder, root) for folder in prepared]
    actions = []
    for pair in pairs:
        folder = need(root / f"pair{pair:02d}", f"Hi4D's pair {pair}", SOURCE)
        actions += some(sorted(p.parent for p in folder.glob("*/meta.npz")), folder, "*/meta.npz", SOURCE)
    return [_recording(action, camera) for action in actions]


def load_camera(path: Path, camera: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(intrinsics (3, 3), world-to-camera (3, 4), distortion (5,)) of one camera of rgb_cameras.npz."""
    # The published files misspell the key; later copies do not.
    spellings = ("intrinsics", "intirnsics")
    need(path, "Hi4D's cameras", SOURCE)
    stored = load_npz(path, ("ids", "extrinsics", "dist_coeffs"), SOURCE, spellings)
    key = next((k for k in spellings if k in stored), None)
    if key is None:
        raise UserError(f"{path}: expected entry 'intrinsics', found {', '.join(stored)}: another version? {SOURCE}")
    ids = stored["ids"].ravel().tolist()
    if camera not in ids:
        raise UserError(f"{path}: expected camera {camera}, found {ids}")
    row, count = ids.index(camera), len(ids)
    shapes = {key: (count, 3, 3), "extrinsics": (count, -1, 4), "dist_coeffs": (count, -1)}
    matrix, pose, distortion = (numbers(stored[name], shape, path, name)[row] for name, shape in shapes.items())
    return matrix, pose[:3], distortion


def load_mesh(action: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) metres and faces (F, 3) of a frame's scan, from frames_vis/*.pkl or frames/*.obj."""
    path = action / "frames_vis" / f"mesh-f{number:05d}.pkl"
    if path.is_file():
        table = pickles.load(path)
        vertices, faces = (numbers(pickles.entry(table, path, k), (-1, 3), path, k) for k in ("vertices", "faces"))
        return vertices, faces.astype(np.int64)
    return load_obj(need(action / "frames" / f"mesh-f{number:05d}.obj", "a Hi4D mesh", SOURCE))


def load_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a Wavefront file."""
    vertices, faces = [], []
    try:
        for line in path.read_text().splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(v) for v in values[:3]])
            elif kind == "f":
                faces.append([int(v.split("/")[0]) - 1 for v in values[:3]])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as a Wavefront mesh: {error}; {SOURCE}") from None
    if not vertices or not faces:
        raise UserError(f"{path}: expected a mesh, found {len(vertices)} vertices and {len(faces)} faces; {SOURCE}")
    corners = numbers(faces, (-1, 3), path, "faces").astype(np.int64)
    return numbers(vertices, (-1, 3), path, "vertices"), corners


def _recording(action: Path, camera: int) -> Recording:
    meta, cameras = action / "meta.npz", action / "cameras" / "rgb_cameras.npz"
    ends = load_npz(meta, ("start", "end"), SOURCE)
    first, last = (int(numbers(np.ravel(ends[k]), (1,), meta, k)[0]) for k in ("start", "end"))
    if last < first:
        raise UserError(f"{meta}: expected end >= start, found {first} .. {last}; {SOURCE}")
    matrix, pose, distortion = load_camera(cameras, camera)
    frames = range(first, last + 1)
    images = [find_image(action / "images" / str(camera) / f"{n:06d}") for n in frames]
    height, width = load_rgb(images[0]).shape[:2]
    intrinsics = opencv_intrinsics(matrix, width, height)

    def straight(image: np.ndarray) -> np.ndarray:
        """Without lens distortion, so that it meets the rendered maps."""
        return cv2.undistort(image, matrix, distortion) if np.any(distortion) else image

    def truth(i: int) -> dict[str, np.ndarray]:
        depth, normals = render_mesh(*load_mesh(action, frames[i]), intrinsics, pose)
        masks = action / "seg" / "img_seg_mask" / str(camera) / "all"
        person = straight(load_gray(find_image(masks / f"{frames[i]:06d}"))) > 0
        return {"normals": normals, "depth": depth, "mask": person & np.isfinite(depth)}

    return Recording(
        f"{action.parent.name}-{action.name}",
        len(frames),
        FPS,
        lambda i: straight(load_rgb(images[i])),
        lru_cache(maxsize=1)(truth),
        intrinsics=intrinsics,
        files=(meta, cameras, *sorted(action.glob("frames*/mesh-f*"))),
    )


def _prepared(folder: Path, root: Path) -> Recording:
    images = some(list_images(folder / "rgb"), folder, "rgb/*", SOURCE)
    normals = [need(folder / "normal" / f"{p.stem}.npy", "a normal map", SOURCE) for p in images]
    masks = [find_image(folder / "mask" / p.stem) for p in images]

    def truth(i: int) -> dict[str, np.ndarray]:
        return {"normals": load_npy(normals[i], (-1, -1, 3), SOURCE), "mask": load_gray(masks[i]) > 0}

    name = "-".join(folder.relative_to(root).parts) or folder.name
    return Recording(name, len(images), FPS, lambda i: load_rgb(images[i]), truth, files=(*normals, *masks))
