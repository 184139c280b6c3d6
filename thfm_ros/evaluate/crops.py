"""Crops one person out of a picture the way that every number on real pictures is measured.

The crop is centred on the person's box, has the window's aspect, and is 1.25 times as large as the smallest such crop
that holds the box. What lies outside the picture is black. Before it shrinks, the picture is smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SCALE = 1.25
WINDOW = (112, 144)  # width, height


@dataclass(frozen=True)
class Crop:
    """pixels (H, W, 3) uint8; `matrix` (2, 3) takes pixel indices of the crop to those of the picture."""

    pixels: np.ndarray
    matrix: np.ndarray

    def to_picture(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) in [0, 1] of the crop -> pixels of the picture, (0, 0) the middle of the first one as in COCO."""
        height, width = self.pixels.shape[:2]
        return (np.asarray(xy, float) * (width, height) - 0.5) @ self.matrix[:, :2].T + self.matrix[:, 2]


def crop_person(
    image: np.ndarray, box: Sequence[float], window: tuple[int, int] = WINDOW, scale: float = SCALE
) -> Crop:
    """The part of an (H, W, 3) uint8 picture around `box` (left, top, width, height), as `window` (width, height)."""
    width, height = window
    left, top, box_width, box_height = box
    step = max(box_height / height, box_width / width) * scale  # pixels of the picture a pixel of the crop
    start = (left + box_width / 2 - step * width / 2, top + box_height / 2 - step * height / 2)
    smooth = cv2.GaussianBlur(image, (0, 0), 0.35 * step) if step > 1.1 else image
    inverse = np.array([[1 / step, 0, -start[0] / step], [0, 1 / step, -start[1] / step]])
    pixels = cv2.warpAffine(smooth, inverse, window, flags=cv2.INTER_LINEAR)
    return Crop(pixels, np.array([[step, 0, start[0]], [0, step, start[1]]]))
