"""How well each frame of a clip of 5 is answered: the first, and the 4 that share the second latent frame.

    python benchmarks/by_frame.py --checkpoint weights/nano --clips 16 --json by_frame.json

On held-out clips that move, and on the same clips stopped at their first frame: the difference is what motion costs.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from held_out import FRAMES, open_benchmark, predictions

from thfm_ros.evaluate.report import write_json
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.train.samples import ClipBatch, TrainingClip

TASKS = ("foreground", "human_normals", "dense_pose", "keypoints_2d")


def stopped(clip: TrainingClip) -> TrainingClip:
    """Its first frame, for as long as the clip."""
    return TrainingClip(*(np.repeat(getattr(clip, f.name)[:1], clip.frames, 0) for f in fields(clip)))


def measure(checkpoint: Checkpoint, clips: list[TrainingClip]) -> dict[str, list[float]]:
    """The training's held-out metrics, a value a frame."""
    single = [ClipBatch.of([clip.window(t, 1) for clip in clips]) for t in range(FRAMES)]
    found: dict[str, list[float]] = {}
    for prediction in predictions(checkpoint, ClipBatch.of(clips), TASKS):
        for t, truth in enumerate(single):
            for name, value in prediction.metrics(truth, t).items():
                found.setdefault(name, []).append(float(value.nanmean()))
    return found


def main() -> None:
    given, checkpoint, rendered = open_benchmark(__doc__, 16)
    clips = [TrainingClip.of(clip) for clip in rendered]
    table = {"moving": measure(checkpoint, clips), "stopped": measure(checkpoint, [stopped(clip) for clip in clips])}
    for kind, metrics in table.items():
        for name, values in metrics.items():
            print(f"{kind:8} {name:28}" + "".join(f"{value:9.3f}" for value in values))
    if given.json:
        write_json(given.json, {"clips": given.clips, **table})


if __name__ == "__main__":
    main()
