"""A small decoder in the place of Wan's: plain convolutions over single frames, and one frame of memory.

The idea is of TAEHV (Ollin Boer Bohan, 2025, https://github.com/madebyollin/taehv), a small network that learns from
Wan's decoder what it paints. What it leaves out is what makes the stock one dear: norms, attention, convolutions over
three frames, and wide maps at the full size. A convolution over two frames sees the frame before, so the whole is
causal in time, as Wan's is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.vae_forward import double

GROWTHS = 2  # doublings of the frame rate: a latent frame stands for 4 frames, but for a stream's first


class NarrowDecoder(ModelMixin, ConfigMixin):
    """Decodes normalised latents (B, z_dim, T', h, w) to video (B, 3, 4 T' - 3, H, W) clamped to [-1, 1].

    Args:
        z_dim: channels of a latent.
        widths: channels of the maps at the latents' size, at twice that size, and so on; 3 or more. The frame rate
            doubles with the last two doublings of the size.
        blocks: memory blocks at each size but the last.
        patch_size: pixels along each side that one place of the last maps paints.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = 16,
        widths: Sequence[int] = (256, 128, 64, 64),
        blocks: int = 4,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        if len(widths) <= GROWTHS or min(widths) < 1 or blocks < 1:
            raise ValueError(
                f"expected {GROWTHS + 1} widths or more and 1 block or more, found {list(widths)} and {blocks}"
            )
        self.enter = _conv3x3(z_dim, widths[0])
        first = len(widths) - 1 - GROWTHS
        self.levels = nn.ModuleList(
            Level(width, narrower, blocks, grows=index >= first)
            for index, (width, narrower) in enumerate(pairwise(widths))
        )
        self.out = _conv3x3(widths[-1], 3 * patch_size**2)
        _start(self)

    @classmethod
    def of(cls, vae: AutoencoderKLWan, **own: Any) -> NarrowDecoder:
        """Build one for the latents of that autoencoder.

        Args:
            own: `widths` and `blocks`, where they are not the defaults.
        Raises:
            UserError: not Wan's autoencoder, or widths for another size.
        """
        if not isinstance(vae, AutoencoderKLWan):
            raise UserError(
                f"expected Wan's autoencoder for a narrow decoder, found {type(vae).__name__}, whose own is small"
            )
        config = vae.config
        try:
            narrow = cls(z_dim=config.z_dim, patch_size=config.patch_size or 1, **own)
        except (TypeError, ValueError) as error:
            raise UserError(f"decoder: {error}") from None
        if narrow.scale_factor_spatial != config.scale_factor_spatial:
            raise UserError(
                f"decoder.widths: expected {config.scale_factor_spatial} pixels a latent, as the autoencoder has, "
                f"found {narrow.scale_factor_spatial}: one width more doubles them"
            )
        return narrow

    @property
    def scale_factor_spatial(self) -> int:
        """Pixels of a latent along each side."""
        return 2 ** (len(self.config.widths) - 1) * self.config.patch_size

    def forward(self, latents: Tensor) -> Tensor:
        return self.unclamped(latents).clamp(-1, 1)

    def unclamped(self, latents: Tensor) -> Tensor:
        """Without the clamp, whose gradient is 0 outside [-1, 1]: for losses."""
        if latents.ndim != 5 or latents.shape[1] != self.config.z_dim:
            raise UserError(f"expected latents (B, {self.config.z_dim}, T', h, w), found {tuple(latents.shape)}")
        frames = latents.shape[2]
        x = F.relu(self.enter(latents.transpose(1, 2).flatten(0, 1)))
        for level in self.levels:
            x = level(x, frames)
            frames = level.grown(frames)
        x = self.out(F.relu(x))
        if self.config.patch_size > 1:
            x = F.pixel_shuffle(x, self.config.patch_size)
        return x.unflatten(0, (-1, frames)).transpose(1, 2)


class Level(nn.Module):
    """Memory blocks at one size, then twice the size and, where it grows, twice the frames."""

    def __init__(self, width: int, narrower: int, blocks: int, grows: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MemoryBlock(width) for _ in range(blocks))
        self.grow = nn.Conv2d(width, 2 * width, 1) if grows else None
        self.narrow = _conv3x3(width, narrower)

    def grown(self, frames: int) -> int:
        """How many frames come out: the stream's first stays one."""
        return frames if self.grow is None else 2 * frames - 1

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(B * frames, width, h, w) -> (B * grown(frames), narrower, 2 h, 2 w)."""
        for block in self.blocks:
            x = block(x, frames)
        if self.grow is not None:
            pairs = self.grow(x).unflatten(1, (2, -1)).unflatten(0, (-1, frames))  # (B, T, 2, C, h, w)
            x = pairs.flatten(1, 2)[:, 1:].flatten(0, 1)
        return self.narrow(double(x))


class MemoryBlock(nn.Module):
    """Three convolutions beside a residual path; the first sees the frame before, zeros before a stream's first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = _conv3x3(2 * width, width)
        self.refine = _conv3x3(width, width)
        self.add = _conv3x3(width, width)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(B * frames, width, h, w) -> the same shape, after a ReLU."""
        y = F.relu(self.look(torch.cat((x, _before(x, frames)), 1)))
        return F.relu(x + self.add(F.relu(self.refine(y))))


def _conv3x3(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1)


def _before(x: Tensor, frames: int) -> Tensor:
    """The frame before each of (B * frames, C, h, w), zeros before the first."""
    clips = x.unflatten(0, (-1, frames))
    return F.pad(clips[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1)


def _start(decoder: NarrowDecoder) -> None:
    """Unit variance through ReLUs (He et al., ICCV 2015); what blocks add, and the picture, start small."""
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    blocks = [module for module in decoder.modules() if isinstance(module, MemoryBlock)]
    with torch.no_grad():
        for last in (decoder.out, *(block.add for block in blocks)):
            last.weight.mul_(0.1)
