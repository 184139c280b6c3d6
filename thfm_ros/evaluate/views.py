"""3D joints in calibrated views: MPJPE, PA-MPJPE, both by joint; on video the error of acceleration.

    from thfm_ros.evaluate import views
    from thfm_ros.evaluate.picture_models import FunctionModel
    figures = views.measure(FunctionModel(joints=..., window=(112, 144), joint_set="thfm32"), "DIR")

`joints` takes images (N, 3, H, W) float32 in [-1, 1] of `window` (width, height) and returns (N, K, 3) metres in camera
axes, relative to any root. Crops are those of crops.py, around the box of the annotated joints. Twelve joints count:
shoulders, elbows, wrists, hips, knees, ankles; MPJPE is relative to the hips' middle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate import joints
from thfm_ros.evaluate.crops import crop_person
from thfm_ros.evaluate.picture_models import PictureModel, to_network
from thfm_ros.evaluate.readers.base import load_rgb
from thfm_ros.evaluate.readers.views import LIMBS, Skeleton, VideoView, View, Views, read
from thfm_ros.evaluate.real_report import Figures
from thfm_ros.evaluate.runner import RowStore, key_of
from thfm_ros.skeleton import convert
from thfm_ros.video import VideoReader

HIPS = (LIMBS.index("left_hip"), LIMBS.index("right_hip"))
Found = list[np.ndarray | None]  # (12, 3) metres of each person of a view; None: missed


def measure(model: PictureModel, root: str | Path, limit: int | None = None) -> Figures:
    """All figures of the pictures at once, nothing kept on disk; see `score`."""
    data = read(root, limit)
    return score(data.views, [predict_view(model, view) for view in data.views])


def predict_view(model: PictureModel, view: View) -> Found:
    """The limbs' joints (12, 3) of each person, from the crop around their box."""
    image = load_rgb(view.file)
    crops = [crop_person(image, person.box, model.window).pixels for person in view.people]
    if not crops:
        return []
    return list(limbs(model.joints(to_network(np.stack(crops))), model.joint_set))


def predict_video(model: PictureModel, video: VideoView, fps: float) -> dict[str, Any]:
    """xyz (F, 12, 3) of every n-th frame, so that some `fps` a second remain; frames (F,): which; fps: what remained.

    Each frame is cropped around the person in it.
    """
    step = max(1, round(video.fps / fps))
    crops, frames = [], []
    for index, (_, image) in enumerate(VideoReader(video.file)):
        if index >= len(video.skeletons):
            break
        if index % step == 0:
            crops.append(crop_person(image, video.skeletons[index].box, model.window).pixels)
            frames.append(index)
    xyz = limbs(model.clip_joints(np.stack(crops)), model.joint_set)
    return {"xyz": xyz, "frames": frames, "fps": video.fps / step}


def limbs(xyz: np.ndarray, joint_set: str) -> np.ndarray:
    """(..., K, 3) of a joint set -> (..., 12, 3)."""
    return convert(np.asarray(xyz, float), joint_set, "coco17")[..., -len(LIMBS) :, :]


def predict(
    model: PictureModel,
    data: Views,
    folder: Path,
    resume: bool = True,
    step: Callable[[str], None] = lambda name: None,
) -> tuple[list[Found], list[dict[str, Any]]]:
    """The model's predictions on every picture and video; those in `folder` from an earlier run are used again."""
    found: list[Found] = []
    videos: list[dict[str, Any]] = []
    for view in data.views:
        facts = [[p.xyz.tolist(), p.box.tolist()] for p in view.people]
        row = _row(
            folder, model, view.image, view.file, facts, resume, lambda v=view: {"people": predict_view(model, v)}
        )
        found.append([None if p is None else np.array(p, float) for p in row["people"]])
        step(view.image)
    for video in data.videos:
        facts = [p.box.tolist() for p in video.skeletons]
        row = _row(
            folder, model, video.video, video.file, facts, resume, lambda v=video: predict_video(model, v, model.fps)
        )
        videos.append({**row, "xyz": np.array(row["xyz"], float)})
        step(video.video)
    return found, videos


