"""A person in one frame, and an id that stays with them.

The network predicts the most prominent person of a clip. So identity is a question of continuity alone: a jump,
or a longer absence, is another person.
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

import numpy as np

from thfm_ros.geometry import Intrinsics, solve_root
from thfm_ros.skeleton import JointSet
from thfm_ros.stream.lens import Lens

NS = 1_000_000_000


def _unknown() -> np.ndarray:
    return np.full(3, np.nan)


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
    velocity: np.ndarray = field(default_factory=_unknown)  # (3,) m/s of the root in the camera frame; NaN unknown

    @property
    def score(self) -> float:
        """Mean confidence of the joints."""
        return float(self.confidence.mean())

    @property
    def root(self) -> np.ndarray:
        """(3,) metres: the pelvis in the camera frame; NaN without intrinsics."""
        return self.xyz[self.joint_set.index("pelvis")]

    @property
    def located(self) -> bool:
        """True where the 3D joints have a place in the camera frame."""
        return bool(np.isfinite(self.xyz).all())

    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in pixels around the confident joints, clipped to the image."""
        sure = self.confidence > 0.5
        xy = self.xy[sure] if sure.sum() >= 2 else self.xy
        limit = np.array(self.image_size, dtype=float)
        low, high = np.clip(xy.min(0), 0.0, limit), np.clip(xy.max(0), 0.0, limit)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def random_prefix() -> str:
    """Returns five letters such as "kzqwh", of the operating system's randomness: no seed repeats them."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))


class PersonTracker:
    """Gives stable ids: the same one while the body's middle moves less than about two body sizes a second.

    An id is the tracker's prefix and a number, "kzqwh_12". The prefix is drawn anew for every tracker, so that an id
    comes again neither after a restart nor in another node.

    Args:
        absence_s: longer without anyone, and the next person is a new one.
        prefix: of every id; default: a random one.
    """

    JITTER, SPEED = 0.3, 2.0  # body sizes, body sizes a second

    def __init__(self, absence_s: float = 1.0, prefix: str = "") -> None:
        self.absence_s = absence_s
        self.prefix = prefix or random_prefix()
        self._number = 0
        self._seen: tuple[int, np.ndarray] | None = None

    def reset(self) -> None:
        """The next person is a new one; numbers are never used again."""
        self._seen = None

    def identify(self, stamp_ns: int, xy: np.ndarray, confidence: np.ndarray) -> str:
        """The id of the person with joints `xy` (K, 2) in the frame of this stamp; stamps ascend."""
        sure = confidence > 0.5
        xy = xy[sure] if sure.sum() >= 2 else xy
        middle, size = np.median(xy, 0), float(np.linalg.norm(np.ptp(xy, 0)))
        if self._seen is not None:
            last_ns, last_middle = self._seen
            elapsed = (stamp_ns - last_ns) / NS
            reach = (self.JITTER + self.SPEED * elapsed) * max(size, 1.0)
            if elapsed > self.absence_s or np.linalg.norm(middle - last_middle) > reach:
                self._seen = None
        if self._seen is None:
            self._number += 1
        self._seen = (stamp_ns, middle)
        return f"{self.prefix}_{self._number}"


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
