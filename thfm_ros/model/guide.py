"""A decoder that looks at the image it paints over: what small autoencoders need, and Wan's do not have."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers import AutoencoderKLWan
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify
from torch import Tensor, nn

from thfm_ros.model.pyramid import Pyramid, silent


class GuidedAutoencoderKLWan(AutoencoderKLWan):
    """`AutoencoderKLWan` with a `Guide` beside its decoder; without a guide image it is the stock class.

    Not of the paper, whose latents hold 8x8 pixels in 16 numbers and whose decoder has seen the world. Nano's hold
    16x16 pixels in 32: the outlines that a mask or a normal map shares with the image are cheaper seen than remembered.

    Args:
        guide_dim: channels of the guide at its finest size; a multiple of 4. guide_blocks: of its `Pyramid`.
    """

    @register_to_config
    def __init__(
        self,
        base_dim: int = 96,
        decoder_base_dim: int | None = None,
        z_dim: int = 16,
        dim_mult: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attn_scales: Sequence[float] = (),
        temperal_downsample: Sequence[bool] = (False, True, True),
        dropout: float = 0.0,
        latents_mean: Sequence[float] = (0.0,) * 16,
        latents_std: Sequence[float] = (1.0,) * 16,
        is_residual: bool = False,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int | None = None,
        scale_factor_temporal: int | None = 4,
        scale_factor_spatial: int | None = 8,
        guide_dim: int = 24,
        guide_blocks: Sequence[int] = (),
    ) -> None:
        super().__init__(
            base_dim=base_dim,
            decoder_base_dim=decoder_base_dim,
            z_dim=z_dim,
            dim_mult=list(dim_mult),
            num_res_blocks=num_res_blocks,
            attn_scales=list(attn_scales),
            temperal_downsample=list(temperal_downsample),
            dropout=dropout,
            latents_mean=list(latents_mean),
            latents_std=list(latents_std),
            is_residual=is_residual,
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            scale_factor_temporal=scale_factor_temporal,
            scale_factor_spatial=scale_factor_spatial,
        )
        blocks = self.decoder.up_blocks
        entering = [block.resnets[0].conv1.in_channels for block in reversed(blocks)]
        doubled = [bool(halved) for halved in temperal_downsample]  # by the blocks from the last but one to the first
        self.guide = Guide(in_channels, guide_dim, entering, doubled, patch_size or 1, guide_blocks)

    @classmethod
    def grown(cls, vae: AutoencoderKLWan, guide_dim: int) -> GuidedAutoencoderKLWan:
        """The same autoencoder with a fresh guide, which changes nothing yet."""
        names = {k: v for k, v in vae.config.items() if not k.startswith("_")}
        guided = cls(**{**names, "guide_dim": guide_dim}).to(vae.device, vae.dtype)
        guided.load_state_dict(vae.state_dict(), strict=False)
        return guided.eval()


class Guide(nn.Module):
    """Features of single frames, one map for each of the decoder's blocks, to be added to what enters them.

    The maps are a `Pyramid`'s. Of the smaller ones every second frame is told where the decoder works on half the
    frames there: the later one of two, so that a stream needs no memory. It says nothing until it has learned.

    Args:
        channels: of the image after `patch` x `patch` pixels went into them. dim: of the finest features.
        entering: channels of what enters the decoder's blocks, the last block first.
        doubled: whether time doubles between those blocks, from the last one back. blocks: of the pyramid.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        entering: Sequence[int],
        doubled: Sequence[bool],
        patch: int,
        blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.patch, self.doubled = patch, (False, *doubled)
        self.pyramid = Pyramid(channels, dim, len(entering), blocks=blocks)
        self.answers = nn.ModuleList(nn.Conv2d(w, c, 1) for w, c in zip(self.pyramid.widths, entering, strict=True))
        for answer in self.answers:
            silent(answer)

    def maps(self, video: Tensor) -> list[Tensor]:
        """(B, 3, T, H, W) in [-1, 1] -> the pyramid's maps of every frame, (B T, C, h, w), the finest first."""
        return self.pyramid(patchify(video, self.patch).transpose(1, 2).flatten(0, 1))

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, T, H, W) in [-1, 1], T = 4k + 1 at the start of a stream, 4k in its middle -> for every block of the
        decoder, the first block first: (B, C, T', h, w) of what enters it."""
        frames = range(video.shape[2])
        out: list[Tensor] = []
        for seen, answer, doubled in zip(self.maps(video), self.answers, self.doubled, strict=True):
            if doubled:
                frames = frames[(len(frames) - 1) % 2 :: 2]
            every = seen.unflatten(0, (video.shape[0], -1))
            told = answer(every[:, frames.start : frames.stop : frames.step].flatten(0, 1))
            out.append(told.unflatten(0, (video.shape[0], -1)).transpose(1, 2))
        return tuple(reversed(out))
