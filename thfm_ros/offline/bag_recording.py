"""The frames of one camera of a bag: which topics it has, its images as RGB, each with its calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.offline.bag_depth import BagDepth
from thfm_ros.offline.bag_files import BagFile
from thfm_ros.stream.lens import Lens
from thfm_ros.stream.offline import RecordedFrame

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

IMAGE, COMPRESSED, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class Origin:
    """Where a frame came from."""

    stamp_ns: int
    recorded_ns: int
    frame_id: str
    info: bytes | None  # its serialised camera_info; None where there is none, or it cannot be used


@dataclass(frozen=True)
class _Camera:
    intrinsics: Intrinsics | None
    lens: Lens | None = None  # of an image that is not rectified
    known: bool = False  # by camera_info


class Listener(Protocol):
    """Gets to know all that a bag has while its frames are read."""

    def message(self, connection: Connection, recorded_ns: int, data: bytes) -> None: ...

    def frame(self, origin: Origin) -> None: ...


class BagRecording:
    """The images on one topic of a bag.

    Args:
        image: the topic; "": the only one with colour images (the raw one of a raw and a compressed one).
        camera_info: the topic; "": that of image_transport's convention, else the only one of the image's frame.
        fov_deg: stands in for a camera_info that is missing; None: then there are no metres.
        depth: the topic of a depth camera that is registered to the images; "": none is used.
    Raises:
        UserError: not readable; no such topic, or several that may be meant.
    """

    dated = True

    def __init__(
        self, path: Path, image: str = "", camera_info: str = "", fov_deg: float | None = None, depth: str = ""
    ) -> None:
        self.path, self.notes, self.damaged = path, [], 0
        self.listener: Listener | None = None
        self._depth: BagDepth | None = None
        self.bag = BagFile(path)  # before what needs its library: it says where that is missing
        from thfm_ros.nodes.bag import typestore

        self._types, self._fov_deg = typestore(), fov_deg
        self._counts: dict[str, int] = {}
        for connection in self.bag.connections:
            self._counts[connection.topic] = self._counts.get(connection.topic, 0) + connection.msgcount
        try:
            self.image = self._choose_image(image)
            self.camera_info = self._choose_info(camera_info)
            self._depth = self._open_depth(depth)
        except BaseException:
            self.close()
            raise
        self.frames = self._counts[self.image]
        self.fps = max(self.frames - 1, 1) / max(self.bag.seconds(), 1e-3)

    def close(self) -> None:
        self.bag.close()
        if self._depth is not None:
            self._depth.close()

    # Which topics.

    def _topics(self, *kinds: str) -> dict[str, str]:
        """topic -> type, of those of these types with messages."""
        return {c.topic: c.msgtype for c in self.bag.connections if c.msgtype in kinds and self._counts[c.topic]}

    def _choose_image(self, wanted: str) -> str:
        topics = self._topics(IMAGE, COMPRESSED)
        if not topics:
            found = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in self.bag.connections})) or "no topic at all"
            raise UserError(f"expected a bag with images ({IMAGE} or {COMPRESSED}), found in {self.path}: {found}")
        listed = ", ".join(sorted(topics))
        if wanted:
            match = next((t for t in (wanted, f"/{wanted}", f"{wanted}/compressed") if t in topics), None)
            if match is None:
                raise UserError(f"no images on {wanted} in {self.path}: the topics with images are {listed}")
            return match
        if len(topics) == 1:
            return next(iter(topics))
        problems = {topic: self._problem(topic) for topic in topics}
        colour = [t for t, problem in problems.items() if problem is None]
        colour = [
            t for t in colour if t.removesuffix("/compressed") == t or t.removesuffix("/compressed") not in colour
        ]
        if len(colour) != 1:
            kind = "several topics with colour images" if colour else "no topic whose first image is a colour image"
            raise UserError(
                f"found {kind} in {self.path}: choose one with --image: {', '.join(sorted(colour)) or listed}"
            )
        self.notes.append(f"the images are those of {colour[0]} (--image chooses another one of {listed})")
        return colour[0]

    def _problem(self, topic: str) -> str | None:
        """Why the first image of a topic is none in colour; None where it is."""
        try:
            self._to_rgb(*self._first(topic))
        except UserError as error:
            return str(error)
        return None

    def _choose_info(self, wanted: str) -> str:
        topics = self._topics(INFO)
        if wanted:
            match = next((t for t in (wanted, f"/{wanted}") if t in topics), None)
            if match is None:
                listed = ", ".join(sorted(topics)) or "none"
                raise UserError(f"no camera_info on {wanted} in {self.path}: the topics with {INFO} are {listed}")
            return match
        sibling = f"{self.image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
        if sibling in topics:
            return sibling
        frame = self._first(self.image)[1].header.frame_id
        same = [topic for topic in topics if frame and self._first(topic)[1].header.frame_id == frame]
        if len(same) == 1:
            self.notes.append(f"the calibration is that of {same[0]}, the only one of frame {frame}")
            return same[0]
        others = f" ({', '.join(sorted(topics))}: --camera-info chooses)" if topics else ""
        stand_in = "--fov stands in" if self._fov_deg else "without metres; --fov DEGREES can stand in"
        self.notes.append(f"expected the calibration of {self.image} on {sibling}, found none{others}: {stand_in}")
        return ""

    def _open_depth(self, wanted: str) -> BagDepth | None:
        if not wanted:
            return None
        topics = self._topics(IMAGE)
        match = next((t for t in (wanted, f"/{wanted}") if t in topics), None)
        if match is None:
            listed = ", ".join(sorted(topics)) or "none"
            raise UserError(f"no depth images on {wanted} in {self.path}: the topics with {IMAGE} are {listed}")
        return BagDepth(self.path, match, partial(self._decoded, IMAGE), self._note)

    def _connections(self, topic: str) -> list[Connection]:
        return [c for c in self.bag.connections if c.topic == topic]

    def _first(self, topic: str) -> tuple[str, Any]:
        """Type and first message of a topic. UserError where it is malformed."""
        connection, _, data = next(self.bag.messages(self._connections(topic)))
        return connection.msgtype, self._decoded(connection.msgtype, data)

    # Its frames.

    def __iter__(self) -> Iterator[RecordedFrame]:
        info = self._first_info()
        self.damaged = images = measured = 0
        if self._depth is not None:
            self._depth.start()
        wanted = [] if self.listener else [*self._connections(self.image), *self._connections(self.camera_info)]
        for connection, recorded_ns, data in self.bag.messages(wanted):
            if self.listener:
                self.listener.message(connection, recorded_ns, data)
            if connection.topic == self.camera_info:
                info = data
            if connection.topic != self.image:
                continue
            images += 1
            try:
                message = self._decoded(connection.msgtype, data)
                image = self._to_rgb(connection.msgtype, message)
            except UserError as error:
                self.damaged += 1
                if self.damaged == 1:
                    self._note(f"{self.image}: {error}")
                continue
            stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            if stamp_ns == 0:
                self._note(f"{self.image} has images without a stamp: the time at which they were recorded is used")
                stamp_ns = recorded_ns
            camera = self._camera(info, image)
            if self.listener:
                used = info if camera.known else None
                self.listener.frame(Origin(stamp_ns, recorded_ns, message.header.frame_id, used))
            frame_id, size = message.header.frame_id, (image.shape[1], image.shape[0])
            depth = self._depth.of(stamp_ns, recorded_ns, frame_id, size) if self._depth else None
            measured += depth is not None
            yield RecordedFrame(stamp_ns, image, camera.intrinsics, depth, camera.lens)

        if self._depth is not None and measured < images - self.damaged:
            self._note(f"{images - self.damaged - measured} of {images} images have no depth image of their moment")
        if images != self.frames:
            self._note(f"metadata.yaml has {self.frames} images on {self.image}, its files have {images}")

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    def _first_info(self) -> bytes | None:
        """For images before the first calibration of the bag: cameras do not change."""
        if not self.camera_info:
            return None
        return next(self.bag.messages(self._connections(self.camera_info)))[2]

    def _decoded(self, kind: str, data: bytes) -> Any:
        try:
            return self._types.deserialize_cdr(data, kind)
        except Exception as error:  # of the library, by what the bytes happen to say
            raise UserError(f"malformed {kind} of {len(data)} bytes: {type(error).__name__}") from None

    @staticmethod
    def _to_rgb(kind: str, message: Any) -> np.ndarray:
        from thfm_ros.nodes.images import compressed_to_rgb, image_to_rgb

        return image_to_rgb(message) if kind == IMAGE else compressed_to_rgb(message)

    def _camera(self, data: bytes | None, image: np.ndarray) -> _Camera:
        from thfm_ros.nodes.camera_info import has_projection, intrinsics_of, is_rectified, lens_of

        height, width = image.shape[:2]
        stand_in = None if self._fov_deg is None else Intrinsics.from_fov(self._fov_deg, width, height)
        if data is None:
            return _Camera(stand_in)
        rectified = is_rectified("auto", self.image)
        try:
            info = self._decoded(INFO, data)
            intrinsics = intrinsics_of(info, width, height, rectified and has_projection(info))
            return _Camera(intrinsics, None if rectified else lens_of(info), known=True)
        except UserError as error:
            self._note(f"{error}; {'--fov stands in' if stand_in else 'no metres'}")
            return _Camera(stand_in)
