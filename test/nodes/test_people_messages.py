"""People as messages and back."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from std_msgs.msg import Header
from stream_fakes import skeleton

from thfm_ros.geometry import Intrinsics, project
from thfm_ros.nodes.camera_info import pinhole_camera_info
from thfm_ros.nodes.people import people_from_msg, people_to_msg
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.stream.people import Person

JOINTS = JOINT_SETS["thfm32"]


def person(located: bool) -> Person:
    body = skeleton()
    xyz = body + np.array([0.5, 0.0, 3.0]) if located else np.full_like(body, np.nan)
    return Person(
        "kzqwh_3",
        JOINTS,
        np.arange(64.0).reshape(32, 2),
        xyz,
        body,
        np.linspace(0, 1, 32),
        (96, 64),
        velocity=np.array([0.5, 0.0, -1.0]),
    )


def test_a_person_survives_the_message() -> None:
    before = person(located=True)
    array = people_to_msg([before], (96, 64), Header(frame_id="f"))
    assert (array.header.frame_id, array.width, array.height) == ("f", 96, 64)
    (msg,) = array.people
    assert [j.name for j in msg.joints] == list(JOINTS.joints)
    assert (msg.root.x, msg.root.z) == (0.5, 3.0)
    assert math.isclose(msg.score, before.score, abs_tol=1e-6)
    (after,) = people_from_msg(array)
    assert (after.id, after.joint_set, after.image_size) == (before.id, before.joint_set, before.image_size)
    for name in ("xy", "xyz", "xyz_relative", "confidence", "velocity"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-6)


def test_pixels_of_a_message_are_those_of_its_camera_info() -> None:
    """Who projects `position` with K of the camera's CameraInfo, as ROS has it, finds (x, y)."""
    camera = Intrinsics(80.0, 90.0, 45.0, 30.0, 96, 64)
    known = person(located=True)
    (msg,) = people_to_msg([replace(known, xy=project(known.xyz, camera))], (96, 64), Header()).people
    k = pinhole_camera_info(camera, Header()).k
    for joint in msg.joints:
        p = joint.position
        assert joint.x == pytest.approx(k[0] * p.x / p.z + k[2], abs=1e-3)
        assert joint.y == pytest.approx(k[4] * p.y / p.z + k[5], abs=1e-3)


def test_without_a_place_positions_are_nan_and_nobody_is_an_empty_array() -> None:
    (msg,) = people_to_msg([person(located=False)], (96, 64), Header()).people
    assert math.isnan(msg.root.x)
    assert all(math.isnan(j.position.z) for j in msg.joints)
    assert people_to_msg([], (96, 64), Header()).people == []
