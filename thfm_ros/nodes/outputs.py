"""The node's publishers: who listens, what that needs, and one message a topic for each answered frame."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNodeMixin
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from thfm_ros.nodes import detections, hri
from thfm_ros.nodes.bodies import Bodies
from thfm_ros.nodes.camera_info import pinhole_camera_info, scaled_camera_info
from thfm_ros.nodes.maps import FORMS, IMAGES, MapSettings
from thfm_ros.nodes.markers import people_to_markers
from thfm_ros.nodes.message_types import message_type, messages_of, require
from thfm_ros.nodes.navigation import LISTS, Navigation
from thfm_ros.nodes.people import people_to_msg
from thfm_ros.nodes.poses import body_transforms
from thfm_ros.nodes.sync import NS, stamp_ns
from thfm_ros.nodes.topics import PUBLISHED, overridable, profile, topics_to_tasks
from thfm_ros.stream.body import body_of
from thfm_ros.stream.crowd import SPARSE
from thfm_ros.stream.estimator import FrameResult
from thfm_ros.stream.people import Person
from thfm_ros.tasks import TASKS

ARRIVAL_S = 0.5  # for the last message of a topic to arrive at those who listen
REPORTS = ("~/stats", "/diagnostics")  # of the node, whatever its state; not of frames
TF, TRACKED, BOXES_2D = "/tf", "/humans/bodies/tracked", "people/detections_2d"
MAPS = {*IMAGES, *FORMS, "depth/camera_info"}  # the other topics are about people
BY_DEPTH = {name for name in MAPS if name.startswith("depth/")}


@dataclass(frozen=True)
class OutputSettings:
    """What may change from frame to frame. follow: nearest, largest, or a person's id."""

    follow: str = "nearest"
    maps: MapSettings = field(default_factory=MapSettings)


def require_packages(publish_tf: bool, target_frame: str) -> None:
    """ParameterError where these parameters need a package that is not installed."""
    if publish_tf:
        require("publish_tf", "tf2_msgs")
    if target_frame:
        require("target_frame", "tf2_ros")


