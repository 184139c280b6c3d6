"""How well people keep their ids: MOTA (Bernardin & Stiefelhagen, 2008), IDF1 (Ristani et al., 2016), HOTA (Luiten et
al., IJCV 2021).

A sequence is a list of frames: who is there, who was found, and how alike each pair is (IoU). Ids are any numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thfm_ros.stream.assign import assign

THRESHOLD = 0.5  # of the likeness, from which a pair may be one person (MOTA, IDF1)
THRESHOLDS = np.arange(0.05, 0.99, 0.05)  # of HOTA, which is the mean over them
EPS = 1e-9


@dataclass(frozen=True)
class TrackedFrame:
    """truth (N,) and found (M,) ids, whole numbers; likeness (N, M) in [0, 1]."""

    truth: np.ndarray
    found: np.ndarray
    likeness: np.ndarray


def tracking_figures(sequences: Sequence[Sequence[TrackedFrame]]) -> dict[str, float]:
    """mota, idf1, hota, deta, assa, switches, missed, false: of all sequences together. NaN without anybody."""
    clear = np.sum([_clear(frames) for frames in sequences], 0) if sequences else np.zeros(4)
    hits, missed, false, switches = clear
    people = hits + missed
    identity = np.sum([_identity(frames) for frames in sequences], 0) if sequences else np.zeros(3)
    own, theirs, common = identity
    detection, association = _hota(sequences)
    return {
        "mota": float((hits - false - switches) / people) if people else float("nan"),
        "idf1": float(2 * common / (own + theirs)) if own + theirs else float("nan"),
        "hota": float(np.sqrt(detection * association).mean()),
        "deta": float(detection.mean()),
        "assa": float(association.mean()),
        "switches": float(switches),
        "missed": float(missed),
        "false": float(false),
    }


def _pairs(likeness: np.ndarray, allowed: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of the greatest sum, those allowed."""
    return [(i, j) for i, j in assign(np.where(allowed, -likeness, 0.0)) if allowed[i, j]]


def _clear(frames: Sequence[TrackedFrame]) -> np.ndarray:
    """Hits, misses, false people and switches of id. Who was together in the frame before stays so if they can.

    The frame before is the last one with somebody there and somebody found, as in TrackEval.
    """
    counts = np.zeros(4)
    last: dict[int, int] = {}  # person -> id that they had when last found
    before: dict[int, int] = {}  # in the frame before
    for frame in frames:
        kept = np.array([[before.get(t) == f for f in frame.found.tolist()] for t in frame.truth.tolist()], float)
        kept = kept.reshape(frame.likeness.shape)
        pairs = _pairs(frame.likeness + 1000 * kept, frame.likeness >= THRESHOLD - EPS)
        now = {int(frame.truth[i]): int(frame.found[j]) for i, j in pairs}
        switches = sum(last.get(t, f) != f for t, f in now.items())
        last |= now
        if frame.likeness.size:
            before = now
        counts += (len(pairs), len(frame.truth) - len(pairs), len(frame.found) - len(pairs), switches)
    return counts


def _identity(frames: Sequence[TrackedFrame]) -> np.ndarray:
    """How many are there, how many were found, and how many have the id that is theirs over the whole sequence."""
    truth, found = (_numbers(frames, name) for name in ("truth", "found"))
    common = np.zeros((len(truth), len(found)))
    for frame in frames:
        for i, j in np.argwhere(frame.likeness >= THRESHOLD - EPS):
            common[truth[int(frame.truth[i])], found[int(frame.found[j])]] += 1
    own, theirs = sum(len(f.truth) for f in frames), sum(len(f.found) for f in frames)
    return np.array([own, theirs, sum(common[i, j] for i, j in assign(-common))])


def _numbers(frames: Sequence[TrackedFrame], name: str) -> dict[int, int]:
    """Id -> its place among all of them."""
    ids = sorted({int(i) for frame in frames for i in getattr(frame, name)})
    return {identity: n for n, identity in enumerate(ids)}


def _hota(sequences: Sequence[Sequence[TrackedFrame]]) -> tuple[np.ndarray, np.ndarray]:
    """Detection and association accuracy at each threshold."""
    hits, people, reported, association = (np.zeros(len(THRESHOLDS)) for _ in range(4))
    for frames in sequences:
        truth, found = (_numbers(frames, name) for name in ("truth", "found"))
        seen, given = np.zeros((len(truth), 1)), np.zeros((1, len(found)))
        together = np.zeros((len(truth), len(found)))
        rows = [np.array([truth[int(i)] for i in f.truth], int) for f in frames]
        columns = [np.array([found[int(i)] for i in f.found], int) for f in frames]
        for frame, row, column in zip(frames, rows, columns, strict=True):
            s = frame.likeness
            union = s.sum(0, keepdims=True) + s.sum(1, keepdims=True) - s
            together[np.ix_(row, column)] += np.where(union > EPS, s / np.maximum(union, EPS), 0.0)
            seen[row] += 1
            given[0, column] += 1
        overall = together / np.maximum(seen + given - together, EPS)
        matched = np.zeros((len(THRESHOLDS), len(truth), len(found)))
        for frame, row, column in zip(frames, rows, columns, strict=True):
            people += len(row)
            reported += len(column)
            score = overall[np.ix_(row, column)] * frame.likeness
            for i, j in assign(-score):
                good = frame.likeness[i, j] >= THRESHOLDS - EPS
                hits += good
                matched[:, row[i], column[j]] += good
        association += (matched * matched / np.maximum(seen + given - matched, 1)).sum((1, 2))
    detection = hits / np.maximum(people + reported - hits, 1)
    return detection, association / np.maximum(hits, 1)
