"""One walk over the modules of `AutoencoderKLWan` (Wan 2.1 and 2.2 style) for both of its stateless forms.

The stock class works in chunks of 1, 4, 4, ... frames with caches that it mutates. Only operations along time differ
between "the whole clip at once" and "the next chunk": they are the `Temporal` strategy, everything else is here once.
The operations are chosen to export: RMS norm as x * rsqrt(mean(x^2)), upsampling as expand + reshape, no in-place
writes. Numbers equal the stock class within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CACHE_FRAMES = 2  # a causal convolution over 3 frames looks back on 2


class Temporal(Protocol):
    """How to cross time.

    start: the input has the frames of a stream's start (4k + 1), not of its middle (4k).
    again: a block may run twice, which checkpointing wants; False where each run uses up or leaves something.
    conv, down, up: convolutions that keep, halve and double time. whole: what is missing before x until its frames
    divide by `factor`. repeated: what counts of x, whose frames were repeated `factor` times.
    """

    start: bool
    again: bool

    def conv(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor: ...
    def down(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor: ...
    def up(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor: ...
    def whole(self, x: Tensor, factor: int) -> Tensor: ...
    def repeated(self, x: Tensor, factor: int) -> Tensor: ...


class WholeClip:
    """All frames of a clip, from the stream's first frame on, in one pass.

    caches: where to leave what the next chunk needs; None: nowhere, and the pass is free of side effects.
    """

    start = True

    def __init__(self, caches: list[Tensor] | None = None) -> None:
        self.caches = caches
        self.again = caches is None

    def conv(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
        if self.caches is not None:
            self.caches.append(_last_frames(x))
        return conv(x) if x.shape[2] > 1 else _frame_conv(conv, x)

    def down(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
        if self.caches is not None:
            self.caches.append(x[:, :, -1:].clone())
        return torch.cat((x[:, :, :1], conv(x)), 2) if x.shape[2] > 1 else x

    def up(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
        later = x[:, :, 1:]  # the first frame passes through, and is never seen by the convolution
        if self.caches is not None:
            self.caches.append(_last_frames(later))
        return torch.cat((x[:, :, :1], _interleave(conv(later))), 2) if x.shape[2] > 1 else x

    def whole(self, x: Tensor, factor: int) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, -x.shape[2] % factor, 0))

    def repeated(self, x: Tensor, factor: int) -> Tensor:
        return x[:, :, factor - 1 :]  # the stream's first frame stays one frame


class NextChunk:
    """The next 4 frames (1 latent frame) of a stream; `caches` come from the chunk before, new ones replace them."""

    start = again = False

    def __init__(self, caches: Sequence[Tensor]) -> None:
        self.before = list(caches)
        self.caches: list[Tensor] = []

    def _extend(self, x: Tensor, keep: int) -> Tensor:
        x = torch.cat((self.before[len(self.caches)], x), 2)
        self.caches.append(x[:, :, -keep:].clone())  # a view would keep all of x alive
        return x

    def conv(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
        pad = conv._padding[:4]
        x = F.pad(self._extend(x, CACHE_FRAMES), (*pad, 0, 0))
        return F.conv3d(x, conv.weight, conv.bias, conv.stride)

    def down(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
        return conv(self._extend(x, 1))

    def up(self, conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
        return _interleave(F.conv3d(self._extend(x, CACHE_FRAMES), conv.weight, conv.bias))

    def whole(self, x: Tensor, factor: int) -> Tensor:
        return x

    def repeated(self, x: Tensor, factor: int) -> Tensor:
        return x


def _frame_conv(conv: wan.WanCausalConv3d, x: Tensor) -> Tensor:
    """A causal convolution of frames without a past: zeros there, so only the last slice of the kernel counts."""
    padding = (conv._padding[2], conv._padding[0])
    if x.shape[2] == 1:  # faster on CPUs than in three dimensions
        return F.conv2d(x[:, :, 0], conv.weight[:, :, -1], conv.bias, conv.stride[1:], padding).unsqueeze(2)
    return F.conv3d(x, conv.weight[:, :, -1:], conv.bias, conv.stride, (0, *padding))


def _last_frames(x: Tensor) -> Tensor:
    """The last CACHE_FRAMES frames, zeros in front where there are fewer: what a causal convolution pads with."""
    missing = max(0, CACHE_FRAMES - x.shape[2])
    return F.pad(x[:, :, -CACHE_FRAMES:] if x.shape[2] else x, (0, 0, 0, 0, missing, 0))


def _interleave(x: Tensor) -> Tensor:
    """(B, 2 C, T, H, W) -> (B, C, 2 T, H, W)."""
    b, c, t, h, w = x.shape
    return x.reshape(b, 2, c // 2, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c // 2, 2 * t, h, w)


def rms_norm(norm: wan.WanRMS_norm, x: Tensor) -> Tensor:
    """WanRMS_norm over the channels (dimension 1), the reduction in float32."""
    y = x.float()
    y = (y * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-12)).to(x.dtype)
    return y * norm.gamma + norm.bias


def double(x: Tensor) -> Tensor:
    """Nearest-exact upsampling of (N, C, H, W) by 2."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(n, c, 2 * h, 2 * w)


