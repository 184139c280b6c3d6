"""What tasks predict: physical quantities, and their codecs between numbers and RGB.

Codecs work on numpy arrays and torch tensors alike, with the channel axis last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = Any  # numpy.ndarray or torch.Tensor
Loss = Literal["ssi_disparity", "normal", "l2", "offsets", "keypoints"]


def array_namespace(x: Array) -> Any:
    """The module (torch or numpy) whose functions apply to `x`; never imports torch itself."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else np


@dataclass(frozen=True)
class Quantity:
    """What tasks predict, how it is RGB in [-1, 1], and the loss that teaches it.

    to_rgb:   (..., H, W) or (..., H, W, 3) -> (..., H, W, 3)
    from_rgb: (..., H, W, 3) -> the quantity's own shape
    """

    name: str
    channels: int
    loss: Loss
    to_rgb: Callable[[Array], Array]
    from_rgb: Callable[[Array], Array]


def _repeat(x: Array) -> Array:
    return array_namespace(x).stack([x, x, x], -1)


def _unit_to_rgb(x: Array) -> Array:
    return _repeat(2.0 * x - 1.0)


def _unit_from_rgb(rgb: Array) -> Array:
    mean = (rgb[..., 0] + rgb[..., 1] + rgb[..., 2]) / 3.0  # twice as fast in numpy as mean(-1)
    return ((mean + 1.0) / 2.0).clip(0.0, 1.0)


def _normal_from_rgb(rgb: Array) -> Array:
    """Unit length again; vectors shorter than 0.5 are background and become exactly 0."""
    xp = array_namespace(rgb)
    length = (rgb * rgb).sum(-1)[..., None] ** 0.5
    return rgb * xp.where(length >= 0.5, 1.0 / length.clip(1e-6, None), length * 0.0)


def _code_to_rgb(code: Array) -> Array:
    """Offsets lie in [-1, 1] already, centre-ness in [0, 1]."""
    return array_namespace(code).stack([code[..., 0], code[..., 1], 2.0 * code[..., 2] - 1.0], -1)


def _code_from_rgb(rgb: Array) -> Array:
    near = ((rgb[..., 2] + 1.0) / 2.0).clip(0.0, 1.0)
    return array_namespace(rgb).stack([rgb[..., 0].clip(-1.0, 1.0), rgb[..., 1].clip(-1.0, 1.0), near], -1)


def _no_rgb(x: Array) -> Array:
    raise TypeError("keypoints are no picture")


DISPARITY = Quantity("depth", 1, "ssi_disparity", _unit_to_rgb, _unit_from_rgb)
NORMALS = Quantity("normals", 3, "normal", lambda n: n, _normal_from_rgb)
ALPHA = Quantity("foreground", 1, "l2", _unit_to_rgb, _unit_from_rgb)
DENSE_POSE = Quantity("dense_pose", 3, "l2", lambda c: 2.0 * c - 1.0, lambda rgb: ((rgb + 1.0) / 2.0).clip(0.0, 1.0))
INSTANCES = Quantity("instances", 3, "offsets", _code_to_rgb, _code_from_rgb)  # `thfm_ros.instances` has them
KEYPOINTS = Quantity("keypoints", 0, "keypoints", _no_rgb, _no_rgb)
