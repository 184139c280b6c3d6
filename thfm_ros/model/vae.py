"""Stateless forms of `AutoencoderKLWan`: a whole clip in one pass (flat), or chunks with explicit caches (stream).

Normalisation is inside: latents are (mean - latents_mean) / latents_std, as the transformer wants them, so the stages
chain: encode -> transform (already negated) -> decode. Both forms equal the stock class; streamed latents equal those
of the whole history, not those of a re-encoded window.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.vae_forward import NextChunk, Temporal, WholeClip, decode, encode


class _Encoder(nn.Module):
    def __init__(self, vae: AutoencoderKLWan, checkpointing: bool = False) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        self.patch = vae.config.patch_size or 1
        self.z_dim, self.spatial = vae.config.z_dim, vae.config.scale_factor_spatial
        self.checkpointing = checkpointing
        self.register_buffer("mean", _channels(vae.config.latents_mean, vae), persistent=False)
        self.register_buffer("std", _channels(vae.config.latents_std, vae), persistent=False)

    def _moments(self, video: Tensor, time: Temporal) -> tuple[Tensor, Tensor]:
        check_video(video, self.spatial, start=time.start)
        x = self.quant_conv(encode(self.encoder, patchify(video, self.patch), time, self.checkpointing))
        return x[:, : self.z_dim], x[:, self.z_dim :]

    def _latents(self, video: Tensor, time: Temporal) -> Tensor:
        mean, _ = self._moments(video, time)
        return ((mean - self.mean) / self.std).to(mean.dtype)


class _Decoder(nn.Module):
    def __init__(self, vae: AutoencoderKLWan, checkpointing: bool = False) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv
        self.patch, self.z_dim = vae.config.patch_size or 1, vae.config.z_dim
        self.checkpointing = checkpointing
        self.register_buffer("mean", _channels(vae.config.latents_mean, vae), persistent=False)
        self.register_buffer("std", _channels(vae.config.latents_std, vae), persistent=False)

    def _video(self, latents: Tensor, time: Temporal) -> Tensor:
        if latents.ndim != 5 or latents.shape[1] != self.z_dim:
            raise UserError(f"expected latents (B, {self.z_dim}, T', h, w), found {tuple(latents.shape)}")
        z = self.post_quant_conv((latents * self.std + self.mean).to(latents.dtype))
        return unpatchify(decode(self.decoder, z, time, self.checkpointing), self.patch)


class FlatEncoder(_Encoder):
    """(B, 3, T, H, W) in [-1, 1], T = 4k + 1 -> normalised latents (B, C, T', h, w), T' = k + 1.

    Shares the VAE's parameters. `checkpointing` trades time for memory in training, block by block.
    """

    def forward(self, video: Tensor) -> Tensor:
        return self._latents(video, WholeClip())

    def moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the posterior, NOT normalised: what the VAE's own training needs."""
        return self._moments(video, WholeClip())


class FlatDecoder(_Decoder):
    """Normalised latents (B, C, T', h, w) -> (B, 3, 4 T' - 3, H, W) clamped to [-1, 1]. Shares the VAE's parameters."""

    def forward(self, latents: Tensor) -> Tensor:
        return self.unclamped(latents).clamp(-1, 1)

    def unclamped(self, latents: Tensor) -> Tensor:
        """Without the clamp, whose gradient is 0 outside [-1, 1]: for losses."""
        return self._video(latents, WholeClip())


class StreamEncoderInit(_Encoder):
    """The start of a stream: (B, 3, T, H, W), T = 4k + 1 and usually 1 -> (latents (B, C, T', h, w), *caches)."""

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        time = WholeClip(caches=[])
        return (self._latents(video, time), *time.caches)


class StreamEncoderStep(_Encoder):
    """The next frames of a stream: (B, 3, 4, H, W), *caches -> (latents (B, C, 1, h, w), *caches)."""

    def forward(self, video: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        time = NextChunk(caches)
        return (self._latents(video, time), *time.caches)


class StreamDecoderInit(_Decoder):
    """The start of a stream: (B, C, T', h, w), T' usually 1 -> (video (B, 3, 4 T' - 3, H, W), *caches)."""

    def forward(self, latents: Tensor) -> tuple[Tensor, ...]:
        time = WholeClip(caches=[])
        return (self._video(latents, time).clamp(-1, 1), *time.caches)


class StreamDecoderStep(_Decoder):
    """The next latent frame of a stream: (B, C, 1, h, w), *caches -> (video (B, 3, 4, H, W), *caches)."""

    def forward(self, latents: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        time = NextChunk(caches)
        return (self._video(latents, time).clamp(-1, 1), *time.caches)


def flat_encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """`FlatEncoder` in one call."""
    return FlatEncoder(vae)(video)


def flat_decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """`FlatDecoder` in one call."""
    return FlatDecoder(vae)(latents)


class ChunkedEncoder(nn.Module):
    """The numbers of `FlatEncoder` in a fraction of its memory: chunk by chunk."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.init, self.step = StreamEncoderInit(vae), StreamEncoderStep(vae)
        self.spatial = vae.config.scale_factor_spatial

    def forward(self, video: Tensor) -> Tensor:
        check_video(video, self.spatial)
        latents, *caches = self.init(video[:, :, :1])
        parts = [latents]
        for start in range(1, video.shape[2], 4):
            latents, *caches = self.step(video[:, :, start : start + 4], *caches)
            parts.append(latents)
        return torch.cat(parts, 2)


class ChunkedDecoder(nn.Module):
    """The numbers of `FlatDecoder` in a fraction of its memory: latent frame by latent frame."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.init, self.step = StreamDecoderInit(vae), StreamDecoderStep(vae)

    def forward(self, latents: Tensor) -> Tensor:
        video, *caches = self.init(latents[:, :, :1])
        parts = [video]
        for index in range(1, latents.shape[2]):
            video, *caches = self.step(latents[:, :, index : index + 1], *caches)
            parts.append(video)
        return torch.cat(parts, 2)


def stream_encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """`ChunkedEncoder` in one call."""
    return ChunkedEncoder(vae)(video)


def stream_decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """`ChunkedDecoder` in one call."""
    return ChunkedDecoder(vae)(latents)


def check_video(video: Tensor, spatial: int, start: bool = True) -> None:
    """UserError unless (B, 3, T, H, W), floating point, T = 4k + 1 (4k in mid-stream), sizes divisible by `spatial`.

    The range [-1, 1] is not checked here, because that would wait for the device: see `check_range`.
    """
    if video.ndim != 5 or video.shape[1] != 3:
        raise UserError(f"expected video (B, 3, T, H, W), found {tuple(video.shape)}")
    if not video.is_floating_point():
        raise UserError(f"expected floating point video in [-1, 1], found {video.dtype}: use video / 127.5 - 1")
    frames, height, width = video.shape[2:]
    if frames % 4 != (1 if start else 0) or frames == 0:
        rule = "4k + 1 frames (1, 5, 9, ...)" if start else "4k frames in the middle of a stream"
        raise UserError(f"expected {rule}, found {frames}: drop or repeat frames")
    if height % spatial or width % spatial or height == 0 or width == 0:
        raise UserError(f"expected a size divisible by {spatial}, found {width}x{height}: resize or pad the video")


def check_range(video: Tensor) -> None:
    """UserError unless all values are finite and in [-1, 1]."""
    low, high = (float(v) for v in torch.aminmax(video))
    if not (low >= -1.001 and high <= 1.001):  # also false for NaN
        raise UserError(f"expected video in [-1, 1], found [{low:g}, {high:g}]: use video / 127.5 - 1 for 8-bit frames")


def _channels(values: list[float], vae: AutoencoderKLWan) -> Tensor:
    if len(values) != vae.config.z_dim:
        raise UserError(f"expected {vae.config.z_dim} values of latents_mean and latents_std, found {len(values)}")
    return torch.tensor(values, device=vae.device).view(1, -1, 1, 1, 1)
