"""Layers that autocast must not round."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def exact(layers: nn.Module, x: Tensor) -> Tensor:
    """What layers compute in the precision of their weights, also under autocast: bf16 would round coordinates to 1/256
    of the image."""
    if not torch.is_autocast_enabled(x.device.type):
        return layers(x)
    with torch.autocast(x.device.type, enabled=False):
        return layers(x.to(next(layers.parameters()).dtype))
