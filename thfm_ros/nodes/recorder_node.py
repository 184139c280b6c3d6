"""Records the graph: a video of all outputs side by side, a picture, a table of every topic, an MCAP bag."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, unwritable, write_json
from thfm_ros.msg import PersonArray
from thfm_ros.nodes.fixed_parameters import declare_fixed
from thfm_ros.nodes.logs import ensure_log_folder
from thfm_ros.nodes.montage import Montage, stamp_ns
from thfm_ros.nodes.topics import overridable, profile
from thfm_ros.nodes.traffic import TopicTraffic
from thfm_ros.paths import writable
from thfm_ros.processes import Interrupts
from thfm_ros.video import VideoWriter

TOPICS: dict[str, type] = {
    "image": Image,
    "camera_info": CameraInfo,
    "depth/image": Image,
    "depth/camera_info": CameraInfo,
    "inverse_depth/image": Image,
    "normals/image": Image,
    "normals/image_color": Image,
    "foreground/image": Image,
    "dense_pose/image": Image,
    "dense_pose/image_color": Image,
    "instances/image": Image,
    "people": PersonArray,
    "skeleton/markers": MarkerArray,
    "overlay/image": Image,
    "perception/stats": DiagnosticArray,
    "/diagnostics": DiagnosticArray,
}
INPUTS = ("image", "camera_info")
REPORTS = ("perception/stats", "/diagnostics")  # come always: they are no sign that frames are answered
OUTPUTS_WAIT_S = 5.0
KEPT = 64  # grids that wait for the end, when the middle one becomes the picture
PARAMETERS: tuple[tuple[str, object, str], ...] = (
    ("video", "", "MP4 with all outputs side by side; empty: none."),
    ("picture", "", "PNG of the middle frame of that video; empty: none."),
    ("table", "", "JSON with messages, rate and latency of every topic; empty: none."),
    ("bag", "", "Folder of an MCAP bag with every message; empty: none."),
    ("video_fps", 10.0, "Frame rate of the video."),
    ("topics", list(TOPICS), "Topics to record; the perception node works only for those that somebody hears."),
    ("idle_s", 10.0, "Ends after so many seconds without a message, once the first has come; 0: never."),
    ("start_timeout_s", 120.0, "Ends with an error when no output comes for so long; 0: never."),
)


def type_name(kind: type) -> str:
    """sensor_msgs/msg/Image of the class sensor_msgs.msg.Image."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


