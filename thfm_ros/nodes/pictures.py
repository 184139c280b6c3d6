"""rgb8 pictures of what cannot be looked at directly."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from thfm_ros.nodes.markers import color_of
from thfm_ros.stream.people import Person

TINT = np.array([60, 220, 140], np.float32)


def normals_color(normals: np.ndarray) -> np.ndarray:
    """(H, W, 3) unit normals -> uint8 RGB: x right = red, y up = green, towards the camera = blue; none = black."""
    flipped = normals * np.array([1.0, -1.0, -1.0], np.float32)
    color = ((flipped + 1.0) * 127.5).astype(np.uint8)
    return np.where((normals * normals).sum(-1, keepdims=True) > 0.25, color, 0).astype(np.uint8)


def dense_pose_color(coordinates: np.ndarray) -> np.ndarray:
    """(H, W, 3) body coordinates in [0, 1] -> uint8 RGB; background black."""
    return (coordinates * 255.0 + 0.5).astype(np.uint8)


def overlay(
    image: np.ndarray, foreground: np.ndarray | None, people: Sequence[Person], min_confidence: float = 0.3
) -> np.ndarray:
    """The image with people tinted by their mask and their 2D skeletons drawn.

    Args:
        image: (H, W, 3) uint8 RGB. foreground: (H, W) alpha or None.
        people: their joints are pixels of their own `image_size`, which shows the same view.
    """
    canvas = image.copy()
    if foreground is not None:
        alpha = 0.35 * foreground[..., None]
        canvas = (image * (1.0 - alpha) + TINT * alpha).astype(np.uint8)
    height, width = canvas.shape[:2]
    thickness = max(1, round(min(height, width) / 240))
    for person in people:
        factor = np.array([width, height]) / np.array(person.image_size)
        points = np.clip(np.nan_to_num(person.xy * factor), -width, 2 * width).astype(int)
        color = tuple(int(255 * c) for c in color_of(person.id))
        sure = person.confidence > min_confidence
        for a, b in person.joint_set.bones:
            if sure[a] and sure[b]:
                start, end = (tuple(int(v) for v in points[j]) for j in (a, b))
                cv2.line(canvas, start, end, color, thickness, cv2.LINE_AA)
        for x, y in points[sure]:
            cv2.circle(canvas, (int(x), int(y)), thickness + 1, (255, 255, 255), -1, cv2.LINE_AA)
    return canvas
