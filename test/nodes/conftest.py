"""Node tests share the small deterministic network of the stream tests, and the video files of the ground floor's."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in ("stream", "ground")]

pytest.importorskip("rclpy", reason="ROS 2 is not installed")


@pytest.fixture
def ros():
    from node_harness import ros_system

    with ros_system() as system:
        yield system