class Outputs:
    """All publishers that depend on frames; made at configure, silent unless the node is active.

    Args:
        publish_tf: frames of bodies on /tf.
        target_frame: of what navigation wants; empty: the camera's.
    """

    def __init__(self, node: LifecycleNodeMixin, publish_tf: bool = False, target_frame: str = "") -> None:
        require_packages(publish_tf, target_frame)
        self._node = node
        topics = {t.name: t for t in PUBLISHED if t.name not in REPORTS and "<id>" not in t.name}
        if not publish_tf:
            del topics[TF]
        self._publishers: dict[str, Publisher] = {}
        for name, topic in topics.items():
            kind = message_type(topic.type)
            if kind is not None:  # else its package is not installed here
                self._publishers[name] = node.create_lifecycle_publisher(
                    kind, name, profile(topic.qos, topic.depth), qos_overriding_options=overridable()
                )
        self._messages = {name: messages_of(topics[name].type.split("/")[0]) for name in self._publishers}
        self._navigation = Navigation(node, target_frame, self._messages)
        self._bodies: Bodies | None = None
        if TRACKED in self._publishers:
            self._bodies = Bodies(node, self._publishers[TRACKED].publish, self._messages[TRACKED])
        self.in_view: frozenset[str] = frozenset()  # ids of the last frame's people
        self._shown: set[str] = set()  # ids with markers in RViz
        self._people_shown: set[str] = set()  # topics whose last message had somebody
        self._last: tuple[tuple[int, int], Header, float] | None = None  # size, header, steady time when published
        self._last_ns: int | None = None
        self._period_s = 0.5

    def destroy(self) -> None:
        self._navigation.destroy()
        if self._bodies is not None:
            self._bodies.destroy()
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    @property
    def problem(self) -> str:
        """Why outputs in `target_frame` are left out; "" where they are not."""
        return self._navigation.problem

    def listened(self) -> set[str]:
        """Topics (names of PUBLISHED) with a subscriber; and /tf, which always has some, where it is wanted."""
        names = {name for name, publisher in self._publishers.items() if publisher.get_subscription_count() > 0}
        if self._bodies is not None:
            names |= self._bodies.listened()
        return names | ({TF} & self._publishers.keys())

    def tasks(self, enabled: list[str], depth_camera: bool = False) -> list[str]:
        """Tasks that somebody listens for; a depth camera gives metres without the skeleton."""
        listened = self.listened()
        tasks = topics_to_tasks(listened, enabled)
        elsewhere = topics_to_tasks(listened - BY_DEPTH, enabled) if depth_camera else tasks
        return [t for t in tasks if t != "keypoints_3d" or t in elsewhere]

    def unserved(self, enabled: list[str]) -> str | None:
        """Names topics that somebody listens to and none of these tasks gives."""
        names = sorted(t for t in self.listened() if not _givers(t).intersection(topics_to_tasks([t], enabled)))
        if not names:
            return None
        return (
            f"nothing on {', '.join(names)}, which somebody subscribes to: expected a task that gives it, found only "
            f"{', '.join(enabled)}; set the parameter tasks, and a bundle that has it"
        )

    def begin_pass(self) -> None:
        """The frames of one pass follow."""
        self._navigation.begin_pass()

    def publish(
        self,
        result: FrameResult,
        header: Header,
        info: CameraInfo | None,
        settings: OutputSettings = OutputSettings(),
    ) -> None:
        """Everything about one frame, under that frame's header, to whoever listens."""
        self._last = (result.source_size, header, time.monotonic())
        listened = self.listened()
        messages: dict[str, Any] = {t: make(result, header) for t, make in IMAGES.items() if t in listened}
        messages |= {t: make(result, header, settings.maps) for t, make in FORMS.items() if t in listened}
        if "depth/camera_info" in listened:
            messages["depth/camera_info"] = depth_camera(result, header, info)
        self._send(messages)
        if result.looked:
            self._publish_people(result, header, settings, listened)
        else:
            self._publish_nobody(result.source_size, header)

    def _publish_people(
        self, result: FrameResult, header: Header, settings: OutputSettings, listened: set[str]
    ) -> None:
        """Everyone, and nobody as empty lists."""
        self.in_view = frozenset(p.id for p in result.people)
        messages: dict[str, Any] = {}
        if "people" in listened:
            messages["people"] = people_to_msg(result.people, result.source_size, header, result.others)
        if BOXES_2D in listened:
            messages[BOXES_2D] = detections.boxes_2d(result.people, header, self._messages[BOXES_2D])
        if TF in listened:
            messages[TF] = self._transforms(result.people, header)
        messages |= self._navigation.messages(result.people, header, settings.follow, listened)
        self._send(messages)
        lists = {"people", BOXES_2D, *LISTS} & messages.keys()
        self._people_shown = (self._people_shown - lists) | (lists if result.people else set())
        if "skeleton/markers" in listened:
            self._publish_markers(result, header)
        if self._bodies is not None and any(name.startswith("/humans/") for name in listened):
            self._bodies.publish(result.people, header, result)

    def clear(self) -> None:
        """Says that nobody is in view any more, where somebody was: empty lists once, and markers are deleted.

        For a camera that fell silent, and before publishers are deactivated. The stamp is the last frame's plus the
        time since then.
        """
        if self._last is None:
            return
        size, last, published_s = self._last
        header = Header(frame_id=last.frame_id)
        stamp = stamp_ns(last) + round((time.monotonic() - published_s) * NS)
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, NS)
        for name in self._publish_nobody(size, header):  # a publisher that is destroyed takes along what is on its way
            self._publishers[name].wait_for_all_acked(Duration(seconds=ARRIVAL_S))

    def _publish_nobody(self, size: tuple[int, int], header: Header) -> set[str]:
        """Empty lists where the last one had somebody, once; the topics."""
        empty: dict[str, Any] = self._navigation.nobody(header, self._people_shown)
        if "people" in self._people_shown:
            empty["people"] = people_to_msg([], size, header)
        if BOXES_2D in self._people_shown:
            empty[BOXES_2D] = detections.boxes_2d([], header, self._messages[BOXES_2D])
        self._people_shown, self.in_view = set(), frozenset()
        if self._shown:
            empty["skeleton/markers"] = people_to_markers([], sorted(self._shown), header, 0.0)
            self._shown = set()
        self._send(empty)
        if self._bodies:
            self._bodies.publish([], header, None)
            return {*empty, TRACKED}
        return set(empty)

    def _send(self, messages: Mapping[str, Any | None]) -> None:
        for name, message in messages.items():
            if message is not None:
                self._publishers[name].publish(message)

    def _transforms(self, people: Sequence[Person], header: Header) -> Any | None:
        """Collects everybody who has a place; None for nobody."""
        bodies = [(hri.body_id(p), body_of(p)) for p in people]
        found = [t for identity, body in bodies if body for t in body_transforms(body, identity, header)]
        return self._messages[TF].TFMessage(transforms=found) if found else None

    def _publish_markers(self, result: FrameResult, header: Header) -> None:
        if self._last_ns is not None and 0 < result.stamp_ns - self._last_ns < 2_000_000_000:
            self._period_s = 0.8 * self._period_s + 0.2 * (result.stamp_ns - self._last_ns) / 1e9
        self._last_ns = result.stamp_ns
        present = {p.id for p in result.people if p.located}
        lifetime = max(0.5, 3.0 * self._period_s)  # frames come in bursts of a stride
        array = people_to_markers(result.people, sorted(self._shown - present), header, lifetime)
        self._publishers["skeleton/markers"].publish(array)
        self._shown = present


def _givers(topic: str) -> set[str]:
    """The tasks of which a topic needs one at least."""
    if topic in BY_DEPTH:
        return {"scene_depth", "human_depth"}
    return set(TASKS if topic in MAPS else SPARSE)


def depth_camera(result: FrameResult, header: Header, info: CameraInfo | None) -> CameraInfo | None:
    """The camera of the depth image; None where there is none."""
    if result.intrinsics is None or result.depth is None:
        return None
    if info is None:
        return pinhole_camera_info(result.intrinsics, header)
    return scaled_camera_info(info, result.source_size, *result.size, header)
