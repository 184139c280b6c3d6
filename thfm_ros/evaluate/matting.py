"""Soft foreground (alpha matting) metrics, paper Table 4.

Names and formulas are the field's: MAD, MSE, Grad and Conn after Rhemann et al., "A Perceptually Motivated Online
Benchmark for Image Matting" (CVPR 2009), dtSSD after Erofeev et al. (BMVC 2015). Scales follow the public evaluation
scripts of Robust Video Matting ("rvm") and P3M ("p3m"), which differ; each function says which.

An alpha is uint8 (v / 255) or float in [0, 1]; every function takes (..., H, W) and returns (...), one value a frame.
Grad, Conn and SAD grow with the number of pixels: a report must say the resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np

THRESHOLDS = np.arange(11) * 0.1  # 0, 0.1 .. 1.0 as both scripts make them, rounding included
CUT = 0.15  # differences to the connected level below it are free


def as_alpha(alpha: np.ndarray) -> np.ndarray:
    """(..., H, W) uint8 or float -> float32 in [0, 1]."""
    alpha = np.asarray(alpha)
    if alpha.ndim < 2:
        raise ValueError(f"an alpha has shape (..., H, W), found {alpha.shape}")
    return alpha.astype(np.float32) / 255 if alpha.dtype == np.uint8 else alpha.astype(np.float32, copy=False)


def _pair(pred: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, true = as_alpha(pred), as_alpha(true)
    if pred.shape != true.shape:
        raise ValueError(f"prediction and truth have the same shape, found {pred.shape} and {true.shape}")
    return pred, true


def _per_frame(metric: Callable[[np.ndarray, np.ndarray], float], pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """`metric` of two (H, W) images over all leading axes."""
    lead, size = pred.shape[:-2], pred.shape[-2:]
    pairs = zip(pred.reshape(-1, *size), true.reshape(-1, *size), strict=True)
    return np.array([metric(p, t) for p, t in pairs], dtype=np.float64).reshape(lead)[()]


def mad(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean absolute difference, unscaled; the VideoMatte column is 1e3 times it (rvm)."""
    pred, true = _pair(pred, true)
    return np.abs(pred - true).mean((-2, -1), dtype=np.float64)


