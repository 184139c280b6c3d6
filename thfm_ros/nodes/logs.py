"""Where ROS keeps its log files, and lines that are not repeated again and again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
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


# A number, or a size such as 640x480; not those within names, such as camera1 and 16UC1.
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(\.\d+)?(e[-+]?\d+)?(x\d+)?")


def without_numbers(line: str) -> str:
    """What a line is recognised by: one with a number that changes with every image would be new each time."""
    return _NUMBER.sub("#", line)


class Throttled:
    """Passes lines on, but those that differ at most in numbers only once every `period_s`."""

    KEPT = 100

    def __init__(self, say: Callable[[str], object], period_s: float = 5.0) -> None:
        self._say, self._period_s = say, period_s
        self._said: dict[str, float] = {}

    def __call__(self, text: str) -> None:
        now, key = time.monotonic(), without_numbers(text)
        if now - self._said.get(key, -self._period_s) >= self._period_s:
            if len(self._said) > self.KEPT:
                self._said.clear()
            self._said[key] = now
            self._say(text)
