"""Faces that cannot be read, as data sets publish them, and as masks, hair, distance and darkness leave them.

A face says which way a body looks, so a network reads little else, and where the face cannot be read, left and right
change places. What is under the cover stays as it is in the ground truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.model.readout import Keypoints
from thfm_ros.skeleton import DEFAULT_JOINT_SET, JOINT_SETS
from thfm_ros.train.appearance import blurred

JOINTS = JOINT_SETS[DEFAULT_JOINT_SET]
FACE = [JOINTS.index(name) for name in ("nose", "left_eye", "right_eye")]
HEAD = [JOINTS.index(name) for name in ("nose", "left_ear", "right_ear", "head_top")]
NECK, TOP, LEFT_EAR, RIGHT_EAR = (JOINTS.index(name) for name in ("neck", "head_top", "left_ear", "right_ear"))
ANYHOW = 0.35  # of the covers that lie on a head whichever way it looks, where the others lie on faces alone
LEAST = 3.0  # pixels of a radius, below which there is no face to read


def covered(rgb: Tensor, keypoints: Keypoints, keys: Sequence[Sequence[int]], share: float) -> Tensor:
    """Return videos (B, 3, T, H, W) in [-1, 1] with `share` of the faces under a mosaic, a blur or one flat colour.

    keypoints: of the person in each, whose xy is in parts of the video's size. keys: of the draws.
    """
    videos = []
    for video, xy, visibility, key in zip(rgb, keypoints.xy, keypoints.visibility, keys, strict=True):
        rng = np.random.default_rng(key)
        videos.append(_covered(video, xy, visibility, rng) if rng.random() < share else video)
    return torch.stack(videos)


def _covered(video: Tensor, xy: Tensor, visibility: Tensor, rng: np.random.Generator) -> Tensor:
    frames, (height, width) = video.shape[1], video.shape[2:]
    places = xy * xy.new_tensor([width, height])
    which = HEAD if rng.random() < ANYHOW else FACE
    how = str(rng.choice(("mosaic", "blur", "flat")))
    size, off = rng.uniform(0.35, 0.6), torch.as_tensor(rng.normal(0, 0.1, 2)).to(xy)
    strength, colour = rng.uniform(0.2, 0.6), torch.as_tensor(rng.uniform(-1, 1, 3)).to(video)
    round_, tall = rng.random() < 0.6, rng.uniform(1.0, 1.35)
    out = video.clone()
    for t in range(frames):
        if not (visibility[t, which] == 1).any():
            continue
        tallness = float((places[t, NECK] - places[t, TOP]).norm())
        breadth = float((places[t, LEFT_EAR] - places[t, RIGHT_EAR]).norm())
        radius = max(size * tallness, 0.9 * breadth)  # a head that is bent towards the camera is not tall
        if radius < LEAST:
            continue
        middle = places[t, which].mean(0) + radius * off
        y = (torch.arange(height).to(xy) + 0.5 - middle[1])[:, None] / (tall * radius)
        x = (torch.arange(width).to(xy) + 0.5 - middle[0]) / radius
        inside = (x.square() + y.square() < 1) if round_ else ((x.abs() < 1) & (y.abs() < 1))
        frame = video[None, :, t]
        if how == "mosaic":
            cell = max(2, round(strength * radius))
            small = F.avg_pool2d(frame, cell, ceil_mode=True, count_include_pad=False)
            cover = F.interpolate(small, scale_factor=cell, mode="nearest")[..., :height, :width]
        elif how == "blur":
            cover = blurred(frame, strength * radius)
        else:
            cover = colour[:, None, None].expand_as(frame[0])[None]
        out[:, t] = torch.where(inside, cover[0], frame[0])
    return out
