"""Depth images of a depth camera: paired with colour images by stamp, and used only where they show the same view."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.agreement import Findings, check_measures, check_registered, check_same_view
from thfm_ros.nodes.camera_info import has_projection, intrinsics_of
from thfm_ros.nodes.images import depth_to_metres
from thfm_ros.nodes.sync import NS, make_synchronizer, stamp_ns

KEPT = 8  # bounded: a 1080p float depth image has 8 MB
PATIENCE = 20  # images in a row without a pair before that is a finding
FRESH_S = 2.0  # a depth image as old as that no longer measures
LATE_S = 0.2  # a stamp that is older than the newest by more is not late: time has jumped back (as in ClipBuffer)
COLOUR, DEPTH = 0, 1


@dataclass(frozen=True)
class View:
    """What a depth image has to be registered to: the colour image's size (width, height) and camera."""

    size: tuple[int, int]
    intrinsics: Intrinsics | None
    rectified: bool


class DepthImages:
    """Callbacks store; the worker takes metres. What cannot be used is counted, and a finding.

    Args:
        slop_s: a colour and a depth image are a pair when their stamps are less apart.
    """

    def __init__(self, slop_s: float, findings: Findings) -> None:
        self._slop_s, self._findings = slop_s, findings
        self._lock = threading.Lock()
        self._pairs: OrderedDict[int, tuple[str, Image]] = OrderedDict()  # stamp of colour -> its frame_id, its depth
        self._info: CameraInfo | None = None
        self.received = self.paired = self.used = self.refused = 0
        self._unpaired = [0, 0]  # images of COLOUR and of DEPTH since the last pair
        self._alone = 0  # colour images since the last depth image
        self._begin()

    def _begin(self) -> None:
        """Forgets what came before: nothing of it belongs to the messages to come."""
        self._pairs.clear()
        self._newest_ns: int | None = None  # stamp of the newest frame with a depth image that was used
        self._seen_ns = [0, 0]  # the newest stamp of COLOUR and of DEPTH
        *self._filters, pairs = make_synchronizer(KEPT, self._slop_s)
        pairs.registerCallback(self._on_pair)

    def on_colour(self, header: Header) -> None:
        self._filter(COLOUR, header).signalMessage(SimpleNamespace(header=header))  # the pixels are not queued twice

    def on_depth(self, msg: Image) -> None:
        self.received += 1
        self._filter(DEPTH, msg.header).signalMessage(msg)

    def _filter(self, which: int, header: Header) -> Any:
        """Where to put a message. After a jump back (a bag that loops) it is a new place: the stamps of before fill the
        old one, which drops all that are older."""
        stamp = stamp_ns(header)
        with self._lock:
            if self._seen_ns[which] - stamp > LATE_S * NS:
                self._begin()
            self._seen_ns[which] = max(self._seen_ns[which], stamp)
            self._unpaired[which] += 1
            self._alone = self._alone + 1 if which == COLOUR else 0
            return self._filters[which]

    def on_info(self, msg: CameraInfo) -> None:
        self._info = msg

    def _on_pair(self, colour: SimpleNamespace, depth: Image) -> None:
        with self._lock:
            self.paired += 1
            self._unpaired = [0, 0]
            self._pairs[stamp_ns(colour.header)] = (colour.header.frame_id, depth)
            while len(self._pairs) > KEPT:
                self._pairs.popitem(last=False)

    def take(self, stamps: Collection[int], view: View) -> list[tuple[int, np.ndarray]]:
        """Stamp and metres (h, w) of the depth images of these frames that have come, oldest first, once each."""
        with self._lock:
            found = [(stamp, *self._pairs.pop(stamp)) for stamp in sorted(self._pairs.keys() & set(stamps))]
        metres = [(stamp, self._metres(stamp, frame_id, msg, view)) for stamp, frame_id, msg in found]
        return [(stamp, depth) for stamp, depth in metres if depth is not None]

    def _metres(self, stamp: int, frame_id: str, msg: Image, view: View) -> np.ndarray | None:
        """(h, w) metres; None where the image cannot be used."""
        try:
            check_registered(msg, frame_id, view.size)
            own = self._intrinsics(msg, view.rectified)
            if own is not None and view.intrinsics is not None:
                check_same_view(msg, own, view.intrinsics)
            depth = depth_to_metres(msg)
            check_measures(depth)
        except UserError as error:
            self.refused += 1
            self._findings.note("depth", f"{error}; until then metres come from the skeleton")
            return None
        self._findings.note("depth", None)
        self.used += 1
        self._newest_ns = stamp
        return depth

    def _intrinsics(self, msg: Image, rectified: bool) -> Intrinsics | None:
        """Gives the depth camera's intrinsics, if they are known."""
        if self._info is None:
            return None
        try:
            found = intrinsics_of(self._info, msg.width, msg.height, rectified and has_projection(self._info))
        except UserError as error:
            self._findings.note("depth camera_info", f"depth_camera/{error}; until then its view is not compared")
            return None
        self._findings.note("depth camera_info", None)
        return found

    def measures(self, stamp: int) -> bool:
        """True while depth images give the metres of frames about this old."""
        return self._newest_ns is not None and abs(stamp - self._newest_ns) / NS < FRESH_S

    def look(self, topic: str) -> None:
        """Whether depth images come, and belong to the colour images."""
        line = None
        if self._alone >= PATIENCE:
            line = f"no depth image on {topic}: metres come from the skeleton; start the camera, or remap its topic"
        elif min(self._unpaired) >= PATIENCE:
            line = (
                f"no depth image on {topic} belongs to a colour image: expected stamps less than {self._slop_s:g} s "
                "apart; metres come from the skeleton; synchronise the cameras, or raise depth_slop_s"
            )
        self._findings.note("pairs", line)

    def values(self) -> dict[str, object]:
        return {f"Depth images {what}": getattr(self, what) for what in ("received", "paired", "used", "refused")}
