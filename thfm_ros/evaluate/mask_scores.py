"""The mask of all people in a picture against the annotated one, by the share of the picture that people fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Names of the groups, and the shares of the picture from which and below which they are.
GROUPS = {
    "all": (0.0, np.inf),
    "below 0.02": (0.0, 0.02),
    "0.02 to 0.1": (0.02, 0.1),
    "over 0.1": (0.1, np.inf),
    "over 0.3": (0.3, np.inf),
}


def mask_iou(found: np.ndarray, people: np.ndarray, crowds: np.ndarray) -> float:
    """Intersection over union of (H, W) bool masks; what was found of crowds counts neither way."""
    found = found & (people | ~crowds)
    return float((found & people).sum() / max(1, (found | people).sum()))


def summarise(pairs: Sequence[tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Group -> pictures and mean IoU, of (share of the picture, IoU)."""
    share, iou = np.array(pairs, float).reshape(-1, 2).T
    result = {}
    for name, (low, high) in GROUPS.items():
        chosen = iou[(share >= low) & (share < high)] if low == 0 else iou[(share > low) & (share < high)]
        result[name] = {"pictures": float(len(chosen)), "iou": float(chosen.mean()) if len(chosen) else float("nan")}
    return result
