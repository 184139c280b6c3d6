"""A person's distance by a depth camera: what it measures at the torso's joints against where their size puts them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from thfm_ros.skeleton import JointSet
from thfm_ros.stream.scale import FAR_M, NEAR_M, MetricScale

TORSO = (
    *("pelvis", "left_hip", "right_hip", "spine1", "spine2", "spine3", "neck"),
    *("left_collar", "right_collar", "left_shoulder", "right_shoulder"),
)
LEAST_JOINTS = 3
PATCH = 0.1  # of the torso's height in the image: half the side of the square that is measured around a joint
PLAUSIBLE = (0.4, 2.5)  # times the distance by size: between a small child and what lies in front of or behind them
SPREAD = 0.15  # the joints' factors differ by less, or it is no single body that was measured


def distance_factor(
    depth: np.ndarray,
    xy_px: np.ndarray,
    xyz_m: np.ndarray,
    confidence: np.ndarray,
    image_size: tuple[int, int],
    joint_set: JointSet,
) -> float:
    """By what the camera-frame joints `xyz_m` have to be multiplied to be as far away as the depth image says.

    A body seen at its place in the image is as much larger as it is farther, so that all joints stay on their rays.
    Each torso joint gives the median of a small square, and they together their median: an arm in front, a hole or the
    background at one of them does not count. What is measured is the skin, some centimetres nearer than the joints.

    Args:
        depth: (h, w) metres, NaN invalid, of the same view. xy_px: (K, 2) continuous pixels of the image.
        xyz_m: (K, 3), by the body's size. image_size: width, height that `xy_px` belongs to.
    Returns:
        NaN where fewer than LEAST_JOINTS are measured, or they do not agree, or it is no person's distance.
    """
    torso = np.array([joint_set.index(j) for j in TORSO if j in joint_set.joints])
    xy, z, sure = xy_px[torso], xyz_m[torso, 2], confidence[torso] > 0.5
    if not sure.any():
        return math.nan
    height, width = depth.shape
    xy = xy * (width / image_size[0], height / image_size[1])
    reach = max(1, round(PATCH * float(np.ptp(xy[sure, 1])))) if sure.sum() > 1 else 1
    factors = []
    for (x, y), distance in zip(xy[sure], z[sure], strict=True):
        if not (0 <= x < width and 0 <= y < height and distance > 0):
            continue
        column, row = int(x), int(y)
        patch = depth[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        valid = patch[(patch > NEAR_M) & (patch < FAR_M)]
        if 2 * len(valid) >= patch.size:
            factors.append(float(np.median(valid)) / distance)
    if len(factors) < LEAST_JOINTS:
        return math.nan
    factor = float(np.median(factors))
    spread = float(np.median(np.abs(np.array(factors) / factor - 1)))
    return factor if PLAUSIBLE[0] <= factor <= PLAUSIBLE[1] and spread < SPREAD else math.nan


@dataclass(frozen=True)
class _Placed:
    """A person in a frame by their size, whose depth image may still come."""

    xy: np.ndarray
    xyz: np.ndarray
    confidence: np.ndarray
    image_size: tuple[int, int]


class BodySize:
    """How much larger a tracked person is than the network takes them for, as the depth camera measures it.

    A frame with a depth image is placed by that. Frames without one, or whose depth image comes after their pass, are
    placed by what was measured before: a body keeps its size as long as it is the same person.
    """

    KEPT = 128  # frames, more than any window has

    def __init__(self, joint_set: JointSet) -> None:
        self._joint_set = joint_set
        self._size = MetricScale(max_age_s=math.inf)
        self.reset()

    def reset(self) -> None:
        """The next person is another one."""
        self._size.reset()
        self._placed: dict[int, _Placed] = {}

    @property
    def stamps(self) -> Collection[int]:
        """Frames whose depth images may still come (`measure`)."""
        return self._placed.keys()

    def factor(
        self,
        stamp_ns: int,
        xy_px: np.ndarray,
        xyz_m: np.ndarray,
        confidence: np.ndarray,
        image_size: tuple[int, int],
        depth: np.ndarray | None,
    ) -> float | None:
        """See `distance_factor`; None where nothing has been measured yet. Stamps ascend."""
        if not np.isfinite(xyz_m).all():
            return None
        self._placed[stamp_ns] = _Placed(xy_px, xyz_m, confidence, image_size)
        while len(self._placed) > self.KEPT:
            del self._placed[min(self._placed)]
        measured = math.nan if depth is None else self.measure(stamp_ns, depth)
        if math.isfinite(measured):
            return measured
        before = self._size.at(stamp_ns)
        return None if before is None else before[0]

    def measure(self, stamp_ns: int, depth: np.ndarray) -> float:
        """The depth image (h, w) of a frame that was placed: later ones know by it, too. The factor, NaN for none."""
        found = self._placed.pop(stamp_ns, None)
        if found is None:
            return math.nan
        factor = distance_factor(depth, found.xy, found.xyz, found.confidence, found.image_size, self._joint_set)
        self._size.update(stamp_ns, (factor,))
        return factor
