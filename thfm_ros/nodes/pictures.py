"""The picture on overlay/image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thfm_ros.panels import tint
from thfm_ros.stream.drawing import draw_people
from thfm_ros.stream.people import Person


def overlay(
    image: np.ndarray, foreground: np.ndarray | None, people: Sequence[Person], labels: np.ndarray | None = None
) -> np.ndarray:
    """The image with people tinted by their masks and their 2D skeletons drawn, in the colours of their markers.

    Args:
        image: (H, W, 3) uint8 RGB. foreground: (H, W) alpha or None.
        people: their joints are pixels of their own `image_size`, which shows the same view.
        labels: (H, W) whose pixels are whose; where it is known, each person has their own colour.
    """
    masked = labels is None and foreground is not None
    return draw_people(tint(image, foreground) if masked else image, people, labels)
