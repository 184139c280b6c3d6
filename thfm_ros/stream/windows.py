"""Windows around people: cut from the camera's own image, brought to the size that the network reads keypoints at.

A window is centred on a person's box, has its own aspect, and is SCALE times as large as the smallest such window that
holds the box. What lies outside the image is black. Before it shrinks, the image is smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

SCALE = 1.25
LEAST_PX = 8.0  # a smaller box is taken for one of this height: there is nothing to see, and nothing to divide by


@dataclass(frozen=True)
class Window:
    """Where a window lies: its first pixel's middle is at `start` (x, y), pixel indices of the image; `step` is the
    distance of its pixels in those of the image; `size` is its width and height."""

    start: tuple[float, float]
    step: float
    size: tuple[int, int]

    @classmethod
    def around(cls, box: Sequence[float], size: tuple[int, int], scale: float = SCALE) -> Window:
        """box: left, top, right, bottom, pixels of the image. size: of the window."""
        left, top, right, bottom = (float(v) for v in box)
        step = max((bottom - top) / size[1], (right - left) / size[0], LEAST_PX / size[1]) * scale
        centre = ((left + right) / 2, (top + bottom) / 2)
        return cls((centre[0] - step * size[0] / 2, centre[1] - step * size[1] / 2), step, size)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (h, w, 3) uint8."""
        step, (x, y) = self.step, self.start
        matrix = np.array([[1 / step, 0, -x / step], [0, 1 / step, -y / step]])
        if step > 1.1:  # only the part that is seen is smoothed
            margin = int(2 * step) + 1
            first = [int(np.clip(v - margin, 0, n)) for v, n in zip(self.start, image.shape[1::-1], strict=True)]
            last = [
                int(np.clip(v + step * n + margin, 0, whole))
                for v, n, whole in zip(self.start, self.size, image.shape[1::-1], strict=True)
            ]
            image = image[first[1] : last[1], first[0] : last[0]]
            if 0 in image.shape:
                return np.zeros((self.size[1], self.size[0], 3), np.uint8)
            image = cv2.GaussianBlur(image, (0, 0), 0.35 * step)
            matrix[:, 2] += np.array(first) / step
        return cv2.warpAffine(image, matrix, self.size, flags=cv2.INTER_LINEAR)

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) in [0, 1] of the window -> continuous pixels of the image."""
        return (np.asarray(xy, float) * self.size - 0.5) * self.step + self.start + 0.5


@dataclass(frozen=True)
class FollowedClip:
    """A person's windows over the frames of a clip: of one size, on a straight way."""

    windows: list[Window]

    @classmethod
    def along(cls, boxes: np.ndarray, size: tuple[int, int]) -> FollowedClip:
        """boxes (T, 4): where the person is in each frame, NaN where that is not known, but for one frame at least.

        The way is the straight line through their middles: boxes tremble, and a window that does too looks like motion.
        """
        boxes = np.asarray(boxes, float)
        time = np.arange(len(boxes), dtype=float)
        known = np.isfinite(boxes).all(1)
        sides = (boxes[known, 2:] - boxes[known, :2]).max(0)
        centres = (boxes[known, :2] + boxes[known, 2:]) / 2
        middle, away = time[known].mean(), time[known] - time[known].mean()
        pace = away @ centres / max(float(away @ away), 1e-9)
        places = centres.mean(0) + (time - middle)[:, None] * pace
        still = Window.around((*(-sides / 2), *(sides / 2)), size)
        return cls([replace(still, start=(still.start[0] + x, still.start[1] + y)) for x, y in places])

    def cut(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """T images (H, W, 3) uint8 -> (T, h, w, 3) uint8."""
        return np.stack([w.cut(image) for w, image in zip(self.windows, images, strict=True)])

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """(T, K, 2) in [0, 1] of the windows -> continuous pixels of the images."""
        return np.stack([w.to_image(points) for w, points in zip(self.windows, xy, strict=True)])
