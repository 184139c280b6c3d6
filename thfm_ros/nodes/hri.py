"""ROS4HRI (REP-155): bodies on /humans/bodies/..., where hri_msgs is installed.

The functions take the message module as an argument, because it is optional.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from std_msgs.msg import Header

from thfm_ros.skeleton import JOINT_SETS, convert, mapping
from thfm_ros.stream.people import Person


def hri_messages() -> Any | None:
    """The module hri_msgs.msg, or None where it is not installed."""
    try:
        import hri_msgs.msg
    except ImportError:
        return None
    return hri_msgs.msg


def body_id(person: Person) -> str:
    """REP-155 ids are lower-case letters and digits that may start a ROS name."""
    return f"thfm_{person.id}"


def ids_list(people: list[Person], header: Header, msgs: Any) -> Any:
    """/humans/bodies/tracked"""
    return msgs.IdsList(header=header, ids=[body_id(p) for p in people])


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
