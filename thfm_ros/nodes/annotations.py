"""The messages that the node publishes for a frame, serialised, for a bag: without a node, and without a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from thfm_ros.nodes.maps import FORMS, IMAGES, MapSettings
from thfm_ros.nodes.markers import people_to_markers
from thfm_ros.nodes.outputs import depth_camera
from thfm_ros.nodes.people import people_to_msg
from thfm_ros.nodes.sync import NS
from thfm_ros.nodes.topics import PUBLISHED, topics_to_tasks
from thfm_ros.stream.estimator import FrameResult

POINTS, DEPTH_CAMERA, PEOPLE, MARKERS = "depth/points", "depth/camera_info", "people", "skeleton/markers"
MARKER_LIFETIME_S = 0.5  # those of the next frame replace them


class Annotations:
    """The outputs of these tasks, frame by frame: the topics that need no optional package, every picture in one form.

    types: topic, relative as in PUBLISHED -> type, such as sensor_msgs/msg/Image.
    """

    def __init__(self, tasks: Collection[str]) -> None:
        names = {*IMAGES, POINTS, DEPTH_CAMERA, PEOPLE, MARKERS}
        types = {topic.name: topic.type.replace("/", "/msg/") for topic in PUBLISHED if topic.name in names}
        self.types = {name: kind for name, kind in types.items() if topics_to_tasks([name], tasks)}
        self._shown: set[str] = set()  # ids with markers

    def of(self, result: FrameResult, stamp_ns: int, frame_id: str, info: bytes | None) -> Iterator[tuple[str, bytes]]:
        """Topic and message of every output that this frame has, under its header.

        info: the camera_info of the frame's image, serialised; None where it has none.
        """
        header = Header(frame_id=frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, NS)
        camera = None if info is None else deserialize_message(info, CameraInfo)
        present = {person.id for person in result.people if person.located}
        lost, self._shown = sorted(self._shown - present), present
        makers: dict[str, Callable[[], Any]] = {
            **{name: partial(make, result, header) for name, make in IMAGES.items()},
            POINTS: partial(FORMS[POINTS], result, header, MapSettings()),
            DEPTH_CAMERA: partial(depth_camera, result, header, camera),
        }
        if result.looked:  # for people: else an empty list would say that nobody is there
            makers[PEOPLE] = partial(people_to_msg, result.people, result.source_size, header, result.others)
            makers[MARKERS] = partial(people_to_markers, result.people, lost, header, MARKER_LIFETIME_S)
        for name in self.types:
            if name in makers and (message := makers[name]()) is not None:
                yield name, serialize_message(message)
