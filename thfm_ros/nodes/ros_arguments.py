"""Which errors of rclpy come from the arguments (`--ros-args`) that a process was started with."""

from __future__ import annotations

import re

from rclpy._rclpy_pybind11 import RCLInvalidROSArgsError, UnknownROSArgsError
from rclpy.exceptions import NameValidationException, ParameterException

_KINDS = (NameValidationException, ParameterException, RCLInvalidROSArgsError)
# Of RCLError and RuntimeError, which anything else may be as well, such as a network that cannot be used now.
_TEXTS = re.compile(r"Couldn't parse|Unexpected QoS override|failed setting topic QoS|requested queue size exceeds")
_PLACE = re.compile(r",? at \S+:\d+")  # in the source of rcl


def wrong_argument(error: Exception) -> str | None:
    """What is wrong with the arguments, in one line; None for an error that may pass."""
    text = " ".join(_PLACE.sub("", str(error)).split())
    if isinstance(error, UnknownROSArgsError):
        return f"unknown ROS arguments: {text}"
    return text if isinstance(error, _KINDS) or (isinstance(error, RuntimeError) and _TEXTS.search(text)) else None
