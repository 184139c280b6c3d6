"""What earlier latent frames are worth to the transformer: windows of 1, 2 and 4 on the same held-out clips.

    python benchmarks/attention_window.py weights/nano out/window-4/model --clips 24 --json window.json

Clips of 17 frames of one person each, in the window of a tracker. PCK@0.05 of joints that are seen and of those that
something hides, both of the longer side of the person's joints; PA-MPJPE; jitter beside the truth's; IoU of the mask,
and its flicker: pixels that change between two frames although the truth stays, per pixel of the person.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thfm_ros.evaluate import joints
from thfm_ros.evaluate.report import write_json
from thfm_ros.model.checkpoint import Checkpoint, load_checkpoint
from thfm_ros.model.codecs import decode_clip, encode_clip
from thfm_ros.train.augment import View, _seen_near, around_one
from thfm_ros.train.config import DataConfig, WindowConfig
from thfm_ros.train.data import HELD_OUT, Generator
from thfm_ros.train.samples import ClipBatch

FRAMES, FPS = 17, 12.0
STEADY = WindowConfig(share=1.0, place=0.0, scale=(1.0, 1.0), tilt=0.0, part=0.0)
WHOLE = View(False, 1.0, 0.5, 0.5, (1.0, 1.0, 1.0), 1.0)
NAMES = ("PCK", "hidden", "PA-MPJPE", "jitter", "truth", "IoU", "flicker")
DIGITS = (3, 3, 1, 1, 1, 3, 4)


def window_of(source: Generator, index: int) -> ClipBatch:
    """One held-out clip in the window around its person, rendered twice as large as the network's pictures are."""
    clip, view = around_one(WHOLE, source(index), STEADY, (STEADY.width, STEADY.height), index)
    return _seen_near(clip, view, STEADY.width, STEADY.height, torch.device("cpu"))[0]


@torch.no_grad()
def measure(checkpoint: Checkpoint, batch: ClipBatch, window: int) -> list[float]:
    """The figures of NAMES for one clip; NaN where it has no such joint."""
    latents, features = encode_clip(checkpoint.vae, batch.rgb)
    how = {"attention": "causal", "window": window}
    prompts = {task: checkpoint.prompts[task][:1].float() for task in ("keypoints_2d", "keypoints_3d", "foreground")}
    two, three = (
        checkpoint.transformer(latents, prompts[f"keypoints_{d}d"], keypoints=True, features=features[1], **how)
        for d in (2, 3)
    )
    painted = checkpoint.transformer(latents, prompts["foreground"], **how).sample
    alpha = decode_clip(checkpoint.vae, -painted, features, narrow=checkpoint.decoder)[0].mean(0) > 0
    truth = batch.keypoints
    near = _near(two.keypoints.xy[0], truth.xy[0], truth.visibility[0])
    shown, hidden = (near[truth.visibility[0] == value] for value in (1.0, 0.5))
    found, true = (x.double().numpy() for x in (three.keypoints.xyz[0], truth.xyz[0]))
    aligned = joints.similarity_align(found, true)
    jitter = [np.nanmean(joints.jitter(joints.centre(x, (0,)), FPS)) for x in (found, true)]
    person = batch.human[0, 0]
    iou = (alpha & person).sum() / (alpha | person).sum().clamp_min(1)
    still = person[1:] == person[:-1]
    flicker = ((alpha[1:] != alpha[:-1]) & still).sum() / person.sum().clamp_min(1)
    pa = 1000 * np.linalg.norm(aligned - true, axis=-1).mean()
    return [float(x) for x in (_mean(shown), _mean(hidden), pa, *jitter, iou, flicker)]


def _near(xy: Tensor, truth: Tensor, visibility: Tensor) -> Tensor:
    """(T, K) bool: within 0.05 of the longer side of the box around the joints inside the picture."""
    size = torch.tensor([STEADY.width, STEADY.height])
    inside = (visibility > 0)[..., None]
    high = torch.where(inside, truth * size, -torch.inf).amax(1)
    low = torch.where(inside, truth * size, torch.inf).amin(1)
    side = (high - low).amax(-1, keepdim=True)
    return ((xy - truth) * size).norm(dim=-1) < 0.05 * side


def _mean(values: Tensor) -> float:
    return float(values.float().mean()) if len(values) else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    source = Generator(DataConfig(height=288, width=480, frames=FRAMES, fps=FPS), "cpu")
    clips = [window_of(source, HELD_OUT + index) for index in range(given.clips)]
    table = {}
    print(f"{'':40}" + "".join(f"{name:>10}" for name in NAMES))
    for path in given.checkpoints:
        checkpoint = load_checkpoint(path)
        for window in given.windows:
            row = np.nanmean([measure(checkpoint, clip, window) for clip in clips], 0)
            table[f"{path}, window {window}"] = dict(zip(NAMES, row.tolist(), strict=True))
            figures = "".join(f"{x:10.{d}f}" for x, d in zip(row, DIGITS, strict=True))
            print(f"{f'{path}, window {window}'[-40:]:40}{figures}")
    if given.json:
        write_json(given.json, {"clips": given.clips, "frames": FRAMES, **table})


if __name__ == "__main__":
    main()
