"""The node's subscriptions. Callbacks store and return at once; the worker asks for what belongs to a frame."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.camera_info import intrinsics_of
from thfm_ros.nodes.images import compressed_to_rgb, depth_to_metres, image_to_rgb
from thfm_ros.nodes.sync import make_synchronizer
from thfm_ros.nodes.topics import SUBSCRIBED, overridable, profile

NS = 1_000_000_000
KEPT_INFOS, KEPT_DEPTHS = 64, 8  # bounded: a 1080p float depth image has 8 MB


def stamp_ns(header: Header) -> int:
    return header.stamp.sec * NS + header.stamp.nanosec


@dataclass(frozen=True)
class Camera:
    """A frame's camera: intrinsics of its image, and the message they came from."""

    intrinsics: Intrinsics | None
    info: CameraInfo | None


class Inputs:
    """Subscriptions of one activation.

    Args:
        offer: takes (stamp_ns, message) of each colour image; True when the frame was kept.
        lost: told how many colour images the transport lost on the way.
    """

    def __init__(
        self,
        node: Node,
        offer: Callable[[int, Any], bool],
        lost: Callable[[int], None],
        compressed: bool,
        depth_slop_s: float | None,
    ) -> None:
        self._node, self._offer = node, offer
        self._lock = threading.Lock()
        self._infos: OrderedDict[int, CameraInfo] = OrderedDict()
        self._depths: OrderedDict[int, Image] = OrderedDict()  # stamp of the colour image -> its depth image
        self._last_info: CameraInfo | None = None
        topics = {t.name: t for t in SUBSCRIBED}
        groups = [MutuallyExclusiveCallbackGroup() for _ in range(2)]  # a slow depth image must not delay colour
        image = topics["image/compressed" if compressed else "image"]
        wanted = [
            (topics["camera_info"], CameraInfo, self._on_info, groups[0]),  # first, and never overtaken by its image
            (image, CompressedImage if compressed else Image, self._on_image, groups[0]),
        ]
        self._colour_filter: Any = None
        if depth_slop_s is not None:
            self._colour_filter, self._depth_filter, self._pairs = make_synchronizer(KEPT_DEPTHS, depth_slop_s)
            self._pairs.registerCallback(self._on_pair)
            wanted.append((topics["depth_camera/image"], Image, self._depth_filter.signalMessage, groups[1]))
        losses = SubscriptionEventCallbacks(message_lost=lambda event: lost(event.total_count_change))
        self._subscriptions = [
            node.create_subscription(
                kind,
                topic.name,
                callback,
                profile(topic.qos, topic.depth),
                callback_group=group,
                event_callbacks=losses if topic is image else None,
                qos_overriding_options=overridable(),
            )
            for topic, kind, callback, group in wanted
        ]

    @property
    def uses_depth(self) -> bool:
        return self._colour_filter is not None

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _on_image(self, msg: Image | CompressedImage) -> None:
        if self._offer(stamp_ns(msg.header), msg) and self._colour_filter is not None:
            self._colour_filter.signalMessage(SimpleNamespace(header=msg.header))  # the pixels are not queued twice

    def _on_info(self, msg: CameraInfo) -> None:
        with self._lock:
            self._last_info = msg
            self._infos[stamp_ns(msg.header)] = msg
            while len(self._infos) > KEPT_INFOS:
                self._infos.popitem(last=False)

    def _on_pair(self, colour: Any, depth: Image) -> None:
        with self._lock:
            self._depths[stamp_ns(colour.header)] = depth
            while len(self._depths) > KEPT_DEPTHS:
                self._depths.popitem(last=False)

    def camera(self, header: Header, width: int, height: int, rectified: bool, fov_deg: float) -> Camera:
        """The camera of a frame: the camera_info of the same stamp, else the newest, else the field of view.

        Raises UserError where the camera_info is unusable.
        """
        with self._lock:
            info = self._infos.get(stamp_ns(header), self._last_info)
        if info is not None:
            return Camera(intrinsics_of(info, width, height, rectified), info)
        if fov_deg > 0:
            return Camera(Intrinsics.from_fov(fov_deg, width, height), None)
        return Camera(None, None)

    def depth(self, header: Header) -> np.ndarray | None:
        """Metres (h, w) of the depth image paired with this frame, once. UserError where it is malformed."""
        with self._lock:
            msg = self._depths.pop(stamp_ns(header), None)
        return None if msg is None else depth_to_metres(msg)

    def late_depths(self, stamps: Collection[int]) -> list[tuple[int, np.ndarray]]:
        """Stamp and metres of the depth images that have come for these frames meanwhile, oldest first, once each.
        UserError where one is malformed."""
        with self._lock:
            found = [(stamp, self._depths.pop(stamp)) for stamp in sorted(self._depths.keys() & stamps)]
        return [(stamp, depth_to_metres(msg)) for stamp, msg in found]


def to_rgb(msg: Image | CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 of either kind of image message."""
    try:
        return compressed_to_rgb(msg) if isinstance(msg, CompressedImage) else image_to_rgb(msg)
    except UserError:
        raise
    except Exception as error:  # OpenCV on data that passed the checks above
        raise UserError(f"malformed image: {' '.join(str(error).split())}") from None