def _per_frame(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply an image function (N, C, H, W) -> (N, C', H', W') to every frame of (B, C, T, H, W)."""
    b, c, t, h, w = x.shape
    y = function(x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w))
    return y.reshape(b, t, *y.shape[1:]).permute(0, 2, 1, 3, 4)


def _residual(block: wan.WanResidualBlock, x: Tensor, time: Temporal) -> Tensor:
    y = time.conv(block.conv1, block.nonlinearity(rms_norm(block.norm1, x)))
    y = block.dropout(block.nonlinearity(rms_norm(block.norm2, y)))
    return time.conv(block.conv2, y) + block.conv_shortcut(x)


def _attention(block: wan.WanAttentionBlock, x: Tensor) -> Tensor:
    def attend(image: Tensor) -> Tensor:
        n, c, h, w = image.shape
        qkv = block.to_qkv(rms_norm(block.norm, image)).reshape(n, 1, 3 * c, h * w).transpose(2, 3)
        y = F.scaled_dot_product_attention(*qkv.chunk(3, dim=-1))
        return block.proj(y.squeeze(1).transpose(1, 2).reshape(n, c, h, w))

    return x + _per_frame(x, attend)


def _resample(block: wan.WanResample, x: Tensor, time: Temporal) -> Tensor:
    if block.mode == "upsample3d":
        x = time.up(block.time_conv, x)
    if block.mode.startswith("upsample"):
        x = _per_frame(x, lambda image: block.resample[1](double(image)))
    else:
        x = _per_frame(x, block.resample)
    return time.down(block.time_conv, x) if block.mode == "downsample3d" else x


def _average_down(block: wan.AvgDown3D, x: Tensor, time: Temporal) -> Tensor:
    """The encoder's shortcut of Wan 2.2: space-time to channels, then the mean of groups of channels."""
    ft, fs = block.factor_t, block.factor_s
    x = time.whole(x, ft)
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // ft, ft, h // fs, fs, w // fs, fs).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, block.out_channels, block.group_size, t // ft, h // fs, w // fs).mean(2)


def _duplicate_up(block: wan.DupUp3D, x: Tensor, time: Temporal) -> Tensor:
    """The decoder's shortcut of Wan 2.2: repeated channels to space-time."""
    ft, fs = block.factor_t, block.factor_s
    b, _, t, h, w = x.shape
    x = x[:, :, None].expand(-1, -1, block.repeats, -1, -1, -1).reshape(b, block.out_channels, ft, fs, fs, t, h, w)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, block.out_channels, t * ft, h * fs, w * fs)
    return time.repeated(x, ft)


def _block(block: nn.Module, x: Tensor, time: Temporal) -> Tensor:
    match block:
        case wan.WanResidualBlock():
            return _residual(block, x, time)
        case wan.WanAttentionBlock():
            return _attention(block, x)
        case wan.WanResample():
            return _resample(block, x, time)
        case wan.WanMidBlock():
            y = _residual(block.resnets[0], x, time)
            for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
                y = _residual(resnet, _attention(attention, y), time)
            return y
        case wan.WanUpBlock():
            parts = [*block.resnets, *(block.upsamplers or [])]
            shortcut = None
        case wan.WanResidualUpBlock():
            parts = [*block.resnets, *([] if block.upsampler is None else [block.upsampler])]
            shortcut = None if block.avg_shortcut is None else _duplicate_up(block.avg_shortcut, x, time)
        case wan.WanResidualDownBlock():
            parts = [*block.resnets, *([] if block.downsampler is None else [block.downsampler])]
            shortcut = _average_down(block.avg_shortcut, x, time)
        case _:
            raise TypeError(f"no stateless form of {type(block).__name__}")
    for part in parts:
        x = _block(part, x, time)
    return x if shortcut is None else x + shortcut


def _walk(blocks: Sequence[nn.Module], x: Tensor, time: Temporal, checkpointing: bool) -> Tensor:
    for block in blocks:
        if checkpointing and time.again and torch.is_grad_enabled():
            x = checkpoint(_block, block, x, time, use_reentrant=False)
        else:
            x = _block(block, x, time)
    return x


def _run(
    network: wan.WanEncoder3d | wan.WanDecoder3d,
    blocks: list[nn.Module],
    x: Tensor,
    time: Temporal,
    checkpointing: bool,
) -> Tensor:
    x = _walk(blocks, time.conv(network.conv_in, x), time, checkpointing)
    return time.conv(network.conv_out, network.nonlinearity(rms_norm(network.norm_out, x)))


def encode(encoder: wan.WanEncoder3d, x: Tensor, time: Temporal, checkpointing: bool = False) -> Tensor:
    """(B, C, T, H, W) patchified pixels -> (B, 2 z, T', h, w) before `quant_conv`."""
    return _run(encoder, [*encoder.down_blocks, encoder.mid_block], x, time, checkpointing)


def decode(decoder: wan.WanDecoder3d, z: Tensor, time: Temporal, checkpointing: bool = False) -> Tensor:
    """(B, z, T', h, w) after `post_quant_conv` -> (B, C, T, H, W) patchified pixels."""
    return _run(decoder, [decoder.mid_block, *decoder.up_blocks], z, time, checkpointing)
