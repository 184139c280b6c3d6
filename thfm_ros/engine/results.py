"""What a pass over a clip gives, whatever runs it: numpy arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Keypoints:
    """xy (T, K, 2) normalised image coordinates, xyz (T, K, 3) metres from the pelvis in camera axes,
    visibility (T, K) probabilities."""

    xy: np.ndarray
    xyz: np.ndarray
    visibility: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """Holds what `encode` makes of a clip.

    latents: (1, C, T', h, w). features: by name, what later stages of nano take besides.
    """

    latents: np.ndarray
    features: dict[str, np.ndarray]


@dataclass(frozen=True)
class Transformed:
    """latents: dense task -> (1, C, T', h, w); keypoints: None unless a sparse task was asked for."""

    latents: dict[str, np.ndarray]
    keypoints: Keypoints | None


@dataclass(frozen=True)
class Prediction:
    """dense: task -> RGB (T, H, W, 3) in [-1, 1] (see the task's codec), of fewer frames where fewer were wanted;
    timings_ms: stage -> milliseconds."""

    dense: dict[str, np.ndarray]
    keypoints: Keypoints | None
    timings_ms: dict[str, float]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Turns logits into probabilities."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))  # never overflows


def keypoints_of(outputs: Mapping[str, np.ndarray]) -> list[Keypoints]:
    """Those of every item of a batch, from a stage's xy, xyz and visibility logits."""
    chances = probabilities(outputs["visibility"])
    return [Keypoints(*item) for item in zip(outputs["xy"], outputs["xyz"], chances, strict=True)]
