"""The body of REP-155: axes, links, joint angles and the URDF that turns them back into a posture."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from bodies import JOINTS, facing, person

from thfm_ros.geometry import quaternion
from thfm_ros.stream.body import Frame, body_of
from thfm_ros.stream.motion import Velocities
from thfm_ros.stream.target import Target
from thfm_ros.stream.urdf import urdf

LIMBS = [(f"{s}_{a}", f"{s}_{b}") for s in "lr" for a, b in (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))]  # fmt: skip


def rotated(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def posture(description: str, identity: str, angles: dict[str, float]) -> dict[str, Frame]:
    """The links' frames in that of the body, as robot_state_publisher has them from a URDF and its joints' angles."""
    frames = {f"body_{identity}": Frame(np.eye(3), np.zeros(3))}
    joints = ElementTree.fromstring(description).findall("joint")
    while joints:
        joint = next(j for j in joints if j.find("parent").attrib["link"] in frames)
        joints.remove(joint)
        parent = frames[joint.find("parent").attrib["link"]]
        origin = np.array(joint.find("origin").attrib["xyz"].split(), float)
        turn = np.eye(3)
        if joint.attrib["type"] == "revolute":
            turn = rotated(np.array(joint.find("axis").attrib["xyz"].split(), float), angles[joint.attrib["name"]])
        else:
            assert joint.attrib["name"] not in angles
        frames[joint.find("child").attrib["link"]] = Frame(parent.axes @ turn, parent.origin + parent.axes @ origin)
    return {name.removesuffix(f"_{identity}"): frame for name, frame in frames.items()}


@pytest.mark.parametrize(
    ("degrees", "forward"), [(180, (0, 0, -1)), (0, (0, 0, 1)), (90, (-1, 0, 0)), (-90, (1, 0, 0))]
)
def test_x_points_out_of_the_chest_and_z_to_the_head(degrees: float, forward: tuple[float, float, float]) -> None:
    body = body_of(person(at=(0.5, 0.2, 3.0), degrees=degrees))
    np.testing.assert_allclose(body.frame.axes[:, 0], forward, atol=1e-9)
    np.testing.assert_allclose(body.frame.axes[:, 2], (0, -1, 0), atol=1e-9)
    np.testing.assert_allclose(body.frame.origin, (0.5, 0.2, 3.0), atol=1e-9)
    assert np.linalg.det(body.frame.axes) == pytest.approx(1)


POSTURES = {
    "standing": {},
    "arm forward, forearm up": {"left_elbow": (0.3, 0.2, 0.5), "left_wrist": (0.3, 0.2, 0.75)},
    "arms out": {"left_elbow": (0.0, 0.5, 0.5), "left_wrist": (0.0, 0.75, 0.5), "right_elbow": (0, -0.5, 0.5)},
    "arm across the chest": {"right_elbow": (0.15, -0.1, 0.35), "right_wrist": (0.2, 0.15, 0.4)},
    "sitting": {
        "left_knee": (0.44, 0.15, 0.0), "left_ankle": (0.44, 0.15, -0.45), "right_knee": (0.44, -0.12, 0.03),
        "right_ankle": (0.4, -0.2, -0.4),
    },
    "leg aside": {"right_knee": (0.0, -0.4, -0.33), "right_ankle": (-0.1, -0.65, -0.65)},
    "straight legs": {"left_knee": (0.0, 0.1, -0.45), "left_ankle": (0.0, 0.1, -0.9)},
}  # fmt: skip


@pytest.mark.parametrize("name", POSTURES)
def test_angles_and_urdf_give_the_limbs_that_were_seen(name: str) -> None:
    """Directions of all limbs, and the lengths; a right elbow that the left one's formula is wrong for would show."""
    who = person(degrees=140, moved=POSTURES[name])
    body = body_of(who)
    found = posture(urdf(body, "x1"), "x1", {f"{joint}_x1": angle for joint, angle in body.angles.items()})
    for upper, lower in LIMBS:
        seen = body.frame.axes.T @ (body.links[lower].origin - body.links[upper].origin)
        np.testing.assert_allclose(found[lower].origin - found[upper].origin, seen, atol=2e-3, err_msg=f"{lower}")
        np.testing.assert_allclose(body.frame.axes.T @ body.links[upper].axes, found[upper].axes, atol=1e-6)
    knees = [body.angles[f"{s}_knee"] for s in "lr"]
    elbows = [body.angles[f"{s}_elbow"] for s in "lr"]
    assert max(knees) <= 1e-6
    assert min(elbows) >= 0
    assert set(body.angles) == {j.attrib["name"].removesuffix("_x1") for j in ElementTree.fromstring(urdf(body, "x1"))
                                if j.attrib.get("type") == "revolute"}  # fmt: skip


