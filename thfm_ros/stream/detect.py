"""People in one frame: boxes, masks and colours, out of the `instances` map or, without it, the mask of all people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from thfm_ros.instances import Instances, group
from thfm_ros.letterbox import Letterbox
from thfm_ros.tasks import ALPHA, INSTANCES

LEAST_PIXELS = 12  # of the network's map that somebody fills
MOST = 20  # people of a frame
THERE = 0.5  # above it a pixel of the mask is somebody's
TRUST = 0.62  # mean agreement of pixels on their centres: 1 for the truth, 0.4 for a network that guesses
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


def detect(task: str, fit: Letterbox, rgb: np.ndarray, pixels: np.ndarray, expected: Sequence[np.ndarray]) -> Detected:
    """Everybody in a frame by the map (H, W, 3) in [-1, 1] of a dense task, `instances` or `foreground`.

    pixels: (H, W, 3) uint8 RGB of the letterboxed frame. expected: see `from_mask`.
    """
    if task == INSTANCES.name:
        return from_instances(INSTANCES.from_rgb(rgb), pixels, fit)
    return from_mask(ALPHA.from_rgb(rgb), pixels, fit, expected)


def trusted(rgb: np.ndarray) -> bool:
    """Whether the map (H, W, 3) of `instances` agrees with itself: pixels of one person point to one centre.

    A network that has not learned it yet points anywhere, and everybody falls to pieces.
    """
    found = group(INSTANCES.from_rgb(rgb), LEAST_PIXELS, MOST)
    areas = np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:]
    return not len(found) or float(np.average(found.scores, weights=areas)) >= TRUST


def from_instances(code: np.ndarray, pixels: np.ndarray, fit: Letterbox) -> Detected:
    """code (H, W, 3) and pixels (H, W, 3) uint8 RGB of the letterboxed frame -> everybody in it."""
    return _detected(group(code, LEAST_PIXELS, MOST), pixels, fit)


def from_mask(alpha: np.ndarray, pixels: np.ndarray, fit: Letterbox, expected: Sequence[np.ndarray] = ()) -> Detected:
    """alpha (H, W) in [0, 1] of all people: each connected part is one person, however many touch, but for those who
    are `expected` in it: boxes (4,) in pixels of the camera's image. Each of its pixels is the nearest one's."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats((alpha > THERE).astype(np.uint8))
    places = [fit.points_to_target(box.reshape(2, 2)) for box in expected]
    for part in range(1, count):
        left, top, width, height = stats[part, :4]
        middles = np.array([p.mean(0) for p in places]).reshape(-1, 2)
        inside = ((middles >= (left, top)) & (middles < (left + width, top + height))).all(1)
        if inside.sum() < 2:
            continue
        row, column = np.nonzero(parts == part)
        sizes = np.array([np.maximum(p[1] - p[0], 1) for p in places])[inside]
        away = (np.stack([column, row], -1)[:, None] + 0.5 - middles[inside]) / sizes
        parts[row, column] = count + np.square(away).sum(-1).argmin(1)
        count += int(inside.sum())
    areas = np.bincount(parts.ravel(), minlength=count)
    order = [n for n in np.argsort(-areas, kind="stable") if n and areas[n] >= LEAST_PIXELS][:MOST]
    number = np.zeros(count, np.uint8)
    number[order] = np.arange(1, len(order) + 1)
    labels = number[parts]
    rows, columns = (np.broadcast_to(x, alpha.shape) for x in np.ogrid[: alpha.shape[0], : alpha.shape[1]])
    boxes, centres = [], []
    for n in range(1, len(order) + 1):
        y, x = rows[labels == n], columns[labels == n]
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        centres.append((x.mean() + 0.5, y.mean() + 0.5))
    scores = np.bincount(parts.ravel(), alpha.ravel(), count)[order] / np.maximum(areas[order], 1)
    found = Instances(
        labels,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(centres, np.float32).reshape(-1, 2),
        scores.astype(np.float32),
    )
    return _detected(found, pixels, fit)


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
