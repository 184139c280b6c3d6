"""Frames of bodies as geometry_msgs: poses, transforms and points."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from std_msgs.msg import Header

from thfm_ros.geometry import quaternion
from thfm_ros.stream.body import Body, Frame


def to_point(xyz: np.ndarray) -> Point:
    """A Point of (3,) metres."""
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def to_vector(xyz: np.ndarray) -> Vector3:
    """A Vector3 of (3,) metres, or metres a second."""
    return Vector3(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _orientation(axes: np.ndarray) -> Quaternion:
    x, y, z, w = quaternion(axes)
    return Quaternion(x=x, y=y, z=z, w=w)


def to_pose(frame: Frame) -> Pose:
    """A Pose at the frame's origin, with its axes."""
    return Pose(position=to_point(frame.origin), orientation=_orientation(frame.axes))


def to_transform(frame: Frame, header: Header, child: str) -> TransformStamped:
    """From the header's frame to `child`, whose axes and origin these are."""
    moved = Transform(translation=to_vector(frame.origin), rotation=_orientation(frame.axes))
    return TransformStamped(header=header, child_frame_id=child, transform=moved)


def body_transforms(body: Body, identity: str, header: Header) -> list[TransformStamped]:
    """body_<id> from the camera's frame, and the body's links from that (REP-155)."""
    root = f"body_{identity}"
    within = Header(stamp=header.stamp, frame_id=root)
    links = [to_transform(f.within(body.frame), within, f"{name}_{identity}") for name, f in body.links.items()]
    return [to_transform(body.frame, header, root), *links]
