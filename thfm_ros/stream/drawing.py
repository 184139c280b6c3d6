"""Draws everyone in a picture: masks, skeletons and ids, each person in a colour of their own."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from thfm_ros.panels import draw_skeleton
from thfm_ros.stream.people import Person

STRENGTH = 0.4  # of the colour over a person's pixels
MIN_CONFIDENCE = 0.3  # of joints that are drawn


def number_of(identity: str) -> int:
    """The number in an id such as kzqwh_12."""
    return int(identity.rsplit("_", 1)[-1])


def color_of(identity: str) -> tuple[float, float, float]:
    """RGB in [0, 1], far apart for consecutive ids (golden ratio)."""
    return colorsys.hsv_to_rgb((0.33 + 0.618034 * number_of(identity)) % 1.0, 0.8, 1.0)


def draw_people(
    image: np.ndarray, people: Sequence[Person], labels: np.ndarray | None = None, names: bool = True
) -> np.ndarray:
    """A copy of (H, W, 3) uint8 RGB with everybody's skeleton, the nearest in front.

    Args:
        people: their joints are pixels of their own `image_size`, which shows the same view.
        labels: (H, W) label of a person at each of their pixels, which are tinted. names: write ids, too.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    size = max(0.35, height / 600)
    for person in reversed(people):
        color = tuple(int(255 * c) for c in color_of(person.id))
        if labels is not None and person.label:
            own = labels == person.label
            canvas[own] = ((1 - STRENGTH) * canvas[own] + STRENGTH * np.array(color)).astype(np.uint8)
        factor = np.array([width, height]) / np.array(person.image_size)
        canvas = draw_skeleton(canvas, person.xy * factor, person.confidence, person.joint_set, color, MIN_CONFIDENCE)
        if names and (person.confidence > MIN_CONFIDENCE).any():
            left, top, _, _ = person.box()
            place = (int(left * factor[0]), max(int(top * factor[1]) - 2, round(24 * size)))
            text = str(number_of(person.id))
            cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)
    return canvas
