"""Markers, ROS4HRI messages and pictures, each a pure function."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from std_msgs.msg import Header
from stream_fakes import skeleton
from visualization_msgs.msg import Marker

from thfm_ros.nodes import hri
from thfm_ros.nodes.markers import people_to_markers
from thfm_ros.nodes.message_types import messages_of
from thfm_ros.nodes.pictures import overlay
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.stream.people import Person

JOINTS = JOINT_SETS["thfm32"]


def person(identity: str = "kzqwh_1", located: bool = True, confidence: float = 0.9) -> Person:
    body = skeleton()
    xyz = body + np.array([0.0, 0.0, 3.0]) if located else np.full_like(body, np.nan)
    xy = np.linspace((10, 5), (80, 60), 32)
    return Person(identity, JOINTS, xy, xyz, body, np.full(32, confidence), (96, 64))


def test_markers_are_what_rviz_shows() -> None:
    header = Header(frame_id="camera_optical_frame")
    array = people_to_markers([person("kzqwh_1"), person("kzqwh_2")], ["kzqwh_7"], header, lifetime_s=0.75)
    keys = [(m.ns, m.id) for m in array.markers]
    assert len(keys) == len(set(keys)) == 9
    assert all(m.pose.orientation.w == 1.0 for m in array.markers)
    assert all(m.header == header for m in array.markers)
    alive = [m for m in array.markers if m.action == Marker.ADD]
    assert {(m.id, m.ns) for m in array.markers if m.action == Marker.DELETE} == {
        (7, "joints"), (7, "bones"), (7, "label")
    }  # fmt: skip
    for marker in alive:
        assert marker.lifetime.nanosec == 750_000_000
        assert marker.color.a == 1.0
    joints, bones, label = alive[:3]
    assert (joints.type, len(joints.points), len(joints.colors)) == (Marker.SPHERE_LIST, 32, 32)
    assert (bones.type, len(bones.points)) == (Marker.LINE_LIST, 2 * len(JOINTS.bones))
    assert (bones.scale.y, bones.scale.z) == (0.0, 0.0)
    assert label.type == Marker.TEXT_VIEW_FACING
    assert "kzqwh_1" in label.text
    parent, child = JOINTS.bones[0]
    assert bones.points[0] == joints.points[parent]
    assert bones.points[1] == joints.points[child]


def test_people_without_a_place_have_no_markers_and_unsure_bones_are_not_drawn() -> None:
    assert people_to_markers([person(located=False)], [], Header(), 1.0).markers == []
    faint = people_to_markers([person(confidence=0.1)], [], Header(), 1.0).markers
    assert {m.ns for m in faint} == {"joints", "label"}
    assert all(c.a < 1 for c in faint[0].colors)


@dataclass
class _Ids:
    header: Header
    ids: list[str]


@dataclass
class _Roi:
    header: Header
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    c: float


@dataclass
class _Point:
    x: float = 0.0
    y: float = 0.0
    c: float = 0.0


@dataclass
class _Skeleton:
    header: Header
    skeleton: list[_Point] = field(default_factory=list)


def hri_types() -> SimpleNamespace:
    """hri_msgs where installed, else classes with its fields (hri_msgs is not released for every distribution)."""
    return messages_of("hri_msgs") or SimpleNamespace(
        IdsList=_Ids, NormalizedRegionOfInterest2D=_Roi, NormalizedPointOfInterest2D=_Point, Skeleton2D=_Skeleton
    )


def test_hri_messages_map_joints_by_name() -> None:
    types, header, body = hri_types(), Header(frame_id="f"), person()
    assert hri.ids_list([hri.body_id(body)], header, types).ids == ["thfm_kzqwh_1"]
    points = hri.skeleton2d(body, header, types).skeleton
    assert len(points) == 18
    scale = np.array([96.0, 64.0])
    order = {"nose": 0, "right_wrist": 4, "left_wrist": 7, "right_knee": 9, "left_ankle": 13, "right_ear": 17}
    for name, index in order.items():
        expected = body.xy[JOINTS.index(name)] / scale
        assert (points[index].x, points[index].y) == pytest.approx(tuple(expected))
    neck, right, left = (np.array([points[i].x, points[i].y]) for i in (1, 2, 5))
    assert neck == pytest.approx((right + left) / 2)
    for found, side in ((right, "right"), (left, "left")):  # COCO's, between the body's shoulder and the ear
        shoulder, ear = (body.xy[JOINTS.index(f"{side}_{joint}")] / scale for joint in ("shoulder", "ear"))
        assert np.linalg.norm(found - shoulder) < 0.25 * np.linalg.norm(ear - shoulder)
    roi = hri.region(body, header, types)
    assert 0 <= roi.xmin < roi.xmax <= 1
    assert 0 <= roi.ymin < roi.ymax <= 1
    assert roi.c == pytest.approx(0.9)


def test_hri_joints_outside_the_image_are_not_trusted() -> None:
    body = person()
    body.xy[JOINTS.index("nose")] = (-20, 10)
    nose = hri.skeleton2d(body, Header(), hri_types()).skeleton[0]
    assert (nose.x, nose.c) == (0.0, 0.0)


def test_the_overlay_tints_people_and_draws_their_bones() -> None:
    image = np.full((64, 96, 3), 100, np.uint8)
    mask = np.zeros((64, 96), np.float32)
    mask[:, 60:] = 1.0
    plain = overlay(image, mask, [])
    np.testing.assert_array_equal(plain[:, :60], image[:, :60])
    assert (plain[:, 60:] != 100).any(-1).all()
    drawn = overlay(image, None, [person()])
    assert (drawn != image).any()
    assert (image == 100).all()  # the input is left alone
    np.testing.assert_array_equal(overlay(image, None, [person(confidence=0.1)]), image)
