"""RICH: bodies/{split}/{sequence}/{frame}/{subject}.pkl, images/{split}/{sequence}/cam_{cc}/{frame}_{cc}.{bmp|png|jpg},
scan_calibration/{scene}/calibration/{cam}.xml, resource/gender.json of rich_toolkit; 30 fps, SMPL-X."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.joints import to_camera
from thfm_ros.evaluate.readers import body_models, pickles
from thfm_ros.evaluate.readers.base import (
    Joints,
    Recording,
    find_image,
    load_json,
    load_rgb,
    need,
    numbers,
    opencv_intrinsics,
    some,
)

SOURCE = "get RICH from https://rich.is.tue.mpg.de (registration)"
GENDERS = "resource/gender.json"
TOOLKIT = f"copy {GENDERS} of github.com/paulchhuang/rich_toolkit into the data set's folder"
FPS = 30.0


def read(
    root: Path, split: str = "test", cameras: tuple[int, ...] = (), body_models: Path | None = None
) -> list[Recording]:
    """One recording a (sequence, subject, camera); no `cameras`: all that have images.

    Joints: SMPL-X's as SMPL-24, or bodies/{split}/{sequence}/{subject}_joints.npz (world frame, metres).
    """
    folder = need(root / "bodies" / split, "RICH's bodies", SOURCE)
    recordings = []
    for sequence in some(sorted(p for p in folder.iterdir() if p.is_dir()), folder, "*", SOURCE):
        views = sorted((root / "images" / split / sequence.name).glob("cam_*"))
        views = [v for v in views if v.name[4:].isdecimal() and (not cameras or int(v.name[4:]) in cameras)]
        found = [p for p in sequence.glob("*/*.pkl") if p.parent.name.isdecimal()]
        bodies = sorted(found, key=lambda p: int(p.parent.name))
        for subject in sorted({p.stem for p in bodies}):
            mine = [p for p in bodies if p.stem == subject]
            recordings += [_recording(root, mine, view, body_models) for view in views]
    if not recordings:
        raise UserError(f"{root}: no images of split {split} for cameras {cameras or 'of any number'}; {SOURCE}")
    return recordings


def load_calibration(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(world-to-camera (4, 4), intrinsics (3, 3), distortion (D,)) of one camera's XML."""
    need(path, "a RICH calibration", SOURCE)
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        found = {name: storage.getNode(name).mat() for name in ("CameraMatrix", "Intrinsics", "Distortion")}
        storage.release()
    except (cv2.error, SystemError) as error:  # which one depends on where the file is damaged
        raise UserError(f"cannot read {path} as OpenCV XML: {str(error).splitlines()[0]}; {SOURCE}") from None
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise UserError(f"{path}: expected nodes CameraMatrix, Intrinsics and Distortion, {missing} not found")
    pose = np.vstack([numbers(found["CameraMatrix"], (3, 4), path, "CameraMatrix"), [0, 0, 0, 1]])
    return pose, numbers(found["Intrinsics"], (3, 3), path, "Intrinsics"), found["Distortion"].ravel()


def find_gender(root: Path, subject: str, body: Path, table: Any) -> str:
    """Finds a subject's gender in rich_toolkit's table, which the published bodies need, or in `table`, that of `body`.

    Another gender's model bends the same numbers into another body, so none is assumed.
    """
    path = root / GENDERS
    if path.is_file():
        genders = load_json(path, TOOLKIT)
        number = str(int(subject)) if subject.isdecimal() else subject
        return str(pickles.entry(genders, path, number))
    if isinstance(table, dict) and "gender" in table:
        return str(table["gender"])
    raise UserError(f"{body} does not tell its gender: expected {path}; {TOOLKIT}")


def _recording(root: Path, bodies: list[Path], view: Path, models: Path | None) -> Recording:
    camera, subject, sequence = int(view.name[4:]), bodies[0].stem, bodies[0].parent.parent
    images = [find_image(view / f"{int(p.parent.name):05d}_{camera:02d}") for p in bodies]
    scene = sequence.name.split("_")[0]
    calibration = root / "scan_calibration" / scene / "calibration" / f"{camera:03d}.xml"
    pose, matrix, _ = load_calibration(calibration)
    height, width = load_rgb(images[0]).shape[:2]
    precomputed = sequence / f"{subject}_joints.npz"

    def joints() -> Joints:
        world = body_models.load_precomputed(precomputed, len(bodies))
        if world is None:
            tables = [pickles.load(p) for p in bodies]
            gender = find_gender(root, subject, bodies[0], tables[0])
            world = body_models.smplx24(tables, gender, models, precomputed)
        moved = to_camera(world, np.broadcast_to(pose, (len(world), 4, 4)))
        return Joints(moved, "smpl24", np.ones(len(world), bool))

    return Recording(
        f"{sequence.name}-{subject}-{view.name}",
        len(images),
        FPS,
        lambda i: load_rgb(images[i]),
        joints=joints,
        intrinsics=opencv_intrinsics(matrix, width, height),
        files=(calibration, root / GENDERS, precomputed, *bodies, *body_models.model_files("smplx", models)),
    )
