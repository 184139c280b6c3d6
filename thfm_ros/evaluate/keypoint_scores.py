"""How well joints were found in pictures: PCK by the person's box, OKS by COCO's formula, and who was found at all.

PCK: the share of all labelled joints of all people, pooled, that lie within 0.05 (0.1) of the longer side of the
annotated box. Only people with eight labelled joints or more count; somebody who was missed has none of their joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thfm_ros.evaluate.readers.coco import Person

# COCO's standard deviations of its 17 joints, relative to the root of the person's area.
_FACE_TO_ELBOWS = (0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072)
_WRISTS_TO_ANKLES = (0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089)
SIGMAS = np.array((*_FACE_TO_ELBOWS, *_WRISTS_TO_ANKLES))
AREA_OF_BOX = 0.53  # of a box that a person's mask fills, where one number is wanted with and without masks
THRESHOLDS = (0.05, 0.1)
MIN_JOINTS = 8


def oks(person: Person, xy: np.ndarray) -> float:
    """Object keypoint similarity in [0, 1] of (17, 2) pixels, over the labelled joints; the area is 0.53 of the box."""
    seen = person.labelled
    if not seen.any():
        return 0.0
    area = max(float(person.box[2] * person.box[3]) * AREA_OF_BOX, 1e-9)
    squared = np.square(xy - person.keypoints[:, :2]).sum(-1)
    similarity = np.exp(-squared / (2 * area * np.square(2 * SIGMAS)))
    return float(np.where(np.isfinite(similarity), similarity, 0.0)[seen].mean())


def hits(person: Person, xy: np.ndarray | None) -> np.ndarray:
    """(thresholds, labelled joints) bool: which were found; None: nobody was."""
    seen = person.labelled
    if xy is None:
        return np.zeros((len(THRESHOLDS), int(seen.sum())), bool)
    distance = np.linalg.norm(xy - person.keypoints[:, :2], axis=-1)[seen]
    return np.stack([distance < threshold * person.box[2:].max() for threshold in THRESHOLDS])


def counts(person: Person) -> bool:
    """Whether a person takes part: no crowd, and enough labelled joints."""
    return not person.crowd and int(person.labelled.sum()) >= MIN_JOINTS


def match(people: Sequence[Person], found: Sequence[np.ndarray]) -> dict[int, int]:
    """Index of a person -> of the (17, 2) joints that are theirs: the greatest OKS first, each once, above zero."""
    pairs = [(oks(person, xy), p, f) for p, person in enumerate(people) for f, xy in enumerate(found)]
    chosen: dict[int, int] = {}
    for similarity, p, f in sorted(pairs, key=lambda pair: -pair[0]):
        if similarity > 0 and p not in chosen and f not in chosen.values():
            chosen[p] = f
    return chosen


def summarise(pairs: Sequence[tuple[Person, np.ndarray | None]]) -> dict[str, float]:
    """PCK, mean OKS and the share above 0.5 of (person, their joints or None); NaN where there is nobody."""
    if not pairs:
        names = ("people", *(f"pck_{t:g}" for t in THRESHOLDS), "oks", "oks_0.5", "missed")
        return {name: 0.0 if name == "people" else float("nan") for name in names}
    found = np.concatenate([hits(person, xy) for person, xy in pairs], 1).mean(1)
    similarity = np.array([0.0 if xy is None else oks(person, xy) for person, xy in pairs])
    return {
        "people": float(len(pairs)),
        **{f"pck_{t:g}": float(v) for t, v in zip(THRESHOLDS, found, strict=True)},
        "oks": float(similarity.mean()),
        "oks_0.5": float((similarity > 0.5).mean()),
        "missed": float(np.mean([xy is None for _, xy in pairs])),
    }
