"""Pictures of what the network sees: colours for each output, skeletons, labelled grids. numpy and OpenCV only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.skeleton import JointSet

TINT = np.array([60, 220, 140], np.float32)
LABEL_HEIGHT = 18


def normals_color(normals: np.ndarray) -> np.ndarray:
    """(H, W, 3) unit normals -> uint8 RGB: x right = red, y up = green, towards the camera = blue; none = black."""
    color = ((normals * np.array([1.0, -1.0, -1.0], np.float32) + 1.0) * 127.5).astype(np.uint8)
    return np.where((normals * normals).sum(-1, keepdims=True) > 0.25, color, 0).astype(np.uint8)


def dense_pose_color(coordinates: np.ndarray) -> np.ndarray:
    """(H, W, 3) body coordinates in [0, 1] -> uint8 RGB; background black."""
    return (np.clip(coordinates, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def mask_gray(alpha: np.ndarray) -> np.ndarray:
    """(H, W) alpha in [0, 1] -> uint8 RGB."""
    return np.repeat((np.clip(alpha, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)[..., None], 3, -1)


def disparity_color(disparity: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """(H, W) inverse depth -> uint8 RGB, near = bright; NaN = black.

    low, high: the range of the colour map (None: of this image), so that a video can keep one scale.
    """
    known = np.isfinite(disparity)
    if not known.any():
        return np.zeros((*disparity.shape, 3), np.uint8)
    low = float(disparity[known].min()) if low is None else low
    high = float(disparity[known].max()) if high is None else high
    unit = np.clip((np.where(known, disparity, low) - low) / max(high - low, 1e-9), 0.0, 1.0)
    color = cv2.applyColorMap((unit * 255.0 + 0.5).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(known[..., None], color, 0).astype(np.uint8)


def depth_color(depth: np.ndarray) -> np.ndarray:
    """(H, W) metres -> uint8 RGB by inverse depth, near = bright; invalid = black."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return disparity_color(np.where(depth > 0, 1.0 / depth, np.nan))


def tint(image: np.ndarray, alpha: np.ndarray, strength: float = 0.35) -> np.ndarray:
    """(H, W, 3) uint8 with the people of the (H, W) mask coloured."""
    weight = strength * np.clip(alpha, 0.0, 1.0)[..., None]
    return (image * (1.0 - weight) + TINT * weight).astype(np.uint8)


def draw_skeleton(
    image: np.ndarray,
    xy: np.ndarray,
    confidence: np.ndarray,
    joint_set: JointSet,
    color: tuple[int, int, int] = (255, 160, 40),
    min_confidence: float = 0.3,
) -> np.ndarray:
    """A copy of (H, W, 3) uint8 RGB with bones and joints; xy (K, 2) continuous pixels, confidence (K,)."""
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    thickness = max(1, round(min(height, width) / 240))
    sure = (confidence > min_confidence) & np.isfinite(xy).all(-1)
    points = np.clip(np.nan_to_num(xy), [-width, -height], [2 * width, 2 * height]).astype(int)
    for a, b in joint_set.bones:
        if sure[a] and sure[b]:
            cv2.line(canvas, tuple(map(int, points[a])), tuple(map(int, points[b])), color, thickness, cv2.LINE_AA)
    for x, y in points[sure]:
        cv2.circle(canvas, (int(x), int(y)), thickness + 1, (255, 255, 255), -1, cv2.LINE_AA)
    return canvas


def panel(image: np.ndarray, label: str, width: int, height: int) -> np.ndarray:
    """The image resized to width x height under a strip with its label; (height + LABEL_HEIGHT, width, 3) uint8."""
    if image.shape[:2] != (height, width):
        shrink = image.shape[1] > width
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    strip = np.full((LABEL_HEIGHT, width, 3), 24, np.uint8)
    cv2.putText(strip, label, (5, LABEL_HEIGHT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def grid(panels: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Panels of one size, row by row; missing ones black."""
    blank = np.zeros_like(panels[0])
    rows = [list(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    return np.concatenate([np.concatenate(row, 1) for row in rows])


def write(path: Path, picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB as the kind of file that the suffix names. UserError where that cannot be."""
    with atomic(path) as temporary:
        try:
            written = cv2.imwrite(str(temporary), np.ascontiguousarray(picture[..., ::-1]))
        except cv2.error:  # no such kind of file
            written = False
        if not written:
            raise UserError(f"cannot write {path}: expected the name of a picture (.png) in a place with room")
