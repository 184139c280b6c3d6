"""For pip; colcon builds with CMakeLists.txt. The metadata is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

# What the code reads besides itself goes where colcon installs it, too: share/thfm_ros.
SHARED = ("launch", "config", "rviz", "foxglove", "engines", "samples", "examples", "msg", "weights")


def shared() -> list[tuple[str, list[str]]]:
    """Return the folders to install into, each with its files."""
    files = [
        f for name in SHARED for f in sorted(Path(name).rglob("*")) if f.is_file() and "__pycache__" not in f.parts
    ]
    folders = sorted({f.parent for f in files})
    return [(f"share/thfm_ros/{folder}", [str(f) for f in files if f.parent == folder]) for folder in folders]


# An editable installation reads the source tree; copies would be in the way of colcon's links (make setup).
setup(data_files=[] if {"editable_wheel", "develop"} & {*sys.argv} else shared())
