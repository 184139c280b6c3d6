"""RICH: bodies/{split}/{sequence}/{frame}/{subject}.pkl, images/{split}/{sequence}/cam_{cc}/{frame}_{cc}.{bmp|png|jpg},
scan_calibration/{scene}/calibration/{cam}.xml; 30 fps, SMPL-X."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.joints import to_camera
from thfm_ros.evaluate.readers import body_models, pickles
from thfm_ros.evaluate.readers.base import Joints, Recording, find_image, load_rgb, need, opencv_intrinsics, some

SOURCE = "get RICH from https://rich.is.tue.mpg.de (registration)"
FPS = 30.0


def read(
    root: Path, split: str = "test", cameras: tuple[int, ...] | None = None, body_models: Path | None = None
) -> list[Recording]:
    """One recording a (sequence, subject, camera); `cameras` None: all that have images.

    Joints: SMPL-X's as SMPL-24, or bodies/{split}/{sequence}/{subject}_joints.npz (world frame, metres).
    """
    folder = need(root / "bodies" / split, "RICH's bodies", SOURCE)
    recordings = []
    for sequence in some(sorted(p for p in folder.iterdir() if p.is_dir()), folder, "*", SOURCE):
        views = sorted((root / "images" / split / sequence.name).glob("cam_*"))
        views = [v for v in views if cameras is None or int(v.name[4:]) in cameras]
        for subject in sorted({p.stem for p in sequence.glob("*/*.pkl")}):
            recordings += [_recording(root, sequence, subject, view, body_models) for view in views]
    if not recordings:
        raise UserError(f"{root}: no images of split {split} for cameras {cameras or 'of any number'}; {SOURCE}")
    return recordings


def load_calibration(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(world-to-camera (4, 4), intrinsics (3, 3), distortion (D,)) of one camera's XML."""
    storage = cv2.FileStorage(str(need(path, "a RICH calibration", SOURCE)), cv2.FILE_STORAGE_READ)
    found = {name: storage.getNode(name).mat() for name in ("CameraMatrix", "Intrinsics", "Distortion")}
    storage.release()
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise UserError(f"{path}: expected nodes CameraMatrix, Intrinsics and Distortion, {missing} not found")
    pose = np.vstack([found["CameraMatrix"].reshape(3, 4), [0, 0, 0, 1]])
    return pose, found["Intrinsics"].reshape(3, 3), found["Distortion"].ravel()


def _recording(root: Path, sequence: Path, subject: str, view: Path, models: Path | None) -> Recording:
    camera = int(view.name[4:])
    numbers = sorted(int(p.parent.name) for p in sequence.glob(f"*/{subject}.pkl"))
    images = [find_image(view / f"{n:05d}_{camera:02d}") for n in numbers]
    scene = sequence.name.split("_")[0]
    pose, matrix, _ = load_calibration(root / "scan_calibration" / scene / "calibration" / f"{camera:03d}.xml")
    height, width = load_rgb(images[0]).shape[:2]

    def joints() -> Joints:
        tables = [pickles.load(sequence / f"{n:05d}" / f"{subject}.pkl") for n in numbers]
        gender = str(tables[0].get("gender", "neutral")) if isinstance(tables[0], dict) else "neutral"
        world = body_models.smplx24(tables, gender, models, sequence / f"{subject}_joints.npz")
        moved = to_camera(world, np.broadcast_to(pose, (len(world), 4, 4)))
        return Joints(moved, "smpl24", np.ones(len(world), bool))

    return Recording(
        f"{sequence.name}-{subject}-{view.name}",
        len(images),
        FPS,
        lambda i: load_rgb(images[i]),
        joints=joints,
        intrinsics=opencv_intrinsics(matrix, width, height),
    )
