"""Which motions and which framings are answered well, and which badly.

    python benchmarks/by_motion.py --checkpoint weights/nano --clips 96 --json by_motion.json

On held-out clips of 5 frames, those of the other benchmarks. Motions that were blended with random ones end in +;
occluders, light and clothes differ from clip to clip, so groups of a few clips say little.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from held_out import open_benchmark, predictions
from torch import Tensor

from thfm_ros.evaluate.report import write_json
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.train.samples import ClipBatch, TrainingClip

TASKS = ("foreground", "human_normals", "dense_pose", "keypoints_2d", "keypoints_3d")
SHOWN = {
    "iou/foreground": "IoU",
    "mean_deg/human_normals": "normals",
    "epe/dense_pose": "dense pose",
    "pck_0.05/keypoints_2d": "PCK@0.05",
    "pa_mpjpe_mm/keypoints_3d": "PA mm",
}


def measure(checkpoint: Checkpoint, clip: TrainingClip) -> dict[str, float]:
    """The training's held-out metrics of one clip."""
    batch = ClipBatch.of([clip])
    found: dict[str, Tensor] = {}
    for prediction in predictions(checkpoint, batch, TASKS):
        found |= prediction.metrics(batch)
    return {name: float(found[name]) for name in SHOWN}


def group(motion: str) -> str:
    """'kick+random~' -> 'kick+'."""
    first, plus, _ = motion.rstrip("~").partition("+")
    return first + plus


def main() -> None:
    given, checkpoint, clips = open_benchmark(__doc__, 96)
    rows: dict[str, dict[str, list[dict[str, float]]]] = {"motion": defaultdict(list), "framing": defaultdict(list)}
    for clip in clips:
        if not clip.people:
            continue
        row = measure(checkpoint, TrainingClip.of(clip))
        for key, name in (("motion", group(clip.meta["motion"][0])), ("framing", clip.meta["framing"][0])):
            rows[key][name].append(row)
    table = {
        key: {
            name: {"clips": len(of)} | {m: float(np.nanmean([row[m] for row in of])) for m in SHOWN}
            for name, of in sorted(groups.items())
        }
        for key, groups in rows.items()
    }
    for key, groups in table.items():
        print(f"{key:16}{'clips':>6}" + "".join(f"{title:>12}" for title in SHOWN.values()))
        for name, of in groups.items():
            print(f"{name:16}{of['clips']:6}" + "".join(f"{of[m]:12.3f}" for m in SHOWN))
    if given.json:
        write_json(given.json, {"clips": given.clips, **table})


if __name__ == "__main__":
    main()
