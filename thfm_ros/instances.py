"""People apart: the code that every pixel of a person points to that person's centre by, and grouping by it.

As bottom-up panoptic networks have it (Cheng et al., Panoptic-DeepLab, CVPR 2020): an offset to the person's own
centre, and centre-ness. The three numbers of a pixel lie in [-1, 1], [-1, 1] and [0, 1]: offsets along x and y in parts
of the image's longer side, by their signed square root, so that the same error of a network is fewer pixels on a small
person than on a large one; centre-ness falls from 1 at the centre to EDGE at the person's end. Background is 0.
A person's centre is that of their own pixels which lies nearest to the mean of all of them, so two people never share
one. numpy and OpenCV only.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

EDGE = 0.4  # least centre-ness of a person's pixel
THERE = 0.2  # centre-ness above which a pixel is somebody's
MIDDLE = 0.06  # least share of somebody's pixels that lie about their centre
SPREAD = 0.35  # standard deviation of centre-ness, in parts of the square root of the person's area
ERROR = 0.04  # what a network's offsets are off by, in the code's own measure
REACH = 2.5  # times that: votes that far from a place still mean it
WIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # pixels that votes are blurred by, each by what suits its offset
CELL = 2  # pixels along each side of what votes are counted in; the mean of the votes is exact all the same
WEAK, STRONG, SURE = 0.3, 0.65, 4  # a part of a mask lies above the one; above the other so many pixels of it do
SMOOTH, VALLEY = 1.2, 0.85  # pixels that centre-ness is blurred by; what it falls to, at the most, between two people
SUMMIT, ASIDE = 0.3, 0.8  # least centre-ness of a centre; what lying far from it counts beside pointing past it


@dataclass(frozen=True)
class Instances:
    """labels uint8 (H, W): n where people[n - 1] is, 0 where nobody is, the largest first. boxes (N, 4): left, top,
    right, bottom in continuous pixels. centres (N, 2): x, y in continuous pixels. scores (N,): how well a group's
    pixels agree on their centre, in [0, 1]."""

    labels: np.ndarray
    boxes: np.ndarray
    centres: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


def encode(ids: np.ndarray) -> np.ndarray:
    """(H, W) whole numbers, 0 where nobody is -> (H, W, 3) float32: the code of every pixel."""
    out = np.zeros((*ids.shape, 3), np.float32)
    longer = max(ids.shape)
    for number in np.unique(ids[ids > 0]):
        rows, columns = np.nonzero(ids == number)
        away = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
        middle = int(np.argmin(away))
        dx, dy = columns[middle] - columns, rows[middle] - rows
        spread = SPREAD * np.sqrt(len(rows))
        near = np.exp(-0.5 * (dx**2 + dy**2) / spread**2)
        out[rows, columns] = np.stack([_root(dx / longer), _root(dy / longer), EDGE + (1 - EDGE) * near], -1)
    return out


def group(code: np.ndarray, least: int = 12, most: int = 20) -> Instances:
    """(H, W, 3) code, of the truth or predicted -> the people in it, at most `most`, each of `least` pixels or more.

    Pixels vote for centres, the more exactly the nearer they are. The place that most agree on is a person; the votes
    for it are taken away, until too few are left. In the end every vote counts for the nearest of these places, unless
    that is farther than its offset can be wrong by.
    """
    shape = code.shape[:2]
    rows, columns = np.nonzero(code[..., 2] > THERE)
    offsets = _square(code[rows, columns, :2].astype(np.float64)) * max(shape)
    votes = np.stack([columns, rows], -1) + offsets
    length = np.linalg.norm(offsets, axis=-1)
    # An error in the code is one in pixels by its slope; of a small person it is no larger than the person.
    width = np.minimum(1 + 2 * ERROR * np.sqrt(length * max(shape)), 0.9 + 0.45 * length)
    centres = _centres(votes, length, width, shape, least, most)
    chosen, off = np.full(len(votes), -1), np.zeros(len(votes))
    while len(centres):
        squared = _squared(votes, centres)
        chosen = squared.argmin(0)
        off = np.sqrt(squared.min(0)) / width
        chosen = np.where(off < 4, chosen, -1)
        counts = np.bincount(chosen[chosen >= 0], minlength=len(centres))
        if (counts >= least).all():
            break
        centres = centres[counts >= least]
    labels = np.zeros(shape, np.uint8)
    if not len(centres):
        return Instances(labels, np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    order = np.argsort(-counts, kind="stable")
    boxes, scores = [], []
    for number, n in enumerate(order, 1):
        own = chosen == n
        x, y = columns[own], rows[own]
        labels[y, x] = number
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        scores.append(np.exp(-0.5 * off[own].mean()))
    return Instances(
        labels, np.array(boxes, np.float32), (centres[order] + 0.5).astype(np.float32), np.array(scores, np.float32)
    )


def split(code: np.ndarray, mask: np.ndarray, least: int = 12, most: int = 20) -> Instances:
    """As `group`, for a code that is only roughly right: (H, W, 3), and a mask (H, W) in [0, 1] of everybody.

    Connected parts of the mask are split at the summits of centre-ness, a valley between any two: each pixel is that
    summit's which it points to and lies near. What points into a larger neighbour is a part of that: an arm, or legs
    that show beneath a sign. Scores are the means of the mask.
    """
    labels = parts_of(mask)
    rows, columns = np.nonzero(labels)
    places = np.stack([columns, rows], -1).astype(float)
    votes = places + _square(code[rows, columns, :2].astype(float)) * max(mask.shape)
    part = labels[rows, columns]
    near = cv2.GaussianBlur(np.maximum(code[..., 2], 0).astype(np.float32), (0, 0), SMOOTH)
    count = int(labels.max(initial=0))
    for n in range(1, count + 1):
        own = np.flatnonzero(part == n)
        summits = _summits(np.where(labels == n, near, 0))
        if len(summits) > 1:
            squared = _squared(votes[own], summits) ** 0.5 + ASIDE * _squared(places[own], summits) ** 0.5
            whose = squared.argmin(0)
            part[own[whose > 0]] = count + whose[whose > 0]
            count += len(summits) - 1
    labels[rows, columns] = part
    areas = np.bincount(part, minlength=count + 1)
    for n in np.argsort(areas[1:], kind="stable") + 1:
        own = part == n
        if areas[n]:
            x, y = np.rint(np.median(votes[own], 0)).astype(int).clip(0, [mask.shape[1] - 1, mask.shape[0] - 1])
            there = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            whose = int(np.bincount(there[there > 0], minlength=1).argmax())
            if n not in there and areas[whose] > areas[n]:
                labels[labels == n] = part[own] = whose
    return instances_of(labels, mask, least, most)


def parts_of(mask: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W) int32 numbers of its connected parts from 1 on, 0 elsewhere.

    A part is what exceeds WEAK around some pixels above STRONG (hysteresis, as Canny's edges have it, 1986).
    """
    count, parts = cv2.connectedComponents((mask > WEAK).astype(np.uint8))
    sure = np.bincount(parts[mask > STRONG], minlength=count) >= SURE
    sure[0] = False
    return np.where(sure, np.cumsum(sure), 0).astype(np.int32)[parts]


