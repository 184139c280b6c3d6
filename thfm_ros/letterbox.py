"""Fits any image into the network's size with its aspect kept, and leads back: pixels, points and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from thfm_ros.geometry import Intrinsics


@dataclass(frozen=True)
class Letterbox:
    """How a source image was placed into the network's: scaled by `scale`, padded by (left, top)."""

    source: tuple[int, int]  # width, height
    target: tuple[int, int]  # width, height
    content: tuple[int, int]  # width, height of the source inside the target
    offset: tuple[int, int]  # left, top padding, pixels of the target

    @classmethod
    def of(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        scale = min(target[0] / source[0], target[1] / source[1])
        content = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        content = (min(content[0], target[0]), min(content[1], target[1]))
        return cls(source, target, content, ((target[0] - content[0]) // 2, (target[1] - content[1]) // 2))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(h, w[, C]) of the source size -> (H, W[, C]) of the target, black borders."""
        shrinking = self.content[0] < self.source[0]
        resized = cv2.resize(image, self.content, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        left, top = self.offset
        right, bottom = self.target[0] - self.content[0] - left, self.target[1] - self.content[1] - top
        return cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)

    def crop(self, image: np.ndarray) -> np.ndarray:
        """(..., H, W, C) or (H, W) of the target without its borders; a view."""
        left, top = self.offset
        rows, columns = slice(top, top + self.content[1]), slice(left, left + self.content[0])
        return image[..., rows, columns] if image.ndim == 2 else image[..., rows, columns, :]

    def points_to_source(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) continuous pixels of the target -> of the source."""
        scale = np.array([self.source[0] / self.content[0], self.source[1] / self.content[1]])
        return (np.asarray(points, dtype=float) - np.array(self.offset)) * scale

    def points_to_target(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) continuous pixels of the source -> of the target."""
        scale = np.array([self.content[0] / self.source[0], self.content[1] / self.source[1]])
        return np.asarray(points, dtype=float) * scale + np.array(self.offset)

    def intrinsics(self, source: Intrinsics) -> Intrinsics:
        """The source's camera as it looks into the target image."""
        left, top = self.offset
        return source.resized(*self.content).cropped(-left, -top, *self.target)


def letterbox(image: np.ndarray, width: int, height: int) -> tuple[np.ndarray, Letterbox]:
    """The image letterboxed into (height, width), and how to get back."""
    placement = Letterbox.of((image.shape[1], image.shape[0]), (width, height))
    return placement.apply(image), placement
