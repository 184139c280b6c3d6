"""Affine alignment of one window's disparity to the windows before it.

Every window's disparity is normalised over that window alone, so the same wall gets another value in the next
one. The frames that two windows share tell the scale and the shift between them: weighted least squares in closed
form (the alignment of Video-Depth-Anything and DVD).
"""

from __future__ import annotations

import numpy as np

from thfm_ros.geometry import fit_affine

SCALE_LIMITS = (0.1, 10.0)  # beyond this the overlap says nothing (a blank wall, a cut)
SPACING = 4  # every fourth pixel both ways is plenty for two unknowns


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
    if current.shape != reference.shape:
        raise ValueError(f"the shared frames differ in shape: {current.shape} and {reference.shape}")
    pick = (slice(None), slice(None, None, spacing), slice(None, None, spacing))
    x, y = current[pick].astype(float), reference[pick].astype(float)
    w = np.ones_like(x) if weights is None else weights[pick].astype(float)
    known = np.isfinite(x) & np.isfinite(y) & (w > 0)
    x, y, w = x[known], y[known], w[known]
    if x.size < 16:
        return 1.0, 0.0
    scale, shift = fit_affine(x, y, w)
    clipped = float(np.clip(scale, *SCALE_LIMITS))
    if clipped != scale:
        shift = float(np.average(y, weights=w) - clipped * np.average(x, weights=w))
    return clipped, shift
