"""On a ROS distribution that lacks what the nodes use, whatever starts them says so in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Python refuses to import a module that stands for None: as if it did not exist.
HUMBLE = "import sys; sys.modules['rclpy.event_handler'] = None\n"
EXPECTED = "ROS 2 Humble is not supported, its rclpy has no rclpy.event_handler: expected Jazzy or newer"


def run(code: str, distribution: str | None = "humble") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DISTRO"}
    if distribution:
        environment["ROS_DISTRO"] = distribution
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("node", ["perception", "camera", "recorder", "rviz"])
def test_an_executable_ends_in_one_line(node: str) -> None:
    executable = (ROOT / "tools" / "node_executable.py.in").read_text().replace("@node@", node)
    done = run(HUMBLE + executable)
    assert done.returncode == 2  # final: a launch file does not start it again
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{node}: {EXPECTED}")


def test_a_launch_file_learns_it_too() -> None:
    done = run(HUMBLE + "import thfm_ros.nodes.launch_arguments")
    assert done.stderr.splitlines()[-1].startswith(f"thfm_ros.errors.UserError: {EXPECTED}")


def test_it_is_judged_by_what_is_there_and_not_by_a_name() -> None:
    assert run("import thfm_ros.nodes", "humble").returncode == 0
    done = run(HUMBLE + "import thfm_ros.nodes", None)
    assert "this ROS 2 is not supported" in done.stderr


def test_where_there_is_no_ros_the_missing_module_is_named_by_who_needs_it() -> None:
    done = run("import sys; sys.modules['rclpy'] = None; import thfm_ros.nodes; import thfm_ros.nodes.camera_node")
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError")
    assert "rclpy" in done.stderr.splitlines()[-1]
