"""Procedural clips for the trainer's tests: a bright disc on noise, with every target known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from thfm_ros.schema import parse
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.samples import TrainingClip

TINY: dict[str, Any] = {
    "stage": "latent",
    "preset": "tiny",
    "steps": 6,
    "batch": 4,
    "checkpoint_every": 3,
    "evaluate_every": 0,
    "log_every": 1,
    "precision": "fp32",
    "optim": {"lr": 2e-3, "ema": 0.9},
    "data": {"clips": 6, "frames": 5, "workers": 0},
}


def tiny(**kwargs: Any) -> TrainConfig:
    table = {**TINY, **kwargs}
    for name in ("optim", "data"):
        table[name] = {**TINY[name], **kwargs.get(name, {})}
    return parse(TrainConfig, table, "test")


class Discs:
    """Clip `index`: a disc ("the person") that drifts over a dim background, at 32 x 48."""

    def __init__(self, frames: int = 5, height: int = 32, width: int = 48) -> None:
        self.shape = (frames, height, width)

    def __call__(self, index: int) -> TrainingClip:
        rng = np.random.default_rng(index)
        frames, height, width = self.shape
        t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
        cx, cy = rng.uniform(14, width - 14) + t * rng.uniform(-1, 1), rng.uniform(10, height - 10)
        radius = rng.uniform(6, 9)
        dx, dy = (x + 0.5 - cx) / radius, (y + 0.5 - cy) / radius
        inside = dx**2 + dy**2 < 1
        dz = -np.sqrt(np.clip(1 - dx**2 - dy**2, 0, 1))
        normals = np.where(inside[..., None], np.stack((dx, dy, dz), -1), [0.0, 0.0, -1.0])
        rgb = rng.integers(0, 60, (*self.shape, 3)) + inside[..., None] * 180
        disparity = np.where(inside, 0.5 - dz / 2, 0.2)
        centre = np.stack((cx[:, 0, 0] / width, np.full(frames, cy / height)), -1)
        xy = np.repeat(centre[:, None], 32, 1)
        xyz = np.zeros((frames, 32, 3)) + [0.0, 0.0, 0.1] * (np.arange(32)[:, None] > 0)
        return TrainingClip(
            rgb=rgb.astype(np.uint8),
            alpha=(inside * 255).astype(np.uint8),
            dense_pose=(inside[..., None] * np.clip(np.stack((dx, dy, -dz), -1) * 127 + 128, 0, 255)).astype(np.uint8),
            normals=np.rint(normals * 127).astype(np.int8),
            scene_disparity=disparity.astype(np.float16),
            human_disparity=np.where(inside, disparity, 0).astype(np.float16),
            xy=xy.astype(np.float32),
            xyz=xyz.astype(np.float32),
            visibility=np.ones((frames, 32), np.float32),
        )
