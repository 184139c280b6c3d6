"""The node's publishers: who listens, what that needs, and one message a topic for each answered frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNodeMixin
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from thfm_ros.msg import PersonArray
from thfm_ros.nodes import hri
from thfm_ros.nodes.camera_info import pinhole_camera_info, scaled_camera_info
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.markers import people_to_markers
from thfm_ros.nodes.people import people_to_msg
from thfm_ros.nodes.pictures import overlay
from thfm_ros.nodes.sync import NS, stamp_ns
from thfm_ros.nodes.topics import PUBLISHED, overridable, profile, topics_to_tasks
from thfm_ros.panels import dense_pose_color, normals_color
from thfm_ros.stream.estimator import FrameResult
from thfm_ros.stream.people import Person

ARRIVAL_S = 0.5  # for the last message of a topic to arrive at those who listen

TYPES: dict[str, type] = {
    "sensor_msgs/Image": Image,
    "sensor_msgs/CameraInfo": CameraInfo,
    "thfm_ros/PersonArray": PersonArray,
    "visualization_msgs/MarkerArray": MarkerArray,
}


def _depth(result: FrameResult, header: Header) -> Image | None:
    return None if result.depth is None else to_image(result.depth, "32FC1", header)


def _inverse_depth(result: FrameResult, header: Header) -> Image | None:
    return None if result.disparity is None else to_image(result.disparity.astype(np.float32), "32FC1", header)


def _normals(result: FrameResult, header: Header) -> Image | None:
    return None if result.normals is None else to_image(result.normals, "32FC3", header)


def _normals_color(result: FrameResult, header: Header) -> Image | None:
    return None if result.normals is None else to_image(normals_color(result.normals), "rgb8", header)


def _foreground(result: FrameResult, header: Header) -> Image | None:
    if result.foreground is None:
        return None
    return to_image((result.foreground * 255.0 + 0.5).astype(np.uint8), "mono8", header)


def _dense_pose(result: FrameResult, header: Header) -> Image | None:
    return None if result.dense_pose is None else to_image(result.dense_pose, "32FC3", header)


def _dense_pose_color(result: FrameResult, header: Header) -> Image | None:
    return None if result.dense_pose is None else to_image(dense_pose_color(result.dense_pose), "rgb8", header)


def _overlay(result: FrameResult, header: Header) -> Image:
    return to_image(overlay(result.image, result.foreground, result.people), "rgb8", header)


# topic -> message of one frame; None where the frame has nothing for it
IMAGES: dict[str, Callable[[FrameResult, Header], Image | None]] = {
    "depth/image": _depth,
    "inverse_depth/image": _inverse_depth,
    "normals/image": _normals,
    "normals/image_color": _normals_color,
    "foreground/image": _foreground,
    "dense_pose/image": _dense_pose,
    "dense_pose/image_color": _dense_pose_color,
    "overlay/image": _overlay,
}


class Outputs:
    """All publishers that depend on frames; made at configure, silent unless the node is active."""

    def __init__(self, node: LifecycleNodeMixin) -> None:
        self._node = node
        self._publishers: dict[str, Publisher] = {}
        for topic in PUBLISHED:
            if topic.type in TYPES:
                self._publishers[topic.name] = self._create(TYPES[topic.type], topic.name, topic.qos, topic.depth)
        self._bodies: dict[str, tuple[Publisher, Publisher]] = {}  # body id -> roi, skeleton2d
        self._hri = hri.hri_messages()
        if self._hri is not None:
            self._publishers["/humans/bodies/tracked"] = self._create(
                self._hri.IdsList, "/humans/bodies/tracked", "reliable", 5
            )
        self._shown: set[str] = set()  # ids with markers in RViz
        self._people_shown = False  # by the last message on `people`
        self._last: tuple[tuple[int, int], Header, float] | None = None  # size, header, steady time when published
        self._last_ns: int | None = None
        self._period_s = 0.5

    def _create(self, kind: type, name: str, qos: Any, depth: int) -> Publisher:
        return self._node.create_lifecycle_publisher(
            kind, name, profile(qos, depth), qos_overriding_options=overridable()
        )

    def _create_for_body(self, kind: type, name: str) -> Publisher:
        """Comes and goes with a person: no override parameters, which would pile up; active at once."""
        publisher = self._node.create_lifecycle_publisher(kind, name, profile("reliable", 5))
        publisher.on_activate(None)
        return publisher

    def destroy(self) -> None:
        for publisher in (*self._publishers.values(), *(p for pair in self._bodies.values() for p in pair)):
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()
        self._bodies.clear()

    def listened(self) -> set[str]:
        """Topics with at least one subscriber."""
        names = {name for name, publisher in self._publishers.items() if publisher.get_subscription_count() > 0}
        if self._bodies and any(p.get_subscription_count() for pair in self._bodies.values() for p in pair):
            names.add("/humans/bodies/tracked")
        return names

    def tasks(self, enabled: list[str], depth_camera: bool = False) -> list[str]:
        """Tasks that somebody listens for; a depth camera gives metres without the skeleton."""
        listened = self.listened()
        tasks = topics_to_tasks(listened, enabled)
        if depth_camera and "keypoints_3d" in tasks and not listened & {"people", "skeleton/markers"}:
            tasks.remove("keypoints_3d")
        return tasks

    def publish(self, result: FrameResult, header: Header, info: CameraInfo | None) -> None:
        """Everything about one frame, under that frame's header, to whoever listens."""
        self._last = (result.source_size, header, time.monotonic())
        listened = self.listened()
        for name, convert in IMAGES.items():
            if name in listened:
                message = convert(result, header)
                if message is not None:
                    self._publishers[name].publish(message)
        if "depth/camera_info" in listened and result.intrinsics is not None and result.depth is not None:
            width, height = result.size
            camera = (
                scaled_camera_info(info, result.source_size, width, height, header)
                if info is not None
                else pinhole_camera_info(result.intrinsics, header)
            )
            self._publishers["depth/camera_info"].publish(camera)
        if "people" in listened:
            self._publishers["people"].publish(people_to_msg(result.people, result.source_size, header))
            self._people_shown = bool(result.people)
        if "skeleton/markers" in listened:
            self._publish_markers(result, header)
        if "/humans/bodies/tracked" in listened:
            self._publish_hri(result.people, header)

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
        emptied = []
        if self._people_shown:
            self._publishers["people"].publish(people_to_msg([], size, header))
            self._people_shown = False
            emptied.append("people")
        if self._shown:
            self._publishers["skeleton/markers"].publish(people_to_markers([], sorted(self._shown), header, 0.0))
            self._shown = set()
            emptied.append("skeleton/markers")
        if self._bodies:
            self._publish_hri([], header)
            emptied.append("/humans/bodies/tracked")
        for name in emptied:  # a publisher that is destroyed takes with it what did not arrive yet
            self._publishers[name].wait_for_all_acked(Duration(seconds=ARRIVAL_S))

    def _publish_markers(self, result: FrameResult, header: Header) -> None:
        if self._last_ns is not None and 0 < result.stamp_ns - self._last_ns < 2_000_000_000:
            self._period_s = 0.8 * self._period_s + 0.2 * (result.stamp_ns - self._last_ns) / 1e9
        self._last_ns = result.stamp_ns
        present = {p.id for p in result.people if p.located}
        lifetime = max(0.5, 3.0 * self._period_s)  # frames come in bursts of a stride
        array = people_to_markers(result.people, sorted(self._shown - present), header, lifetime)
        self._publishers["skeleton/markers"].publish(array)
        self._shown = present

    def _publish_hri(self, people: list[Person], header: Header) -> None:
        bodies = {hri.body_id(p): p for p in people}
        gone = set(self._bodies) - set(bodies)
        for identity in gone:
            for publisher in self._bodies.pop(identity):
                self._node.destroy_lifecycle_publisher(publisher)
        for identity, person in bodies.items():
            if identity not in self._bodies:
                base = f"/humans/bodies/{identity}"
                self._bodies[identity] = (
                    self._create_for_body(self._hri.NormalizedRegionOfInterest2D, f"{base}/roi"),
                    self._create_for_body(self._hri.Skeleton2D, f"{base}/skeleton2d"),
                )
            roi, skeleton = self._bodies[identity]
            roi.publish(hri.region(person, header, self._hri))
            skeleton.publish(hri.skeleton2d(person, header, self._hri))
        ids = [*bodies, *hri.other_bodies(self._node, own=gone | set(bodies))]
        self._publishers["/humans/bodies/tracked"].publish(hri.ids_list(ids, header, self._hri))
