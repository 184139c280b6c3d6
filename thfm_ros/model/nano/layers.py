"""Layers that fold into plain convolutions at inference: no norm over activations, so nothing but products is left."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StandardConv2d(nn.Conv2d):
    """Convolves with standardised weights (Qiao et al., 2019; Brock et al., 2021), which a compiler folds to constants.

    Every filter has zero mean and a norm of `gain`, times a learnable factor. Unlike batch norm it treats every image
    alike, whatever else is in the batch, in training and at run time.
    """

    def __init__(self, channels: int, width: int, kernel: int = 1, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__(channels, width, kernel, stride, kernel // 2)
        self.gain = nn.Parameter(torch.full((width, 1, 1, 1), gain))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, width, h / stride, w / stride), rounded up."""
        weight = self.weight.float()
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-8).sqrt()
        return F.conv2d(x, (weight * self.gain).to(x.dtype), self._bias(x), self.stride, self.padding)

    @torch.no_grad()
    def normalise_(self) -> None:
        """Bring every filter to a norm of 1, which changes no output.

        The norm grows while a network learns, and the same step then turns a filter less.
        """
        self.weight /= self.weight.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-8).sqrt()

    def _bias(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return self.bias.to(x.dtype)


class Fuse(nn.Module):
    """Adds a coarser map, made twice as large, to a finer one, then refines the sum by a residual 3x3 convolution.

    coarse: (N, coarse, h, w); fine: (N, width, 2 h, 2 w), or one row less where the size was odd.
    """

    def __init__(self, coarse: int, width: int) -> None:
        super().__init__()
        self.reduce = StandardConv2d(coarse, width)
        self.refine = StandardConv2d(width, width, 3)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Returns (N, width, 2 h, 2 w), after a ReLU."""
        x = activate(add_shared(upsample(self.reduce(coarse), fine), fine))
        return activate(x + self.refine(x))


def activate(x: Tensor) -> Tensor:
    """ReLU; the gains of the convolutions that follow learn what it takes from the variance."""
    return F.relu(x)


def add_shared(x: Tensor, shared: Tensor) -> Tensor:
    """Add maps of T frames to maps of N tasks x T frames, tasks first."""
    if len(x) == len(shared):
        return x + shared
    return (x.unflatten(0, (-1, len(shared))) + shared).flatten(0, 1)


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, h, w) -> twice as large by repetition, cut to the size of `like`: odd sizes were rounded up."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    height, width = like.shape[-2:]
    return x if x.shape[-2:] == (height, width) else x[..., :height, :width]


def zero_init(last: nn.Conv2d | nn.Linear) -> None:
    """Start a last layer at zero."""
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)


def small_init(last: nn.Conv2d | nn.Linear) -> None:
    """Start a last layer small, without a bias."""
    nn.init.normal_(last.weight, std=0.1 / last.weight[0].numel() ** 0.5)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