def _row(
    folder: Path,
    model: PictureModel,
    name: str,
    file: Path,
    facts: Any,
    resume: bool,
    make: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    state = file.stat()
    key = key_of("views", model.identity, str(file.resolve()), state.st_size, state.st_mtime_ns, facts)
    store = RowStore(folder / "rows" / key_of(model.identity), key)
    if not resume or store.load(name) is None:
        store.save(name, make())
    row = store.load(name)
    assert row is not None
    return row


def score(views: Sequence[View], found: Sequence[Found]) -> Figures:
    """joints: people, missed, MPJPE and PA-MPJPE in mm; the same errors by joint. Who was missed has no error."""
    people = [(truth, prediction) for view, predictions in zip(views, found, strict=True)
              for truth, prediction in zip(view.people, predictions, strict=True)]  # fmt: skip
    errors = [_errors(truth, prediction) for truth, prediction in people if prediction is not None]
    table = np.array(errors).reshape(-1, 2, len(LIMBS))
    missed = 1 - len(errors) / len(people) if people else float("nan")
    whole = {"people": float(len(people)), "missed": missed}
    figures: Figures = {}
    for row, name in enumerate(("mpjpe", "pa_mpjpe")):
        whole[name] = _mean([_mean(person) for person in table[:, row]])
        figures[f"{name} by joint"] = {joint: _mean(table[:, row, i]) for i, joint in enumerate(LIMBS)}
    return {"joints": whole, **figures}


def _errors(truth: Skeleton, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(12,) mm of each joint relative to the hips' middle, and after similarity alignment; NaN where unknown."""
    plain, aligned = np.full((2, len(LIMBS)), np.nan)
    known = truth.valid
    if known[list(HIPS)].all():
        moved = joints.centre(prediction[None], HIPS)[0] - joints.centre(truth.xyz[None], HIPS)[0]
        plain[known] = 1000.0 * np.linalg.norm(moved, axis=-1)[known]
    moved = joints.similarity_align(prediction[None, known], truth.xyz[None, known])[0]
    aligned[known] = 1000.0 * np.linalg.norm(moved - truth.xyz[known], axis=-1)
    return plain, aligned


def score_videos(videos: Sequence[VideoView], found: Sequence[Mapping[str, Any]]) -> Figures:
    """video: accel (m/s^2), jitter and jitter_truth (10 m/s^3), mean over frames of known joints; {} without videos."""
    rows: dict[str, list[np.ndarray]] = {"accel": [], "jitter": [], "jitter_truth": []}
    for video, prediction in zip(videos, found, strict=True):
        true = np.stack([video.skeletons[i].xyz for i in prediction["frames"]])
        known = np.array([video.skeletons[i].valid.all() for i in prediction["frames"]])
        rows["accel"].append(joints.accel(prediction["xyz"], true, prediction["fps"], HIPS, known))
        for name, xyz in (("jitter", prediction["xyz"]), ("jitter_truth", true)):
            rows[name].append(joints.jitter(joints.centre(xyz, HIPS), prediction["fps"], known))
    if not videos:
        return {}
    return {"video": {"videos": float(len(videos))} | {n: _mean(np.concatenate(v)) for n, v in rows.items()}}


def _mean(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")


def load_predictions(path: Path, data: Views) -> list[Found]:
    """Reads predictions in the truth's own layout: a list of views with image and people (null for one missed).

    Each person has joint_names and xyz_camera_m. All people of joints.json are listed, in its order; those of whom it
    knows too few joints do not count.
    """
    import json

    expected = "expected a list of {image, people: [{joint_names, xyz_camera_m} or null]}"
    try:
        rows = json.loads(path.read_bytes())
        table = {row["image"]: row["people"] for row in rows}
        found = []
        for view in data.views:
            people = table[view.image]
            if len(people) != len(view.counted):
                raise ValueError(f"{len(people)} people of {view.image}, where joints.json lists {len(view.counted)}")
            some = (person for person, counts in zip(people, view.counted, strict=True) if counts)
            found.append([None if person is None else _named(person) for person in some])
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}: check --predictions") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: {expected}, found another: {type(error).__name__}: {error}") from None
    return found


def _named(person: Mapping[str, Any]) -> np.ndarray:
    xyz = np.array(person["xyz_camera_m"], float)
    if not np.isfinite(xyz).all() or xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError("xyz_camera_m holds three finite numbers a joint")
    return xyz[[list(person["joint_names"]).index(joint) for joint in LIMBS]]
