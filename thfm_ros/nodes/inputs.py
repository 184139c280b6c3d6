"""The node's subscriptions. Callbacks store and return at once; the worker asks for what belongs to a frame."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from thfm_ros.encoded_image import image_format, image_size
from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.agreement import Findings, OneCamera, same_frame
from thfm_ros.nodes.camera_info import has_projection, intrinsics_of, is_rectified, lens_of
from thfm_ros.nodes.depth_images import DepthImages, View
from thfm_ros.nodes.images import compressed_to_rgb, image_to_rgb
from thfm_ros.nodes.sync import stamp_ns
from thfm_ros.nodes.topics import SUBSCRIBED, latched, overridable, profile
from thfm_ros.stream.lens import Lens

KEPT_INFOS = 64
KEPT_FRAMES = 8  # frame_ids whose newest camera_info is kept
LOOK_S = 0.2  # between two looks at who publishes
OF_CAMERA_INFO = ("projection", "lens", "frame of camera_info")  # findings by a camera_info that is usable
FIRST_IMAGE_S = 2.0  # without an image, from which on that is reported


@dataclass(frozen=True)
class Camera:
    """A frame's camera: intrinsics and lens of its image, and the message they came from."""

    intrinsics: Intrinsics | None
    info: CameraInfo | None
    lens: Lens | None = None


