"""Clips that end, over real DDS: slow and silent cameras lose no frame, and nobody stays in view who is not seen."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node_harness import System, books, header, stamp_of, wait_for
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import String
from stream_fakes import FakeManifest, FakeRuntime
from visualization_msgs.msg import Marker, MarkerArray

from thfm_ros.errors import UserError
from thfm_ros.msg import PersonArray
from thfm_ros.nodes.hri import other_bodies
from thfm_ros.nodes.perception_node import PerceptionNode

NS = 1_000_000_000
SMALL, WIDE = np.full((60, 40, 3), 90, np.uint8), np.full((60, 80, 3), 90, np.uint8)


def send(ros: System, node: PerceptionNode, index: float = 0, **options: Any) -> int:
    """Sends a frame and waits until the node has it: of a burst, best effort may lose some."""
    before = node.buffer.totals().received
    stamp = ros.send(index, **options)
    wait_for(lambda: node.buffer.totals().received == before + 1, what="the camera's frame")
    return stamp


# Slow cameras


@pytest.mark.parametrize("step_s", [5.0, 1.05, 0.9, 0.2])
@pytest.mark.parametrize("warmup", ["pad", "hold"])
def test_every_frame_of_a_slow_camera_is_answered(ros: System, step_s: float, warmup: str) -> None:
    """The next frame comes only once the one before was answered: nothing waits for a stride that does not fill. With
    `hold` the frames of a clip come together, at its end."""
    node = ros.perception(stride=4, warmup=warmup, gap_s=1.0)
    heard = ros.listen(Image, "inverse_depth/image")
    stamps = []
    for index in range(6):
        stamps.append(send(ros, node, stamp_ns=System.START + round(index * step_s * NS)))
        if warmup == "pad" or step_s > 1.0:
            wait_for(lambda count=index + 1: len(heard) == count, what=f"the answer to frame {index}")
    wait_for(lambda: len(heard) == 6, what="every answer")
    assert [stamp_of(m) for m in heard] == stamps
    assert books(node) == (6, 6)
    assert node.buffer.totals().answered == 6


def test_a_gap_a_jump_back_and_another_size_cost_no_frame(ros: System) -> None:
    """Within less than a stride, so that what ends a clip meets frames that wait."""
    runtime = FakeRuntime(manifest=FakeManifest(frames=9))
    node = ros.perception(runtime, stride=9)
    heard = ros.listen(Image, "inverse_depth/image")
    indices = [0, 1, 2, 30, 31, 10, 11, 12, 13]
    sizes = [None, None, None, None, SMALL, SMALL, SMALL, WIDE, WIDE]
    answered = [0, 0, 0, 3, 3, 5, 5, 5, 5]  # at least, because a later clip has begun
    for index, image, count in zip(indices, sizes, answered, strict=True):
        send(ros, node, index, image=image)
        wait_for(lambda count=count: len(heard) >= count, what="the end of the clip before")
    wait_for(lambda: len(heard) == len(indices), what="every answer")
    assert [stamp_of(m) for m in heard] == [ros.stamp(i) for i in indices]
    assert [m.width for m in heard] == [48, 48, 48, 48, 21, 21, 21, 43, 43]
    assert books(node) == (9, 9)


def test_a_pass_that_fails_at_the_end_of_a_clip_costs_only_its_frames(ros: System) -> None:
    runtime = FakeRuntime(manifest=FakeManifest(frames=9))
    node = ros.perception(runtime, stride=9)
    heard = ros.listen(Image, "inverse_depth/image")
    runtime.failures = 1
    for index in range(4):
        send(ros, node, index, image=SMALL if index < 2 else None)
    wait_for(lambda: len(heard) == 2)
    assert [stamp_of(m) for m in heard] == [ros.stamp(2), ros.stamp(3)]
    wait_for(lambda: books(node) == (4, 4))
    assert node.buffer.totals().drops["failed"] == 2


def test_why_frames_are_not_answered_stands_in_diagnostics(ros: System) -> None:
    node = ros.perception()
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")

    for index in range(3):
        send(ros, node, index)
    wait_for(lambda: node.buffer.totals().drops["idle"] == 3)
    reason = "frames dropped (idle: nobody subscribes to an output of the enabled tasks)"
    wait_for(
        lambda: any(s.name.endswith("output frequency") and reason in s.message for d in diagnostics for s in d.status)
    )


# Nobody in view any more


def seen(people: list[PersonArray]) -> list[int]:
    return [len(m.people) for m in people]


def test_a_camera_that_falls_silent_leaves_nobody_in_view(ros: System) -> None:
    ros.perception(gap_s=0.3)
    people, markers = ros.listen(PersonArray, "people"), ros.listen(MarkerArray, "skeleton/markers")
    sent = time.monotonic()
    ros.play([0], people)
    wait_for(lambda: seen(people) == [1, 0] and len(markers) == 2, what="an empty list")
    silence = round((time.monotonic() - sent) * NS)
    assert ros.stamp(0) < stamp_of(people[1]) <= ros.stamp(0) + silence
    assert (people[1].header.frame_id, people[1].width, people[1].height) == ("camera_optical_frame", 96, 64)
    assert {m.action for m in markers[1].markers} == {Marker.DELETE}
    assert {(m.ns, m.id) for m in markers[1].markers} == {(m.ns, m.id) for m in markers[0].markers}
    ros.play([100], people)  # the camera is back
    first, again = people[0].people[0].id, people[2].people[0].id
    assert first != again
    wait_for(lambda: seen(people) == [1, 0, 1, 0], what="one empty list a silence")


def unreadable(ros: System, node: PerceptionNode, index: float) -> None:
    """Sends an image that cannot be read, and waits until it is counted as such."""
    before = node.buffer.totals().drops["malformed"]
    ros.images.publish(Image(header=header(ros.stamp(index)), width=96, height=64, encoding="rgb9", data=bytes(9)))
    wait_for(lambda: node.buffer.totals().drops["malformed"] > before, what="the unreadable image")


def test_a_camera_that_sends_only_unreadable_images_leaves_nobody_in_view(
    ros: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ros.perception(gap_s=0.3, stride=4)
    take = node.buffer.take  # waits for longer than a busy machine holds up this camera: there always is an image
    monkeypatch.setattr(node.buffer, "take", lambda timeout: take(timeout=2.0))
    people, markers = ros.listen(PersonArray, "people"), ros.listen(MarkerArray, "skeleton/markers")
    ros.play([0], people)
    index = itertools.count(1)

    def gone() -> bool:
        stamp = header(ros.stamp(next(index)))
        ros.images.publish(Image(header=stamp, width=96, height=64, encoding="rgb9", data=bytes(9)))
        return 0 in seen(people)

    wait_for(gone, timeout=20.0, what="an empty list")
    wait_for(lambda: len(markers) == 2, what="the markers' end")
    assert {m.action for m in markers[1].markers} == {Marker.DELETE}
    until = next(index) + 50
    wait_for(lambda: gone() and next(index) > until)
    assert seen(people) == [1, 0]  # once


@pytest.mark.parametrize(("unread", "ends"), [(24, True), (3, False)])
def test_a_clip_ends_across_a_hole_of_unreadable_images(ros: System, unread: int, ends: bool) -> None:
    node = ros.perception(gap_s=1.0)
    people = ros.listen(PersonArray, "people")
    ros.play(range(2), people)
    for index in range(2, 2 + unread):
        unreadable(ros, node, index)
    ros.play(range(2 + unread, 5 + unread), people)
    found = [m.people[0].id for m in people if m.people]
    assert (found[0] != found[-1]) == ends
    assert len(set(found)) == 1 + ends


def test_frames_that_a_slow_machine_leaves_out_end_no_clip(ros: System) -> None:
    gate = threading.Event()
    gate.set()
    runtime = FakeRuntime(gate=gate)
    node = ros.perception(runtime, gap_s=1.0)
    people = ros.listen(PersonArray, "people")
    ros.play([0], people)
    gate.clear()
    send(ros, node, 1)
    wait_for(lambda: runtime.passes >= 2, what="the slow pass")
    for index in range(2, 30):
        send(ros, node, index)
    gate.set()
    wait_for(lambda: people and stamp_of(people[-1]) == ros.stamp(29), what="the newest frame")
    assert node.buffer.totals().drops["overrun"] > 20
    assert len({m.people[0].id for m in people}) == 1


def test_nobody_is_announced_as_gone_who_was_not_there(ros: System) -> None:
    runtime = FakeRuntime(visibility=0.05)
    node = ros.perception(runtime, gap_s=0.1)
    people = ros.listen(PersonArray, "people")
    ros.play([0], people)
    wait_for(lambda: node._worker._silent, what="the silence")
    runtime.visibility = 0.9
    ros.play([100], people)
    wait_for(lambda: seen(people) == [0, 1, 0])


def test_held_frames_are_answered_when_the_camera_falls_silent(ros: System) -> None:
    node = ros.perception(warmup="hold", gap_s=0.3)
    heard = ros.listen(Image, "inverse_depth/image")
    stamps = [send(ros, node, index) for index in range(3)]
    wait_for(lambda: len(heard) == 3, what="what was held")
    assert [stamp_of(m) for m in heard] == stamps
    assert books(node) == (3, 3)


@pytest.mark.parametrize("transition", ["trigger_deactivate", "trigger_shutdown"])
def test_a_deactivated_node_leaves_nobody_in_view(ros: System, transition: str) -> None:
    node = ros.perception(gap_s=60.0, autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    people, markers = ros.listen(PersonArray, "people"), ros.listen(MarkerArray, "skeleton/markers")
    ros.play(range(2), people)
    wait_for(lambda: len(markers) == 2)
    getattr(node, transition)()
    wait_for(lambda: seen(people) == [1, 1, 0] and len(markers) == 3, what="an empty list")
    assert {m.action for m in markers[2].markers} == {Marker.DELETE}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_is_told_to_end_leaves_nobody_in_view(ros: System, number: signal.Signals) -> None:
    """The executable itself, in a process of its own."""
    script = Path(__file__).with_name("node_process.py")
    process = subprocess.Popen([sys.executable, str(script), str(ros.domain), "--ros-args", "-p", "gap_s:=60.0"])
    try:
        people = ros.listen(PersonArray, "people")
        wait_for(lambda: ros.images.get_subscription_count() == 1, what="the node")
        index = itertools.count()
        wait_for(lambda: ros.send(next(index)) and people, what="an answer")
        process.send_signal(number)
        wait_for(lambda: seen(people)[-1] == 0, what="an empty list")
        assert seen(people).count(0) == 1
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_a_lost_model_leaves_nobody_in_view_and_its_ids_do_not_come_again(ros: System) -> None:
    runtimes = [FakeRuntime(), FakeRuntime()]
    remaining = iter(runtimes)
    node = ros.perception(load=lambda *_: next(remaining), retry_s=0.1, max_failures=1, gap_s=60.0)
    wait_for(lambda: node.state == "active" and ros.images.get_subscription_count() == 1)
    people = ros.listen(PersonArray, "people")
    ros.play([0], people)
    runtimes[0].failures = 1
    ros.send(1)
    wait_for(lambda: seen(people) == [1, 0], what="an empty list")
    wait_for(lambda: node.state == "active" and ros.images.get_subscription_count() == 1, what="the second model")
    wait_for(lambda: ros._matched("/people"))
    ros.play([2], people)
    assert people[0].people[0].id != people[2].people[0].id


# Ids


def test_ids_do_not_come_again_after_cleanup_and_configure(ros: System) -> None:
    node = ros.perception(autostart=False, gap_s=60.0)
    people: list[PersonArray] = []
    ids = []
    for _ in range(2):
        node.trigger_configure()
        node.trigger_activate()
        wait_for(lambda: ros.images.get_subscription_count() == 1)
        people = people or ros.listen(PersonArray, "people")
        wait_for(lambda: ros._matched("/people"))
        ros.play([0], people)
        ids.append(people[-1].people[0].id)
        node.trigger_deactivate()
        node.trigger_cleanup()
    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"[a-z]{5}_\d+", i) for i in ids)


def test_other_bodies_are_those_that_somebody_publishes(ros: System) -> None:
    """By the graph, which needs no hri_msgs: a topic that is only listened to is not a body."""
    roi = "/humans/bodies/thfm_{}/roi".format
    bodies = [ros.camera.create_publisher(String, roi(name), 1) for name in ("aaaaa_1", "bbbbb_2", "own_3")]
    ros.camera.create_publisher(String, "/humans/bodies/b1234/roi", 1)  # another package's
    ros.listen(String, roi("ccccc_4"), wait=False)
    ros.listen(String, roi("aaaaa_1"))

    def others() -> list[str]:
        return other_bodies(ros.listener, own={"thfm_own_3"})

    wait_for(lambda: others() == ["thfm_aaaaa_1", "thfm_bbbbb_2"])
    ros.camera.destroy_publisher(bodies[0])
    wait_for(lambda: others() == ["thfm_bbbbb_2"], what="the body that is gone, though still listened to")


# Tasks


def test_no_task_is_refused_at_the_start_and_while_running(ros: System) -> None:
    runtime = FakeRuntime(manifest=FakeManifest(tasks=("foreground",)))
    node = ros.perception(runtime, tasks=["foreground"])
    heard = ros.listen(Image, "foreground/image")
    for wrong, words in (
        (Parameter("tasks", Parameter.Type.STRING_ARRAY, []), "expected at least one of"),
        (Parameter("tasks", value=["scene_depth"]), "the bundle has none of the tasks asked for: it has foreground"),
    ):
        (result,) = node.set_parameters([wrong])
        assert not result.successful
        assert words in result.reason
    ros.play([0], heard)


@pytest.mark.parametrize(("name", "words"), [("tasks", "at least one of"), ("stride", "4 or alike, found")])
def test_an_empty_list_in_a_parameter_file_is_one_line(ros: System, tmp_path: Path, name: str, words: str) -> None:
    """ROS reads it as no value at all, not as a list."""
    (tmp_path / "a.yaml").write_text(f"perception:\n  ros__parameters:\n    {name}: []\n")
    with pytest.raises(UserError, match=f"parameter {name}: expected {words}"):
        PerceptionNode(context=ros.context, cli_args=["--ros-args", "--params-file", str(tmp_path / "a.yaml")])
