"""Layers that autocast must not round."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def autocasts(x: Tensor) -> bool:
    """Whether layers round what they are given, on the device of `x` (the meta device has no autocast)."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def exact(layers: nn.Module, x: Tensor) -> Tensor:
    """Run layers in the precision of their weights, also under autocast: bf16 would round coordinates to 1/256 of the
    image."""
    if not autocasts(x):
        return layers(x)
    with torch.autocast(x.device.type, enabled=False):
        return layers(x.to(next(layers.parameters()).dtype))
