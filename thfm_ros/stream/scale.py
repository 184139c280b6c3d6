"""Metres for a relative disparity: from a depth camera, or from the 3D skeleton and the camera's intrinsics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from thfm_ros.geometry import fit_affine, metric_disparity

NEAR_M, FAR_M = 0.15, 20.0  # what a depth camera measures reliably
LEAST_MEASURED = 64  # pixels
SAMPLES = 4096
ASTRAY = 0.15  # of a distance, by which people may lie off the others' without being left out


def from_depth_camera(disparity: np.ndarray, depth: np.ndarray) -> tuple[float, float]:
    """(scale, shift) with 1/z = scale * disparity + shift, from a registered depth image.

    Least squares, then once more without what lies off by more than three median deviations (flying pixels,
    reflections). NaN twice where too little is measured or near and far are swapped.

    Args:
        disparity: (H, W), NaN where unknown. depth: (H, W) metres, NaN or 0 where invalid.
    """
    if disparity.shape != depth.shape:
        raise ValueError(f"the depth image has shape {depth.shape}, the disparity {disparity.shape}")
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(disparity) & (depth > NEAR_M) & (depth < FAR_M)
    d, q = disparity[valid].astype(float), 1.0 / depth[valid].astype(float)
    spacing = max(1, len(d) // SAMPLES)
    d, q = d[::spacing], q[::spacing]
    if len(d) < LEAST_MEASURED:
        return math.nan, math.nan
    scale, shift = fit_affine(d, q)
    residual = np.abs(scale * d + shift - q)
    kept = residual <= max(3.0 * float(np.median(residual)), 1e-9)
    scale, shift = fit_affine(d[kept], q[kept])
    return (scale, shift) if scale > 0 else (math.nan, math.nan)


def from_people(
    disparity: np.ndarray, people: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[float, float]:
    """(scale, shift) from the joints of people whose distance is known; only visible ones count.

    Everybody counts alike. Of three and more, who lies off by more than three median deviations (a child, taken for
    someone farther away) does not count. NaN twice where too little is known.

    Args:
        disparity: (H, W). people: of each xy (K, 2) continuous pixels of it, xyz (K, 3) metres in the camera frame and
            visibilities (K,), probabilities.
    """
    xy, xyz, visibility = (np.concatenate(parts) for parts in zip(*people, strict=True))
    weights = np.where(visibility > 0.5, visibility, 0.0).reshape(len(people), -1)
    weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)
    if len(people) >= 3:
        weights[_astray(disparity, people, weights > 0)] = 0.0
    return metric_disparity(disparity, xy, xyz[:, 2], weights.ravel())


def _astray(
    disparity: np.ndarray, people: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], sure: np.ndarray
) -> np.ndarray:
    """(N,) bool: who lies off the line that most people's distances are on.

    Of the lines through two people, or one and infinity, that which half of them lie nearest to (least median of
    squares, Rousseeuw, 1984).
    """
    height, width = disparity.shape
    points = []
    for (xy, xyz, _), seen in zip(people, sure, strict=True):
        inside = seen & (xy >= 0).all(1) & (xy < (width, height)).all(1) & (xyz[:, 2] > 0)
        column, row = xy[inside].astype(int).T
        both = np.stack([disparity[row, column], 1 / xyz[inside, 2]], 1)
        both = both[np.isfinite(both[:, 0])]  # depth of people alone is unknown off their mask
        points.append(np.median(both, 0) if len(both) else (0, 0))
    d, q = np.array(points, float).T
    lines = [(q[i] / d[i], 0.0) for i in range(len(d)) if d[i] > 0]
    for i, j in combinations(range(len(d)), 2):
        if (q[i] - q[j]) * (d[i] - d[j]) > 0:
            slope = (q[i] - q[j]) / (d[i] - d[j])
            lines.append((slope, max(q[i] - slope * d[i], 0.0)))
    if not lines:
        return np.zeros(len(d), bool)
    off = [np.abs(np.log(np.maximum(a * d + b, 1e-9) / np.maximum(q, 1e-9))) for a, b in lines]
    best = min(off, key=lambda each: float(np.median(each)))
    return best > max(3.0 * float(np.median(best)), ASTRAY)


class MetricScale:
    """Smooths (scale, shift), or other figures, over time: one frame's skeleton is noisy and depth must not pump.

    `half_life_s` is the time after which an old estimate counts half, `max_age_s` the time after which the last one
    is no longer trusted (nobody in view: the disparity's own scale drifts). Time is the frames' own.
    """

    def __init__(self, half_life_s: float = 1.0, max_age_s: float = 5.0) -> None:
        self.half_life_s, self.max_age_s = half_life_s, max_age_s
        self.reset()

    def reset(self) -> None:
        self._value: np.ndarray | None = None
        self._stamp_ns = 0

    def update(self, stamp_ns: int, estimate: Sequence[float]) -> None:
        """One frame's estimate; NaN is no estimate."""
        if not all(math.isfinite(v) for v in estimate):
            return
        new = np.array(estimate)
        if self._value is None:
            self._value = new
        else:
            elapsed = max(0.0, (stamp_ns - self._stamp_ns) / 1e9)
            keep = 0.5 ** (elapsed / self.half_life_s) if self.half_life_s > 0 else 0.0
            self._value = keep * self._value + (1.0 - keep) * new
        self._stamp_ns = max(self._stamp_ns, stamp_ns)

    def at(self, stamp_ns: int) -> tuple[float, ...] | None:
        """(scale, shift) for a frame of this stamp; None where nothing recent is known."""
        if self._value is None or (stamp_ns - self._stamp_ns) / 1e9 > self.max_age_s:
            self._value = None
            return None
        return tuple(float(v) for v in self._value)


def metric_depth(disparity: np.ndarray, scale: float, shift: float, max_depth_m: float) -> np.ndarray:
    """(H, W) float32 metres along z as REP-117 has it: +inf beyond `max_depth_m`, NaN where the disparity is NaN."""
    inverse = scale * disparity + shift
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(inverse >= 1.0 / max_depth_m, 1.0 / inverse, np.inf)
    depth[~np.isfinite(disparity)] = np.nan
    return depth.astype(np.float32)
