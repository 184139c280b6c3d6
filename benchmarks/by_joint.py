"""Which joints are known and which are not, which way people are seen to face, and how uneven the skeletons are.

    python benchmarks/by_joint.py --checkpoint weights/nano --clips 32 --json by_joint.json

On held-out clips of 5 frames. Beside each joint's error stands that of the mean skeleton of the same clips, which knows
neither pose nor heading; the heading is the line from the left to the right hip, seen from above.
"""

from __future__ import annotations

import numpy as np
import torch
from held_out import open_benchmark, predictions

from thfm_ros.evaluate.joints import pa_mpjpe
from thfm_ros.evaluate.report import write_json
from thfm_ros.model.readout import Keypoints
from thfm_ros.skeleton import DEFAULT_JOINT_SET, JOINT_SETS, convert
from thfm_ros.train.samples import ClipBatch, TrainingClip

BATCH = 8
JOINTS = ["head", "neck", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot"]
NAMES = JOINT_SETS[DEFAULT_JOINT_SET].joints


def flat(points: list[Keypoints]) -> list[np.ndarray]:
    """All frames of all clips after one another."""
    return [torch.cat(parts).flatten(0, 1).float().numpy() for parts in zip(*points, strict=True)]


def joint_rows(found: list[np.ndarray], truth: list[np.ndarray], aspect: float) -> list[dict[str, float | str]]:
    """A row for each pair of joints (left and right together). aspect: width over height of the image."""
    scale = np.array([aspect, 1.0])
    off_3d = np.linalg.norm(found[1] - truth[1], axis=-1)
    mean_3d = np.linalg.norm(truth[1].mean(0) - truth[1], axis=-1)
    inside = truth[2] > 0
    xy = np.where(inside[..., None], truth[0] * scale, np.nan)
    box = (np.nanmax(xy, 1) - np.nanmin(xy, 1)).max(-1)
    off_2d = np.where(inside, np.linalg.norm((found[0] - truth[0]) * scale, axis=-1) / box[:, None], np.nan)
    rows: list[dict[str, float | str]] = []
    for joint in JOINTS:
        of = [i for i, name in enumerate(NAMES) if name in (joint, f"left_{joint}", f"right_{joint}")]
        rows.append(
            {
                "joint": joint,
                "error_mm": 1000 * float(off_3d[:, of].mean()),
                "mean_skeleton_mm": 1000 * float(mean_3d[:, of].mean()),
                "off_2d": float(np.nanmedian(off_2d[:, of])),
                "pck_0.05": float((off_2d[:, of] < 0.05)[inside[:, of]].mean()),
                "in_image": float(inside[:, of].mean()),
            }
        )
    return rows


def heading(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of the hips' line in the ground plane (camera x and z), degrees."""
    left, right = NAMES.index("left_hip"), NAMES.index("right_hip")
    a, b = ((xyz[:, left] - xyz[:, right])[:, [0, 2]] for xyz in (found, truth))
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    off = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return {
        "median_deg": float(np.median(off)),
        "within_45": float((off < 45).mean()),
        "beyond_135": float((off > 135).mean()),
    }


def main() -> None:
    given, checkpoint, rendered = open_benchmark(__doc__, 32)
    clips = [TrainingClip.of(clip) for clip in rendered]
    found, truth = [], []
    for start in range(0, len(clips), BATCH):
        batch = ClipBatch.of(clips[start : start + BATCH])
        found += [
            prediction.keypoints
            for prediction in predictions(checkpoint, batch, ["keypoints_3d"])
            if prediction.keypoints
        ]
        truth.append(batch.keypoints)
    predicted, true = flat(found), flat(truth)
    rows = joint_rows(predicted, true, checkpoint.config.width / checkpoint.config.height)
    faces = heading(predicted[1], true[1])
    pa = pa_mpjpe(*(convert(xyz, DEFAULT_JOINT_SET, "h36m14") for xyz in (predicted[1], true[1])))
    quartiles = {f"{q}%": float(np.percentile(pa, q)) for q in (10, 25, 50, 75, 90)} | {"mean": float(pa.mean())}
    print(f"{'joint':10}{'error mm':>10}{'mean pose':>11}{'2D median':>11}{'PCK@0.05':>10}{'in image':>10}")
    for r in rows:
        print(
            f"{r['joint']:10}{r['error_mm']:10.0f}{r['mean_skeleton_mm']:11.0f}"
            f"{r['off_2d']:11.3f}{r['pck_0.05']:10.2f}{r['in_image']:10.2f}"
        )
    print("heading    " + ", ".join(f"{name} {value:.2f}" for name, value in faces.items()))
    print("PA-MPJPE   " + ", ".join(f"{name} {value:.0f}" for name, value in quartiles.items()))
    if given.json:
        table = {"joints": rows, "heading": faces, "pa_mpjpe_mm": quartiles}
        write_json(given.json, {"clips": given.clips, **table})


if __name__ == "__main__":
    main()
