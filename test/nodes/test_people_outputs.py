"""What robots do with people, over real DDS: whom to follow, TF, boxes, places and speeds, other frames, control."""

from __future__ import annotations

import sys
import threading
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import optional_messages
import pytest
from bodies import JOINTS, relative_to_pelvis
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from node_harness import System, books, call, header, stamp_of, wait_for
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from stream_fakes import FakeManifest, FakeRuntime

from thfm_ros.geometry import Intrinsics, project
from thfm_ros.msg import PersonArray
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.parameters import PARAMETERS
from thfm_ros.srv import Follow
from thfm_ros.stream.target import RULES
from thfm_ros.stream.tracker import random_prefix

hri_msgs = optional_messages.provide("hri_msgs")
people_msgs = optional_messages.provide("people_msgs")
tf2_msgs = optional_messages.provide("tf2_msgs")
vision_msgs = optional_messages.provide("vision_msgs")

TARGET = "perception/people/target_pose"


def xyz(v: Point | Vector3) -> np.ndarray:
    return np.array([v.x, v.y, v.z])


def axes(q: Quaternion) -> np.ndarray:
    """(3, 3) the axes x, y, z as columns: v + 2 w (u x v) + 2 u x (u x v)."""
    u, columns = np.array([q.x, q.y, q.z]), np.eye(3)
    return np.stack([v + 2 * q.w * np.cross(u, v) + 2 * np.cross(u, np.cross(u, v)) for v in columns], 1)


def front() -> FakeRuntime:
    """Somebody who looks into the camera, three metres away."""
    return FakeRuntime(body=relative_to_pelvis(180.0))


def depth_of(runtime: FakeRuntime, factor: float) -> np.ndarray:
    """(64, 96) metres: a depth image with the person's joints `factor` times as far as their size says, before a
    wall."""
    body, image = runtime.body + np.array(runtime.root), np.full((64, 96), 9.0, np.float32)
    for (u, v), z in zip(project(body, Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)), body[:, 2], strict=True):
        image[max(0, int(v) - 4) : int(v) + 5, max(0, int(u) - 4) : int(u) + 5] = factor * z
    return image


def test_the_target_is_where_the_person_is_and_looks_where_they_look(ros: System) -> None:
    ros.perception(front())
    people, poses = ros.listen(PersonArray, "people"), ros.listen(PoseStamped, TARGET)
    stamps = ros.play(range(2), poses)
    wait_for(lambda: len(people) == 2)
    assert [stamp_of(p) for p in poses] == stamps
    assert poses[-1].header == people[-1].header
    np.testing.assert_allclose(xyz(poses[-1].pose.position), xyz(people[-1].people[0].root), atol=1e-6)
    np.testing.assert_allclose(axes(poses[-1].pose.orientation)[:, 0], (0, 0, -1), atol=0.05)
    np.testing.assert_allclose(axes(poses[-1].pose.orientation)[:, 2], (0, -1, 0), atol=0.05)


def test_who_is_followed_is_a_parameter_and_a_service(ros: System) -> None:
    node = ros.perception(front())
    people, poses = ros.listen(PersonArray, "people"), ros.listen(PoseStamped, TARGET)
    ros.play([0], poses)
    identity = people[0].people[0].id

    def follow(who: str) -> Any:
        return call(ros, Follow, "perception/follow", Follow.Request(who=who))

    gone = identity.split("_")[0] + "_77"
    answer = follow(gone)
    assert answer.success  # they may come back
    assert "not in view" in answer.message
    assert node.get_parameter("follow").value == gone
    ros.play([1], people)
    assert len(poses) == 1
    for who in ("largest", f" {identity} ", f"thfm_{identity}"):  # also as the body of REP-155 is called
        answer = follow(who)
        assert answer.success
        assert "not in view" not in answer.message
        ros.play([2 + len(poses)], poses)
    for wrong in (" ", "Nearest", "neareast", "nobody_1", "thfm_1", f"{identity}x"):
        refused = follow(wrong)
        assert not refused.success
        assert "expected nearest, largest or the id" in refused.message
        assert f"'{wrong.strip()}'" in refused.message
        assert node.get_parameter("follow").value == f"thfm_{identity}"


def test_every_rule_and_every_id_can_be_followed() -> None:
    for who in (*RULES, f"{random_prefix()}_1", f"{random_prefix()}_123"):
        assert PARAMETERS["follow"].check(who) is None