class Inputs:
    """Subscriptions of one activation.

    Args:
        offer: takes (stamp_ns, message) of each colour image; True when the frame was kept.
        refuse: called with the reason of each colour image that is not offered.
        lost: called with how many colour images the transport lost on the way.
        warn: logs a line.
    """

    def __init__(
        self,
        node: Node,
        offer: Callable[[int, Any], bool],
        refuse: Callable[[str], None],
        lost: Callable[[int], None],
        warn: Callable[[str], None],
        compressed: bool,
        depth_slop_s: float | None,
    ) -> None:
        self._node, self._offer, self._refuse = node, offer, refuse
        self._lock = threading.Lock()
        self._infos: OrderedDict[int, dict[str, CameraInfo]] = OrderedDict()  # stamp -> frame_id -> message
        self._latest: OrderedDict[str, CameraInfo] = OrderedDict()  # frame_id -> newest message
        self._last_info: CameraInfo | None = None
        self._stamp_ns, self._size = 0, (0, 0)  # width, height of the last frame
        self._camera, self._rectified, self._matrix = Camera(None, None), False, "none"
        self._cameras = OneCamera()
        self._started_s, self._heard = time.monotonic(), False  # an image
        self.findings = Findings(warn)
        self._depths = None if depth_slop_s is None else DepthImages(depth_slop_s, self.findings)
        self._groups = [MutuallyExclusiveCallbackGroup() for _ in range(3)]  # slow depth must not delay colour
        self._subscriptions = self._subscribe(compressed, lost)
        self._image_topic = self._subscriptions["image"].topic_name
        self._looking = node.create_timer(
            LOOK_S, self._look, callback_group=self._groups[2], clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def _subscribe(self, compressed: bool, lost: Callable[[int], None]) -> dict[str, Any]:
        topics = {t.name: t for t in SUBSCRIBED}
        image = topics["image/compressed" if compressed else "image"]
        colour, depth, _ = self._groups
        wanted = {
            "camera_info": (topics["camera_info"], CameraInfo, self._on_info, colour),  # never overtaken by its image
            "image": (image, CompressedImage if compressed else Image, self._on_image, colour),
        }
        if self._depths is not None:
            wanted["depth"] = (topics["depth_camera/image"], Image, self._depths.on_depth, depth)
            wanted["depth_info"] = (topics["depth_camera/camera_info"], CameraInfo, self._depths.on_info, depth)
        losses = SubscriptionEventCallbacks(message_lost=lambda event: lost(event.total_count_change))
        return {
            key: self._node.create_subscription(
                kind,
                topic.name,
                callback,
                profile(topic.qos, topic.depth),
                callback_group=group,
                event_callbacks=losses if topic is image else None,
                qos_overriding_options=overridable(),
            )
            for key, (topic, kind, callback, group) in wanted.items()
        }

    def destroy(self) -> None:
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, {}
        self._node.destroy_timer(self._looking)
        for subscription in subscriptions.values():
            self._node.destroy_subscription(subscription)

    def _on_image(self, msg: Image | CompressedImage) -> None:
        self._heard = True
        name = _camera_of(msg)
        if name and not self._cameras.admit(name, time.monotonic()):
            self._refuse("camera")
        elif self._offer(stamp_ns(msg.header), msg) and self._depths is not None:
            self._depths.on_colour(msg.header)

    def _on_info(self, msg: CameraInfo) -> None:
        with self._lock:
            self._last_info = msg
            _keep(self._latest, msg.header.frame_id, msg, KEPT_FRAMES)
            same = self._infos.get(stamp_ns(msg.header), {})
            _keep(self._infos, stamp_ns(msg.header), {**same, msg.header.frame_id: msg}, KEPT_INFOS)

    def _look(self) -> None:
        """Who publishes: a camera_info that was sent once and kept for later is asked for, and two cameras are found.

        A second subscription, and only where it is answered: a camera that keeps nothing would complain about it.
        """
        with self._lock:
            subscriptions = dict(self._subscriptions)
        for name in ("camera_info", "depth_info"):
            if name in subscriptions and f"latched {name}" not in subscriptions:
                self._ask_for_latched(name, subscriptions[name])
        for name in ("camera_info", "image", "depth"):
            if name in subscriptions:
                topic = subscriptions[name].topic_name
                count = self._node.count_publishers(topic)
                several = f"{count} publishers on {topic}: expected one camera on a topic; rename or remap the others"
                self.findings.note(f"publishers of {name}", several if count > 1 else None)
        missing = None
        if not self._heard and time.monotonic() - self._started_s > FIRST_IMAGE_S:
            missing = _no_image(self._image_topic, self._node.count_publishers(self._image_topic))
        self.findings.note("image", missing)
        others = self._cameras.others(time.monotonic())
        self.findings.note("cameras", _two_cameras(self._image_topic, others[0]) if others else None)
        if self._depths is not None and "depth" in subscriptions:
            self._depths.look(subscriptions["depth"].topic_name)

    def _ask_for_latched(self, name: str, like: Any) -> None:
        offered = [p.qos_profile for p in self._node.get_publishers_info_by_topic(like.topic_name)]
        kept = QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSReliabilityPolicy.RELIABLE
        if kept not in {(qos.durability, qos.reliability) for qos in offered}:
            return
        with self._lock:
            if self._subscriptions:  # not destroyed meanwhile
                self._subscriptions[f"latched {name}"] = self._node.create_subscription(
                    CameraInfo, like.topic_name, like.callback, latched(), callback_group=like.callback_group
                )

    def camera(self, header: Header, width: int, height: int, rectified: str, fov_deg: float) -> Camera:
        """The camera of a frame: the camera_info of the same stamp, else the newest, else the field of view. Of two
        cameras' infos that of the image's frame_id.

        Args:
            rectified: the node's parameter, see `is_rectified`.
        Raises UserError where the camera_info is unusable and no field of view is given.
        """
        self._stamp_ns, self._size = stamp_ns(header), (width, height)
        self.findings.note("frame_id", None if header.frame_id else _no_frame(self._image_topic))
        try:
            self._camera = self._by_info(header, width, height, rectified)
        except UserError as error:
            self._camera, self._matrix = Camera(None, None), "none"
            for subject in OF_CAMERA_INFO:  # judged again once it is usable
                self.findings.note(subject, None)
            instead = "horizontal_fov_deg is used instead" if fov_deg > 0 else "there are no 3D outputs meanwhile"
            self.findings.note("camera_info", f"{error}; {instead}")
            if fov_deg <= 0:
                raise
        if self._camera.intrinsics is None and fov_deg > 0:
            self._camera, self._matrix = Camera(Intrinsics.from_fov(fov_deg, width, height), None), "field of view"
        return self._camera

    def _by_info(self, header: Header, width: int, height: int, rectified: str) -> Camera:
        with self._lock:
            infos = self._infos.get(stamp_ns(header), {})
            info = infos.get(header.frame_id) or self._latest.get(header.frame_id)
            info = info or next(iter(infos.values()), self._last_info)
        if info is None:
            return Camera(None, None)
        self._rectified = is_rectified(rectified, self._image_topic)
        by_p = self._rectified and has_projection(info)
        intrinsics, lens = intrinsics_of(info, width, height, by_p), lens_of(info)
        unprojected = self._rectified and not by_p and lens is not None
        self.findings.note("projection", _no_projection(self._image_topic) if unprojected else None)
        lens = None if self._rectified else lens
        self._matrix = "P" if by_p else "K"
        self.findings.note("camera_info", None)
        self.findings.note("lens", _bent(lens, self._image_topic))
        named = same_frame(info.header.frame_id, header.frame_id)
        self.findings.note("frame of camera_info", None if named else _other_frame(info.header, header))
        return Camera(intrinsics, info, lens)

    def depths(self, stamps: Collection[int]) -> list[tuple[int, np.ndarray]]:
        """Stamp and metres (h, w) of the depth images that have come for these frames, oldest first, once each. Those
        that are not registered to the last frame's image are left out, counted and reported."""
        if self._depths is None:
            return []
        return self._depths.take(stamps, View(self._size, self._camera.intrinsics, self._rectified))

    @property
    def measures(self) -> bool:
        """True while a depth camera gives the metres: the last frames' depth images came, and could be used."""
        return self._depths is not None and self._depths.measures(self._stamp_ns)

    def report(self) -> tuple[list[str], dict[str, object]]:
        """What does not agree, and what is in use, for /diagnostics."""
        values: dict[str, object] = {
            "Image topic": self._image_topic,
            "Rectified": self._rectified,
            "Intrinsics": self._matrix,
        }
        return self.findings.lines, values | (self._depths.values() if self._depths else {})


def _camera_of(msg: Image | CompressedImage) -> str:
    """What tells the camera of an image apart; "" where nothing does, and the worker finds the image malformed."""
    if not len(msg.data):
        return ""
    size: tuple[int, int] | None
    if isinstance(msg, CompressedImage):
        data = memoryview(msg.data)
        size = image_size(data)
        if size is None and image_format(bytes(data[:16])) in ("", "jpeg", "png"):  # those whose size can be read
            return ""
    else:
        size = msg.width, msg.height
    return f"frame_id '{msg.header.frame_id}'" + (f", {size[0]}x{size[1]}" if size else "")


# The lines of what is found, each with what was expected, what was found, what that costs and the fix.


def _no_image(topic: str, publishers: int) -> str:
    return (
        f"no image on {topic}: expected a camera's, found {publishers} publishers of it; start the camera, remap "
        "image, or set image_transport"
    )


def _two_cameras(topic: str, other: str) -> str:
    return (
        f"two cameras on {topic}: expected one frame_id and size, found also {other}; the one that came first is "
        "answered; rename or remap the other"
    )


def _no_frame(topic: str) -> str:
    return (
        f"images on {topic} have an empty frame_id: expected the camera's optical frame; outputs carry the same, and "
        "neither tf nor RViz can place them; set the driver's frame_id"
    )


def _other_frame(info: Header, image: Header) -> str:
    return (
        f"camera_info: expected frame_id '{image.frame_id}', the image's, found '{info.frame_id}'; it is used, but "
        "metres are off if it is another camera's; remap camera_info to that of this camera"
    )


def _no_projection(topic: str) -> str:
    return (
        f"{topic} is rectified: expected P in camera_info, found zeros; K of the image before that is used, and metres "
        "are a little off; calibrate the camera, or set `rectified` to false where it is not rectified"
    )


def _bent(lens: Lens | None, topic: str) -> str | None:
    if lens is None:
        return None
    how = "the joints are straightened" if lens.known else f"its model '{lens.model}' is unknown, and metres are off"
    return (
        f"{topic} is not rectified: expected a pinhole's image, found distortion (D of camera_info is not 0); {how}, "
        "the maps are of the bent image; subscribe to image_rect, or set `rectified` where it is rectified"
    )


def _keep(items: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Adds an item; of more than `most` the oldest goes."""
    items[key] = value
    while len(items) > most:
        items.popitem(last=False)


def to_rgb(msg: Image | CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 of either kind of image message."""
    try:
        return compressed_to_rgb(msg) if isinstance(msg, CompressedImage) else image_to_rgb(msg)
    except UserError:
        raise
    except Exception as error:  # OpenCV on data that passed the checks above
        raise UserError(f"malformed image: {' '.join(str(error).split())}") from None
