"""A sheet of what training sees: pictures as they reach the network, and with the truth that they are taught by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from thfm_ros import panels
from thfm_ros.paths import writable_picture
from thfm_ros.skeleton import DEFAULT_JOINT_SET, JOINT_SETS
from thfm_ros.train.augment import augmented
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.data import draw, open_source
from thfm_ros.train.networks import preset_of
from thfm_ros.train.samples import ClipBatch

PALETTE = np.array([(0, 0, 0), (230, 60, 60), (60, 200, 60), (70, 110, 250), (230, 200, 40), (220, 70, 220)])
HIDDEN, VISIBLE = (70, 110, 250), (255, 255, 60)


def write_training_sheet(config: TrainConfig, file: Path, pictures: int, columns: int = 8, step: int = 0) -> None:
    """Writes a picture of the first ones from `step` on, each above itself with instances and joints drawn over it."""
    writable_picture(file)
    preset = preset_of(config)
    sizes = {"height": preset.height, "width": preset.width, "frames": preset.frames, "fps": preset.fps}
    config = replace(config, data=replace(config.data, **sizes))
    source = open_source(config.data)
    tiles: list[np.ndarray] = []
    while len(tiles) < pictures:
        part = draw(config, step)
        wanted = min(len(part.clips), max(4, pictures // 4), pictures - len(tiles))
        part = replace(part, clips=part.clips[:wanted], tasks=part.tasks[:wanted], prompts=part.prompts[:wanted])
        clips = [source(index).window(0, config.data.frames) for index in part.clips]
        batch = augmented(clips, part, config, torch.device("cpu"))
        tiles += [_tile(batch, i) for i in range(wanted)]
        step += 1
    high, wide = (max(t.shape[axis] for t in tiles) for axis in (0, 1))
    padded = [np.pad(t, ((0, high - t.shape[0]), (0, wide - t.shape[1]), (0, 0))) for t in tiles]
    panels.write(file, panels.grid(padded, columns))


def _tile(batch: ClipBatch, i: int) -> np.ndarray:
    """(2 H, W, 3) uint8: the middle frame of clip i, and the same with its truth."""
    t = batch.rgb.shape[2] // 2
    rgb = ((batch.rgb[i, :, t].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    assert batch.instances is not None
    people = batch.instances[i, 0, t].numpy().astype(int)
    tint = PALETTE[np.minimum(people, len(PALETTE) - 1)]
    drawn = np.ascontiguousarray(np.where(people[..., None] > 0, (rgb + tint) // 2, rgb).astype(np.uint8))
    points = (batch.keypoints.xy[i, t].numpy() * rgb.shape[1::-1]).round().astype(int)
    seen = batch.keypoints.visibility[i, t].numpy()
    for a, b in JOINT_SETS[DEFAULT_JOINT_SET].bones:
        if min(seen[a], seen[b]) > 0:
            cv2.line(drawn, points[a].tolist(), points[b].tolist(), (255, 255, 255), 1, cv2.LINE_AA)
    for point, how in zip(points.tolist(), seen, strict=True):
        if how > 0:
            cv2.circle(drawn, point, 1, VISIBLE if how == 1 else HIDDEN, -1, cv2.LINE_AA)
    return np.concatenate([rgb, drawn])