def test_the_frames_of_a_body_lead_to_its_joints(ros: System) -> None:
    """The camera's frame, body_<id>, and from there the left wrist: where the joint is."""
    ros.perception(front(), publish_tf=True)
    people, heard = ros.listen(PersonArray, "people"), ros.listen(tf2_msgs.TFMessage, "/tf")
    ros.play([0], heard)
    wait_for(lambda: people)
    person = people[0].people[0]
    frames = {t.child_frame_id: t for t in heard[0].transforms}
    assert {t.header.stamp.nanosec for t in frames.values()} == {people[0].header.stamp.nanosec}
    root = f"body_thfm_{person.id}"
    assert frames[root].header.frame_id == "camera_optical_frame"
    assert {t.header.frame_id for name, t in frames.items() if name != root} == {root}
    links = {name.removesuffix(f"_thfm_{person.id}") for name in frames}
    limbs = {f"{s}_{j}" for s in "lr" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
    assert links == {"body", "waist", "torso", "head", *limbs}
    body, wrist = frames[root].transform, frames[f"l_wrist_thfm_{person.id}"].transform
    found = xyz(body.translation) + axes(body.rotation) @ xyz(wrist.translation)
    np.testing.assert_allclose(found, xyz(person.joints[JOINTS.index("left_wrist")].position), atol=1e-5)
    np.testing.assert_allclose(axes(body.rotation)[:, 0], (0, 0, -1), atol=0.05)


def test_tf_alone_keeps_the_node_working(ros: System) -> None:
    """/tf has listeners on every robot: only the parameter says whether bodies belong there."""
    node = ros.perception(front())
    ros.send(0)
    wait_for(lambda: node.buffer.totals().drops["idle"] == 1)
    node.trigger_deactivate()
    node.trigger_cleanup()
    node.set_parameters([Parameter("publish_tf", value=True)])
    node.trigger_configure()
    node.trigger_activate()
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    ros.send(1)
    wait_for(lambda: books(node) == (1, 1) and node.buffer.totals().answered == 1)


def test_velocity_is_that_of_the_person(ros: System) -> None:
    """0.6 m/s to the right, over a second."""
    runtime = front()
    ros.perception(runtime)
    people = ros.listen(PersonArray, "people")
    for i in range(13):
        runtime.root = (0.05 * i - 0.3, 0.0, 3.0)
        ros.play([i], people)
    np.testing.assert_array_equal(xyz(people[0].people[0].velocity), 0)
    np.testing.assert_allclose(xyz(people[-1].people[0].velocity), (0.6, 0, 0), atol=0.1)


def test_boxes_and_places_for_those_who_know_no_skeletons(ros: System) -> None:
    runtime = front()
    ros.perception(runtime, gap_s=0.3)
    people = ros.listen(PersonArray, "people")
    flat = ros.listen(vision_msgs.Detection2DArray, "people/detections_2d")
    solid = ros.listen(vision_msgs.Detection3DArray, "people/detections_3d")
    places = ros.listen(people_msgs.People, "people/positions")
    heard = (people, flat, solid, places)
    stamps = ros.play(range(2), people)
    wait_for(lambda: all(len(h) >= 2 for h in heard))
    for messages in heard:
        assert [stamp_of(m) for m in messages[:2]] == stamps
        assert messages[1].header == people[1].header
    person = people[1].people[0]
    box = flat[1].detections[0].bbox
    half = np.array([box.size_x, box.size_y]) / 2
    middle = np.array([box.center.position.x, box.center.position.y])
    np.testing.assert_allclose([*(middle - half), *(middle + half)], person.box, atol=1e-3)
    body = np.array([xyz(j.position) for j in person.joints])
    around = solid[1].detections[0].bbox
    np.testing.assert_allclose(xyz(around.center.position), (body.min(0) + body.max(0)) / 2, atol=1e-5)
    np.testing.assert_allclose(xyz(around.size), np.ptp(body, 0), atol=1e-5)
    spread = solid[1].detections[0].results[0].pose.covariance.reshape(6, 6)
    np.testing.assert_allclose(spread[:3, :3], person.root_covariance.reshape(3, 3), rtol=1e-6)
    for detection in (flat[1].detections[0], solid[1].detections[0]):
        assert detection.id == person.id
        assert detection.results[0].hypothesis.class_id == "person"
        assert detection.results[0].hypothesis.score == pytest.approx(0.9, abs=1e-5)
    assert (places[1].people[0].name, places[1].people[0].position) == (person.id, person.root)
    # The camera falls silent: nobody is in view any more, in any of the lists.
    wait_for(lambda: all(len(h) == 3 for h in heard))
    assert [len(m) for m in (flat[2].detections, solid[2].detections, places[2].people)] == [0, 0, 0]


# Where nobody looks for people


def lists(ros: System) -> dict[str, list[Any]]:
    """What is heard on each topic that lists people."""
    kinds = {
        "people": PersonArray,
        "people/detections_2d": vision_msgs.Detection2DArray,
        "people/detections_3d": vision_msgs.Detection3DArray,
        "people/positions": people_msgs.People,
        "/humans/bodies/tracked": hri_msgs.IdsList,
    }
    return {topic: ros.listen(kind, topic) for topic, kind in kinds.items()}


def parts(diagnostics: list[Any]) -> list[Any]:
    """Those of the last message, where one came."""
    return diagnostics[-1].status if diagnostics else []


def count(message: Any) -> int:
    return len(next(getattr(message, n) for n in ("people", "detections", "ids") if hasattr(message, n)))


def test_without_keypoints_nobody_says_that_nobody_is_in_view(ros: System) -> None:
    ros.perception(front(), tasks=["foreground"])
    heard, masks = lists(ros), ros.listen(Image, "foreground/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    ros.play(range(3), masks)
    said = wait_for(lambda: next((s.message for s in parts(diagnostics) if "nothing on" in s.message), ""))
    assert all(topic in said for topic in heard)
    assert "foreground/image" not in said
    assert {topic: len(messages) for topic, messages in heard.items()} == dict.fromkeys(heard, 0)


@pytest.mark.parametrize("others", [True, False])
def test_who_was_in_view_is_gone_once_when_keypoints_are_switched_off(ros: System, others: bool) -> None:
    """With another task that somebody listens to, and with none."""
    node = ros.perception(front(), gap_s=60.0)  # the camera's silence is not what ends it
    heard = lists(ros)
    masks = ros.listen(Image, "foreground/image") if others else []
    ros.play(range(2), heard["people"])
    wait_for(lambda: all(len(messages) == 2 for messages in heard.values()))
    (result,) = node.set_parameters([Parameter("tasks", value=["foreground"])])
    assert result.successful
    for i in range(2, 5):
        ros.send(i)
        wait_for(lambda i=i: books(node) == (i + 1, i + 1))
    wait_for(lambda: all(len(messages) == 3 for messages in heard.values()), what="empty lists")
    wait_for(lambda: len(masks) >= 3 * others)
    for topic, messages in heard.items():
        assert [count(m) for m in messages] == [1, 1, 0], topic
    node.set_parameters([Parameter("tasks", value=["foreground", "keypoints_2d", "keypoints_3d"])])
    ros.play([5], heard["people"])
    assert count(heard["people"][-1]) == 1


def test_tasks_that_the_bundle_lacks_are_said(ros: System, capfd: pytest.CaptureFixture[str]) -> None:
    has = ("foreground", "keypoints_2d", "keypoints_3d")
    node = ros.perception(FakeRuntime(FakeManifest(tasks=has)), tasks=[*has, "scene_normals"])
    assert "ignored: scene_normals" in capfd.readouterr().err
    node.set_parameters([Parameter("tasks", value=[*has])])
    assert "ignored" not in capfd.readouterr().err
    node.set_parameters([Parameter("tasks", value=[*has, "dense_pose"])])
    assert "ignored: dense_pose" in capfd.readouterr().err
    diagnostics, masks = ros.listen(DiagnosticArray, "/diagnostics"), ros.listen(Image, "foreground/image")
    ros.listen(Image, "dense_pose/image")
    ros.play(range(2), masks)
    wait_for(lambda: any("nothing on dense_pose/image" in s.message for s in parts(diagnostics)))


# Other frames


class DrivingRobot:
    """What the node uses of tf2_ros: the camera looks ahead in `odom` from 1 m above it, and drives at 1 m/s."""

    Buffer = TransformListener = None

    def __init__(self) -> None:
        robot = self
        robot.known, robot.cleared = True, 0
        robot.asked_s: list[float] = []  # how long each look-up might take

        class Buffer:
            def lookup_transform(self, target: str, source: str, time: Any, timeout: Any) -> TransformStamped:
                robot.asked_s.append(timeout.nanoseconds / 1e9)
                until = monotonic() + robot.asked_s[-1]
                while not robot.known and monotonic() < until:  # as the real one waits
                    sleep(0.005)
                if not robot.known:
                    raise LookupError(f"{target} does not exist at {time.nanoseconds}")
                assert (target, source) == ("odom", "camera_optical_frame")
                ahead = (time.nanoseconds - System.START) / 1e9
                moved = Transform(
                    translation=Vector3(x=ahead, y=0.0, z=1.0), rotation=Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
                )
                return TransformStamped(transform=moved)

            def clear(self) -> None:
                robot.cleared += 1

        self.Buffer = Buffer
        self.TransformListener = lambda buffer, node: SimpleNamespace(unregister=lambda: None)


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch) -> DrivingRobot:
    found = DrivingRobot()
    monkeypatch.setitem(sys.modules, "tf2_ros", found)
    return found


def test_in_a_fixed_frame_who_stands_still_does_so(ros: System, robot: DrivingRobot) -> None:
    """The robot drives towards them at 1 m/s: against the camera they move, in odom they do not."""
    runtime = front()
    ros.perception(runtime, target_frame="odom")
    people, poses = ros.listen(PersonArray, "people"), ros.listen(PoseStamped, TARGET)
    places = ros.listen(people_msgs.People, "people/positions")
    boxes = ros.listen(vision_msgs.Detection3DArray, "people/detections_3d")
    for i in range(13):
        runtime.root = (0.2, 0.0, 3.0 - i / 12)
        ros.play([i], poses)
    wait_for(lambda: len(people) == len(places) == len(boxes) == 13)
    assert {m.header.frame_id for m in (poses[-1], places[-1], boxes[-1])} == {"odom"}
    assert people[-1].header.frame_id == "camera_optical_frame"
    np.testing.assert_allclose(xyz(poses[-1].pose.position), (3.0, -0.2, 1.0), atol=0.02)
    np.testing.assert_allclose(axes(poses[-1].pose.orientation)[:, 0], (-1, 0, 0), atol=0.05)
    assert axes(poses[-1].pose.orientation)[2, 2] == pytest.approx(1)  # upright
    np.testing.assert_allclose(xyz(people[-1].people[0].velocity), (0, 0, -1), atol=0.1)
    np.testing.assert_allclose(xyz(places[-1].people[0].velocity), 0, atol=0.05)
    assert xyz(boxes[-1].detections[0].bbox.size)[2] == pytest.approx(1.79, abs=0.02)  # their height
    assert robot.cleared == 0
    ros.play([-24], poses)  # a bag that loops
    assert robot.cleared == 1


def test_in_a_fixed_frame_too_a_first_measure_of_the_distance_is_no_walk(ros: System, robot: DrivingRobot) -> None:
    """The depth camera comes in the middle, and has them nearer than their size says."""
    runtime = front()
    ros.perception(runtime, target_frame="odom", use_depth_camera=True)
    depth_camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    people, places = ros.listen(PersonArray, "people"), ros.listen(people_msgs.People, "people/positions")
    wait_for(lambda: depth_camera.get_subscription_count())
    for i in range(12):
        runtime.root = (0.0, 0.0, 3.0 - i / 12)
        if i >= 4:
            depth_camera.publish(to_image(depth_of(runtime, 0.8), "32FC1", header(ros.stamp(i))))
        ros.play([i], people)
    wait_for(lambda: len(places) == 12)
    distances = [m.people[0].root.z / (3.0 - i / 12) for i, m in enumerate(people)]
    assert distances[3] == pytest.approx(1.0, abs=0.02)
    assert distances[-1] == pytest.approx(0.8, abs=0.03)
    # The camera moves by 1 m/s, and so do they against it: at 0.8 of the distance they only do so by 0.8 m/s.
    speeds = [np.linalg.norm(xyz(m.people[0].velocity)) for m in places]
    assert max(speeds) < 0.25


def test_the_cameras_own_frame_may_be_named(ros: System, robot: DrivingRobot) -> None:
    """As without a name: x where they look, z up along the body, which are not the axes of a frame with z up."""
    ros.perception(front(), target_frame="camera_optical_frame")
    poses = ros.listen(PoseStamped, TARGET)
    boxes = ros.listen(vision_msgs.Detection3DArray, "people/detections_3d")
    ros.play([0], poses)
    wait_for(lambda: boxes)
    for pose in (poses[0].pose, boxes[0].detections[0].results[0].pose.pose):
        np.testing.assert_allclose(axes(pose.orientation)[:, 0], (0, 0, -1), atol=0.05)
        np.testing.assert_allclose(axes(pose.orientation)[:, 2], (0, -1, 0), atol=0.05)


def test_without_a_transform_nothing_is_stated_in_a_wrong_frame(ros: System, robot: DrivingRobot) -> None:
    robot.known = False
    ros.perception(front(), target_frame="odom")
    people, poses = ros.listen(PersonArray, "people"), ros.listen(PoseStamped, TARGET)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    ros.play([0], people)
    wait_for(lambda: any("target_frame: expected" in s.message for d in diagnostics for s in d.status))
    assert poses == []
    robot.known = True
    ros.play([1], poses)
    wait_for(lambda: not any("target_frame" in s.message for s in diagnostics[-1].status))


def test_the_frames_of_a_pass_wait_for_a_transform_together(ros: System, robot: DrivingRobot) -> None:
    robot.known = False
    gate = threading.Event()
    gate.set()
    runtime = front()
    runtime.gate = gate
    node = ros.perception(runtime, target_frame="odom")
    people, poses = ros.listen(PersonArray, "people"), ros.listen(PoseStamped, TARGET)
    ros.play([0], people)
    assert robot.asked_s == [pytest.approx(0.1)]
    gate.clear()
    ros.send(1)
    wait_for(lambda: runtime.passes == 2, what="the pass of frame 1")
    for i in range(2, 6):  # which are the next pass together
        ros.send(i)
        wait_for(lambda count=i + 1: node.buffer.totals().received == count)
    gate.set()
    wait_for(lambda: len(people) == 6)
    first, *rest = robot.asked_s[2:]
    assert (first, rest) == (pytest.approx(0.1), [0.0] * 3)
    robot.known = True  # tf that lags is waited for again in each pass
    ros.play([6], poses)
    assert robot.asked_s[6] == pytest.approx(0.1)


def test_a_frame_needs_tf2(ros: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)  # as where it is not installed
    node = ros.perception(front(), autostart=False, target_frame="odom")
    node.trigger_configure()
    assert node.state == "unconfigured"
    assert "target_frame needs the package tf2_ros" in node.reason


# Control


def test_a_paused_node_costs_nothing_and_goes_on(ros: System) -> None:
    runtime = front()
    node = ros.perception(runtime)
    people, diagnostics = ros.listen(PersonArray, "people"), ros.listen(DiagnosticArray, "/diagnostics")
    ros.play([0], people)
    assert call(ros, SetBool, "perception/enable", SetBool.Request(data=False)).success
    wait_for(lambda: len(people) == 2, what="nobody is in view any more")
    assert people[1].people == []
    wait_for(lambda: ros.images.get_subscription_count() == 0)
    wait_for(lambda: {v.key: v.value for v in diagnostics[-1].status[0].values}["State"] == "paused")
    assert not any("frequency" in s.name for s in diagnostics[-1].status)  # nothing comes, and that is no error
    assert node.state == "active"
    passes = runtime.passes
    ros.send(1)
    assert call(ros, SetBool, "perception/enable", SetBool.Request(data=True)).success
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    wait_for(lambda: ros.infos.get_subscription_count() == 1)
    ros.play([2], people)
    assert runtime.passes == passes + 1
    assert [len(m.people) for m in people] == [1, 0, 1]


@pytest.mark.parametrize("by", ["enable", "transitions"])
def test_after_a_pause_the_frequencies_begin_anew(ros: System, by: str) -> None:
    node = ros.perception(front(), autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")

    def windows() -> list[float]:
        """How far back each report of a frequency looks."""
        rates = [s for d in diagnostics for s in d.status if s.name.endswith(" frequency")]
        return [float(v.value) for s in rates for v in s.values if v.key == "Duration of window (s)"]

    wait_for(lambda: len(windows()) > 4)
    if by == "enable":
        assert call(ros, SetBool, "perception/enable", SetBool.Request(data=False)).success
    else:
        node.trigger_deactivate()
    wait_for(lambda: not any(s.name.endswith(" frequency") for s in diagnostics[-1].status), what="the pause")
    before = len(windows())
    if by == "enable":
        assert call(ros, SetBool, "perception/enable", SetBool.Request(data=True)).success
    else:
        node.trigger_activate()
    wait_for(lambda: len(windows()) >= before + 2, what="a report of both")
    assert windows()[before : before + 2] == [0.0, 0.0]


def test_reset_begins_a_new_clip_with_new_ids(ros: System) -> None:
    node = ros.perception(front())
    people = ros.listen(PersonArray, "people")
    ros.play(range(2), people)
    assert call(ros, Trigger, "perception/reset", Trigger.Request()).success
    ros.play([2], people)
    ids = [m.people[0].id for m in people]
    assert ids[0] == ids[1] != ids[2]
    assert books(node) == (3, 3)


def test_control_of_a_node_that_is_not_active_says_so(ros: System) -> None:
    ros.perception(front(), autostart=False)
    for kind, name, request in (
        (SetBool, "enable", SetBool.Request(data=True)),
        (Trigger, "reset", Trigger.Request()),
    ):
        answer = call(ros, kind, f"perception/{name}", request)
        assert not answer.success
        assert "unconfigured" in answer.message
