"""Everything that goes wrong on a robot: the node says so, counts it, and goes on."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node_harness import System, books, camera_info, header, new_domain, ros_system, stamp_of, wait_for
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from stream_fakes import FakeRuntime, moving_square

from thfm_ros.errors import ParameterError
from thfm_ros.nodes import perception_node
from thfm_ros.nodes.inputs import Inputs
from thfm_ros.paths import resource

NS = 1_000_000_000


def malformed() -> list[Image]:
    good = {"width": 96, "height": 64, "encoding": "rgb8", "step": 288, "data": bytes(96 * 64 * 3)}
    wrong: list[dict[str, Any]] = [
        {"step": 10},
        {"height": 6400},
        {"width": 0},
        {"data": b""},
        {"encoding": "rgb9"},
        {"encoding": ""},
        {"width": 4_000_000_000, "step": 0},
        {"encoding": "bayer_rggb8", "data": bytes(3)},
    ]
    return [Image(**{**good, **w}) for w in wrong]


def test_malformed_images_are_counted_and_the_stream_goes_on(ros: System) -> None:
    node = ros.perception()
    heard = ros.listen(Image, "inverse_depth/image")
    ros.play([0], heard)
    for number, msg in enumerate(malformed(), start=1):
        msg.header = header(ros.stamp(number))
        ros.images.publish(msg)
        wait_for(lambda number=number: node.buffer.totals().drops["malformed"] == number)
    ros.play([len(malformed()) + 1], heard)
    assert books(node)[0] == books(node)[1]
    assert node.state == "active"


@pytest.mark.parametrize("focal", [math.nan, 0.0, math.inf])
def test_unusable_intrinsics_cost_only_the_metres(ros: System, focal: float) -> None:
    node = ros.perception()
    depth, disparity = ros.listen(Image, "depth/image"), ros.listen(Image, "inverse_depth/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    for index in range(3):
        info = camera_info(ros.stamp(index))
        info.k[0] = focal
        ros.infos.publish(info)
        ros.play([index], disparity, info=False)
    assert depth == []
    wait_for(lambda: any("no 3D outputs: camera_info" in s.message for d in diagnostics for s in d.status))
    ros.infos.publish(camera_info(ros.stamp(3)))
    wait_for(lambda: ros.stamp(3) in node._inputs._infos)  # a frame that overtakes it is answered with the one before
    ros.play([3], depth, info=False)


def test_stamps_that_jump(ros: System) -> None:
    """Back (a bag loops), far into the future, slightly back (out of order), repeated, zero."""
    node = ros.perception()
    heard = ros.listen(Image, "inverse_depth/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    stamps = ros.play([0, 1, 2, 3, 0, 1], heard)  # the loop
    assert node.buffer.totals().resets == 1
    far = 3600 * 12 * 24 * 365 * 10
    stamps += ros.play([far, far + 1], heard)
    assert node.buffer.totals().resets == 2
    early = "Early diagnostic update count:"
    wait_for(lambda: any(v.key == early and int(v.value) for d in diagnostics for s in d.status for v in s.values))
    ros.send(far + 0.5)
    ros.send(far + 1)
    wait_for(lambda: node.buffer.totals().drops["late"] == 2)
    stamps += ros.play([2], heard)  # the clock is right again
    ros.send(3, stamp_ns=0)
    wait_for(lambda: len(heard) == len(stamps) + 1)
    assert [stamp_of(m) for m in heard] == [*stamps, 0]
    wait_for(lambda: any("Zero timestamp" in s.message for d in diagnostics for s in d.status))
    assert books(node)[0] == books(node)[1]


def test_another_resolution_in_mid_stream(ros: System) -> None:
    node = ros.perception()
    heard = ros.listen(Image, "inverse_depth/image")
    ros.play(range(3), heard)
    ros.play([3, 4], heard, image=np.full((60, 40, 3), 90, np.uint8))
    assert (heard[2].width, heard[3].width) == (48, 21)
    assert books(node) == (5, 5)


def test_a_resolution_change_within_a_batch_costs_nothing(ros: System) -> None:
    node = ros.perception(stride=4)
    heard = ros.listen(Image, "inverse_depth/image")
    for index in range(4):
        ros.send(index, image=np.full((60, 40 if index < 2 else 80, 3), 90, np.uint8))
    wait_for(lambda: len(heard) == 4)
    assert [stamp_of(m) for m in heard] == [ros.stamp(i) for i in range(4)]
    assert [m.width for m in heard] == [21, 21, 43, 43]
    wait_for(lambda: books(node) == (4, 4))


def test_the_camera_dies_and_returns(ros: System) -> None:
    node = ros.perception(diagnostics_period_s=0.05)
    heard = ros.listen(Image, "inverse_depth/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    ros.play(range(3), heard)
    ros.camera.destroy_publisher(ros.images)
    wait_for(lambda: any("No events recorded" in s.message for d in diagnostics for s in d.status))
    ros.images = ros.camera.create_publisher(Image, "image", QoSProfile(depth=50))
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    ros.play([100, 101], heard)
    assert node.buffer.totals().resets == 1
    assert books(node) == (5, 5)


def test_two_nodes_in_one_process(ros: System) -> None:
    runtimes = [FakeRuntime(root=(x, 0.0, 3.0)) for x in (0.1, 0.6)]
    nodes = [
        ros.perception(r, name=f"perception_{i}", namespace=f"/eye{i}", autostart=False) for i, r in enumerate(runtimes)
    ]
    for node in nodes:
        node.trigger_configure()
        node.trigger_activate()
    cameras = [ros.camera.create_publisher(Image, f"/eye{i}/image", 50) for i in range(2)]
    heard = [ros.listen(Image, f"/eye{i}/inverse_depth/image") for i in range(2)]
    wait_for(lambda: all(c.get_subscription_count() == 1 for c in cameras))
    ros.images = cameras[0]
    ros.play(range(3), heard[0])
    ros.images = cameras[1]
    ros.play(range(5), heard[1])
    assert (len(heard[0]), len(heard[1])) == (3, 5)
    assert [books(n) for n in nodes] == [(3, 3), (5, 5)]


def test_a_failing_pass_is_reported_and_survived(ros: System) -> None:
    runtime = FakeRuntime()
    node = ros.perception(runtime)
    heard = ros.listen(Image, "inverse_depth/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    ros.play([0], heard)
    runtime.failures = 2
    for index in (1, 2):
        ros.send(index)
        wait_for(lambda index=index: node.buffer.totals().drops["failed"] == index)
    wait_for(lambda: any("device lost" in s.message for d in diagnostics for s in d.status))
    ros.play([3, 4], heard)
    assert node.state == "active"
    wait_for(lambda: "device lost" not in diagnostics[-1].status[0].message)
    assert books(node) == (5, 5)


def test_a_lost_gpu_is_unloaded_and_retried(ros: System) -> None:
    """Three failures: inactive, unconfigured, a failed retry, and then it is back."""
    runtimes = [FakeRuntime(), FakeRuntime()]
    loads: list[int] = []

    def load(*_: Any) -> FakeRuntime:
        loads.append(1)
        if len(loads) == 2:
            raise RuntimeError("no CUDA-capable device is detected")
        return runtimes[0] if len(loads) == 1 else runtimes[1]

    node = ros.perception(load=load, retry_s=0.1)
    wait_for(lambda: node.state == "active" and ros.images.get_subscription_count() == 1)
    heard = ros.listen(Image, "inverse_depth/image")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    ros.play([0], heard)
    runtimes[0].failures = 100
    for index in (1, 2, 3):
        before = node.buffer.totals().drops["failed"]
        ros.send(index)
        wait_for(lambda before=before: node.buffer.totals().drops["failed"] > before)
    wait_for(lambda: len(loads) == 3 and node.state == "active", what="the retry")
    assert runtimes[0].closed
    wait_for(lambda: any("no CUDA-capable device" in s.message for d in diagnostics for s in d.status))
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    wait_for(lambda: ros._matched("/inverse_depth/image"))
    ros.play([10], heard)
    wait_for(lambda: node.reason == "")


def test_a_lost_gpu_is_restored_for_a_manager_too(ros: System) -> None:
    """Without autostart: what a manager activated comes back after a lost model, what it deactivated does not."""
    runtimes = [FakeRuntime(), FakeRuntime()]
    loads: list[int] = []

    def load(*_: Any) -> FakeRuntime:
        loads.append(1)
        return runtimes[len(loads) - 1]

    node = ros.perception(load=load, retry_s=0.1, autostart=False)
    node._supervise()
    assert node.state == "unconfigured"
    node.trigger_configure()
    node._supervise()
    assert node.state == "inactive"
    node.trigger_activate()
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    heard = ros.listen(Image, "inverse_depth/image")
    ros.play([0], heard)
    runtimes[0].failures = 100
    for number in (1, 2, 3):
        ros.send(number)
        # the third failure may already have unloaded the model, and a new buffer counts from 0
        wait_for(lambda number=number: node.buffer.totals().drops["failed"] >= number or len(loads) == 2)
    wait_for(lambda: len(loads) == 2 and node.state == "active", what="the retry")
    assert runtimes[0].closed
    wait_for(lambda: ros.images.get_subscription_count() == 1 and ros._matched("/inverse_depth/image"))
    ros.play([10], heard)
    node.trigger_deactivate()
    node._supervise()
    assert node.state == "inactive"
    assert len(loads) == 2


def test_a_failed_activation_is_tried_again(ros: System, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [RuntimeError("cannot create a subscription (as the test asked for)")]

    def inputs(*args: Any) -> Inputs:
        if errors:
            raise errors.pop()
        return Inputs(*args)

    monkeypatch.setattr(perception_node, "Inputs", inputs)
    loads: list[int] = []
    node = ros.perception(load=lambda *_: loads.append(1) or FakeRuntime(), retry_s=0.1)
    wait_for(lambda: node.state == "active", what="the second try")
    assert errors == []
    assert len(loads) == 1  # the model was fine, and is not loaded again
    assert node.reason == ""
    ros.play([0], ros.listen(Image, "inverse_depth/image"))


def test_a_wrong_parameter_is_not_retried_for_ever(ros: System) -> None:
    loads: list[int] = []

    def load(*_: Any) -> FakeRuntime:
        loads.append(1)
        raise ParameterError("the bundle has no such backend")

    ros.perception(load=load, retry_s=0.05)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    wait_for(lambda: any("no such backend" in s.message for d in diagnostics for s in d.status))
    seen = len(diagnostics)
    wait_for(lambda: len(diagnostics) > seen + 5)
    assert len(loads) == 1


@pytest.mark.parametrize("transition", ["deactivate", "close"])
def test_shutdown_in_the_middle_of_a_pass(ros: System, transition: str) -> None:
    gate = threading.Event()
    gate.set()
    runtime = FakeRuntime(gate=gate)
    node = ros.perception(runtime)
    heard = ros.listen(Image, "inverse_depth/image")
    ros.play([0], heard)
    gate.clear()
    passes = runtime.passes
    ros.send(1)
    ros.send(2)
    wait_for(lambda: runtime.passes == passes + 1)
    worker = node._worker
    ending = threading.Thread(target=node.trigger_deactivate if transition == "deactivate" else node.close)
    ending.start()
    wait_for(worker._stopping.is_set, what="the worker to be told")
    assert ending.is_alive()
    gate.set()
    ending.join(10.0)
    assert not ending.is_alive()
    assert len(heard) == 1  # nothing of the interrupted pass leaves any more
    received, accounted = books(node)
    assert received == accounted
    assert runtime.closed == (transition == "close")


def test_the_context_dies_in_the_middle_of_a_pass() -> None:
    gate = threading.Event()
    gate.set()
    runtime = FakeRuntime(gate=gate)
    with ros_system() as ros:
        ros.perception(runtime)
        heard = ros.listen(Image, "inverse_depth/image")
        ros.play([0], heard)
        gate.clear()
        passes = runtime.passes
        ros.send(1)
        wait_for(lambda: runtime.passes == passes + 1)
        ros.context.shutdown()
        gate.set()
    assert runtime.closed


PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")  # Kilted, Jazzy
ROOT = Path(__file__).parents[2]
PROFILE_TEXTS = [*(ROOT / "config").glob("fastdds_*.xml"), ROOT / "docs" / "node.md", ROOT / "benchmarks" / "load.py"]


@pytest.mark.parametrize("path", PROFILE_TEXTS, ids=lambda p: p.name)
def test_the_variable_of_profiles_is_named_for_each_distribution(path: Path) -> None:
    assert all(variable in path.read_text() for variable in PROFILE_VARIABLES)


def test_an_independent_dds_hears_us() -> None:
    """cyclonedds, another implementation with its own wire code, receives depth/image and its stamp.

    The node runs in a process with config/fastdds_mixed_vendors.xml, as such a graph needs.
    """
    pytest.importorskip("cyclonedds")
    from cyclone_types import DdsImage
    from cyclonedds.core import Policy, Qos
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    domain, profile = new_domain(), resource("config", "fastdds_mixed_vendors.xml")
    talker = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("talker.py")), str(domain)],
        env=os.environ | dict.fromkeys(PROFILE_VARIABLES, str(profile)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert talker.stdout.readline() == "ready\n"
        participant = DomainParticipant(domain)
        reliable = Qos(Policy.Reliability.Reliable(NS))
        reader = DataReader(participant, Topic(participant, "rt/depth/image", DdsImage), qos=reliable)
        sample = wait_for(lambda: reader.take(1), what="a sample in cyclonedds")[0]
    finally:
        talker.communicate("stop\n", timeout=30)
    stamp = sample.header.stamp.sec * NS + sample.header.stamp.nanosec
    index = (stamp - System.START) / System.STEP
    assert index == pytest.approx(round(index), abs=1e-6)
    assert (sample.encoding, sample.width, sample.height, sample.step) == ("32FC1", 48, 32, 192)
    assert np.isfinite(np.frombuffer(bytes(sample.data), np.float32)).any()
    assert talker.returncode == 0


def test_domains_are_our_own() -> None:
    assert len({new_domain() for _ in range(49)}) == 49


def test_a_camera_info_without_an_image_does_nothing(ros: System) -> None:
    node = ros.perception()
    infos = ros.camera.create_publisher(CameraInfo, "camera_info", 10)
    for index in range(200):
        infos.publish(camera_info(ros.stamp(index)))
    wait_for(lambda: node._inputs._last_info is not None)
    assert len(node._inputs._infos) <= 64
    heard = ros.listen(Image, "inverse_depth/image")
    ros.play([300], heard, image=moving_square(3))
