"""A bag with all that the recording has, and the messages that the node would publish for its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from thfm_ros.errors import UserError
from thfm_ros.offline.bag_recording import BagRecording, Origin
from thfm_ros.stream.estimator import FrameResult

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

POINTS, DEPTH_CAMERA, PEOPLE, MARKERS = "depth/points", "depth/camera_info", "people", "skeleton/markers"
MARKER_LIFETIME_S = 0.5  # as long as the node's at full rate; the next frame's replace them anyhow


def require_ros() -> None:
    """UserError where ROS 2's messages cannot be loaded."""
    try:
        import rclpy  # noqa: F401

        import thfm_ros.msg  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"a bag is written with ROS 2's messages, found: {error}: source its setup.bash, or write a film (-o X.mp4)"
        ) from None


class AnnotatedBag:
    """A bag that appears when its block ends; of a failed block it holds what was done by then.

    Messages of outputs have stamp and frame of their image and are recorded at its time.

    kept: where the bag is after an early end. written: topic -> messages of the outputs.

    Args:
        tasks: whose topics are written. namespace: in front of the outputs' names.
        storage, zstd: of `BagWriter`.
    Raises:
        UserError: the place cannot be written, or the recording has one of the outputs' topics.
    """

    def __init__(
        self,
        path: Path,
        recording: BagRecording,
        tasks: Collection[str],
        namespace: str = "",
        storage: str = "mcap",
        zstd: bool = False,
    ) -> None:
        from thfm_ros.nodes.bag import BagWriter

        self.path, self.kept = path, None
        self.written: dict[str, int] = {}
        self._topics = output_topics(tasks)
        self._prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        self._check_names(recording)
        self._writer = BagWriter(path, storage, zstd)
        self._origins: deque[Origin] = deque()
        self._shown: set[str] = set()  # ids with markers
        recording.listener = self

    def _check_names(self, recording: BagRecording) -> None:
        names = {self._prefix + name for name in self._topics}
        if taken := sorted(names & {c.topic for c in recording.bag.connections}):
            raise UserError(f"{recording.path} has {', '.join(taken)} already: choose others (--namespace thfm)")

    def __enter__(self) -> AnnotatedBag:
        return self

    def message(self, connection: Connection, recorded_ns: int, data: bytes) -> None:
        """Copies one message of the recording."""
        self._writer.copy(connection, recorded_ns, data)

    def frame(self, origin: Origin) -> None:
        """Remembers where a frame came from that may get a result."""
        self._origins.append(origin)

    def write(self, result: FrameResult) -> None:
        """The messages of one frame; results come in the order of their frames."""
        from rclpy.serialization import serialize_message

        origin = self._origins.popleft()
        while origin.stamp_ns != result.stamp_ns:  # frames that nothing was wanted of
            origin = self._origins.popleft()
        for name, message in self._messages(result, origin):
            topic = self._prefix + name
            self._writer.write(topic, self._topics[name], origin.recorded_ns, serialize_message(message))
            self.written[topic] = self.written.get(topic, 0) + 1

    def _messages(self, result: FrameResult, origin: Origin) -> Iterator[tuple[str, Any]]:
        """Name and message of every output that this frame has."""
        from rclpy.serialization import deserialize_message
        from sensor_msgs.msg import CameraInfo
        from std_msgs.msg import Header

        from thfm_ros.nodes.maps import FORMS, IMAGES, MapSettings
        from thfm_ros.nodes.markers import people_to_markers
        from thfm_ros.nodes.outputs import depth_camera
        from thfm_ros.nodes.people import people_to_msg

        header = Header(frame_id=origin.frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(origin.stamp_ns, 1_000_000_000)
        info = None if origin.info is None else deserialize_message(origin.info, CameraInfo)
        present = {person.id for person in result.people if person.located}
        lost, self._shown = sorted(self._shown - present), present
        makers: dict[str, Callable[[], Any]] = {
            **{name: partial(make, result, header) for name, make in IMAGES.items()},
            POINTS: partial(FORMS[POINTS], result, header, MapSettings()),
            DEPTH_CAMERA: partial(depth_camera, result, header, info),
            PEOPLE: partial(people_to_msg, result.people, result.source_size, header),
            MARKERS: partial(people_to_markers, result.people, lost, header, MARKER_LIFETIME_S),
        }
        for name in self._topics:
            if (message := makers[name]()) is not None:
                yield name, message

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._writer.failed:  # there is nothing to keep
            self._writer.discard(error)
            return
        self._writer.close()
        self.kept = self.path


def output_topics(tasks: Collection[str]) -> dict[str, str]:
    """topic -> type (sensor_msgs/msg/Image) of what is written for these tasks: the node's topics of each frame that
    need no optional package, every picture in one form."""
    from thfm_ros.nodes.maps import IMAGES
    from thfm_ros.nodes.topics import PUBLISHED, topics_to_tasks

    names = {*IMAGES, POINTS, DEPTH_CAMERA, PEOPLE, MARKERS}
    types = {topic.name: topic.type.replace("/", "/msg/") for topic in PUBLISHED if topic.name in names}
    return {name: kind for name, kind in types.items() if topics_to_tasks([name], tasks)}
