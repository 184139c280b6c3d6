"""Depth metrics under alignment, paper Table 3: RMSE, AbsRel, delta < 1.25.

The paper says neither in which space (depth or disparity) nor over which scope (image or clip) the affine-invariant
prediction is aligned; both are options here and belong into every report. Sources: MiDaS compute_scale_and_shift,
Marigold script/depth/eval.py, DepthCrafter benchmark/eval. All sums are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

MIN_DISPARITY = 1e-3  # 1/m: a kilometre; keeps 1 / disparity finite
MIN_DEPTH = 1e-3  # m

Space = Literal["depth", "disparity"]
Scope = Literal["image", "clip"]


@dataclass(frozen=True)
class DepthProtocol:
    """How predictions meet the truth; every field is printed with the numbers.

    space: the quantity that the prediction is an affine map of. scope: one scale and shift an image or a clip.
    max_depth_m: truth beyond it is ignored and the prediction clipped to it; None: neither.
    """

    space: Space = "disparity"
    scope: Scope = "clip"
    max_depth_m: float | None = None


def fit_midas(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(scale, shift) of min sum (scale x + shift - y)^2 by the 2x2 normal equations (MiDaS); (0, 0) if singular."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    a00, a01, a11 = (x * x).sum(), x.sum(), float(x.size)
    b0, b1 = (x * y).sum(), y.sum()
    determinant = a00 * a11 - a01 * a01
    if determinant == 0:
        return 0.0, 0.0
    return float((a11 * b0 - a01 * b1) / determinant), float((a00 * b1 - a01 * b0) / determinant)


def fit_lstsq(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(scale, shift) of the same problem; the minimum-norm solution where x is constant (Marigold, DepthCrafter).

    Those call a singular value solver; away from the singular case the centred closed form gives the same, faster.
    """
    x, y = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    if len(x):
        mean_x, mean_y = x.mean(), y.mean()
        dx = x - mean_x
        variance = (dx * dx).sum()  # not BLAS: its threads cost more than the sum
        if variance > 1e-12 * len(x) * (1.0 + mean_x * mean_x):
            scale = float((dx * y).sum() / variance)
            return scale, float(mean_y - scale * mean_x)
    scale, shift = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0]
    return float(scale), float(shift)


def errors(pred: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """rmse (the truth's unit), abs_rel, delta1 (share with max(p/t, t/p) < 1.25) of matching (N,) depths.

    All NaN where N = 0.
    """
    if len(true) == 0:
        return {"rmse": float("nan"), "abs_rel": float("nan"), "delta1": float("nan")}
    diff = pred - true
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(pred / true, true / pred)
        return {
            "rmse": float(np.sqrt(np.mean(diff * diff))),
            "abs_rel": float(np.mean(np.abs(diff) / true)),
            "delta1": float(np.mean(ratio < 1.25)),
        }


def aligned_in_depth(pred: np.ndarray, true: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Prediction mapped to depth by a fit in depth space over mask (all of one shape): (depth, scale, shift)."""
    valid = np.asarray(mask) > 0
    scale, shift = fit_midas(pred[valid], true[valid])
    return np.asarray(pred, np.float64) * scale + shift, scale, shift


def aligned_in_disparity(
    pred: np.ndarray, true: np.ndarray, mask: np.ndarray, positive_only: bool = True
) -> tuple[np.ndarray, float, float]:
    """Prediction mapped to depth by a fit to 1/true over mask: (depth, scale, shift).

    positive_only: fit on pixels with a positive prediction alone (Marigold); the aligned disparity is clipped at
    1e-3 before it is inverted.
    """
    pred, true = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    valid = (np.asarray(mask) > 0) & (true > 0)
    if positive_only:
        valid &= pred > 0
    scale, shift = fit_lstsq(pred[valid], 1.0 / true[valid])
    return 1.0 / np.maximum(pred * scale + shift, MIN_DISPARITY), scale, shift


def image_metrics(
    pred: np.ndarray, true: np.ndarray, mask: np.ndarray, space: Space = "depth", positive_only: bool = True
) -> dict[str, float]:
    """errors() of one image aligned on its own, with its `scale` and `shift`; evaluated on mask (and true > 0)."""
    valid = np.asarray(mask) > 0
    if space == "depth":
        depth, scale, shift = aligned_in_depth(pred, true, valid)
    else:
        valid = valid & (np.asarray(true) > 0)
        depth, scale, shift = aligned_in_disparity(pred, true, valid, positive_only)
    return {**errors(depth[valid], np.asarray(true, np.float64)[valid]), "scale": scale, "shift": shift}


def clip_metrics(
    pred: np.ndarray, true: np.ndarray, mask: np.ndarray | None = None, max_depth_m: float | None = 10.0
) -> dict[str, float]:
    """One scale and shift for a whole clip in disparity (DepthCrafter), then the mean over its frames.

    Args:
        pred: (T, H, W) disparity, any scale and shift. true: (T, H, W) metres; valid in (1e-3, max_depth_m).
    Returns:
        abs_rel, rmse, delta1, each averaged over the frames that have valid pixels; NaN without any.
    """
    limit = np.inf if max_depth_m is None else max_depth_m
    true = np.asarray(true)
    valid = (true > MIN_DEPTH) & (true < limit)
    if mask is not None:
        valid &= np.asarray(mask) > 0
    pred = np.maximum(np.asarray(pred, np.float64), MIN_DISPARITY)
    if not valid.any():
        return errors(np.zeros(0), np.zeros(0))
    scale, shift = fit_lstsq(pred[valid], 1.0 / (true[valid].astype(np.float64) + 1e-8))
    depth = np.clip(1.0 / np.maximum(scale * pred + shift, MIN_DISPARITY), MIN_DEPTH, limit)
    frames = [errors(d[v], t[v].astype(np.float64)) for d, t, v in zip(depth, true, valid, strict=True) if v.any()]
    return {name: float(np.mean([f[name] for f in frames])) for name in frames[0]}


def evaluate(pred: np.ndarray, true: np.ndarray, mask: np.ndarray, protocol: DepthProtocol) -> dict[str, np.ndarray]:
    """Per-frame rmse, abs_rel, delta1 (T,) of one clip under `protocol`; NaN for frames without valid pixels.

    pred: (T, H, W) up to scale and shift, of disparity or depth as the protocol says. true: (T, H, W) metres.
    """
    limit = np.inf if protocol.max_depth_m is None else protocol.max_depth_m
    valid = (np.asarray(mask) > 0) & np.isfinite(true) & (true > MIN_DEPTH) & (true < limit)
    x, y = ([a[v].astype(np.float64) for a, v in zip(maps, valid, strict=True)] for maps in (pred, true))
    in_disparity = protocol.space == "disparity"
    target = [1.0 / t for t in y] if in_disparity else y
    fit = fit_lstsq if in_disparity else fit_midas
    if protocol.scope == "clip":
        fits = [fit(np.concatenate(x), np.concatenate(target))] * len(x)
    else:
        fits = [fit(p, t) for p, t in zip(x, target, strict=True)]
    frames = []
    for p, t, (scale, shift) in zip(x, y, fits, strict=True):
        aligned = p * scale + shift
        depth = 1.0 / np.maximum(aligned, MIN_DISPARITY) if in_disparity else aligned
        frames.append(errors(np.clip(depth, MIN_DEPTH, limit), t))
    return {name: np.array([f[name] for f in frames]) for name in ("rmse", "abs_rel", "delta1")}
