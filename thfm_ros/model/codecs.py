"""Whole clips through either kind of codec: Wan's autoencoder, or nano's, whose features later stages take too."""

from __future__ import annotations

from diffusers import AutoencoderKLWan
from torch import Tensor

from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.nano.stages import NanoDecoder, NanoEncoder
from thfm_ros.model.vae import FlatDecoder, FlatEncoder, flat_decode, flat_encode, stream_decode, stream_encode

Codec = AutoencoderKLWan | NanoCodec


def clip_encoder(codec: Codec) -> FlatEncoder | NanoEncoder:
    """Return a module: video (1, 3, T, H, W) -> latents, or nano's (latents, *features)."""
    return NanoEncoder(codec) if isinstance(codec, NanoCodec) else FlatEncoder(codec)


def clip_decoder(codec: Codec) -> FlatDecoder | NanoDecoder:
    """Return a module: latents of N tasks, with nano the clip's features behind them -> video (N, 3, T, H, W)."""
    return NanoDecoder(codec) if isinstance(codec, NanoCodec) else FlatDecoder(codec)


def encode_clip(codec: Codec, video: Tensor, low_memory: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the latents of a clip and its features, of which Wan's autoencoder has none.

    low_memory: Wan's works chunk by chunk; nano's needs little as it is.
    """
    if isinstance(codec, NanoCodec):
        latents, *features = NanoEncoder(codec)(video)
        return latents, tuple(features)
    return (stream_encode if low_memory else flat_encode)(codec, video), ()


def decode_clip(codec: Codec, latents: Tensor, features: tuple[Tensor, ...], low_memory: bool = False) -> Tensor:
    """Return the video (N, 3, T, H, W) of latents (N, C, T', h, w); features: of `encode_clip`."""
    if isinstance(codec, NanoCodec):
        return NanoDecoder(codec)(latents, *features)
    return (stream_decode if low_memory else flat_decode)(codec, latents)
