"""People for packages that know no skeletons: boxes of vision_msgs, places of people_msgs.

The functions take the message module as an argument, because it is optional.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from std_msgs.msg import Header

from thfm_ros.nodes.people import FIRST_MIDDLE
from thfm_ros.nodes.poses import to_point, to_pose, to_vector
from thfm_ros.stream.body import Frame
from thfm_ros.stream.people import Person

CLASS = "person"


def _hypothesis(person: Person, msgs: Any) -> Any:
    return msgs.ObjectHypothesis(class_id=CLASS, score=person.score)


def boxes_2d(people: Iterable[Person], header: Header, msgs: Any) -> Any:
    """vision_msgs/Detection2DArray: the boxes around the confident joints, pixels of the camera's image."""
    array = msgs.Detection2DArray(header=header)
    for person in people:
        left, top, right, bottom = person.box()
        middle = msgs.Point2D(x=(left + right) / 2 - FIRST_MIDDLE, y=(top + bottom) / 2 - FIRST_MIDDLE)
        box = msgs.BoundingBox2D(center=msgs.Pose2D(position=middle), size_x=right - left, size_y=bottom - top)
        found = msgs.ObjectHypothesisWithPose(hypothesis=_hypothesis(person, msgs))
        array.detections.append(msgs.Detection2D(header=header, results=[found], bbox=box, id=person.id))
    return array


def boxes_3d(placed: Iterable[tuple[Person, np.ndarray, Frame, np.ndarray]], header: Header, msgs: Any) -> Any:
    """vision_msgs/Detection3DArray: boxes along the axes of the header's frame, around the joints.

    Args:
        placed: each person, with joints (K, 3), body and the root's covariance (3, 3) in the header's frame.
    """
    array = msgs.Detection3DArray(header=header)
    for person, joints, body, covariance in placed:
        low, high = joints.min(0), joints.max(0)
        box = msgs.BoundingBox3D(center=to_pose(Frame(np.eye(3), (low + high) / 2)), size=to_vector(high - low))
        found = msgs.ObjectHypothesisWithPose(hypothesis=_hypothesis(person, msgs))
        found.pose.pose = to_pose(body)
        spread = np.zeros((6, 6))  # of the place; that of the orientation is not known
        spread[:3, :3] = covariance
        found.pose.covariance = spread.ravel()
        array.detections.append(msgs.Detection3D(header=header, results=[found], bbox=box, id=person.id))
    return array


def positions(moving: Iterable[tuple[Person, np.ndarray, np.ndarray]], header: Header, msgs: Any) -> Any:
    """people_msgs/People, which states velocities as points.

    Args:
        moving: each person, with the root (3,) in metres and its velocity (3,) in the header's frame.
    """
    people = [
        msgs.Person(name=person.id, position=to_point(root), velocity=to_point(velocity), reliability=person.score)
        for person, root, velocity in moving
    ]
    return msgs.People(header=header, people=people)
