"""Nano's codec as modules with plain tensors in and out: what the engine exports. Each holds its own weights alone."""

from __future__ import annotations

from torch import Tensor, nn

from thfm_ros.model.nano.codec import NanoCodec, features_of, latents_of, painted


class NanoEncoder(nn.Module):
    """(B, 3, T, H, W) in [-1, 1] -> latents (B, C, T', h, w), then features (B, C_i, T, H / 2^i, W / 2^i), i = 1 .. 4.

    The image encoder runs here, once; decoder and keypoint head take its features from these outputs.
    """

    def __init__(self, codec: NanoCodec) -> None:
        super().__init__()
        self.image_encoder, self.neck, self.to_latents = codec.image_encoder, codec.neck, codec.to_latents

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        features = features_of(self.image_encoder, self.neck, video)
        return (latents_of(self.to_latents, features[-1]), *features)


class NanoDecoder(nn.Module):
    """Latents (N, C, T', h, w) of N tasks and the features of one clip -> (N, 3, T, H, W) clamped to [-1, 1]."""

    def __init__(self, codec: NanoCodec) -> None:
        super().__init__()
        self.decoder = codec.decoder

    def forward(self, latents: Tensor, *features: Tensor) -> Tensor:
        return painted(self.decoder, latents, features).clamp(-1, 1)
