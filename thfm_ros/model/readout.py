"""Keypoints, and the paper's MLP that reads them from keypoint tokens."""

from __future__ import annotations

import math
from typing import NamedTuple

from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from thfm_ros.model.precision import exact

CHANNELS = 6  # a joint: 2 image coordinates, 3 space coordinates, 1 visibility logit


class Keypoints(NamedTuple):
    """Keypoints of one person in every frame, joints in the order of the checkpoint's joint set.

    xy: (B, T, K, 2) normalised image coordinates, 0 = left/top edge, 1 = right/bottom edge.
    xyz: (B, T, K, 3) metres relative to the pelvis, axes of the camera (x right, y down, z forward).
    visibility: (B, T, K) logits of "visible in the image".
    """

    xy: Tensor
    xyz: Tensor
    visibility: Tensor


class TokenReadout(nn.Sequential):
    """The paper's MLP: (B, N, D) tokens -> (B, N, CHANNELS * joints) in float32."""

    def __init__(self, dim: int, joints: int) -> None:
        super().__init__(
            FP32LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, CHANNELS * joints)
        )
        last = self[-1]  # starts small: the centre of the image, the pelvis
        nn.init.normal_(last.weight, std=0.1 / math.sqrt(dim))
        nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        *layers, last = self
        hidden = tokens.to(last.weight.dtype)
        for layer in layers:
            hidden = layer(hidden)
        return exact(last, hidden).float()
