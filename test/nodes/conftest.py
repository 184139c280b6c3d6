"""Node tests share the small deterministic network of the stream tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))

pytest.importorskip("rclpy", reason="ROS 2 is not installed")


@pytest.fixture
def ros():
    from node_harness import ros_system

    with ros_system() as system:
        yield system
