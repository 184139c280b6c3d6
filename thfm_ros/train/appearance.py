"""Pictures as bad cameras make them: light, lens, sensor and storage, drawn once a clip; the noise is each frame's own.

A camera's order is kept: the light's colours, the lens, a small sensor with its noise, sharpening, JPEG, and the
picture enlarged again. Lengths are in pixels of a picture 144 pixels high. Ground truth stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.train.config import AppearanceConfig

HEIGHT = 144  # the picture's height that lengths refer to
ENLARGED = ("nearest", "bilinear", "bicubic")


class Look(NamedTuple):
    """What one camera does to a clip; the defaults do nothing.

    gain, gamma, contrast, brightness: of values in [0, 1]. balance: gains of red, green and blue. hue: radians.
    saturation: 0 is grey. vignette: share of the light that the corners lose. blur: sigma of the lens. streak: length
    and angle of the motion. size: share of the picture's resolution that the sensor has. sharpen: weight of unsharp
    masking. noise: standard deviation. coloured: noise of each colour. jpeg: quality, 0 is none. seed: of the noise.
    """

    gain: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hue: float = 0.0
    saturation: float = 1.0
    vignette: float = 0.0
    blur: float = 0.0
    streak: tuple[float, float] = (0.0, 0.0)
    size: float = 1.0
    enlarge: str = "bilinear"
    sharpen: float = 0.0
    noise: float = 0.0
    coloured: bool = True
    jpeg: int = 0
    seed: int = 0

    @classmethod
    def draw(cls, config: AppearanceConfig, *key: int) -> Look:
        """A function of the config and the key (seed, step, clip) alone."""
        rng = np.random.default_rng(key)
        if rng.random() >= config.share:
            return cls()
        s = config.strength
        # Blur, vignettes and darkness take contrast and light; what tone curves add on average makes up for it.
        drawn = {
            "gain": (config.dark, lambda: rng.uniform(0.25, 0.75) ** s),
            "gamma": (config.gamma, lambda: math.exp(rng.normal(-0.05, 0.3 * s))),
            "contrast": (config.contrast, lambda: math.exp(rng.normal(0.15, 0.22 * s))),
            "brightness": (config.contrast, lambda: rng.normal(0, 0.06 * s)),
            "balance": (config.white_balance, lambda: tuple(np.exp(rng.normal(0, 0.09 * s, 3)).tolist())),
            "hue": (config.hue, lambda: rng.normal(0, 0.15 * s)),
            "saturation": (config.saturation, lambda: math.exp(rng.normal(-0.1, 0.3 * s))),
            "vignette": (config.vignette, lambda: min(rng.uniform(0.1, 0.8) * s, 1.0)),
            "blur": (config.blur, lambda: rng.uniform(0.3, 1.4) * s),
            "streak": (config.motion_blur, lambda: (rng.uniform(2, 8) * s, rng.uniform(0, math.pi))),
            "size": (config.resample, lambda: rng.uniform(0.3, 1.0) ** s),
            "enlarge": (1.0, lambda: str(rng.choice(ENLARGED, p=(0.15, 0.6, 0.25)))),
            "sharpen": (config.sharpen, lambda: rng.uniform(0.3, 1.5) * s),
            "noise": (config.noise, lambda: rng.uniform(0.2, 1.0) ** 2 * 0.04 * s),
            "coloured": (1.0, lambda: bool(rng.random() < 0.6)),
            "jpeg": (config.jpeg, lambda: round(100 - (100 - rng.uniform(12, 92)) * min(s, 1.1))),
            "seed": (1.0, lambda: int(rng.integers(2**31))),
        }
        values = {name: make() for name, (chance, make) in drawn.items() if rng.random() < chance}
        if rng.random() < config.grey:
            values["saturation"] = 0.0
        return cls(**values)


def photographed(rgb: Tensor, looks: Sequence[Look]) -> Tensor:
    """Videos (B, 3, T, H, W) in [-1, 1] as those cameras see them, one look each; the same shape and range."""
    pairs = zip(rgb, looks, strict=True)
    return torch.stack([_photographed(video, look) if look != Look() else video for video, look in pairs])


def _photographed(video: Tensor, look: Look) -> Tensor:
    x = (video / 2 + 0.5).transpose(0, 1)  # (T, 3, H, W)
    unit = x.shape[-2] / HEIGHT
    x = _light(x, look)
    if look.blur:
        x = blurred(x, look.blur * unit)
    if look.streak[0]:
        x = _filtered(x, _streak(look.streak[0] * unit, look.streak[1]).to(x))
    size = tuple(max(8, round(n * look.size)) for n in x.shape[-2:])
    small = F.interpolate(x, size=size, mode="bilinear", antialias=True) if size != x.shape[-2:] else x
    if look.noise:
        small = small + look.noise * _noise(small, look)
    if look.sharpen:
        small = small + look.sharpen * (small - blurred(small, 1.0))
    small = small.clamp(0, 1)
    if look.jpeg:
        small = jpeg(small, look.jpeg)
    if size != x.shape[-2:]:
        how = {} if look.enlarge == "nearest" else {"align_corners": False}
        small = F.interpolate(small, size=x.shape[-2:], mode=look.enlarge, **how)
    return small.clamp(0, 1).transpose(0, 1) * 2 - 1


def _light(x: Tensor, look: Look) -> Tensor:
    """Colours (T, 3, H, W) in [0, 1] under another light, with another tone curve."""
    if look.vignette:
        height, width = x.shape[-2:]
        y = torch.linspace(-1, 1, height, device=x.device)[:, None]
        across = torch.linspace(-1, 1, width, device=x.device)
        x = x * (1 - look.vignette * (y.square() + across.square()) / 2)
    if look.hue or look.saturation != 1:
        x = torch.einsum("ij,tjhw->tihw", _colour_matrix(look.hue, look.saturation).to(x), x)
    x = x * (look.gain * x.new_tensor(look.balance))[:, None, None]
    x = (x - 0.5) * look.contrast + 0.5 + look.brightness
    x = x.clamp(0, 1)
    return x**look.gamma if look.gamma != 1 else x


def _colour_matrix(hue: float, saturation: float) -> Tensor:
    """(3, 3): colours turned about the grey axis, their distance from grey (of Rec. 601) times `saturation`."""
    c, s, third = math.cos(hue), math.sin(hue), 1 / 3
    root = math.sqrt(third)
    near, far = third * (1 - c) - root * s, third * (1 - c) + root * s
    same = c + third * (1 - c)
    turn = torch.tensor([[same, near, far], [far, same, near], [near, far, same]])
    grey = torch.tensor([[0.299, 0.587, 0.114]]).expand(3, 3)
    return (grey + saturation * (torch.eye(3) - grey)) @ turn


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of x (T, C, H, W) through one odd kernel (h, w), the picture's edge repeated."""
    h, w = kernel.shape
    padded = F.pad(x, (w // 2, w // 2, h // 2, h // 2), mode="replicate")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(x)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return x (T, C, H, W) after a Gaussian of `sigma` pixels, the picture's edge repeated."""
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).to(x)
    kernel = kernel / kernel.sum()
    return _filtered(_filtered(x, kernel[None]), kernel[:, None])


def _streak(length: float, angle: float) -> Tensor:
    """(n, n) kernel of a straight motion: points along a line, each shared among its four neighbours."""
    reach = math.ceil(length / 2) + 1
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1)
    for along in np.linspace(-length / 2, length / 2, 4 * reach + 1):
        x, y = reach + along * math.cos(angle), reach + along * math.sin(angle)
        column, row = math.floor(x), math.floor(y)
        for i, down in enumerate((1 - (y - row), y - row)):
            for j, across in enumerate((1 - (x - column), x - column)):
                kernel[row + i, column + j] += down * across
    return kernel / kernel.sum()


