"""People in one frame: boxes, masks and colours, out of the `instances` map or, without it, the mask of all people."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from thfm_ros.instances import Instances, group
from thfm_ros.letterbox import Letterbox

LEAST_PIXELS = 12  # of the network's map that somebody fills
MOST = 20  # people of a frame
ALPHA = 0.5  # above it a pixel of the mask is somebody's
BINS = 4  # of each colour channel, above and below a person's middle


@dataclass(frozen=True)
class Detection:
    """Somebody in a frame.

    box: (4,) left, top, right, bottom, continuous pixels of the camera's image. score: in [0, 1]. colours: (N,) a
    histogram of what they wear, of sum 1; None where no pixel is known. label: their pixels in the frame's labels, 0
    for none.
    """

    box: np.ndarray
    score: float
    colours: np.ndarray | None = None
    label: int = 0


@dataclass(frozen=True)
class Detected:
    """labels (h, w) uint8 of the network's view without letterbox borders: 0, or the label of one of `people`."""

    labels: np.ndarray
    people: list[Detection]


def from_instances(code: np.ndarray, pixels: np.ndarray, fit: Letterbox) -> Detected:
    """code (H, W, 3) and pixels (H, W, 3) uint8 RGB of the letterboxed frame -> everybody in it."""
    return _detected(group(code, LEAST_PIXELS, MOST), pixels, fit)


def from_mask(alpha: np.ndarray, pixels: np.ndarray, fit: Letterbox) -> Detected:
    """alpha (H, W) in [0, 1] of all people: each connected part is one person, however many touch."""
    count, parts, stats, centres = cv2.connectedComponentsWithStats((alpha > ALPHA).astype(np.uint8))
    order = [n for n in np.argsort(-stats[:, cv2.CC_STAT_AREA]) if n and stats[n, cv2.CC_STAT_AREA] >= LEAST_PIXELS]
    order = order[:MOST]
    number = np.zeros(count, np.uint8)
    number[order] = np.arange(1, len(order) + 1)
    left, top, width, height = (stats[order, i] for i in range(4))
    boxes = np.stack([left, top, left + width, top + height], 1).astype(np.float32)
    sums = np.bincount(parts.ravel(), alpha.ravel(), count)[order]
    scores = (sums / np.maximum(stats[order, cv2.CC_STAT_AREA], 1)).astype(np.float32)
    return _detected(Instances(number[parts], boxes, centres[order] + 0.5, scores), pixels, fit)


def _detected(found: Instances, pixels: np.ndarray, fit: Letterbox) -> Detected:
    labels = np.ascontiguousarray(fit.crop(found.labels))
    people = []
    for number, (box, score) in enumerate(zip(found.boxes, found.scores, strict=True), 1):
        corners = fit.points_to_source(box.reshape(2, 2)).clip(0, fit.source)
        if (corners[1] > corners[0]).all():  # else all of it lies in the letterbox's border
            colours = _colours(pixels, found.labels == number, box.astype(int))
            people.append(Detection(corners.ravel(), float(score), colours, number))
    return Detected(labels, people)


def _colours(pixels: np.ndarray, mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    patch, own = pixels[top:bottom, left:right], mask[top:bottom, left:right]
    middle = (bottom - top + 1) // 2
    levels = patch.astype(int) * BINS // 256
    index = (levels[..., 0] * BINS + levels[..., 1]) * BINS + levels[..., 2]
    index[middle:] += BINS**3
    histogram = np.bincount(index[own], minlength=2 * BINS**3).astype(float)
    return histogram / max(histogram.sum(), 1.0)


def alike(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """How alike two histograms are (Bhattacharyya), in [0, 1]; 0.5 where one is not known."""
    return 0.5 if a is None or b is None else float(np.sqrt(a * b).sum())


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(sides.clip(0)))
    return common / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common, 1e-9)
