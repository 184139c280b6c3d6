"""For pip; colcon builds with CMakeLists.txt. The metadata is in pyproject.toml."""

from setuptools import setup

setup()
