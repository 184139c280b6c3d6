"""EMDB: P{0-9}/{sequence}/images/{frame}.jpg and {P}_{sequence}_data.pkl, 30 fps, portrait 1440x1920."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.evaluate.joints import to_camera
from thfm_ros.evaluate.readers import body_models, pickles
from thfm_ros.evaluate.readers.base import (
    Joints,
    Recording,
    list_images,
    load_rgb,
    numbers,
    opencv_intrinsics,
    some,
)

SOURCE = "get EMDB from https://emdb.ait.ethz.ch (registration)"
FPS = 30.0


def read(root: Path, subset: str | None = "emdb1", body_models: Path | None = None) -> list[Recording]:
    """One recording a sequence of the subset ("emdb1" is the paper's, "emdb2", None: all), SMPL-24 joints.

    The body model's joints are computed on demand, or read from {P}_{sequence}_joints.npz (world frame, metres).
    """
    annotations = some(sorted(root.glob("P*/*/*_data.pkl")), root, "P*/*/*_data.pkl", SOURCE)
    recordings = []
    for path in annotations:
        data = pickles.load(path)
        if subset is None or bool(pickles.entry(data, path, subset)):
            recordings.append(_recording(path, data, body_models))
    if not recordings:
        raise UserError(f"{root}: none of {len(annotations)} sequences belongs to subset {subset}")
    return recordings


def _recording(path: Path, data: dict[str, Any], models: Path | None) -> Recording:
    frames = int(numbers(pickles.entry(data, path, "n_frames"), (), path, "n_frames"))
    camera = pickles.entry(data, path, "camera")
    width, height = (int(numbers(pickles.entry(camera, path, k), (), path, k)) for k in ("width", "height"))
    extrinsics = numbers(pickles.entry(camera, path, "extrinsics"), (frames, 4, 4), path, "extrinsics")
    matrix = numbers(pickles.entry(camera, path, "intrinsics"), (3, 3), path, "intrinsics")
    images = list_images(path.parent / "images")
    if len(images) != frames:
        raise UserError(f"{path.parent}: expected {frames} images, found {len(images)}; {SOURCE}")
    precomputed = path.with_name(path.name.replace("_data.pkl", "_joints.npz"))

    def joints() -> Joints:
        smpl = pickles.entry(data, path, "smpl")
        root, body, betas, translation = (
            numbers(pickles.entry(smpl, path, name), shape, path, name)
            for name, shape in (
                ("poses_root", (frames, 3)),
                ("poses_body", (frames, 69)),
                ("betas", (-1,)),
                ("trans", (frames, 3)),
            )
        )
        gender = str(pickles.entry(data, path, "gender"))
        world = body_models.smpl24(gender, root, body, betas, translation, models, precomputed)
        valid = numbers(pickles.entry(data, path, "good_frames_mask"), (frames,), path, "good_frames_mask") > 0
        return Joints(to_camera(world, extrinsics), "smpl24", valid)

    return Recording(
        str(pickles.entry(data, path, "name")),
        frames,
        FPS,
        lambda i: load_rgb(images[i]),
        joints=joints,
        intrinsics=opencv_intrinsics(matrix, width, height),
        files=(path, precomputed, *body_models.model_files("smpl", models)),
    )
