"""Affine alignment of one window's disparity to the windows before it.

Every window's disparity is normalised over that window alone, so the same wall gets another value in the next
one. The frames that two windows share tell the scale and the shift between them: those that give the shared frames
the mean and the spread that they had (`match_affine`, as least squares would lose contrast with every window).
A stream chains thousands of windows, and any error that repeats would grow without limit: see `StreamUnits`.
"""

from __future__ import annotations

import math

import numpy as np

from thfm_ros.geometry import match_affine

SCALE_LIMITS = (0.1, 10.0)  # beyond this the overlap says nothing (a blank wall, a cut)
SPACING = 4  # every fourth pixel both ways is plenty for two unknowns
LEAST_PIXELS = 16
BIAS_LIMIT = 0.02  # of one window; nano's own is 0.005 to 0.011, a change of the scene's range is mostly larger
BIAS_HALF_LIFE_S = 3.0
PULL_HALF_LIFE_S = 60.0


def align_affine(
    current: np.ndarray, reference: np.ndarray, weights: np.ndarray | None = None, spacing: int = SPACING
) -> tuple[float, float]:
    """(scale, shift) with scale * current + shift ~ reference over the shared frames.

    Args:
        current, reference: (N, H, W) disparity of the same N frames; pixels where either is not finite are ignored.
        weights: (N, H, W) >= 0, None: all equal.
    Returns:
        (1, 0) where nothing is shared. A scale outside SCALE_LIMITS is clipped and the shift made to fit.
    """
    x, y, w = _shared(current, reference, weights, spacing)
    return _fit(x, y, w) if x.size >= LEAST_PIXELS else (1.0, 0.0)


class StreamUnits:
    """The map from a window's own disparity to the units of its stream, kept over any number of windows.

    Two things would let a chain drift away. A bias: the network predicts a frame a little differently at a window's
    end than at the next one's start, always the same way. It is what small changes from window to window have in
    common, so their running mean is taken off; a larger change is the scene's range and counts in full. And chance:
    every window is drawn a little to its own units, which are known to span [0, 1].
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The next window's own units become the stream's."""
        self.scale, self.shift = 1.0, 0.0
        self._bias = np.zeros(2)

    def follow(self, current: np.ndarray, reference: np.ndarray, elapsed_s: float) -> tuple[float, float]:
        """(scale, shift) of the next window; the last ones where nothing is shared.

        Args:
            current: (N, H, W) the window's own disparity. reference: the same N frames in the stream's units.
            elapsed_s: stream time since the last window.
        """
        x, y, w = _shared(current, reference, None, SPACING)
        if x.size < LEAST_PIXELS:
            return self.scale, self.shift
        scale, shift = _fit(x, y, w)
        # Contrast and mean level, which unlike scale and shift can be judged apart.
        centre = float(x.mean())
        last = np.array([math.log(self.scale), self.scale * centre + self.shift])
        change = np.array([math.log(scale), scale * centre + shift]) - last
        learnt, pull = (1.0 - 0.5 ** (elapsed_s / half_life) for half_life in (BIAS_HALF_LIFE_S, PULL_HALF_LIFE_S))
        self._bias += learnt * (np.clip(change, -BIAS_LIMIT, BIAS_LIMIT) - self._bias)
        contrast, level = (1.0 - pull) * (last + change - self._bias) + pull * np.array([0.0, centre])
        self.scale = float(np.clip(math.exp(contrast), *SCALE_LIMITS))
        self.shift = float(level - self.scale * centre)
        return self.scale, self.shift


def _shared(
    current: np.ndarray, reference: np.ndarray, weights: np.ndarray | None, spacing: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (n,) and weights (n,) of the pixels known in both."""
    if current.shape != reference.shape:
        raise ValueError(f"the shared frames differ in shape: {current.shape} and {reference.shape}")
    pick = (slice(None), slice(None, None, spacing), slice(None, None, spacing))
    x, y = current[pick].astype(float), reference[pick].astype(float)
    w = np.ones_like(x) if weights is None else weights[pick].astype(float)
    known = np.isfinite(x) & np.isfinite(y) & (w > 0)
    return x[known], y[known], w[known]


def _fit(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    scale = float(np.clip(match_affine(x, y, w)[0], *SCALE_LIMITS))
    return scale, float(np.average(y, weights=w) - scale * np.average(x, weights=w))
