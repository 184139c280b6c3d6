"""The node over real DDS: topics, headers, states, parameters, reports."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_harness import System, books, call, camera_info, header, stamp_of, wait_for
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stream_fakes import FakeRuntime, moving_square
from visualization_msgs.msg import Marker, MarkerArray

from thfm_ros.errors import UserError
from thfm_ros.msg import PersonArray
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.maps import IMAGES
from thfm_ros.nodes.perception_node import PerceptionNode

NS = 1_000_000_000


def change(ros: System, transition: int, node: str = "perception") -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return call(ros, ChangeState, f"{node}/change_state", request).success


def state(ros: System, node: str = "perception") -> str:
    return call(ros, GetState, f"{node}/get_state", GetState.Request()).current_state.label


# Topics


def test_every_topic_carries_the_header_of_its_frame(ros: System) -> None:
    node = ros.perception(FakeRuntime())
    images = [name for name in IMAGES if name != "instances/image"]  # of bundles with windows around people
    heard = {name: ros.listen(Image, name) for name in images}
    heard["depth/camera_info"] = ros.listen(CameraInfo, "depth/camera_info")
    heard["people"] = ros.listen(PersonArray, "people")
    markers = ros.listen(MarkerArray, "skeleton/markers")
    stamps = ros.play(range(7), heard["people"])
    wait_for(lambda: all(len(v) == 7 for v in heard.values()) and len(markers) == 7, what="every topic")
    for name, messages in heard.items():
        assert [stamp_of(m) for m in messages] == stamps, name
        assert {m.header.frame_id for m in messages} == {"camera_optical_frame"}
    assert [stamp_of(m.markers[0]) for m in markers] == stamps
    encodings = {name: heard[name][0].encoding for name in images}
    assert encodings == {
        "depth/image": "32FC1", "inverse_depth/image": "32FC1", "normals/image": "32FC3", "normals/image_color": "rgb8",
        "foreground/image": "mono8", "dense_pose/image": "32FC3", "dense_pose/image_color": "rgb8",
        "overlay/image": "rgb8",
    }  # fmt: skip
    info = heard["depth/camera_info"][0]
    assert (info.width, info.height) == (heard["depth/image"][0].width, heard["depth/image"][0].height) == (48, 32)
    assert info.k[0] == pytest.approx(48.0)  # the camera's 96, at half the size
    depth = np.frombuffer(heard["depth/image"][-1].data, np.float32)
    assert np.isfinite(depth).mean() > 0.5
    assert (depth[np.isfinite(depth)] > 0).all()
    assert books(node) == (7, 7)


def test_input_resolution(ros: System) -> None:
    ros.perception(output_resolution="input")
    heard, infos = ros.listen(Image, "depth/image"), ros.listen(CameraInfo, "depth/camera_info")
    ros.play([0], heard)
    wait_for(lambda: infos)
    assert (heard[0].width, heard[0].height, infos[0].width) == (96, 64, 96)


def test_only_what_is_listened_to_is_computed(ros: System) -> None:
    runtime = FakeRuntime()
    node = ros.perception(runtime)
    warm = runtime.passes
    for i in range(3):
        ros.send(i)
    wait_for(lambda: node.buffer.totals().drops["idle"] == 3)
    assert runtime.passes == warm
    heard = ros.listen(Image, "foreground/image")
    ros.play([3], heard)
    assert runtime.last_tasks == ("foreground",)
    normals = ros.listen(Image, "normals/image")
    ros.play([4], normals)
    assert set(runtime.last_tasks) == {"foreground", "scene_normals"}
    assert books(node) == (5, 5)


def test_without_camera_info_only_relative_outputs_come(ros: System) -> None:
    ros.perception()
    depth, disparity = ros.listen(Image, "depth/image"), ros.listen(Image, "inverse_depth/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    people, markers = ros.listen(PersonArray, "people"), ros.listen(MarkerArray, "skeleton/markers")
    ros.play(range(3), disparity, info=False)
    wait_for(lambda: len(people) == len(markers) == 3)
    assert depth == []
    assert all(not m.markers for m in markers)
    wait_for(lambda: any("waiting for camera_info" in s.message for d in diagnostics for s in d.status))
    ros.play([3], depth)  # it comes: metres from then on
    wait_for(lambda: "waiting" not in diagnostics[-1].status[0].message)


def test_a_field_of_view_stands_in_for_camera_info(ros: System) -> None:
    ros.perception(horizontal_fov_deg=60.0)
    depth, infos = ros.listen(Image, "depth/image"), ros.listen(CameraInfo, "depth/camera_info")
    ros.play([0], depth, info=False)
    wait_for(lambda: infos)
    assert infos[0].k[0] == pytest.approx(24 / np.tan(np.radians(30)))


def test_compressed_images(ros: System) -> None:
    """Each whole one is answered, also without its end marker; half a one is counted as malformed."""
    import cv2

    node = ros.perception(image_transport="compressed", autostart=False)
    assert change(ros, Transition.TRANSITION_CONFIGURE)
    assert change(ros, Transition.TRANSITION_ACTIVATE)
    heard = ros.listen(Image, "foreground/image")
    camera = ros.camera.create_publisher(CompressedImage, "image/compressed", 10)
    wait_for(lambda: camera.get_subscription_count() > 0)
    data = cv2.imencode(".jpg", moving_square(0))[1].tobytes()
    for index, sent in enumerate((data, data[:-2], data[: len(data) // 2], data)):
        camera.publish(CompressedImage(header=header(ros.stamp(index)), format="jpeg", data=sent))
        wait_for(lambda index=index: books(node) == (index + 1, index + 1))
    wait_for(lambda: len(heard) == 3)
    assert [stamp_of(msg) for msg in heard] == [ros.stamp(index) for index in (0, 1, 3)]
    assert node.buffer.totals().drops["malformed"] == 1


def test_a_depth_camera_gives_the_metres(ros: System) -> None:
    ros.perception(use_depth_camera=True)
    camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    depth, disparity = ros.listen(Image, "depth/image"), ros.listen(Image, "inverse_depth/image")
    wait_for(lambda: camera.get_subscription_count() > 0)
    image = moving_square(0)
    luminance = image.astype(float).mean(-1)
    metres = (1.0 / (0.2 + 0.3 * (luminance - luminance.min()) / np.ptp(luminance))).astype(np.float32)
    for index in range(30):  # the depth of a frame may come after its pass: from then on metres
        camera.publish(to_image(metres, "32FC1", header(ros.stamp(index) + 4_000_000)))
        ros.play([index], disparity, image=image, info=False)
        if depth:
            break
    found = np.frombuffer(depth[0].data, np.float32).reshape(32, 48)
    assert np.median(np.abs(found / metres[1::2, 1::2] - 1)) < 0.02


def test_markers_of_a_lost_person_are_deleted(ros: System) -> None:
    runtime = FakeRuntime()
    ros.perception(runtime)
    markers = ros.listen(MarkerArray, "skeleton/markers")
    ros.play(range(2), markers)
    runtime.visibility = 0.05
    ros.play([2, 3], markers)
    assert {m.action for m in markers[2].markers} == {Marker.DELETE}
    assert markers[3].markers == []


# States


def test_get_state_answers_while_the_model_loads(ros: System) -> None:
    gate, runtime = threading.Event(), FakeRuntime()

    def slow(*_: Any) -> FakeRuntime:
        assert gate.wait(20.0)
        return runtime

    node = ros.perception(load=slow)
    wait_for(lambda: state(ros) == "configuring")
    assert state(ros) == "configuring"
    gate.set()
    wait_for(lambda: node.state == "active")


def test_a_user_error_is_a_failure_with_a_reason(ros: System) -> None:
    def refuse(*_: Any) -> FakeRuntime:
        raise UserError("bundle not found: /nowhere")

    node = ros.perception(load=refuse, autostart=False)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    assert not change(ros, Transition.TRANSITION_CONFIGURE)
    assert state(ros) == "unconfigured"
    wait_for(lambda: any("bundle not found: /nowhere" in s.message for d in diagnostics for s in d.status))
    node._load = lambda *_: FakeRuntime()  # the user mends it
    assert change(ros, Transition.TRANSITION_CONFIGURE)
    assert state(ros) == "inactive"


def test_a_bundle_that_cannot_run_fails_at_configure(ros: System) -> None:
    runtime = FakeRuntime(failures=1)
    ros.perception(runtime, autostart=False)
    assert not change(ros, Transition.TRANSITION_CONFIGURE)
    assert runtime.closed
    assert change(ros, Transition.TRANSITION_CONFIGURE)


def test_the_whole_life(ros: System) -> None:
    runtime = FakeRuntime()
    node = ros.perception(runtime, autostart=False)
    assert change(ros, Transition.TRANSITION_CONFIGURE)
    assert ros.images.get_subscription_count() == 0  # inactive: hears nothing
    heard = ros.listen(Image, "inverse_depth/image")
    for _ in range(2):
        assert change(ros, Transition.TRANSITION_ACTIVATE)
        wait_for(lambda: ros.images.get_subscription_count() == 1)
        ros.play(range(3), heard)
        assert change(ros, Transition.TRANSITION_DEACTIVATE)
        wait_for(lambda: ros.images.get_subscription_count() == 0)
        assert node.buffer.waiting == 0
    assert change(ros, Transition.TRANSITION_CLEANUP)
    assert runtime.closed
    assert change(ros, Transition.TRANSITION_CONFIGURE)
    assert change(ros, Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert state(ros) == "finalized"


def test_a_managers_deactivate_is_respected(ros: System) -> None:
    """Autostart must not undo what an operator did."""
    node = ros.perception()
    assert change(ros, Transition.TRANSITION_DEACTIVATE)
    assert change(ros, Transition.TRANSITION_CLEANUP)
    ticks = threading.Event()
    ros.listener.create_timer(0.5, ticks.set)
    assert ticks.wait(5.0)
    assert node.state == "unconfigured"


def test_a_transition_that_does_not_fit_the_state_is_refused(ros: System) -> None:
    """By a manager that knows nothing of autostart; the node answers, and goes on."""
    gate = threading.Event()

    def slow(*_: Any) -> FakeRuntime:
        assert gate.wait(60.0)
        return FakeRuntime()

    node = ros.perception(load=slow)
    wait_for(lambda: node.state == "configuring")
    assert not change(ros, Transition.TRANSITION_CONFIGURE)
    assert state(ros) == "configuring"
    gate.set()
    wait_for(lambda: node.state == "active")
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE, 99):
        assert not change(ros, transition)
    assert state(ros) == "active"
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    ros.play([0], ros.listen(Image, "foreground/image"))


def test_a_manager_that_comes_before_the_node_itself_ends_nothing(ros: System) -> None:
    """What the node wants of itself may be done, or undone, by the time it asks."""
    node = ros.perception()
    assert node._drive(node.trigger_configure) != TransitionCallbackReturn.SUCCESS
    assert node.state == "active"


# Parameters


def test_parameters_change_while_running(ros: System) -> None:
    runtime = FakeRuntime()
    node = ros.perception(runtime)
    heard = ros.listen(Image, "foreground/image")
    ros.listen(Image, "normals/image")
    ros.play([0], heard)
    assert set(runtime.last_tasks) == {"foreground", "scene_normals"}
    (result,) = node.set_parameters([Parameter("tasks", value=["foreground"])])
    assert result.successful
    ros.play([1], heard)
    assert runtime.last_tasks == ("foreground",)
    node.set_parameters([Parameter("stride", value=3)])
    node.buffer.live = False  # three together, however slow this machine is
    passes = runtime.passes
    for i in (2, 3, 4):
        ros.send(i)
    wait_for(lambda: len(heard) == 5)
    assert runtime.passes == passes + 1
    node.set_parameters([Parameter("newest_only", value=True)])
    for i in (5, 6, 7):
        ros.send(i)
    wait_for(lambda: len(heard) == 6)
    assert stamp_of(heard[-1]) == ros.stamp(7)
    wait_for(lambda: node.buffer.totals().drops["newest"] == 2)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stride", 0, "stride"),
        ("stride", 1000, "stride"),
        ("min_score", 1.5, "min_score"),
        ("stride", 2.5, "type"),
        ("warmup", "maybe", "expected pad, hold"),
        ("tasks", ["depth"], "expected a list of scene_depth"),
        ("tasks", ["scene_depth", "human_depth"], "choose one"),
        ("autostart", False, "autostart"),
        ("backend", "cuda", "expected auto"),
    ],
)
def test_wrong_parameters_are_refused_with_a_reason(ros: System, name: str, value: Any, words: str) -> None:
    node = ros.perception(load=lambda *_: FakeRuntime(), autostart=False)
    before = node.get_parameter(name).value
    try:
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        reason = result.reason
    except Exception as error:  # rclpy raises for a wrong type when set from inside
        reason = str(error)
    assert words in reason or "read-only" in reason
    assert node.get_parameter(name).value == before


def test_a_wrong_override_stops_the_start_with_one_line(ros: System) -> None:
    for wrong in ({"stride": 0}, {"warmup": "maybe"}, {"stride": "four"}):
        with pytest.raises(UserError, match="parameter ") as caught:
            PerceptionNode(context=ros.context, parameter_overrides=[Parameter(k, value=v) for k, v in wrong.items()])
        assert "\n" not in str(caught.value)


def test_every_parameter_is_described_and_ranged(ros: System) -> None:
    node = ros.perception(load=lambda *_: FakeRuntime(), autostart=False)
    from thfm_ros.nodes.parameters import PARAMETERS

    for name, spec in PARAMETERS.items():
        descriptor = node.describe_parameter(name)
        assert len(descriptor.description) > 20, name
        numeric = isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool)
        assert numeric == bool(descriptor.integer_range or descriptor.floating_point_range), name
        if isinstance(spec.default, str) and name not in ("bundle", "follow", "target_frame"):
            assert "One of:" in descriptor.description
        assert spec.check(spec.default) is None


def test_quality_of_service_is_overridable(ros: System) -> None:
    node = ros.perception(
        **{
            "qos_overrides./foreground/image.publisher.reliability": "best_effort",
            "qos_overrides./image.subscription.reliability": "reliable",
            "qos_overrides./image.subscription.depth": 2,
        }
    )
    profiles = {p.topic_name: p.qos_profile for p in node.publishers}
    assert profiles["/foreground/image"].reliability.name == "BEST_EFFORT"
    assert profiles["/normals/image"].reliability.name == "RELIABLE"
    (image,) = [s for s in node.subscriptions if s.topic_name == "/image"]
    assert (image.qos_profile.reliability.name, image.qos_profile.depth) == ("RELIABLE", 2)


def test_names_are_relative(ros: System) -> None:
    node = ros.perception(namespace="/robot", autostart=False)
    assert change(ros, Transition.TRANSITION_CONFIGURE, "/robot/perception")
    names = {p.topic_name for p in node.publishers}
    assert {"/robot/depth/image", "/robot/people", "/robot/perception/stats", "/diagnostics"} <= names


# Reports


def values(status: Any) -> dict[str, str]:
    return {v.key: v.value for v in status.values}


def test_diagnostics_and_stats(ros: System) -> None:
    node = ros.perception()
    diagnostics, stats = ros.listen(DiagnosticArray, "/diagnostics"), ros.listen(DiagnosticArray, "perception/stats")
    heard = ros.listen(Image, "inverse_depth/image")
    ros.play(range(4), heard)
    ros.images.publish(Image(header=header(ros.stamp(5))))
    wait_for(lambda: node.buffer.totals().drops["malformed"] == 1)
    stages: dict[str, Any] = {}

    def latest() -> bool:
        if not stats:
            return False
        for message in stats:
            stages.update({s.name: values(s) for s in message.status if "stage" in s.name})
        frames = values(next(s for s in stats[-1].status if s.name.endswith("frames")))
        return frames["Received"] == "5" and frames["Answered"] == "4" and frames["Dropped: malformed"] == "1"

    wait_for(latest, what="the books in ~/stats")
    wanted = ["convert", "prepare", "encode", "transform", "decode", "people", "postprocess", "publish"]
    assert [f"perception: stage {s}" for s in wanted] == list(stages)
    assert float(stages["perception: stage transform"]["Mean (ms)"]) == pytest.approx(2.0)
    ages = [values(s) for m in stats for s in m.status if s.name.endswith("age")]
    assert sum(int(a["Count"]) for a in ages) == 4
    seen = {s.name: s for d in diagnostics for s in d.status}
    parts = ("model", "backend", "camera", "input frequency", "output frequency", "input stamps")
    assert set(seen) == {f"perception: {n}" for n in parts}
    assert values(seen["perception: camera"]) == {
        "Image topic": "/image", "Rectified": "False", "Intrinsics": "K", "Depth image by": "none", "Joints by": "none"
    }  # fmt: skip
    assert "Actual frequency (Hz)" in values(seen["perception: input frequency"])
    assert values(seen["perception: model"])["Backend"] == "fake"
    assert "random weights" in seen["perception: model"].message
    assert {s.hardware_id for s in seen.values()} == {"perception"}


def test_ages_follow_simulated_time(ros: System) -> None:
    ros.perception(use_sim_time=True)
    stats, heard = ros.listen(DiagnosticArray, "perception/stats"), ros.listen(Image, "inverse_depth/image")
    clock = ros.camera.create_publisher(Clock, "/clock", 10)
    wait_for(lambda: clock.get_subscription_count() > 0)
    tick = Clock(clock=header(ros.stamp(0) + 250_000_000).stamp)

    def answered_with_age() -> bool:
        clock.publish(tick)
        found = [values(s) for m in stats for s in m.status if s.name.endswith("age")]
        return any(a["Count"] == "1" and float(a["Max (s)"]) == pytest.approx(0.25, abs=0.01) for a in found)

    for _ in range(20):
        clock.publish(tick)
    wait_for(lambda: stats and stamp_of(stats[-1]) == ros.stamp(0) + 250_000_000, what="the simulated clock")
    ros.play([0], heard)
    wait_for(answered_with_age, what="an age by the simulated clock")


def test_camera_info_of_the_same_stamp_is_used(ros: System) -> None:
    """A zoom: every frame has its own intrinsics."""
    node = ros.perception(stride=2)
    infos = ros.listen(CameraInfo, "depth/camera_info")
    for index, focal in ((0, 80.0), (1, 160.0)):
        info = camera_info(ros.stamp(index))
        info.k[0] = info.k[4] = focal
        ros.infos.publish(info)
    wait_for(lambda: ros.stamp(1) in node._inputs._infos)  # a frame that overtakes it is answered with the one before
    for index in (0, 1):
        ros.send(index, info=False)
    wait_for(lambda: len(infos) == 2)
    assert [round(i.k[0]) for i in infos] == [40, 80]
