"""Whole clips through either kind of codec: Wan's autoencoder, or nano's, whose features later stages take too."""

from __future__ import annotations

from diffusers import AutoencoderKLWan
from torch import Tensor

from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.nano.stages import NanoDecoder, NanoEncoder
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.vae import ChunkedDecoder, ChunkedEncoder, FlatDecoder, FlatEncoder

Codec = AutoencoderKLWan | NanoCodec


def clip_encoder(codec: Codec, low_memory: bool = False) -> FlatEncoder | ChunkedEncoder | NanoEncoder:
    """Return a module: video (1, 3, T, H, W) -> latents, or nano's (latents, *features).

    low_memory: Wan's works chunk by chunk, with the same numbers; nano's needs little as it is.
    """
    if isinstance(codec, NanoCodec):
        return NanoEncoder(codec)
    return (ChunkedEncoder if low_memory else FlatEncoder)(codec)


def clip_decoder(
    codec: Codec, low_memory: bool = False, narrow: NarrowDecoder | None = None
) -> FlatDecoder | ChunkedDecoder | NanoDecoder | NarrowDecoder:
    """Return a module: latents of N tasks, with nano the clip's features behind them -> video (N, 3, T, H, W).

    narrow: the checkpoint's narrow decoder, where it has one. It takes the whole clip whatever `low_memory` says.
    """
    if narrow is not None:
        return narrow
    if isinstance(codec, NanoCodec):
        return NanoDecoder(codec)
    return (ChunkedDecoder if low_memory else FlatDecoder)(codec)


def encode_clip(codec: Codec, video: Tensor, low_memory: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the latents of a clip and its features, of which Wan's autoencoder has none."""
    made = clip_encoder(codec, low_memory)(video)
    return (made, ()) if isinstance(made, Tensor) else (made[0], made[1:])


def decode_clip(
    codec: Codec,
    latents: Tensor,
    features: tuple[Tensor, ...],
    low_memory: bool = False,
    narrow: NarrowDecoder | None = None,
) -> Tensor:
    """Return the video (N, 3, T, H, W) of latents (N, C, T', h, w).

    features: of `encode_clip`. narrow: the checkpoint's narrow decoder, where it has one.
    """
    return clip_decoder(codec, low_memory, narrow)(latents, *features)