def _noise(x: Tensor, look: Look) -> Tensor:
    """Bells of unit deviation, stronger where there is more light, as photons have it; the same on every device."""
    frames, _, height, width = x.shape
    generator = torch.Generator().manual_seed(look.seed)
    bell = torch.randn((frames, 3 if look.coloured else 1, height, width), generator=generator).to(x.device)
    return bell * (0.5 + x.clamp(0, 1)).sqrt()


# Annex K of the JPEG standard: what each frequency of brightness and of colour is divided by at quality 50.
_LUMA = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMA = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_DCT = torch.cos(math.pi * torch.arange(8)[:, None] * (2 * torch.arange(8) + 1) / 16) / 2
_DCT[0] *= math.sqrt(0.5)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Pictures (T, 3, H, W) in [0, 1] through JPEG and back, colours at half the resolution; on any device."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = torch.einsum("ij,tjhw->tihw", _TO_YCC.to(x), padded) * 255
    luma = _quantised(ycc[:, :1] - 128, _LUMA, quality) + 128
    chroma = F.interpolate(_quantised(F.avg_pool2d(ycc[:, 1:], 2), _CHROMA, quality), scale_factor=2, mode="bilinear")
    rgb = torch.einsum("ij,tjhw->tihw", torch.linalg.inv(_TO_YCC).to(x), torch.cat((luma, chroma), 1)) / 255
    return rgb[..., :height, :width].clamp(0, 1)


def _quantised(x: Tensor, table: str, quality: int) -> Tensor:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = torch.tensor([float(n) for n in table.split()]).view(8, 8)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255).to(x)
    dct = _DCT.to(x)
    blocks = x.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)  # (T, C, rows, columns, 8, 8)
    codes = (dct @ blocks @ dct.T / steps).round()
    return (dct.T @ (codes * steps) @ dct).transpose(-3, -2).flatten(-4, -3).flatten(-2)