class RecorderNode(Node):
    """Subscribes to serialised messages: what goes into the bag is what went over the wire."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__("recorder", **kwargs)
        self.value: dict[str, Any] = declare_fixed(self, PARAMETERS)
        unknown = set(self.value["topics"]) - set(TOPICS)
        if unknown:
            raise UserError(f"cannot record {', '.join(sorted(unknown))}: expected some of {', '.join(TOPICS)}")
        for name in ("video", "picture", "table", "bag"):
            if self.value[name]:
                writable(Path(self.value[name]))
        self.names = {topic: self.resolve_topic_name(topic) for topic in self.value["topics"]}
        self.traffic = {topic: TopicTraffic(type_name(TOPICS[topic])) for topic in self.names}
        self.montage = Montage()
        self.frames: list[np.ndarray] = []  # every `spacing`-th grid, for the picture
        self.spacing = 10
        self.grids = 0
        self.started = self.last = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._video: VideoWriter | None = None
        self._bag = None
        if self.value["bag"]:
            from thfm_ros.nodes.bag import BagWriter  # only here: a recorder without a bag needs no bag library

            self._bag = BagWriter(Path(self.value["bag"]))
        self.subscribed = {topic: self._subscribe(topic) for topic in self.names if topic not in INPUTS}
        self._first_output: float | None = None
        self._joining = self.create_timer(0.02, self._join_inputs)

    def _subscribe(self, topic: str) -> Any:
        return self.create_subscription(
            TOPICS[topic],
            topic,
            self._listener(topic),
            profile("sensor" if topic in INPUTS else "reliable", 20),
            raw=True,
            qos_overriding_options=overridable(),
        )

    def _join_inputs(self) -> None:
        """Listens to the camera once every output has its publisher: a camera that waits for the recorder then loses
        no output of its first frames. Topics that nobody publishes hold it up for OUTPUTS_WAIT_S at most."""
        outputs = [s.get_publisher_count() > 0 for topic, s in self.subscribed.items() if topic not in REPORTS]
        if any(outputs) and self._first_output is None:
            self._first_output = time.monotonic()
        late = self._first_output is not None and time.monotonic() - self._first_output > OUTPUTS_WAIT_S
        if all(outputs) or late:
            self._joining.cancel()
            self.subscribed |= {topic: self._subscribe(topic) for topic in self.names if topic in INPUTS}

    def _listener(self, topic: str) -> Callable[[bytes], None]:
        def listen(data: bytes) -> None:
            now = self.get_clock().now().nanoseconds
            msg = deserialize_message(data, TOPICS[topic])
            stamp, received = stamp_ns(msg), time.monotonic()
            if topic not in REPORTS:
                self.last = received
            self.traffic[topic].add(received, len(data), (now - stamp) / 1e6 if stamp else None)
            if self._bag is not None:
                self._bag.write(self.names[topic], type_name(TOPICS[topic]), now, data)
            if self.value["video"] or self.value["picture"]:
                for picture in self.montage.add(topic, msg):
                    self._write(picture)

        return listen

    def _write(self, picture: np.ndarray) -> None:
        if self.value["video"]:
            if self._video is None:
                film = VideoWriter(self.value["video"], self.value["video_fps"], keep=True)
                self._video = self._stack.enter_context(film)
            self._video.write(picture)
        if self.value["picture"] and self.grids % self.spacing == 0:
            self.frames.append(picture)
            if len(self.frames) > KEPT:  # a recording of any length: evenly spread, and bounded
                self.frames, self.spacing = self.frames[::2], 2 * self.spacing
        self.grids += 1

    @property
    def answered(self) -> int:
        """Messages of outputs, not of the input."""
        return sum(t.messages for topic, t in self.traffic.items() if topic not in (*INPUTS, *REPORTS))

    def done(self) -> bool:
        """True when the graph has gone quiet. UserError when it never gave an output."""
        now, idle, limit = time.monotonic(), self.value["idle_s"], self.value["start_timeout_s"]
        if limit and not self.answered and now - self.started > limit:
            names = [name for topic, name in self.names.items() if topic not in (*INPUTS, *REPORTS)]
            found = f"no output on {', '.join(names[:2])}, ... within {limit:g} s"
            raise UserError(f"{found}: is the perception node active (ros2 lifecycle get), in this namespace?")
        return bool(idle and self.answered and now - self.last > idle)

    def finish(self) -> None:
        """Writes what is left and closes the files, each of them even where another one fails."""
        with contextlib.ExitStack() as stack:  # in the reverse order
            if self._bag is not None:
                stack.callback(self._bag.close)
            stack.callback(self._write_table)
            stack.callback(self._write_picture)
            stack.push(self._stack)
            for picture in self.montage.finish():
                self._write(picture)

    def _write_picture(self) -> None:
        if self.value["picture"] and self.frames:
            try:
                with atomic(self.value["picture"]) as temporary:
                    cv2.imwrite(str(temporary), self.frames[len(self.frames) // 2][..., ::-1])
            except OSError as error:
                raise unwritable(self.value["picture"], error) from None

    def _write_table(self) -> None:
        if self.value["table"]:
            write_json(self.value["table"], {self.names[t]: traffic.row() for t, traffic in self.traffic.items()})


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `recorder`. SIGINT and SIGTERM complete the files, however often they come."""
    ensure_log_folder()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node, executor = None, SingleThreadedExecutor()
    try:
        with Interrupts(patient=True) as interrupts:
            node = RecorderNode()
            executor.add_node(node)
            try:
                while rclpy.ok() and not interrupts.noted and not node.done():
                    executor.spin_once(timeout_sec=0.1)
            except ExternalShutdownException:
                pass
            finally:
                node.finish()
    except UserError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
