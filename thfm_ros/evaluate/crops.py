"""Crops one person out of a picture the way that every number on real pictures is measured: as the stream does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thfm_ros.stream.windows import SCALE, Window

WINDOW = (112, 144)  # width, height


@dataclass(frozen=True)
class Crop:
    """pixels (H, W, 3) uint8, and where in the picture they lie."""

    pixels: np.ndarray
    window: Window

    def to_picture(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) in [0, 1] of the crop -> pixels of the picture, (0, 0) the middle of the first one as in COCO."""
        return self.window.to_image(xy) - 0.5


def crop_person(
    image: np.ndarray, box: Sequence[float], window: tuple[int, int] = WINDOW, scale: float = SCALE
) -> Crop:
    """The part of an (H, W, 3) uint8 picture around `box` (left, top, width, height), as `window` (width, height)."""
    left, top, width, height = box
    placed = Window.around((left, top, left + width, top + height), window, scale)
    return Crop(placed.cut(image), placed)
