"""Nano's codec as modules with plain tensors in and out: what the engine exports."""

from __future__ import annotations

from torch import Tensor, nn

from thfm_ros.model.nano.codec import NanoCodec


class NanoEncoder(nn.Module):
    """(B, 3, T, H, W) in [-1, 1] -> latents (B, C, T', h, w), then features (B, C_i, T, H / 2^i, W / 2^i), i = 1 .. 4.

    The image encoder runs here, once; decoder and keypoint head take its features from these outputs.
    """

    def __init__(self, codec: NanoCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        features = self.codec.features(video)
        return (self.codec.encode(features), *features)


class NanoDecoder(nn.Module):
    """Latents (N, C, T', h, w) of N tasks and the features of one clip -> (N, 3, T, H, W) clamped to [-1, 1]."""

    def __init__(self, codec: NanoCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latents: Tensor, *features: Tensor) -> Tensor:
        return self.codec.decode(latents, features).clamp(-1, 1)
