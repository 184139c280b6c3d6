"""A camera for those who have none: a video file, a shipped sample or a V4L2 device as `image` + `camera_info`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from thfm_ros.encoded_image import decode_image
from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.camera_info import pinhole_camera_info
from thfm_ros.nodes.fixed_parameters import declare_fixed
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.logs import ensure_log_folder
from thfm_ros.nodes.topics import overridable, profile
from thfm_ros.paths import video_path

PARAMETERS: tuple[tuple[str, object, str], ...] = (
    ("source", "walker", "Video file, name of a shipped sample, or V4L2 device (/dev/video0)."),
    ("rate", 0.0, "Mean frames a second; 0: the file's or device's own. Uneven times stay uneven."),
    ("loop", False, "Start the file again at its end; false: the node ends there."),
    ("frame_id", "camera_optical_frame", "frame_id of the headers (x right, y down, z forward)."),
    ("horizontal_fov_deg", 60.0, "Field of view that camera_info states, degrees; 0: no camera_info."),
    ("width", 0, "Requested width of a device, pixels; 0: its own."),
    ("height", 0, "Requested height of a device, pixels; 0: its own."),
    ("wait_for_subscribers", 0, "Publish nothing until so many subscriptions to `image` exist."),
)


LATE_S = 0.5  # a machine that is too slow for a file falls back by no more than this
MJPEG = tuple(cv2.VideoWriter.fourcc(*name) for name in ("MJPG", "JPEG"))


class FileSource:
    """Frames of a video file at their own, perhaps uneven, times.

    Args:
        rate: mean frames a second, which plays the file slower or faster; 0: its own speed.
    """

    def __init__(self, source: str, loop: bool, rate: float) -> None:
        from thfm_ros.video import VideoReader  # only here: a device needs no PyAV

        self.reader = VideoReader(video_path(source))
        self.rate = rate or self.reader.fps
        self.speed = self.rate / self.reader.fps
        self.loop = loop
        self.damaged = 0

    @property
    def notes(self) -> list[str]:
        return [f"{self.reader.path}: {note}" for note in self.reader.notes]

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds after the first frame at which it is due, RGB)."""
        begin = due = 0.0
        while True:
            for time_s, image in self.reader:
                due = begin + time_s / self.speed
                yield due, image
            self.damaged += self.reader.damaged
            if not self.loop:
                return
            begin = due + 1 / self.rate


class DeviceSource:
    """Frames of a V4L2 device through OpenCV, which sets the pace by itself."""

    notes = ()

    def __init__(self, device: str, width: int, height: int, rate: float) -> None:
        if not Path(device).exists():
            raise UserError(f"camera {device} does not exist: plug it in, or name another (ls /dev/video*)")
        self.device = device
        self.damaged = 0
        self.capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, rate),
        ):
            if value > 0:
                self.capture.set(setting, value)
        if not self.capture.isOpened():
            raise UserError(f"cannot open camera {device}: is it in use, or not yours to read (group video)?")
        if int(self.capture.get(cv2.CAP_PROP_FOURCC)) in MJPEG:
            self.capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # OpenCV would not tell half a frame from a whole one

    def frames(self) -> Iterator[tuple[None, np.ndarray]]:
        while True:
            read, image = self.capture.read()
            if not read:
                raise UserError(f"camera {self.device} gave no image: was it unplugged?")
            rgb = device_rgb(image)
            if rgb is None:
                self.damaged += 1
            else:
                yield None, rgb


def device_rgb(image: np.ndarray) -> np.ndarray | None:
    """(H, W, 3) RGB of what a device gave: BGR (H, W, 3), or the bytes of a JPEG. None where those are damaged."""
    if image.ndim < 3:
        try:
            image = decode_image(image.tobytes(), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except ValueError:
            return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class CameraNode(Node):
    """Publishes until the source ends. Latecomers miss nothing that they could use: nothing is queued for them."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__("camera", **kwargs)
        value = declare_fixed(self, PARAMETERS)
        if value["rate"] < 0:
            raise UserError(f"parameter rate = {value['rate']:g}: expected 0 (the source's own) or more")
        self.source = (
            DeviceSource(value["source"], value["width"], value["height"], value["rate"])
            if str(value["source"]).startswith("/dev/")
            else FileSource(value["source"], value["loop"], value["rate"])
        )
        self.frame_id, self.fov = value["frame_id"], value["horizontal_fov_deg"]
        self.wanted = value["wait_for_subscribers"]
        options = {"qos_overriding_options": overridable()}
        self.images = self.create_publisher(Image, "image", profile("reliable", 5), **options)
        self.infos = self.create_publisher(CameraInfo, "camera_info", profile("reliable", 5), **options)
        self.sent = 0
        self._noted = 0  # of the source's notes, those that were logged
        self._start: float | None = None  # of the source's times, on the monotonic clock

    def run(self) -> None:
        """Publishes frame after frame in this thread; returns at the source's end or at shutdown."""
        while rclpy.ok(context=self.context) and self.images.get_subscription_count() < self.wanted:
            time.sleep(0.05)
        damaged = 0
        self._warn_of_notes()
        for due, image in self.source.frames():
            late = 0.0 if due is None else self._wait(due)
            if not rclpy.ok(context=self.context):
                return
            self.publish(image, late)
            if self.source.damaged > damaged:
                damaged = self.source.damaged
                self.get_logger().warning(f"{damaged} damaged frames left out", throttle_duration_sec=10.0)
            self._warn_of_notes()
        self._warn_of_notes()
        self.images.wait_for_all_acked(rclpy.duration.Duration(seconds=2))
        left_out = f", {self.source.damaged} damaged ones left out" if self.source.damaged else ""
        self.get_logger().info(f"{self.sent} frames sent{left_out}: the source has ended")

    def _warn_of_notes(self) -> None:
        """Some are known only once the frames that they are about were read."""
        for note in self.source.notes[self._noted :]:
            self.get_logger().warning(note)
            self._noted += 1

    def _wait(self, due: float) -> float:
        """Waits until a frame is due; how late it is, seconds."""
        if self._start is None:
            self._start = time.monotonic() - due
        while rclpy.ok(context=self.context) and (left := self._start + due - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
        late = time.monotonic() - self._start - due
        if late > LATE_S:
            self.get_logger().warning(f"decoding is too slow: {late:.1f} s late", throttle_duration_sec=10.0)
            self._start += late
            return 0.0
        return late

    def publish(self, image: np.ndarray, late_s: float = 0.0) -> None:
        """One image and its camera_info, stamped with the time at which it was due."""
        stamp = self.get_clock().now() - rclpy.duration.Duration(nanoseconds=round(late_s * 1e9))
        header = Header(stamp=stamp.to_msg(), frame_id=self.frame_id)
        if self.fov > 0:
            camera = Intrinsics.from_fov(self.fov, image.shape[1], image.shape[0])
            self.infos.publish(pinhole_camera_info(camera, header))
        self.images.publish(to_image(image, "rgb8", header))
        self.sent += 1


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `camera`."""
    ensure_log_folder()
    rclpy.init(args=args)
    node = None
    try:
        node = CameraNode()
        node.run()
    except UserError as error:
        print(f"camera: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
