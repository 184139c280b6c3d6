"""All outputs of one frame side by side, gathered by stamp from the messages of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from thfm_ros.msg import PersonArray
from thfm_ros.nodes.images import image_to_rgb
from thfm_ros.nodes.people import people_from_msg
from thfm_ros.panels import depth_color, disparity_color, draw_skeleton, grid, panel
from thfm_ros.stream.drawing import color_of, draw_people
from thfm_ros.stream.people import Person

CELLS = (  # topic, label; in reading order
    ("image", "input"),
    ("people", "2D keypoints"),
    ("people_3d", "3D keypoints, from the side"),
    ("foreground/image", "person mask"),
    ("depth/image", "depth (metric)"),
    ("inverse_depth/image", "inverse depth (relative)"),
    ("normals/image_color", "normals"),
    ("dense_pose/image_color", "dense pose"),
)
COLUMNS = 4
PENDING = 64  # frames kept for outputs that are still to come


def stamp_ns(msg: Any) -> int:
    """Nanoseconds of a message's header; of a MarkerArray that of its first marker, 0 without any."""
    header = getattr(msg, "header", None)
    if header is None:
        markers = getattr(msg, "markers", None)
        if not markers:
            return 0
        header = markers[0].header
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def _float_image(msg: Image) -> np.ndarray:
    return np.frombuffer(msg.data, np.float32).reshape(msg.height, msg.width)


def side_view(people: list[Person], width: int, height: int, turn_deg: float = 60.0) -> np.ndarray:
    """Skeletons relative to their pelvis as a camera `turn_deg` to the side sees them; 2.2 m fill the height."""
    canvas = np.full((height, width, 3), 16, np.uint8)
    angle = np.radians(turn_deg)
    for person in people:
        x, y, z = person.xyz_relative.T
        scale = height / 2.2
        xy = np.stack([(np.cos(angle) * x + np.sin(angle) * z) * scale + width / 2, y * scale + height * 0.45], 1)
        color = tuple(int(255 * c) for c in color_of(person.id))
        canvas = draw_skeleton(canvas, xy, person.confidence, person.joint_set, color, min_confidence=0.0)
    return canvas


class Montage:
    """Collects messages by stamp and yields finished grids in order; frames that got no output are left out."""

    def __init__(self, height: int = 192) -> None:
        self.height = height
        self.width: int | None = None
        self._frames: dict[int, dict[str, Any]] = {}

    def add(self, topic: str, msg: Any) -> Iterator[np.ndarray]:
        """One message of a topic of CELLS; yields the grids that became final by it."""
        if topic not in {name for name, _ in CELLS}:
            return
        self._frames.setdefault(stamp_ns(msg), {})[topic] = msg
        while len(self._frames) > PENDING:
            oldest = min(self._frames)
            frame = self._frames.pop(oldest)
            if len(frame) > 1 and "image" in frame:
                yield self._compose(frame)

    def finish(self) -> Iterator[np.ndarray]:
        """The grids of what is left."""
        for stamp in sorted(self._frames):
            frame = self._frames[stamp]
            if len(frame) > 1 and "image" in frame:
                yield self._compose(frame)
        self._frames.clear()

    def _compose(self, frame: dict[str, Any]) -> np.ndarray:
        rgb = image_to_rgb(frame["image"])
        width = self.width = self.width or round(self.height * rgb.shape[1] / rgb.shape[0] / 2) * 2
        people_msg: PersonArray | None = frame.get("people")
        people = people_from_msg(people_msg) if people_msg is not None else []
        cells = []
        for topic, label in CELLS:
            if topic == "people":
                picture = draw_people(rgb, people)
                missing = people_msg is None
            elif topic == "people_3d":
                picture, missing = side_view(people, width, self.height), people_msg is None
            else:
                msg = frame.get(topic)
                missing = msg is None
                picture = np.zeros((self.height, width, 3), np.uint8) if msg is None else self._picture(topic, msg)
            cells.append(panel(picture, f"{label}: none" if missing else label, width, self.height))
        return grid(cells, COLUMNS)

    @staticmethod
    def _picture(topic: str, msg: Image) -> np.ndarray:
        if topic == "depth/image":
            return depth_color(_float_image(msg))
        if topic == "inverse_depth/image":
            return disparity_color(_float_image(msg))
        return image_to_rgb(msg)
