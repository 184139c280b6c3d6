"""People in one frame: boxes, masks and colours, out of the `instances` map or, without it, the mask of all people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thfm_ros.instances import EDGE, Instances, group, instances_of, parts_of, split
from thfm_ros.letterbox import Letterbox
from thfm_ros.tasks import ALPHA, INSTANCES

LEAST_PIXELS = 12  # of the network's map that somebody fills
MOST = 20  # people of a frame
TRUST = 0.75  # mean agreement of pixels on their centres: 1 for the truth; below it `split` finds more than `group`
UNKNOWN = 0.6  # likeness of colours of which one's are not known
WITHIN = 0.8  # share of a part's pixels in the box where somebody is expected from which it is theirs
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


def detect(
    maps: Mapping[str, np.ndarray], rough: bool, pixels: np.ndarray, fit: Letterbox, expected: Sequence[np.ndarray]
) -> Detected:
    """Everybody in a frame.

    maps: (H, W, 3) in [-1, 1] of the dense tasks `instances` or `foreground`, or both. rough: the first is not
    `trusted`. pixels: (H, W, 3) uint8 RGB of the letterboxed frame. expected: see `from_mask`.
    """
    mask = ALPHA.from_rgb(maps["foreground"]) if "foreground" in maps else None
    if INSTANCES.name not in maps:
        return from_mask(mask, pixels, fit, expected)
    code = INSTANCES.from_rgb(maps[INSTANCES.name])
    if not rough:
        return detected(group(code, LEAST_PIXELS, MOST), pixels, fit)
    mask = (code[..., 2] / EDGE).clip(0, 1) if mask is None else mask
    return detected(split(code, mask, LEAST_PIXELS, MOST), pixels, fit)


def trusted(rgb: np.ndarray) -> bool:
    """Whether the map (H, W, 3) of `instances` agrees with itself: pixels of one person point to one centre.

    A network that has not learned it well points anywhere near, and everybody falls to pieces.
    """
    found = group(INSTANCES.from_rgb(rgb), LEAST_PIXELS, MOST)
    areas = np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:]
    return not len(found) or float(np.average(found.scores, weights=areas)) >= TRUST


def from_mask(alpha: np.ndarray, pixels: np.ndarray, fit: Letterbox, expected: Sequence[np.ndarray] = ()) -> Detected:
    """alpha (H, W) in [0, 1] of all people: each connected part is one person, however many touch, but for those who
    are `expected` in it: boxes (4,) in pixels of the camera's image. Each of its pixels is the nearest one's. Parts in
    the box of one of them are one person."""
    parts = parts_of(alpha)
    count = int(parts.max(initial=0)) + 1
    places = [fit.points_to_target(box.reshape(2, 2)) for box in expected]
    middles = np.array([p.mean(0) for p in places]).reshape(-1, 2)
    for part in range(1, count):
        row, column = np.nonzero(parts == part)
        first, last = np.array([column.min(), row.min()]), np.array([column.max(), row.max()]) + 1
        inside = ((middles >= first) & (middles < last)).all(1)
        if inside.sum() < 2:
            continue
        sizes = np.array([np.maximum(p[1] - p[0], 1) for p in places])[inside]
        away = (np.stack([column, row], -1)[:, None] + 0.5 - middles[inside]) / sizes
        parts[row, column] = count + np.square(away).sum(-1).argmin(1)
        count += int(inside.sum())
    _joined(parts, places)
    return detected(instances_of(parts, alpha, LEAST_PIXELS, MOST), pixels, fit)


def _joined(parts: np.ndarray, places: Sequence[np.ndarray]) -> None:
    """Gives parts (H, W) that lie in one of the places (2, 2), and in no other, the largest one's number."""
    owner: dict[int, list[int]] = {}
    for part in np.flatnonzero(np.bincount(parts.ravel())[1:]) + 1:
        row, column = np.nonzero(parts == part)
        at = np.stack([column, row], -1) + 0.5
        inside = [((at >= low) & (at < high)).all(1).mean() > WITHIN for low, high in places]
        if sum(inside) == 1:
            owner.setdefault(inside.index(True), []).append(int(part))
    for several in owner.values():
        largest = max(several, key=lambda part: int((parts == part).sum()))
        parts[np.isin(parts, several)] = largest


def detected(found: Instances, pixels: np.ndarray, fit: Letterbox) -> Detected:
    """Those who were found in a letterboxed frame, pixels (H, W, 3) uint8 RGB, as the camera's image shows them."""
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
    """How alike two histograms are (Bhattacharyya), in [0, 1]; UNKNOWN where one is not known."""
    return UNKNOWN if a is None or b is None else float(np.sqrt(a * b).sum())


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(sides.clip(0)))
    return common / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common, 1e-9)


def share(box: np.ndarray, other: np.ndarray) -> float:
    """Share of a box (4,) that lies in another."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(sides.clip(0)) / max(np.prod(box[2:] - box[:2]), 1e-9))
