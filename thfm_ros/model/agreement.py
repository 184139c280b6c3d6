"""Joints of one body look at where the others are believed to be before they say where they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.precision import exact
from thfm_ros.model.pyramid import Residual, silent


class Agreement(nn.Module):
    """Changes heatmaps by what all of them say together and by what patches have to say: a knee decides which of two
    ankles is its own, where each of them apart would decide by a hair (Wei et al., CVPR 2016, refine belief maps
    likewise).

    A fresh one changes nothing yet. No gradient goes back through the beliefs that it starts from, which have the same
    loss through the sum; through what patches say it does.

    Args:
        dim: of what a patch has to say. joints: K. cells: n along each side of a patch. blocks: of two convolutions
            over patches. width: their channels.
    """

    def __init__(self, dim: int, joints: int, cells: int, blocks: int, width: int = 160) -> None:
        super().__init__()
        self.cells = cells
        self.enter = nn.Conv2d(dim + joints * cells**2, width, 1)
        self.width, self.blocks = width, nn.Sequential()
        self.norm = nn.GroupNorm(4, width)
        self.leave = nn.Conv2d(width, joints * cells**2, 1)
        silent(self.leave)
        self.deepen(blocks)

    def deepen(self, blocks: int) -> None:
        """Have so many blocks from now on, with those that there are already before fresh ones."""
        if blocks < len(self.blocks):
            raise UserError(f"agree_blocks: expected {len(self.blocks)} or more, found {blocks}")
        self.blocks.extend(Residual(self.width) for _ in range(blocks - len(self.blocks)))

    def forward(self, places: Tensor, told: Tensor) -> Tensor:
        """places: logits (B, T, K, n h, n w). told: (B, T, h, w, D). Returns what to add to `places`."""
        said = places.detach().flatten(0, 1)
        belief = (said - said.amax((2, 3), keepdim=True)).exp()  # 1 where a joint is likeliest, however flat the map
        known = told.flatten(0, 1).permute(0, 3, 1, 2)
        x = self.enter(torch.cat((F.pixel_unshuffle(belief, self.cells).to(known.dtype), known), 1))
        change = exact(self.leave, F.silu(self.norm(self.blocks(x)))).float()
        return F.pixel_shuffle(change, self.cells).view_as(places)
