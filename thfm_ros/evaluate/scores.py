"""One recording's row of a benchmark, and the rows' summary: normals, depth, matting, joints.

A row is plain JSON (lists and numbers, NaN as null), so that it can be kept on disk and pooled later. Predictions come
at the size of the video that the predictor saw; the truth's own resolution decides where a metric is computed. `facts`
of a row are what the report must say and only the data tells: that resolution, the joints and their root.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate import depth, joints, matting, normals
from thfm_ros.evaluate.readers.base import Recording
from thfm_ros.evaluate.temporal import ChangeError, seams
from thfm_ros.skeleton import convert, get_joint_set

Options = dict[str, Any]
Row = dict[str, Any]
Prediction = dict[str, np.ndarray]


def column(rows: Sequence[Row], *names: str) -> np.ndarray:
    """All rows' lists under names, one after the other, null as NaN."""
    values = []
    for row in rows:
        item: Any = row
        for name in names:
            item = item[name]
        values.append(np.array(item, float))
    return np.concatenate(values) if values else np.zeros(0)


def mean(values: np.ndarray) -> float:
    """Averages what is known; NaN without anything."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _truth(recording: Recording, i: int, *names: str) -> list[np.ndarray]:
    assert recording.truth is not None, f"{recording.name} has no dense truth"
    found = recording.truth(i)
    missing = [n for n in names if n not in found]
    if missing:
        raise UserError(f"{recording.name}: its data set has no {', '.join(missing)}")
    return [found[n] for n in names]


def _resized(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Bilinear to (H, W) = shape[:2], half-pixel centres."""
    if image.shape[:2] == tuple(shape[:2]):
        return image
    return cv2.resize(np.ascontiguousarray(image, np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def seam_summary(rows: Sequence[Row]) -> dict[str, float]:
    """Window borders against other frames over all rows: mean change errors and their ratio."""
    change: list[float] = []
    borders: list[int] = []
    for row in rows:
        borders += [len(change) + b for b in row["borders"]]
        change += [float("nan") if c is None else c for c in row["change"]]
        # A gap of one keeps frame t's step at index t - 1 of its own row.
        change.append(float("nan"))
    found = seams(change, borders)
    return {f"change_{k}" if k != "ratio" else "seam_ratio": v for k, v in found.items()}


# Normals: Sapiens' pooled pixels, and the mean over images beside it.


def score_normals(recording: Recording, prediction: Prediction, options: Options) -> Row:
    pooled, images, change = normals.Pooled(), [], ChangeError()
    size = ""
    for i, pred in enumerate(prediction[options["task"]]):
        true, mask = _truth(recording, i, "normals", "mask")
        errors = normals.angular_error(pred, true, mask)
        pooled.add(errors)
        if len(errors):
            images.append(list(normals.dsine(errors, normals.SAPIENS_THRESHOLDS).values()))
        change.add(_resized(pred, true.shape), true, np.asarray(mask) > 0)
        size = _size(true.shape)
    return {
        "pooled": pooled.state,
        "images": images,
        "change": change.values,
        "borders": prediction["borders"].tolist(),
        "facts": {"metric_resolution": size},
    }


def summarise_normals(rows: Sequence[Row], options: Options) -> dict[str, float]:
    pooled = normals.Pooled()
    for row in rows:
        pooled.merge(row["pooled"])
    result = pooled.result()
    images = [image for row in rows for image in row["images"]]
    each = np.mean(images, axis=0) if images else np.full(len(result), np.nan)
    per_image = {f"{name} (per image)": float(v) for name, v in zip(result, each, strict=True)}
    return {**(result if options["average"] == "pixels" else per_image), **seam_summary(rows)}


# Depth.


def score_depth(recording: Recording, prediction: Prediction, options: Options) -> Row:
    protocol = depth.DepthProtocol(options["space"], options["scope"], options["max_depth_m"] or None)
    pairs = [_truth(recording, i, "depth", "mask") for i in range(recording.frames)]
    true, mask = (np.stack(x) for x in zip(*pairs, strict=True))
    pred = np.stack([_resized(p, true.shape[1:]) for p in prediction[options["task"]]])
    frames = depth.evaluate(pred, true, mask, protocol)
    facts = {"metric_resolution": _size(true.shape[1:])}
    return {**{k: v.tolist() for k, v in frames.items()}, "change": [], "borders": [], "facts": facts}


def summarise_depth(rows: Sequence[Row], options: Options) -> dict[str, float]:
    return {name: mean(column(rows, name)) for name in ("rmse", "abs_rel", "delta1")}


# Matting.


def score_matting(recording: Recording, prediction: Prediction, options: Options) -> Row:
    pairs = []
    for i, alpha in enumerate(prediction["foreground"]):
        (true,) = _truth(recording, i, "alpha")
        shape = parse_resolution(options["resolution"]) or true.shape
        pred = np.round(255 * np.clip(_resized(alpha, shape), 0, 1)).astype(np.uint8)  # as saved and read again
        pairs.append((pred, np.round(_resized(true, shape)).astype(np.uint8)))
    pred, true = (np.stack(x) for x in zip(*pairs, strict=True))
    values = matting.clip_metrics(pred, true, options["normalise_grad"])
    values |= {"sad": matting.sad(pred, true), "iou": matting.iou(pred, true)}
    change = (values["dtssd"][1:] / 1e2).tolist()  # dtSSD is a change error itself
    return {
        **{k: v.tolist() for k, v in values.items()},
        "change": change,
        "borders": prediction["borders"].tolist(),
        "facts": {"metric_resolution": _size(true.shape[1:])},
    }


def parse_resolution(text: str) -> tuple[int, int] | None:
    """(height, width) of 'WIDTHxHEIGHT'; None of 'truth'."""
    if text == "truth":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if not found:
        raise UserError(f"option resolution is 'truth' or WIDTHxHEIGHT in pixels, such as 512x288, found '{text}'")
    return int(found[2]), int(found[1])


def summarise_matting(rows: Sequence[Row], options: Options) -> dict[str, float]:
    names = ("mad", "mse", "grad", "conn", "dtssd", "sad", "iou")
    if options["average"] == "clips":
        table = {n: matting.aggregate_clips([np.array(r[n], float) for r in rows]) for n in names}
        return {**table, **seam_summary(rows)}
    table = {n: mean(column(rows, n)) for n in names if n != "dtssd"}
    return table | {"mad": table["mad"] / 1e3, "mse": table["mse"] / 1e3}  # photos: unscaled


# Joints.


def score_joints(recording: Recording, prediction: Prediction, options: Options) -> Row:
    assert recording.joints is not None, f"{recording.name} has no joints"
    truth = recording.joints()
    pred = convert(prediction["keypoints_3d"], options["predicted_joint_set"], truth.joint_set)
    true, joint_set = truth.xyz, truth.joint_set
    root = [0] if joint_set == "h36m17" else list(joints.PELVIS)
    names = " and ".join(get_joint_set(joint_set).joints[k] for k in root)
    if joint_set == "h36m17" and options.get("joints", 14) == 14:
        pred, true, joint_set = joints.h36m14(pred), joints.h36m14(true), "h36m14"  # relative to the root
    else:
        pred, true = joints.centre(pred, root), joints.centre(true, root)
    pred, true = pred[truth.valid], true[truth.valid]
    fps = recording.fps
    change = ChangeError()
    for p, t in zip(pred, true, strict=True):
        change.add(p, t, np.ones(len(p), bool))
    kept = np.cumsum(truth.valid)  # where a frame lies among the valid ones
    borders = [int(kept[b] - 1) for b in prediction["borders"] if truth.valid[b]]
    return {
        "mpjpe": joints.mpjpe(pred, true, None).tolist(),
        "pa_mpjpe": joints.pa_mpjpe(pred, true).tolist(),
        "accel": joints.accel(pred, true, fps, None, trim=options["accel_trim"]).tolist(),
        "jitter": joints.jitter(pred, fps).tolist(),
        "jitter_truth": joints.jitter(true, fps).tolist(),
        "change": change.values,
        "borders": borders,
        "facts": {
            "joint_set": f"{joint_set} ({pred.shape[1]} joints)",
            "root": names if len(root) == 1 else f"mean of {names}",
        },
    }


def summarise_joints(rows: Sequence[Row], options: Options) -> dict[str, float]:
    names = ("pa_mpjpe", "mpjpe", "accel", "jitter", "jitter_truth")
    return {**{name: mean(column(rows, name)) for name in names}, **seam_summary(rows)}
