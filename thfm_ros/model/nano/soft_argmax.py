"""Places of heatmaps, differentiable (Sun et al., Integral Human Pose Regression, ECCV 2018)."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of each heatmap (..., h, w) over its cells."""
    return logits.flatten(-2).softmax(-1).view_as(logits)


def expectation(chance: Tensor) -> Tensor:
    """Mean place (..., 2) of heatmaps (..., h, w) whose cells add up to 1, in normalised image coordinates (x, y)."""
    x, y = cell_centres(chance)
    return torch.stack(((chance.sum(-2) * x).sum(-1), (chance.sum(-1) * y).sum(-1)), -1)


def mode(chance: Tensor, reach: float) -> Tensor:
    """Place (..., 2) of the highest peak, to a part of a cell: the mean over cells near it.

    The mean over all cells would lie between two people, or between two hands.

    Args:
        chance: heatmaps (..., h, w). reach: standard deviation, in cells, of what counts as near.
    """
    height, width = chance.shape[-2:]
    peak = (chance == chance.amax((-2, -1), keepdim=True)).to(chance)
    place = expectation((peak / peak.sum((-2, -1), keepdim=True)).detach())
    x, y = cell_centres(chance)
    dx = ((x - place[..., :1]) * (width / reach)).square().unsqueeze(-2)
    dy = ((y - place[..., 1:]) * (height / reach)).square().unsqueeze(-1)
    near = chance * (-(dx + dy) / 2).exp()
    return expectation(near / near.sum((-2, -1), keepdim=True).clamp_min(1e-12))


def cell_centres(maps: Tensor) -> tuple[Tensor, Tensor]:
    """x (w,) and y (h,) of the middles of cells, in normalised image coordinates."""
    rows, columns = ((torch.arange(n, device=maps.device).to(maps) + 0.5) / n for n in maps.shape[-2:])
    return columns, rows
