"""ROS4HRI (REP-155): bodies on /humans/bodies/..., where hri_msgs is installed.

The functions take the message module as an argument, because it is optional.

`/humans/bodies/tracked` is one list for the whole robot, and whoever reads it takes the newest message for all of it.
So each node lists its own bodies and those of the other nodes, which it knows from the graph: a body's topics exist
for just as long as its node sees it, and end with the process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from geometry_msgs.msg import PointStamped, Twist, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header, String

from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.poses import to_point, to_vector
from thfm_ros.skeleton import JOINT_SETS, convert, mapping
from thfm_ros.stream.body import Body
from thfm_ros.stream.people import Person
from thfm_ros.stream.urdf import urdf

BODY = "thfm_"  # before a person's id in that of their body
_ROI = re.compile(rf"/humans/bodies/({BODY}\w+)/roi")


def body_id(person: Person) -> str:
    """Returns the person's id as a part of a ROS name; unique in the graph, because the person's id is."""
    return BODY + person.id


def other_bodies(node: Node, own: Collection[str]) -> list[str]:
    """Returns the ids of the bodies that other nodes of this package see now: those whose `roi` is published.

    Args:
        own: ids that this node publishes, or did until just now.
    """
    found = []
    for topic, _ in node.get_topic_names_and_types():  # also those that somebody merely subscribes to
        match = _ROI.fullmatch(topic)
        if match and match[1] not in own and node.count_publishers(topic) > 0:
            found.append(match[1])
    return sorted(found)


def ids_list(ids: Iterable[str], header: Header, msgs: Any) -> Any:
    """/humans/bodies/tracked"""
    return msgs.IdsList(header=header, ids=list(ids))


def region(person: Person, header: Header, msgs: Any) -> Any:
    """/humans/bodies/<id>/roi: the box in normalised image coordinates."""
    left, top, right, bottom = person.box()
    width, height = person.image_size
    return msgs.NormalizedRegionOfInterest2D(
        header=header, xmin=left / width, ymin=top / height, xmax=right / width, ymax=bottom / height, c=person.score
    )


def skeleton2d(person: Person, header: Header, msgs: Any) -> Any:
    """/humans/bodies/<id>/skeleton2d: hri_msgs' 18 joints by name; joints outside the image have confidence 0."""
    xy = convert(person.xy, person.joint_set.name, "hri18") / np.array(person.image_size, dtype=float)
    confidence = mapping(person.joint_set.name, "hri18") @ person.confidence
    inside = ((xy >= 0) & (xy <= 1)).all(1)
    points = [
        msgs.NormalizedPointOfInterest2D(x=float(x), y=float(y), c=float(c))
        for (x, y), c in zip(np.clip(xy, 0, 1), np.where(inside, confidence, 0.0), strict=True)
    ]
    assert len(points) == len(JOINT_SETS["hri18"])
    return msgs.Skeleton2D(header=header, skeleton=points)


def cropped(person: Person, header: Header, image: np.ndarray) -> Image | None:
    """/humans/bodies/<id>/cropped: what is in the box, of an RGB image (H, W, 3) of the camera's view; None where that
    is less than a pixel."""
    height, width = image.shape[:2]
    across, down = width / person.image_size[0], height / person.image_size[1]
    left, top, right, bottom = person.box()
    part = image[int(top * down) : int(np.ceil(bottom * down)), int(left * across) : int(np.ceil(right * across))]
    return to_image(part, "rgb8", header) if part.size else None


def position(body: Body, header: Header) -> PointStamped:
    """/humans/bodies/<id>/position: the middle of the hips, in the camera's frame."""
    return PointStamped(header=header, point=to_point(body.frame.origin))


def velocity(person: Person, body: Body, identity: str, header: Header) -> TwistStamped:
    """/humans/bodies/<id>/velocity: along the body's own axes, so that x is how fast it walks ahead."""
    own = Header(stamp=header.stamp, frame_id=f"body_{identity}")
    return TwistStamped(header=own, twist=Twist(linear=to_vector(body.frame.axes.T @ person.velocity)))


def joint_states(body: Body, identity: str, header: Header) -> JointState:
    """/humans/bodies/<id>/joint_states: radians, under the names of the body's URDF."""
    names = [f"{joint}_{identity}" for joint in body.angles]
    return JointState(header=header, name=names, position=list(body.angles.values()))


def description(body: Body, identity: str) -> String:
    """/humans/bodies/<id>/urdf"""
    return String(data=urdf(body, identity))
