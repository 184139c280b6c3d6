"""The recorder writes the names that its topics have on the graph: with a namespace, and with remaps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from node_harness import System, header, wait_for
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.recorder_node import RecorderNode
from thfm_ros.video import VideoReader


def picture(stamp_ns: int) -> Image:
    return to_image(np.full((64, 96, 3), 90, np.uint8), "rgb8", header(stamp_ns))


def test_bag_and_table_have_resolved_names(ros: System, tmp_path: Path) -> None:
    from rosbags.rosbag2 import Reader

    values = {"topics": ["image", "overlay/image"], "table": str(tmp_path / "t.json"), "bag": str(tmp_path / "bag")}
    node = RecorderNode(
        context=ros.context,
        namespace="/left",
        cli_args=["--ros-args", "-r", "image:=/front/image_raw"],
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    ros.extra.append(node)
    ros.executor.add_node(node)
    names = ["/front/image_raw", "/left/overlay/image"]
    publishers = [ros.listener.create_publisher(Image, name, QoSProfile(depth=5)) for name in names]
    wait_for(lambda: all(p.get_subscription_count() for p in publishers), what="the recorder")
    for publisher in publishers:
        publisher.publish(picture(ros.START))
    wait_for(lambda: all(t.messages for t in node.traffic.values()), what="both messages")
    node.finish()
    assert {
        name: row["messages"] for name, row in json.loads((tmp_path / "t.json").read_text()).items()
    } == dict.fromkeys(names, 1)
    with Reader(tmp_path / "bag") as bag:
        assert sorted(connection.topic for connection in bag.connections) == names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "t.json"]


def test_reports_are_recorded_but_are_no_answers(ros: System) -> None:
    """They come for ever, from before the model is loaded: they neither end the wait for outputs nor the recording."""
    node = RecorderNode(
        context=ros.context,
        parameter_overrides=[Parameter("idle_s", value=0.2), Parameter("start_timeout_s", value=0.0)],
    )
    ros.extra.append(node)
    ros.executor.add_node(node)
    ros.perception(autostart=False, diagnostics_period_s=0.05)
    wait_for(lambda: min(node.traffic[t].messages for t in ("perception/stats", "/diagnostics")) > 10)
    assert node.answered == 0
    assert not node.done()
    assert "image" not in node.subscribed  # still waits for the outputs


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_complete_the_files_however_often_they_come(ros: System, tmp_path: Path, number: int) -> None:
    """As launch ends its nodes: with the terminal's SIGINT, one of its own, and SIGTERM a little later."""
    values = {"video": tmp_path / "a.mp4", "picture": tmp_path / "a.png", "table": tmp_path / "a.json"}
    arguments = [x for name, path in values.items() for x in ("-p", f"{name}:={path}")]
    recorder = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "thfm_ros.nodes.recorder_node",
            "--ros-args",
            *arguments,
            "-p",
            "bag:=" + str(tmp_path / "bag"),
        ],
        env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain)},
    )
    try:
        overlays = ros.listener.create_publisher(Image, "foreground/image", QoSProfile(depth=50))
        wait_for(lambda: ros.images.get_subscription_count() and overlays.get_subscription_count(), what="the recorder")
        temporary = wait_for(lambda: [p for p in tmp_path.iterdir() if p.name.startswith(".bag.")])
        for index in range(80):  # more than wait for their other outputs
            ros.images.publish(picture(ros.stamp(index)))
            overlays.publish(picture(ros.stamp(index)))
        wait_for(lambda: [p for p in tmp_path.iterdir() if p.name.startswith(".a.mp4.")], what="the film's first frame")
        for signal_number in (number, number, signal.SIGTERM):
            recorder.send_signal(signal_number)
        assert recorder.wait(timeout=60) == 0
    finally:
        recorder.kill()
        recorder.wait()
    assert temporary
    assert len(list(VideoReader(values["video"]))) > 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.mp4", "a.png", "bag"]