def instances_of(labels: np.ndarray, mask: np.ndarray, least: int, most: int) -> Instances:
    """labels (H, W), any numbers above 0, of at least so many pixels -> people, scored by the mask's mean (H, W)."""
    areas = np.bincount(labels.ravel())
    order = [n for n in np.argsort(-areas, kind="stable") if n and areas[n] >= least][:most]
    number = np.zeros(len(areas), np.uint8)
    number[order] = np.arange(1, len(order) + 1)
    boxes, centres, scores = [], [], []
    for n in order:
        y, x = np.nonzero(labels == n)
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        centres.append((x.mean() + 0.5, y.mean() + 0.5))
        scores.append(mask[y, x].mean())
    return Instances(
        number[labels],
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(centres, np.float32).reshape(-1, 2),
        np.array(scores, np.float32),
    )


def _summits(near: np.ndarray) -> np.ndarray:
    """(N, 2) x, y of the highest places of (H, W), the highest first; on the way between two of them it falls below
    VALLEY of the lower."""
    rows, columns = np.nonzero((near >= cv2.dilate(near, np.ones((5, 5), np.uint8))) & (near > SUMMIT))
    kept: list[np.ndarray] = []
    for n in np.argsort(-near[rows, columns], kind="stable"):
        place = np.array([columns[n], rows[n]])
        for other in kept:
            steps = int(np.abs(other - place).max()) + 1
            x, y = np.rint(np.linspace(place, other, steps)).astype(int).T
            if near[y, x].min() > VALLEY * near[rows[n], columns[n]]:
                break
        else:
            kept.append(place)
    return np.array(kept, float).reshape(-1, 2)


def _centres(
    votes: np.ndarray, length: np.ndarray, width: np.ndarray, shape: tuple[int, ...], least: int, most: int
) -> np.ndarray:
    """(N, 2) x, y of the places that votes (V, 2) of those lengths (V,) agree on, as exact as their widths."""
    level = np.abs(np.log(width[:, None] / np.array(WIDTHS))).argmin(1)
    grid = (-(-shape[0] // CELL), -(-shape[1] // CELL))
    column, row = np.clip(np.rint(votes).astype(int) // CELL, 0, [grid[1] - 1, grid[0] - 1]).T
    cell = row * grid[1] + column
    left = np.ones(len(votes), bool)
    density = [np.zeros(grid, np.float32) for _ in WIDTHS]
    # Levels whose votes are others than when they were last blurred.
    changed = np.flatnonzero(np.bincount(level, minlength=len(WIDTHS)))
    places: list[np.ndarray] = []
    for _ in range(3 * most):
        if left.sum() < least or len(places) == most:
            break
        for n in changed:
            count = np.bincount(cell[left & (level == n)], minlength=grid[0] * grid[1]).reshape(grid)
            sigma = WIDTHS[n] / CELL
            density[n] = cv2.GaussianBlur(count.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        summit = np.unravel_index(int(np.sum(density, 0).argmax()), grid)
        place = CELL * (np.array([summit[1], summit[0]], float) + 0.5) - 0.5
        reach = REACH * width + CELL / 2
        near = left & (_squared(votes, place[None])[0] < reach**2)
        if not near.any():
            break
        exact = 1 / width[near] ** 4
        place = (votes[near] * exact[:, None]).sum(0) / exact.sum()
        taken = near | (left & (_squared(votes, place[None])[0] < (REACH * width) ** 2))
        left &= ~taken
        changed = np.flatnonzero(np.bincount(level[taken], minlength=len(WIDTHS)))
        # Whoever is there has a middle; what is left over from a large person's scattered votes has none.
        middle = length[taken] < 1 + SPREAD * np.sqrt(taken.sum())
        if taken.sum() >= least and middle.mean() > MIDDLE:
            places.append(place)
    return np.array(places).reshape(-1, 2)


def _squared(votes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, V) squared distances of votes (V, 2) from places (N, 2)."""
    (x, y), (px, py) = votes.T, places.T
    return (x - px[:, None]) ** 2 + (y - py[:, None]) ** 2


def _root(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.sqrt(np.abs(x))


def _square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * x * x
