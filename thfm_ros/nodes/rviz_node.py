"""Starts RViz in the frame of the camera's images: waits for one, reads its frame_id, and becomes `rviz2 -f FRAME`.

RViz takes its fixed frame when it starts and shows nothing in another one, and every camera has its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from thfm_ros.errors import UserError
from thfm_ros.nodes.fixed_parameters import declare_fixed
from thfm_ros.nodes.logs import ensure_log_folder
from thfm_ros.nodes.topics import SUBSCRIBED, overridable, profile

PARAMETERS: tuple[tuple[str, Any, str], ...] = (
    ("frame", "", "Frame that RViz shows everything in; empty: that of the first image."),
)
WAITING_S = 10.0  # between two lines that say what it waits for


class FrameFinder(Node):
    """Listens to `image` and `image/compressed` until one of them names a frame."""

    def __init__(self, **options: Any) -> None:
        super().__init__("rviz", **options)
        self.frame: str = declare_fixed(self, PARAMETERS)["frame"]
        if self.frame:
            return
        topics = {t.name: t for t in SUBSCRIBED}
        self._images = [
            self.create_subscription(
                kind,
                name,
                self._on_image,
                profile(topics[name].qos, topics[name].depth),
                qos_overriding_options=overridable(),
            )
            for name, kind in (("image", Image), ("image/compressed", CompressedImage))
        ]
        names = " or ".join(s.topic_name for s in self._images)
        self._waiting = f"RViz starts with the first image on {names}, in its frame (frame:=NAME: at once)"
        self.get_logger().info(self._waiting)
        self.create_timer(WAITING_S, lambda: self.get_logger().info(f"no image yet: {self._waiting}"))

    def _on_image(self, msg: Image | CompressedImage) -> None:
        if msg.header.frame_id:
            self.frame = msg.header.frame_id
        else:
            self.get_logger().warning(
                "the images have no frame_id, so RViz has no frame to show them in: set it in the camera's driver",
                throttle_duration_sec=WAITING_S,
            )


def find_frame(node: FrameFinder, executor: SingleThreadedExecutor) -> str:
    """Spins until the frame is known. ExternalShutdownException where ROS ends first."""
    while not node.frame:
        executor.spin_once()
    return node.frame


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the executable `rviz`: its arguments are those of rviz2."""
    arguments = list(sys.argv[1:] if args is None else args)
    ensure_log_folder()
    rclpy.init(args=[sys.argv[0], *arguments])
    node = executor = None
    try:
        node = FrameFinder()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        frame = find_frame(node, executor)
        node.get_logger().info(f"RViz shows everything in the frame {frame}")
    except UserError as error:
        print(f"rviz: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    sys.stdout.flush()
    try:
        os.execvp("rviz2", ["rviz2", "-f", frame, *arguments])  # the same process: signals and exit code are RViz's
    except FileNotFoundError:
        print("rviz: rviz2 not found: install the package rviz2 (apt install ros-$ROS_DISTRO-rviz2)", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
