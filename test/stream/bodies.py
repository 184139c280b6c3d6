"""A standing person for tests, with a place for every joint, facing whichever way."""

from __future__ import annotations

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.stream.people import Person

JOINTS = JOINT_SETS["thfm32"]
# Forward, left, up from the middle of the hips, metres; of pairs the left one.
STANDING = {
    "pelvis": (0.0, 0.0, 0.02), "hip": (0.0, 0.1, 0.0), "spine1": (0.0, 0.0, 0.1), "knee": (0.02, 0.1, -0.45),
    "spine2": (0.0, 0.0, 0.2), "ankle": (0.0, 0.1, -0.9), "spine3": (0.0, 0.0, 0.35), "foot": (0.15, 0.1, -0.95),
    "neck": (0.0, 0.0, 0.52), "collar": (0.0, 0.08, 0.48), "head": (0.03, 0.0, 0.6), "shoulder": (0.0, 0.2, 0.5),
    "elbow": (-0.02, 0.24, 0.2), "wrist": (0.1, 0.24, -0.03), "hand": (0.12, 0.24, -0.1), "nose": (0.13, 0.0, 0.66),
    "eye": (0.1, 0.03, 0.7), "ear": (0.0, 0.08, 0.7), "head_top": (0.0, 0.0, 0.82), "heel": (-0.05, 0.1, -0.97),
}  # fmt: skip
CAMERA_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # forward, left, up in x right, y down


def facing(degrees: float) -> np.ndarray:
    """(3, 3) axes of a body (columns forward, left, up) in the camera frame: 0 looks where the camera looks, 180 into
    it, 90 to its left."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return CAMERA_AXES @ turn


def standing(moved: dict[str, tuple[float, float, float]] | None = None) -> np.ndarray:
    """(32, 3) joints in the body's axes; `moved` puts single joints (left_wrist ...) elsewhere."""
    points = []
    for joint in JOINTS.joints:
        side, _, name = joint.partition("_")
        place = np.array(STANDING[name] if side in ("left", "right") else STANDING[joint])
        if side == "right":
            place = place * (1, -1, 1)
        points.append((moved or {}).get(joint, place))
    return np.array(points, float)


def person(
    identity: str = "kzqwh_1",
    at: tuple[float, float, float] = (0.0, 0.0, 3.0),
    degrees: float = 180.0,
    moved: dict[str, tuple[float, float, float]] | None = None,
) -> Person:
    """Somebody with the hips at `at` in the camera frame, seen with 100x100 pixels and a focal length of 50."""
    relative = standing(moved) @ facing(degrees).T
    xyz = relative + np.array(at)
    xy = 50 * xyz[:, :2] / xyz[:, 2:] + 50
    return Person(identity, JOINTS, xy, xyz, relative, np.full(len(JOINTS), 0.9), (100, 100))


def relative_to_pelvis(degrees: float = 180.0) -> np.ndarray:
    """(32, 3) joints in the camera's axes, as the network states them."""
    body = standing() @ facing(degrees).T
    return body - body[JOINTS.index("pelvis")]
