"""Surface normal metrics, paper Table 2: angular error in degrees.

`sapiens` and `dsine` follow the two public evaluators in use (facebookresearch/sapiens2 NormalEvaluator: pooled pixels,
median from a histogram of 0.5-degree bins; DSINE utils: exact median, pooled or per image). Arithmetic stays float32 as
theirs: acos near 1 amplifies rounding to 0.02 degrees, and identical maps give that rather than 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

BIN_DEG, BINS = 0.5, 360
SAPIENS_THRESHOLDS = (5.0, 11.25, 22.5, 30.0)
DSINE_THRESHOLDS = (5.0, 7.5, 11.25, 22.5, 30.0)
_DEGREES = np.float32(180.0 / np.pi)


def resize(normals: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) -> (H, W, 3) bilinear, corners not aligned, no antialiasing; `size` is (H, W)."""
    if normals.shape[:2] == size:
        return normals
    return cv2.resize(np.asarray(normals, np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the last axis (3) in a fixed order: x + y + z."""
    p = a * b
    return p[..., 0] + p[..., 1] + p[..., 2]


def _length(v: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N, 1) float32 norms, the squares accumulated by fused multiply-add.

    That is what torch does on the references' layout. It matters: between nearly equal normals one last bit is 0.02
    degrees, and the mean over identical maps shows it.
    """
    wide = v.astype(np.float64)  # products of float32 are exact in float64, so each sum rounds once, as fma does
    total = v[:, 0] * v[:, 0]
    for axis in (1, 2):
        total = (wide[:, axis] * wide[:, axis] + total).astype(np.float32)
    return np.sqrt(total)[:, None]


def angular_error(pred: np.ndarray, true: np.ndarray, mask: np.ndarray | None = None, eps: float = 1e-6) -> np.ndarray:
    """(N,) degrees in float32 over the valid pixels of one image, or of images of one size.

    Args:
        pred: (..., h, w, 3); one of another size than the truth is resized bilinearly. Any length: normalised here,
            and a zero vector is 90 degrees from everything.
        true: (..., H, W, 3). mask: (..., H, W), > 0 where valid; None: everywhere.
    """
    pred, true = np.asarray(pred, np.float32), np.asarray(true, np.float32)
    if pred.shape[:-3] != true.shape[:-3] or pred.shape[-1] != 3 or true.shape[-1] != 3:
        raise ValueError(f"normals have shape (..., H, W, 3), found {pred.shape} and {true.shape}")
    if pred.shape != true.shape:
        size = (true.shape[-3], true.shape[-2])
        flat = pred.reshape(-1, *pred.shape[-3:])
        pred = np.stack([resize(p, size) for p in flat]).reshape(true.shape) if len(flat) else np.empty_like(true)
    valid = np.ones(true.shape[:-1], bool) if mask is None else np.asarray(mask) > 0
    p, t = pred[valid], true[valid]
    p = p / np.maximum(_length(p), np.float32(eps))
    t = t / np.maximum(_length(t), np.float32(eps))
    return np.arccos(np.clip(_dot(p, t), -1, 1)) * _DEGREES


def _within(errors: np.ndarray, thresholds: Sequence[float]) -> dict[str, float]:
    """Percentage strictly below each threshold."""
    return {f"within_{t:g}": 100.0 * float(np.mean(errors < np.float32(t))) for t in thresholds}


def sapiens(errors: Sequence[np.ndarray], thresholds: Sequence[float] = SAPIENS_THRESHOLDS) -> dict[str, float]:
    """mean_deg, median_deg (centre of its 0.5-degree bin), rmse_deg, within_* over all images' pixels pooled.

    errors: per image (N_i,) degrees. All NaN without any pixel.
    """
    accumulator = Pooled(thresholds)
    for e in errors:
        accumulator.add(e)
    return accumulator.result()


class Pooled:
    """The pooled metrics of any number of images in constant memory (sums, counts, a histogram)."""

    def __init__(self, thresholds: Sequence[float] = SAPIENS_THRESHOLDS) -> None:
        self.thresholds = tuple(thresholds)
        self.pixels = 0
        self._sum = self._squares = 0.0
        self._below = np.zeros(len(self.thresholds))
        self._histogram = np.zeros(BINS)

    def add(self, errors: np.ndarray) -> None:
        """(N,) degrees of one image."""
        self.pixels += len(errors)
        self._sum += float(errors.sum(dtype=np.float64))
        self._squares += float(np.square(errors).sum(dtype=np.float64))
        self._below += [np.count_nonzero(errors < np.float32(t)) for t in self.thresholds]
        bins = np.clip((errors / np.float32(BIN_DEG)).astype(np.int64), 0, BINS - 1)
        self._histogram += np.bincount(bins, minlength=BINS)

    def merge(self, other: dict[str, list[float]]) -> None:
        """Adds the `state` of another accumulator."""
        pixels, total, squares = other["sums"]
        self.pixels += int(pixels)
        self._sum += total
        self._squares += squares
        self._below += other["below"]
        self._histogram += other["histogram"]

    @property
    def state(self) -> dict[str, list[float]]:
        """Everything, as plain lists that JSON keeps."""
        return {
            "sums": [float(self.pixels), self._sum, self._squares],
            "below": self._below.tolist(),
            "histogram": self._histogram.tolist(),
        }

    def result(self) -> dict[str, float]:
        names = [f"within_{t:g}" for t in self.thresholds]
        if self.pixels == 0:
            return dict.fromkeys(["mean_deg", "median_deg", "rmse_deg", *names], float("nan"))
        middle = int(np.searchsorted(np.cumsum(self._histogram), 0.5 * self.pixels))
        return {
            "mean_deg": self._sum / self.pixels,
            "median_deg": (min(middle, BINS - 1) + 0.5) * BIN_DEG,
            "rmse_deg": float(np.sqrt(self._squares / self.pixels)),
            **dict(zip(names, (100.0 * self._below / self.pixels).tolist(), strict=True)),
        }


def dsine(errors: np.ndarray, thresholds: Sequence[float] = DSINE_THRESHOLDS) -> dict[str, float]:
    """mean_deg, exact median_deg, rmse_deg, within_* of (N,) degrees; all NaN without any pixel."""
    if len(errors) == 0:
        names = [f"within_{t:g}" for t in thresholds]
        return dict.fromkeys(["mean_deg", "median_deg", "rmse_deg", *names], float("nan"))
    return {
        "mean_deg": float(errors.mean(dtype=np.float64)),
        "median_deg": float(np.median(errors)),
        "rmse_deg": float(np.sqrt(np.square(errors).mean(dtype=np.float64))),
        **_within(errors, thresholds),
    }


def per_image(
    errors: Sequence[np.ndarray], thresholds: Sequence[float] = DSINE_THRESHOLDS, skip_empty: bool = True
) -> dict[str, float]:
    """`dsine` of every image, then the plain mean over the images.

    skip_empty: leave out images without valid pixels, which the public code's mean would turn into NaN.
    """
    rows = [dsine(e, thresholds) for e in errors if len(e) or not skip_empty]
    if not rows:
        return dsine(np.zeros(0, np.float32), thresholds)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