def mse(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean squared error, unscaled; the VideoMatte column is 1e3 times it (rvm)."""
    pred, true = _pair(pred, true)
    return np.square(pred - true).mean((-2, -1), dtype=np.float64)


def sad(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Sum of absolute differences over the whole image / 1000 (p3m)."""
    pred, true = _pair(pred, true)
    return np.abs(pred - true).sum((-2, -1), dtype=np.float64) / 1000


def iou(pred: np.ndarray, true: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Intersection over union of the masks alpha > threshold; 1 where both are empty."""
    pred, true = _pair(pred, true)
    p, t = pred > threshold, true > threshold
    union = (p | t).sum((-2, -1))
    return np.where(union > 0, (p & t).sum((-2, -1)) / np.maximum(union, 1), 1.0)


@cache
def _gaussian_filters(sigma: float, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """1D Gaussian and its derivative (negated), whose outer product has unit L2 norm."""
    half = int(np.ceil(sigma * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * sigma * epsilon))))
    x = np.arange(-half, half + 1, dtype=np.float64)
    gauss = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    slope = -x * gauss / sigma**2
    return gauss / np.linalg.norm(gauss), slope / np.linalg.norm(slope)


def gradient_filters(sigma: float = 1.4, epsilon: float = 1e-2) -> np.ndarray:
    """(2, n, n) the x and y derivative-of-Gaussian filters of Grad, unit L2 norm; 9 x 9 by default."""
    gauss, slope = _gaussian_filters(sigma, epsilon)
    return np.stack([np.outer(gauss, slope), np.outer(slope, gauss)])


def _magnitude(image: np.ndarray, gauss: np.ndarray, slope: np.ndarray, border: int) -> np.ndarray:
    """Gradient magnitude by two separable filters: 2 x 2n products a pixel rather than 2 x n^2."""
    gx = cv2.sepFilter2D(image, cv2.CV_32F, slope, gauss, borderType=border)
    gy = cv2.sepFilter2D(image, cv2.CV_32F, gauss, slope, borderType=border)
    return cv2.magnitude(gx, gy)


def grad(pred: np.ndarray, true: np.ndarray, normalise: bool = True) -> np.ndarray:
    """Spatial gradient error (rvm): sum of squared differences of the gradient magnitudes / 1000.

    normalise: min-max normalise each image first, as the low-resolution script does (a constant image becomes 0);
    False is the high-resolution variant.
    """
    gauss, slope = _gaussian_filters(1.4, 1e-2)

    def one(p: np.ndarray, t: np.ndarray) -> float:
        if normalise:
            p = cv2.normalize(p, np.empty_like(p), 1.0, 0.0, cv2.NORM_MINMAX)
            t = cv2.normalize(t, np.empty_like(t), 1.0, 0.0, cv2.NORM_MINMAX)
        diff = _magnitude(t, gauss, slope, cv2.BORDER_REPLICATE) - _magnitude(p, gauss, slope, cv2.BORDER_REPLICATE)
        return float(cv2.norm(diff, cv2.NORM_L2SQR)) / 1000

    return _per_frame(one, *_pair(pred, true))


def grad_p3m(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Spatial gradient error (p3m): a 13-tap Gaussian derivative of unit sum, mirrored border, / 10."""
    x = np.arange(-6, 7, dtype=np.float64)
    gauss = np.exp(-(x**2) / (2 * 1.4**2))
    gauss /= gauss.sum()
    slope = -x / 1.4**2 * gauss

    def one(p: np.ndarray, t: np.ndarray) -> float:
        diff = _magnitude(t, gauss, slope, cv2.BORDER_REFLECT) - _magnitude(p, gauss, slope, cv2.BORDER_REFLECT)
        return float(cv2.norm(diff, cv2.NORM_L2SQR)) / 10

    return _per_frame(one, *_pair(pred, true))


def _connected_level(pred: np.ndarray, true: np.ndarray, empty_leaves: bool) -> np.ndarray:
    """(H, W) float32: the highest threshold up to which a pixel stays in the largest 4-connected component of
    {pred >= th and true >= th}.

    empty_leaves: what a threshold without any component does to the pixels still inside: they leave (rvm), or the
    threshold is skipped, so that they count as fully connected (p3m).
    """
    lower = np.minimum(pred, true)
    top = 1.0 if not empty_leaves else 0.0  # of pixels that no threshold removes before the first empty one
    x, y, width, height = cv2.boundingRect((lower >= THRESHOLDS[1]).view(np.uint8))
    level = np.zeros(pred.shape, np.float32)
    if width == 0:
        level[:] = top
        return level
    # Everything below happens where some threshold is passed: the rest leaves at the first one, at level 0.
    passed = np.searchsorted(THRESHOLDS[1:], lower[y : y + height, x : x + width], side="right").astype(np.uint8)
    counts = np.bincount(passed.ravel(), minlength=len(THRESHOLDS))
    alive = np.ones(passed.shape, bool)
    steps = np.zeros(passed.shape, np.uint8)
    omega = alive
    for step in range(1, len(THRESHOLDS)):
        if counts[step:].sum() == 0:
            if not empty_leaves:
                steps[alive] = len(THRESHOLDS) - 1
            break
        if step == 1 or counts[step - 1] > 0:  # otherwise the set, and its component, are the previous threshold's
            _, labels, stats, _ = cv2.connectedComponentsWithStats((passed >= step).view(np.uint8), connectivity=4)
            omega = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
            alive &= omega
        steps += alive
        if not alive.any():
            break
    level[y : y + height, x : x + width] = THRESHOLDS.astype(np.float32)[steps]
    return level


def _connectivity_map(pred: np.ndarray, true: np.ndarray, empty_leaves: bool) -> np.ndarray:
    level = _connected_level(pred, true, empty_leaves)
    over_true, over_pred = true - level, pred - level
    return np.abs(over_true * (over_true >= CUT) - over_pred * (over_pred >= CUT))


def conn(pred: np.ndarray, true: np.ndarray, trimap: np.ndarray | None = None) -> np.ndarray:
    """Connectivity error over the whole image / 1000 (rvm); with a `trimap`, over its unknown pixels (== 128) alone
    (mmediting).
    """
    pred, true = _pair(pred, true)
    if trimap is None:
        return _per_frame(lambda p, t: float(_connectivity_map(p, t, True).sum(dtype=np.float64)) / 1000, pred, true)
    unknown = np.broadcast_to(np.asarray(trimap) == 128, pred.shape)
    size = pred.shape[-2:]
    values = [
        float(_connectivity_map(p, t, True)[u].sum(dtype=np.float64)) / 1000
        for p, t, u in zip(*(x.reshape(-1, *size) for x in (pred, true, unknown)), strict=True)
    ]
    return np.array(values).reshape(pred.shape[:-2])[()]


def conn_p3m(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Connectivity error over the whole image / 1000 (p3m): thresholds with an empty intersection are skipped."""
    return _per_frame(
        lambda p, t: float(_connectivity_map(p, t, False).sum(dtype=np.float64)) / 1000, *_pair(pred, true)
    )


def dtssd(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Temporal error of a clip (T, H, W), unscaled: (T - 1,), one value a pair of frames; the table is 1e2 times it."""
    pred, true = _pair(pred, true)
    if pred.ndim != 3:
        raise ValueError(f"dtSSD takes one clip (T, H, W), found {pred.shape}")
    change = np.diff(pred, axis=0) - np.diff(true, axis=0)
    return np.sqrt(np.square(change).mean((-2, -1), dtype=np.float64))


def clip_metrics(pred: np.ndarray, true: np.ndarray, normalise_grad: bool = True) -> dict[str, np.ndarray]:
    """The VideoMatte columns of one clip (T, H, W), scaled as in the table, each (T,).

    dtSSD of the first frame counts as 0 and is averaged in, as the reference script does.
    """
    temporal = np.concatenate([np.zeros(min(len(pred), 1)), dtssd(pred, true)])
    return {
        "mad": mad(pred, true) * 1e3,
        "mse": mse(pred, true) * 1e3,
        "grad": grad(pred, true, normalise_grad),
        "conn": conn(pred, true),
        "dtssd": temporal * 1e2,
    }


def aggregate_clips(values: Sequence[np.ndarray]) -> float:
    """Mean over the clips at each frame index, then over the frame indices (the rvm spreadsheet).

    Clips of unequal length weigh differently than a plain mean; NaN without any frame.
    """
    longest = max((len(v) for v in values), default=0)
    if longest == 0:
        return float("nan")
    table = np.full((len(values), longest), np.nan)
    for row, value in zip(table, values, strict=True):
        row[: len(value)] = value
    return float(np.nanmean(table, axis=0).mean())
