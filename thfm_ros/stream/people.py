"""A person in one frame: joints in the image and in the camera frame, and how surely they are there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thfm_ros.geometry import Intrinsics, solve_root
from thfm_ros.skeleton import JointSet
from thfm_ros.stream.lens import Lens

BODY_SIZE, MEASURED = 0.12, 0.03  # what a distance by the body's usual size, and one that was measured, is off by
JOINTS_PX = 0.02  # what joints are off by in the image, in parts of the person's height
SUREST = 12  # joints that say whether somebody is there


def score_of(confidence: np.ndarray) -> float:
    """Return the mean confidence of the `SUREST` joints that are surest, of (K,) in [0, 1].

    Of a face, or of somebody whom the picture's edge cuts, a dozen joints are seen: a mean of all would tell how much
    of a person is in the picture, not whether one is.
    """
    return float(np.sort(confidence)[-SUREST:].mean())


@dataclass(frozen=True)
class Person:
    """One person in one frame; K joints of `joint_set`, in its order."""

    id: str
    joint_set: JointSet
    xy: np.ndarray  # (K, 2) continuous pixels of the camera's image
    xyz: np.ndarray  # (K, 3) metres in the camera frame; NaN without intrinsics
    xyz_relative: np.ndarray  # (K, 3) metres relative to the pelvis, camera axes
    confidence: np.ndarray  # (K,) in [0, 1]
    image_size: tuple[int, int]  # width, height that `xy` belongs to
    measured: bool = False  # a depth camera gave the distance of `xyz`, else the body's size
    velocity: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))  # (3,) m/s of the root, camera frame
    bounds: tuple[float, float, float, float] | None = None  # left, top, right, bottom of their pixels, where known
    label: int = 0  # of their pixels in FrameResult.instances; 0: none is known
    covariance: np.ndarray = field(default_factory=lambda: np.full((3, 3), np.nan))  # (3, 3) square metres, of it

    @property
    def score(self) -> float:
        """See `score_of`."""
        return score_of(self.confidence)

    @property
    def root(self) -> np.ndarray:
        """(3,) metres: the pelvis in the camera frame; NaN without intrinsics."""
        return self.xyz[self.joint_set.index("pelvis")]

    @property
    def located(self) -> bool:
        """True where the 3D joints have a place in the camera frame."""
        return bool(np.isfinite(self.xyz).all())

    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in pixels of the person, else of the confident joints, clipped to the image."""
        if self.bounds is not None:
            return self.bounds
        sure = self.confidence > 0.5
        xy = self.xy[sure] if sure.sum() >= 2 else self.xy
        limit = np.array(self.image_size, dtype=float)
        low, high = np.clip(xy.min(0), 0.0, limit), np.clip(xy.max(0), 0.0, limit)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def locate(
    xy_px: np.ndarray,
    xyz_relative: np.ndarray,
    confidence: np.ndarray,
    intrinsics: Intrinsics | None,
    lens: Lens | None = None,
) -> np.ndarray:
    """(K, 3) joints in the camera frame, metres; NaN without intrinsics or where no place explains the joints.

    Only joints that are probably inside the image count: outside it the 2D ones are guesses. `lens` is that of an
    image that is not rectified.
    """
    if intrinsics is None:
        return np.full_like(xyz_relative, np.nan, dtype=float)
    weights = np.where(confidence > 0.25, confidence, 0.0)
    straight = xy_px if lens is None else lens.straightened(xy_px, intrinsics)
    return xyz_relative + solve_root(straight, xyz_relative, weights, intrinsics)


def root_covariance(
    root: np.ndarray, height_px: float, intrinsics: Intrinsics | None, measured: bool = False
) -> np.ndarray:
    """(3, 3) square metres of a pelvis at `root` (3,) in the camera frame; NaN without a place.

    Along the ray by what a distance is off by, across it by what joints are off by in an image where the person is
    `height_px` pixels high.
    """
    if intrinsics is None or not np.isfinite(root).all():
        return np.full((3, 3), np.nan)
    along = (MEASURED if measured else BODY_SIZE) * root
    across = root[2] * JOINTS_PX * height_px / intrinsics.fx
    return np.outer(along, along) + across**2 * np.eye(3)
