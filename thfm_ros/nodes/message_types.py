"""Message classes by name, also of packages that are not installed everywhere."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from thfm_ros.errors import ParameterError
from thfm_ros.ros_packages import how_to_install


def messages_of(package: str) -> Any | None:
    """The module of a package's messages, such as hri_msgs.msg; None where the package is not installed."""
    try:
        return import_module(f"{package}.msg")
    except ModuleNotFoundError:
        return None


def message_type(name: str) -> type | None:
    """The class of a name such as "vision_msgs/Detection2DArray"; None where the package is not installed."""
    package, kind = name.split("/")
    messages = messages_of(package)
    return None if messages is None else getattr(messages, kind)


def require(what: str, package: str) -> None:
    """ParameterError where this parameter or launch file needs a package that is not installed."""
    try:
        import_module(package)
    except ModuleNotFoundError:
        raise ParameterError(
            f"{what} needs the package {package}, which is not installed: {how_to_install(package)}"
        ) from None
