"""RViz starts in the frame of the camera's images, whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_harness import System, new_domain, wait_for
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

FRAME = "front/camera_color_optical_frame"
RVIZ = '#!/bin/sh\nprintf "%s\\n" "$@"\n'


@pytest.fixture
def camera() -> Iterator[Node]:
    context = Context()
    context.init(domain_id=new_domain())
    node = Node("camera", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def start(camera: Node, tmp_path: Path, *arguments: str, rviz: str | None = RVIZ) -> subprocess.Popen[str]:
    """The executable, with a stand-in for rviz2 that prints its arguments."""
    if rviz is not None:
        program = tmp_path / "rviz2"
        program.write_text(rviz)
        program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}" if rviz is not None else str(tmp_path)
    return subprocess.Popen(
        [sys.executable, "-m", "thfm_ros.nodes.rviz_node", *arguments],
        env={**os.environ, "PATH": path, "ROS_DOMAIN_ID": str(camera.context.get_domain_id())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", [Image, CompressedImage])
def test_the_first_image_with_a_frame_decides(camera: Node, tmp_path: Path, kind: type) -> None:
    topic = "/cam/image" + ("" if kind is Image else "/compressed")
    publisher = camera.create_publisher(kind, topic, qos_profile_sensor_data)
    remaps = ["-r", "image:=/cam/image", "-r", "image/compressed:=/cam/image/compressed"]
    process = start(camera, tmp_path, "-d", "thfm.rviz", "--ros-args", *remaps)
    try:
        wait_for(lambda: publisher.get_subscription_count() > 0, what="the subscriber")
        publisher.publish(kind())  # no frame: waits on

        def ended() -> bool:
            publisher.publish(kind(header=Header(frame_id=FRAME)))
            return process.poll() is not None

        wait_for(ended, what="RViz")
        output, errors = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert output.splitlines()[-6:] == ["-f", FRAME, "-d", "thfm.rviz", "--ros-args", "-r", *remaps[1:]][-6:]
    assert ["-f", FRAME, "-d", "thfm.rviz", "--ros-args", *remaps] == output.splitlines()[-9:]


def test_a_given_frame_needs_no_image(camera: Node, tmp_path: Path) -> None:
    process = start(camera, tmp_path, "--ros-args", "-p", "frame:=map")
    output, _ = process.communicate(timeout=60)
    assert output.splitlines()[-5:-2] == ["-f", "map", "--ros-args"]


def test_a_missing_rviz_is_one_line(camera: Node, tmp_path: Path) -> None:
    process = start(camera, tmp_path, "--ros-args", "-p", "frame:=map", rviz=None)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert [line for line in errors.splitlines() if "INFO" not in line] == [
        "rviz: rviz2 not found: install the package rviz2 (apt install ros-$ROS_DISTRO-rviz2)"
    ]


def test_the_nodes_own_camera_can_be_listened_to(ros: System) -> None:
    """The qualities of the subscription are those of the node's: any camera that it hears is heard."""
    from thfm_ros.nodes.rviz_node import FrameFinder

    node = FrameFinder(context=ros.context)
    ros.extra.append(node)
    ros.executor.add_node(node)
    wait_for(lambda: ros.images.get_subscription_count() == 1)
    ros.images.publish(Image(header=Header(frame_id=FRAME)))
    wait_for(lambda: node.frame == FRAME)
