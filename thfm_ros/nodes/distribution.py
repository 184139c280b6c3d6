"""Which ROS 2 distributions the nodes run on, and one line where another one starts them."""

from __future__ import annotations

import os

from thfm_ros.errors import UserError


def require_supported() -> None:
    """UserError on a distribution whose rclpy lacks what the nodes use: Humble and older.

    Judged by the module that came with Iron, not by a name: environments without ROS_DISTRO are judged as well.
    """
    try:
        import rclpy
    except ImportError:
        return  # no ROS at all, or a broken one: whoever imports it gets to know
    try:
        import rclpy.event_handler  # noqa: F401
    except ModuleNotFoundError:
        name = os.environ.get("ROS_DISTRO", "").capitalize()
        raise UserError(
            f"{f'ROS 2 {name}' if name else 'this ROS 2'} is not supported, its rclpy has no rclpy.event_handler: "
            "expected Jazzy or newer, which needs Ubuntu 24.04 (on a Jetson: JetPack 7)"
        ) from None
