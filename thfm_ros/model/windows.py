"""Long videos by overlapping windows: where they start, and how their predictions become one sequence. Plain numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import match_affine

SCALE_LIMITS = (0.7, 1.5)  # of one window against the ones before, as in DVD (arXiv 2603.12250)
BACKGROUND = 0.02  # disparity below this is background in the human tasks


def window_frames(total: int, frames: int) -> int:
    """Length of a window for a video of `total` frames: `frames`, or the smallest 4k + 1 that covers a shorter one."""
    if frames < 1 or frames % 4 != 1:
        raise UserError(f"expected windows of 4k + 1 frames (1, 5, 9, ...), found {frames}")
    return frames if total >= frames else 4 * -(-(total - 1) // 4) + 1


def window_starts(total: int, frames: int, overlap: int) -> list[int]:
    """First frames of windows that cover `total` frames; the last window ends at the last frame.

    Neighbours share at least `overlap` frames, more at the end; windows of one frame share none.
    """
    least = min(1, frames - 1)
    if not least <= overlap < frames and total > frames:
        found = f"expected an overlap of {least} to {frames - 1} frames for windows of {frames}, found {overlap}"
        raise UserError(f"{found}: choose one of these")
    last = max(0, total - frames)
    return [*range(0, last, frames - overlap), last] if last else [0]


def merge_windows(
    parts: Sequence[np.ndarray], starts: Sequence[int], affine: bool = False, human: bool = False
) -> np.ndarray:
    """Windows (T, ...) at `starts` as one sequence (N, ...): linear cross-fades over the shared frames.

    affine: each window is first brought to the scale and shift of the sequence so far (facts: closed form over the
        overlap), because every window normalises its disparity by itself. human: background (0) takes no part in
        that, and stays 0.
    """
    total = starts[-1] + len(parts[-1])
    out = np.empty((total, *parts[0].shape[1:]), dtype=np.float32)
    end = 0
    for part, start in zip(parts, starts, strict=True):
        shared = end - start if end else 0
        if affine and shared:
            part = _align(part, out[start:end], shared, human)
        fade = np.arange(1, shared + 1, dtype=np.float32) / (shared + 1)
        fade = fade.reshape(-1, *[1] * (part.ndim - 1))
        out[start:end] = (1 - fade) * out[start:end] + fade * part[:shared]
        out[start + shared : start + len(part)] = part[shared:]
        end = start + len(part)
    return out


def _align(part: np.ndarray, reference: np.ndarray, shared: int, human: bool) -> np.ndarray:
    current = part[:shared]
    weights = ((current > BACKGROUND) & (reference > BACKGROUND)) if human else np.ones_like(current)
    scale, shift = match_affine(current, reference, weights)
    if not np.isfinite(scale):  # nobody in the shared frames
        return part
    clipped = float(np.clip(scale, *SCALE_LIMITS))
    if clipped != scale:
        scale = clipped
        shift = float(np.average(reference - scale * current, weights=weights))
    aligned = scale * part + shift
    return np.where(part > BACKGROUND, aligned, 0.0) if human else aligned
