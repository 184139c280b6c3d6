"""Temporal smoothness, and seams: how much outputs jump where one sliding window hands over to the next.

The unit is the change error e_t = mean |(p_t - p_{t-1}) - (g_t - g_{t-1})| between consecutive frames (dtSSD's idea,
with absolute values, for any quantity). A seam figure compares e_t at window borders with e_t elsewhere: 1 means that
borders are like other frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class ChangeError:
    """Change errors of a stream of maps, one frame at a time."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._previous: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, pred: np.ndarray, true: np.ndarray, mask: np.ndarray) -> None:
        """pred, true: (H, W) or (H, W, D); mask: (H, W) bool, counted where it holds in both frames."""
        error = np.asarray(pred, np.float32) - np.asarray(true, np.float32)
        if self._previous is not None:
            change = error - self._previous[0]
            both = mask & self._previous[1]
            size = np.abs(change) if change.ndim == mask.ndim else np.linalg.norm(change, axis=-1)
            self.values.append(float(size[both].mean(dtype=np.float64)) if both.any() else float("nan"))
        self._previous = (error, mask)


def change_error(pred: np.ndarray, true: np.ndarray, mask: np.ndarray) -> list[float]:
    """T - 1 change errors of a whole clip: (T, ...) scalars or (T, ..., D) vectors, mask (T, ...)."""
    stream = ChangeError()
    for p, t, m in zip(pred, true, mask, strict=True):
        stream.add(p, t, m)
    return stream.values


def seams(change: Sequence[float] | np.ndarray, borders: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Mean change error `at_borders` and `inside`, and their `ratio`; NaN where a kind does not occur.

    change: (T - 1,), value t - 1 belongs to the step from frame t - 1 to t. borders: first frames of new windows.
    """
    change = np.asarray(change, np.float64)
    at = np.zeros(len(change), bool)
    at[[b - 1 for b in borders if 0 < b <= len(change)]] = True
    known = np.isfinite(change)
    border = float(change[at & known].mean()) if (at & known).any() else float("nan")
    inside = float(change[~at & known].mean()) if (~at & known).any() else float("nan")
    return {"at_borders": border, "inside": inside, "ratio": border / inside if inside > 0 else float("nan")}
