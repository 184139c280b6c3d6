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

from thfm_ros.evaluate import joints
from thfm_ros.evaluate.mask_scores import mask_iou
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
    alpha = decode_clip(checkpoint.vae, -painted, features, narrow=checkpoint.decoder)[0].mean(0).numpy() > 0
    found, (xy, xyz, visibility) = two.keypoints.xy[0].numpy(), (x[0].numpy() for x in batch.keypoints)
    size = np.array([STEADY.width, STEADY.height])
    inside = np.where(visibility[..., None] > 0, xy * size, np.nan)
    side = np.nanmax(np.nanmax(inside, 1) - np.nanmin(inside, 1), -1)
    shown, hidden = (joints.pck(found * size, xy * size, side, 0.05, visibility == value) for value in (1.0, 0.5))
    found3d = three.keypoints.xyz[0].numpy()
    jitter = [joints.jitter(joints.centre(x, (0,)), FPS).mean() for x in (found3d, xyz)]
    person = batch.human[0, 0].numpy()
    nothing = np.zeros_like(person[0])
    iou = np.mean([mask_iou(a, p, nothing) for a, p in zip(alpha, person, strict=True)])
    still = person[1:] == person[:-1]
    flicker = ((alpha[1:] != alpha[:-1]) & still).sum() / max(1, person.sum())
    return [float(x) for x in (shown, hidden, joints.pa_mpjpe(found3d, xyz).mean(), *jitter, iou, flicker)]


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
