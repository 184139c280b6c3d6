"""People no sharper than what is behind them: fine detail is divided anew, as photographs divide it.

People are rendered to the pixel, photographs and panoramas behind them are enlarged, so a network learns that what is
sharp is a person. In photographs people and surroundings have about the same detail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.train.appearance import HEIGHT, blurred

SPREAD = 0.5  # standard deviation of the logarithm of a person's detail over that of the surroundings, in photographs
MOST = 3.0  # of a gain on detail; the least is 0, a blur
OUTLINE = 2  # pixels about an outline, whose step is nobody's detail
LEAST = 100.0  # pixels of people and of surroundings, below which nothing is known of their detail


def detailed(rgb: Tensor, alpha: Tensor, beyond: Tensor, keys: Sequence[Sequence[int]], share: float = 1.0) -> Tensor:
    """Videos (B, 3, T, H, W) in [-1, 1] with people's and the surroundings' detail brought to a ratio that is drawn.

    alpha: (B, 1, T, H, W), where people are. beyond: (B, 1, 1, H, W) bool, what no camera made, which stays as it is.
    keys: of the draws. share: of the videos that are changed.
    """
    videos = zip(rgb, alpha, beyond.expand_as(alpha), keys, strict=True)
    changed = [
        _detailed(*video, key) if np.random.default_rng(key).random() < share else video[0] for *video, key in videos
    ]
    return torch.where(beyond, rgb, torch.stack(changed))


def _detailed(video: Tensor, alpha: Tensor, beyond: Tensor, key: Sequence[int]) -> Tensor:
    rng = np.random.default_rng((*key, 1))
    ratio, push = math.exp(rng.normal(0, SPREAD)), rng.uniform(0.3, 1.0)
    x, person = video.transpose(0, 1), alpha.transpose(0, 1)  # (T, C, H, W)
    fine = x - blurred(x, x.shape[-2] / HEIGHT)
    brightness = fine.mean(1, keepdim=True)
    width = 2 * OUTLINE + 1
    nothing = beyond.transpose(0, 1).to(person)
    people, surroundings = (
        _deviation(brightness, F.max_pool2d(outside, width, 1, OUTLINE) < 0.5)
        for outside in (torch.maximum(1 - person, nothing), torch.maximum(person, nothing))
    )
    if not people or not surroundings:
        return video
    wanted = ratio * surroundings / people  # of the gain on people's detail over that on the surroundings'
    behind = min(wanted**-push, MOST)
    on = min(behind * wanted, MOST)
    gain = behind + (on - behind) * blurred(person, OUTLINE / 2)
    return (x + (gain - 1) * fine).clamp(-1, 1).transpose(0, 1)


def _deviation(x: Tensor, mask: Tensor) -> float:
    """Root mean square of x (T, 1, H, W) over the mask; 0 where it holds too little."""
    count = float(mask.sum())
    return math.sqrt(float((x.square() * mask).sum()) / count) if count >= LEAST else 0.0
