"""Between people of the estimator and thfm_ros/PersonArray.

Messages count pixels from the middle of the first one, as CameraInfo, OpenCV and vision_msgs do; this package from its
outer edge (geometry.py). Here, and nowhere else, one becomes the other.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from std_msgs.msg import Header

from thfm_ros.msg import Joint, PersonArray
from thfm_ros.msg import Person as PersonMsg
from thfm_ros.nodes.poses import to_point, to_vector
from thfm_ros.skeleton import get_joint_set
from thfm_ros.stream.people import Person

FIRST_MIDDLE = 0.5  # the middle of the first pixel, counted from its outer edge


def people_to_msg(
    people: Iterable[Person], image_size: tuple[int, int], header: Header, others: int = 0
) -> PersonArray:
    """The people of one frame; `image_size` is width, height of the camera's image. others: more of them are there."""
    array = PersonArray(header=header, width=image_size[0], height=image_size[1], others=others)
    for person in people:
        joints = [
            Joint(name=name, x=float(x), y=float(y), position=to_point(xyz), confidence=float(confidence))
            for name, (x, y), xyz, confidence in zip(
                person.joint_set.joints, person.xy - FIRST_MIDDLE, person.xyz, person.confidence, strict=True
            )
        ]
        array.people.append(
            PersonMsg(
                id=person.id,
                label=person.label,
                box=[float(v) - FIRST_MIDDLE for v in person.box()],
                joint_set=person.joint_set.name,
                joints=joints,
                root=to_point(person.root),
                root_covariance=person.covariance.ravel(),
                velocity=to_vector(person.velocity),
                score=person.score,
            )
        )
    return array


def people_from_msg(array: PersonArray) -> list[Person]:
    """The way back, for whoever draws or checks what was received."""
    people = []
    for msg in array.people:
        xyz = np.array([(j.position.x, j.position.y, j.position.z) for j in msg.joints])
        root = np.array([msg.root.x, msg.root.y, msg.root.z])
        people.append(
            Person(
                id=msg.id,
                joint_set=get_joint_set(msg.joint_set),
                xy=np.array([(j.x, j.y) for j in msg.joints]) + FIRST_MIDDLE,
                xyz=xyz,
                xyz_relative=xyz - root,
                confidence=np.array([j.confidence for j in msg.joints]),
                image_size=(array.width, array.height),
                velocity=np.array([msg.velocity.x, msg.velocity.y, msg.velocity.z]),
                bounds=tuple(float(v) + FIRST_MIDDLE for v in msg.box),
                label=msg.label,
                covariance=np.array(msg.root_covariance).reshape(3, 3),
            )
        )
    return people
