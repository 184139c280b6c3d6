"""The picture on overlay/image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thfm_ros.nodes.markers import color_of
from thfm_ros.panels import draw_skeleton, tint
from thfm_ros.stream.people import Person


def overlay(image: np.ndarray, foreground: np.ndarray | None, people: Sequence[Person]) -> np.ndarray:
    """The image with people tinted by their mask and their 2D skeletons drawn, in the colours of their markers.

    Args:
        image: (H, W, 3) uint8 RGB. foreground: (H, W) alpha or None.
        people: their joints are pixels of their own `image_size`, which shows the same view.
    """
    canvas = image if foreground is None else tint(image, foreground)
    height, width = canvas.shape[:2]
    for person in people:
        factor = np.array([width, height]) / np.array(person.image_size)
        r, g, b = (int(255 * c) for c in color_of(person.id))
        canvas = draw_skeleton(canvas, person.xy * factor, person.confidence, person.joint_set, color=(r, g, b))
    return canvas
