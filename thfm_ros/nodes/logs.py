"""Where ROS keeps its log files."""

from __future__ import annotations

import os
from pathlib import Path

from thfm_ros.paths import cache_folder, why_not_writable


def ensure_log_folder() -> None:
    """Before rclpy.init, which fails where the folder for log files, in the home directory, cannot be made: the log
    files go to the cache then. A set ROS_LOG_DIR or ROS_HOME stays."""
    if os.environ.get("ROS_LOG_DIR") or os.environ.get("ROS_HOME"):
        return
    home = os.environ.get("HOME")
    if not home or why_not_writable(Path(home, ".ros", "log")):
        os.environ["ROS_LOG_DIR"] = str(cache_folder("ros_log"))
