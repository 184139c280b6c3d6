"""A node starts also for a user whose home directory cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = (
    "import os\n"
    "from thfm_ros.nodes.logs import ensure_log_folder\n"
    "ensure_log_folder()\n"
    "import rclpy\n"
    "rclpy.init()\n"
    "rclpy.create_node('any').get_logger().info('starts')\n"
    "rclpy.shutdown()\n"
    "print(os.environ.get('ROS_LOG_DIR', ''))"
)


@pytest.mark.parametrize("home", [None, "/proc", "writable"])
def test_ros_starts_whatever_the_home_directory_is(home: str | None, tmp_path: Path) -> None:
    hidden = ("HOME", "ROS_LOG_DIR", "ROS_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[2])}
    if home is not None:
        environment["HOME"] = str(tmp_path) if home == "writable" else home
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    elsewhere = str(tmp_path / "cache" / "thfm_ros" / "ros_log")
    assert done.stdout.split()[-1:] == ([] if home == "writable" else [elsewhere])
