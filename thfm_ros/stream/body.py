"""A person as a body of REP-155: the body's axes, the frame of each link, and the angles of its joints.

Axes follow REP-103 (x forward, y left, z up); a limb extends along its own -z. The joints are those of REP-155's
kinematic model: shoulders turn about z, x, z, hips about z, x, y, the head about x, z, y, elbows and knees about y.
Trunk and pelvis are one: the joint `waist` stays 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from thfm_ros.stream.people import Person

SIDES = {"l": "left", "r": "right"}
MIRROR = np.diag([1.0, -1.0, 1.0])  # from a body's left to its right
STRAIGHT = 0.05  # sine of the angle between thigh and shank below which they span no plane
NEEDED = tuple(
    f"{side}_{joint}"
    for side in SIDES.values()
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "eye", "ear")
)


@dataclass(frozen=True)
class Frame:
    """Axes and origin: columns x, y, z of `axes` (3, 3), `origin` (3,) metres, in the camera's or another frame."""

    axes: np.ndarray
    origin: np.ndarray

    def within(self, parent: Frame) -> Frame:
        """Returns the same frame as its parent sees it."""
        return Frame(parent.axes.T @ self.axes, parent.axes.T @ (self.origin - parent.origin))


@dataclass(frozen=True)
class Body:
    """A body in one frame of the camera.

    frame: origin between the hips, x out of the chest, z towards the head.
    links: waist, torso, head, and of both sides (l_, r_) shoulder, elbow, wrist, hip, knee, ankle; in the camera frame.
    angles: radians of the kinematic model's joints, by name.
    """

    frame: Frame
    links: dict[str, Frame]
    angles: dict[str, float]


def body_of(person: Person) -> Body | None:
    """Returns None for a person without a place, a torso without extent, or a joint set without arms, legs or face."""
    if not person.located or not set(NEEDED) <= set(person.joint_set.joints):
        return None
    points = dict(zip(person.joint_set.joints, np.asarray(person.xyz, float), strict=True))
    middle = {j: (points[f"left_{j}"] + points[f"right_{j}"]) / 2 for j in ("shoulder", "hip", "ear", "eye")}
    across = {j: points[f"left_{j}"] - points[f"right_{j}"] for j in ("shoulder", "hip", "ear")}
    up = middle["shoulder"] - middle["hip"]
    forward = np.cross(across["shoulder"] + across["hip"], up)
    axes = _axes(forward, up)
    if axes is None:
        return None
    body = Frame(axes, middle["hip"])
    face = _axes(middle["eye"] - middle["ear"], np.cross(middle["eye"] - middle["ear"], across["ear"]))
    head = axes if face is None else face
    links = {"waist": body, "torso": Frame(axes, middle["shoulder"]), "head": Frame(head, middle["ear"])}
    angles = {"waist": 0.0, **_head_angles(axes.T @ head)}
    for solve, names in ((_arm, ("shoulder", "elbow", "wrist")), (_leg, ("hip", "knee", "ankle"))):
        for side, word in SIDES.items():
            places = [points[f"{word}_{name}"] for name in names]
            mirror = MIRROR if side == "r" else np.eye(3)
            upper, lower = (_unit(mirror @ axes.T @ (b - a)) for a, b in pairwise(places))
            first, bend, turns = solve(upper, lower)
            if solve is _leg and side == "r":
                turns = (-turns[0], *turns[1:])  # both hips turn about the same axis; all else is mirrored
            rotations = (first, first @ _about(1, -bend), first @ _about(1, -bend))
            for name, place, rotation in zip(names, places, rotations, strict=True):
                links[f"{side}_{name}"] = Frame(axes @ mirror @ rotation @ mirror, place)
            angles |= {f"{side}_{axis}_{names[0]}": turn for axis, turn in zip("ypr", turns, strict=True)}
            angles[f"{side}_{names[1]}"] = bend
    return Body(body, links, angles)


def _unit(v: np.ndarray) -> np.ndarray:
    """The direction of a vector; down where it has none."""
    length = float(np.linalg.norm(v))
    return v / length if length > 1e-6 else np.array([0.0, 0.0, -1.0])


def _axes(forward: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    """(3, 3) columns x forward, y left, z up, of perpendicular vectors; None where one has no length."""
    if min(np.linalg.norm(forward), np.linalg.norm(up)) < 1e-6:
        return None
    x, z = _unit(forward), _unit(up)
    return np.stack([x, np.cross(z, x), z], 1)


def _about(axis: int, angle: float) -> np.ndarray:
    """Rotation matrix about x (0), y (1) or z (2)."""
    c, s = math.cos(angle), math.sin(angle)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    out = np.eye(3)
    out[a, a], out[a, b], out[b, a], out[b, b] = c, -s, s, c
    return out


def _angle(y: float, x: float) -> float:
    """atan2, 0 where the direction is undetermined."""
    return math.atan2(y, x) if math.hypot(x, y) > 1e-6 else 0.0


def _head_angles(rotation: np.ndarray) -> dict[str, float]:
    """Splits a rotation = about x (r), then z (y), then -y (p)."""
    return {
        "r_head": _angle(rotation[2, 1], rotation[1, 1]),
        "y_head": math.asin(float(np.clip(-rotation[0, 1], -1, 1))),
        "p_head": -_angle(rotation[0, 2], rotation[0, 0]),
    }


def _arm(upper: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, float, tuple[float, float, float]]:
    """The left arm's rotation at the shoulder, the elbow's angle, and the shoulder's three, from unit vectors in the
    body's axes."""
    yaw, pitch = _angle(upper[0], upper[1]), math.acos(float(np.clip(-upper[2], -1, 1)))
    raised = _about(2, -yaw) @ _about(0, pitch)
    fore = raised.T @ lower
    roll, bend = _angle(fore[1], fore[0]), math.acos(float(np.clip(-fore[2], -1, 1)))
    return raised @ _about(2, roll), bend, (yaw, pitch, roll)


def _leg(upper: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, float, tuple[float, float, float]]:
    """The left leg's rotation at the hip, the knee's angle (negative: bent), and the hip's three, from unit vectors in
    the body's axes. A straight leg does not say where its knee points: then as nearly forward as it can."""
    normal = np.cross(upper, lower)
    if np.linalg.norm(normal) < STRAIGHT:
        normal = np.array([0.0, 1.0, 0.0]) - upper[1] * upper
    normal = _unit(normal) * (1.0 if normal[1] >= 0 else -1.0)
    yaw, pitch = _angle(normal[0], normal[1]), math.asin(float(np.clip(normal[2], -1, 1)))
    plane = _about(2, -yaw) @ _about(0, pitch)
    thigh, shank = plane.T @ upper, plane.T @ lower
    roll = _angle(thigh[0], -thigh[2])
    bend = (_angle(shank[0], -shank[2]) - roll + math.pi) % (2 * math.pi) - math.pi
    return plane @ _about(1, -roll), bend, (yaw, pitch, roll)
