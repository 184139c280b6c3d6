"""The frame in which navigation wants people: the camera's own, or another one by tf2."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from thfm_ros.nodes.message_types import require
from thfm_ros.stream.body import Frame

JUMP_NS = 1_000_000_000  # back in time, after which it is another time
PATIENCE_S = 0.1  # of a pass for the transforms of its frames' stamps; they are older than that already


def _frame_of(transform: TransformStamped) -> Frame:
    """The axes and the origin of the child in its parent."""
    t, q = transform.transform.translation, transform.transform.rotation
    x, y, z, w = np.array([q.x, q.y, q.z, q.w]) / np.linalg.norm([q.x, q.y, q.z, q.w])
    axes = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return Frame(axes, np.array([t.x, t.y, t.z]))


class TargetFrame:
    """Where the camera is in the frame `name`, by the stamp of each image; "" is the camera's own frame.

    ParameterError where a name is given and tf2_ros is not installed.
    """

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self._buffer: Any = None
        self._listener: Any = None
        self._last_ns = 0
        self._patience_s = PATIENCE_S  # what is left of it in this pass
        self.problem = ""  # why the last look-up failed
        if name:
            require("target_frame", "tf2_ros")
            import tf2_ros

            self._buffer = tf2_ros.Buffer()  # given a node it would also offer a service, for ever
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def destroy(self) -> None:
        """Ends listening to tf."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None

    def begin_pass(self) -> None:
        """Grants the frames of a pass, together, PATIENCE_S to wait for tf: a frame that tf does not know at all would
        else hold up every topic, frame by frame."""
        self._patience_s = PATIENCE_S

    def header(self, header: Header) -> Header:
        """The header of what is in this frame, of an image's header."""
        return Header(stamp=header.stamp, frame_id=self.name) if self.name else header

    def is_camera(self, header: Header) -> bool:
        """True where this frame is that of the image."""
        return self.name in ("", header.frame_id)

    def camera(self, header: Header) -> Frame | None:
        """The camera in this frame when the image was taken; None where tf does not know (`problem` says why)."""
        if self.is_camera(header):
            return Frame(np.eye(3), np.zeros(3))
        stamp = Time.from_msg(header.stamp)
        if stamp.nanoseconds < self._last_ns - JUMP_NS:
            self._buffer.clear()  # a bag that loops: what tf knows is of the time after
        self._last_ns = stamp.nanoseconds
        patience, started = Duration(seconds=self._patience_s), time.monotonic()
        try:
            found = self._buffer.lookup_transform(self.name, header.frame_id, stamp, patience)
        except Exception as error:  # tf2's own have no common base in Python
            self.problem = (
                f"target_frame: expected a transform from '{header.frame_id}' to '{self.name}' at the image's stamp, "
                f"found none ({type(error).__name__} of tf2); the outputs in that frame wait for it"
            )
            return None
        finally:
            self._patience_s = max(0.0, self._patience_s - (time.monotonic() - started))
        self.problem = ""
        return _frame_of(found)
