"""Features of single images at half their size, a quarter, and so on: what a frame's own pixels tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.vae_walk import double


class Pyramid(nn.Module):
    """Down to small maps that know what is where, and up again to fine ones that know it too (U-Net, Ronneberger et
    al., MICCAI 2015).

    Args:
        channels: of the images. dim: of the finest map; every smaller one has half the size and twice the channels.
        depth: how many maps there would be. finest: the first of them that is made.
        blocks: residual blocks behind the smallest map, behind the next one up, and so on. There they cost little, and
        it is there that limbs are told apart. Fresh ones change nothing yet.
    """

    def __init__(self, channels: int, dim: int, depth: int, finest: int = 0, blocks: Sequence[int] = ()) -> None:
        super().__init__()
        self.widths = [dim * 2**level for level in range(depth)]
        self.down = nn.ModuleList(stack(before, width) for before, width in pairwise([channels, *self.widths]))
        deepest = self.widths[-1]
        self.deep = stack(deepest, deepest)
        self.overview = nn.Linear(deepest, deepest)  # of the whole image, to each of its places
        self.up = nn.ModuleList(stack(fine + coarse, fine) for coarse, fine in pairwise(self.widths[finest:][::-1]))
        self.blocks = nn.ModuleList(nn.Sequential() for _ in self.widths[finest:])
        self.deepen(blocks)

    def deepen(self, blocks: Sequence[int]) -> None:
        """Have so many blocks from now on, with those that there are already before fresh ones."""
        if len(blocks) > len(self.blocks) or any(n < len(old) for n, old in zip(blocks, self.blocks, strict=False)):
            found = [len(old) for old in self.blocks]
            raise UserError(f"blocks: expected a number for each of {len(found)} maps, {found} or more, found {blocks}")
        for old, width, n in zip(self.blocks, self.widths[::-1], blocks, strict=False):
            old.extend(Residual(width) for _ in range(n - len(old)))

    def see_as(self, other: Pyramid) -> None:
        """Share the weights of one that is built alike and makes the same maps or finer ones too."""
        self.down, self.deep, self.overview = other.down, other.deep, other.overview
        self.up = nn.ModuleList([*other.up][: len(self.up)])
        self.blocks = nn.ModuleList([*other.blocks][: len(self.blocks)])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, channels, h, w), sizes divisible by 2^(depth - 1) -> maps (N, widths[i], h / 2^i, w / 2^i), the finest
        first."""
        seen: list[Tensor] = []
        for level in self.down:
            seen.append(level(F.avg_pool2d(seen[-1], 2) if seen else images))
        x = self.deep(seen[-1])
        maps = [self.blocks[0](x + self.overview(x.mean((2, 3)))[:, :, None, None])]
        for level, blocks, fine in zip(self.up, self.blocks[1:], seen[-2::-1], strict=False):
            maps.append(blocks(level(torch.cat((fine, double(maps[-1])), 1))))
        return maps[::-1]


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, norm and activation before each (He et al., ECCV 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(*_before(width), *_before(width))
        nn.init.zeros_(self.change[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, h, w), and back."""
        return x + self.change(x)


def _before(width: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)


def stack(channels: int, width: int) -> nn.Sequential:
    """Two 3x3 convolutions with norm and activation."""
    return nn.Sequential(*_convolution(channels, width), *_convolution(width, width))


def silent(last: nn.Linear | nn.Conv2d) -> None:
    """A last layer that says nothing until it has learned."""
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)


def _convolution(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.GroupNorm(4, width), nn.SiLU()