def test_the_head_turns() -> None:
    """To the left by 40 degrees: a positive turn about z."""
    a = np.radians(40)
    turned = {
        f"{side}_{part}": (x * np.cos(a) - y * np.sin(a), x * np.sin(a) + y * np.cos(a), 0.7)
        for side, sign in (("left", 1), ("right", -1))
        for part, x, y in (("eye", 0.1, sign * 0.03), ("ear", 0.0, sign * 0.08))
    }
    body = body_of(person(moved=turned))
    assert body.angles["y_head"] == pytest.approx(a)
    assert body.angles["r_head"] == pytest.approx(0, abs=1e-9)
    assert body.angles["p_head"] == pytest.approx(0, abs=1e-9)


def test_nobody_without_a_place_or_an_extent() -> None:
    away = person()
    flat = person(moved=dict.fromkeys(JOINTS.joints, (0.0, 0.0, 0.0)))
    away.xyz[:] = np.nan
    assert body_of(away) is None
    assert body_of(flat) is None
    no_limbs = person(moved={"left_elbow": (0.0, 0.2, 0.5), "left_wrist": (0.0, 0.2, 0.5)})
    assert all(np.isfinite(a) for a in body_of(no_limbs).angles.values())


def test_quaternions_are_those_of_the_rotations() -> None:
    half_turns = np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1])
    for rotation in (np.eye(3), *half_turns, facing(30), rotated(np.array([0.6, 0, 0.8]), 2.5)):
        x, y, z, w = quaternion(rotation)
        assert np.linalg.norm((x, y, z, w)) == pytest.approx(1)
        half = np.arccos(np.clip(w, -1, 1))
        axis = np.array([x, y, z]) / (np.sin(half) or 1.0)
        np.testing.assert_allclose(rotated(axis, 2 * half), rotation, atol=1e-9)


def test_the_velocity_of_a_walk() -> None:
    """1.2 m/s to the right, seen with noise of 3 cm at 12 Hz: known within 0.2 m/s after two seconds."""
    rng, velocities = np.random.default_rng(0), Velocities()
    for i in range(24):
        place = np.array([1.2 * i / 12, 0.0, 3.0]) + rng.normal(0, 0.03, 3)
        velocity = velocities.update("a_1", round(i / 12 * 1e9), place)
        if i == 0:
            np.testing.assert_array_equal(velocity, 0)
    np.testing.assert_allclose(velocity, (1.2, 0, 0), atol=0.2)
    assert np.isnan(velocities.update("a_1", 10**12, np.full(3, np.nan))).all()
    np.testing.assert_array_equal(velocities.update("a_2", 0, np.zeros(3)), 0)


def test_the_target_is_kept_until_another_is_clearly_nearer() -> None:
    target = Target()
    a, b = person("p_1", (0, 0, 3.0)), person("p_2", (1, 0, 4.0))
    assert target.choose("nearest", [a, b]).id == "p_1"
    assert target.choose("nearest", [a, person("p_2", (0, 0, 2.7))]).id == "p_1"
    assert target.choose("nearest", [a, person("p_2", (0, 0, 2.0))]).id == "p_2"
    assert target.choose("nearest", [a, person("p_2", (0, 0, 2.7))]).id == "p_2"
    assert target.choose("largest", [a, person("p_2", (0, 0, 1.5))]).id == "p_2"
    assert target.choose("p_1", [a, b]).id == "p_1"
    assert target.choose("p_9", [a, b]) is None
    assert target.choose("nearest", []) is None
