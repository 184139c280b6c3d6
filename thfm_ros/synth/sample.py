"""One generated clip: colour and all ground truth, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Person:
    """keypoints_2d (T, 32, 2) continuous pixels, keypoints_3d (T, 32, 3) camera frame metres, visibility (T, 32).

    box (T, 4): left, top, right, bottom of all of them, hidden parts and what lies outside the image included; NaN
    where nothing is before the camera. visible_box (T, 4): of the pixels that show them, NaN where none do. None: not
    known (shards).
    """

    keypoints_2d: np.ndarray
    keypoints_3d: np.ndarray
    visibility: np.ndarray
    box: np.ndarray | None = None
    visible_box: np.ndarray | None = None

    def cut(self, frames: slice) -> Person:
        """The same person in some of the frames."""
        boxes = (None if b is None else b[frames] for b in (self.box, self.visible_box))
        return Person(self.keypoints_2d[frames], self.keypoints_3d[frames], self.visibility[frames], *boxes)


@dataclass
class Clip:
    """T frames of H x W. Camera frame x right, y down, z forward, metres; pixels are continuous coordinates.

    rgb uint8 (T,H,W,3); depth f32 (T,H,W) along z, inf where there is only sky; normals f32 (T,H,W,3) facing the
    camera, 0 where none; alpha f32 (T,H,W) in [0,1]; dense_pose f32 (T,H,W,3) in [0,1]^3, 0 off people; parts uint8
    (T,H,W) of body.PARTS; instances uint8 (T,H,W), n where more than half of the pixel is people and people[n - 1] is
    there, else 0; keypoints_2d (T,K,2), keypoints_3d (T,K,3), visibility (T,K) (1 visible, 0.5 occluded
    inside the image, 0 outside) of thfm32 of the largest person, NaN and 0 in empty scenes; intrinsics (T,3,3);
    world_to_camera (T,4,4); people: everyone, the largest first. has_scene: False where a photograph stands behind the
    people: depth and normals are known of people alone then.
    """

    rgb: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    alpha: np.ndarray
    dense_pose: np.ndarray
    parts: np.ndarray
    instances: np.ndarray
    keypoints_2d: np.ndarray
    keypoints_3d: np.ndarray
    visibility: np.ndarray
    intrinsics: np.ndarray
    world_to_camera: np.ndarray
    fps: float
    has_scene: bool = True
    people: list[Person] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def human_mask(self) -> np.ndarray:
        """(T,H,W) bool: more than half of the pixel is a person."""
        return self.alpha > 0.5

    @property
    def human_depth(self) -> np.ndarray:
        """(T,H,W) metres, inf off people."""
        return np.where(self.human_mask, self.depth, np.float32(np.inf))

    @property
    def human_normals(self) -> np.ndarray:
        """(T,H,W,3), 0 off people."""
        return self.normals * self.human_mask[..., None]
