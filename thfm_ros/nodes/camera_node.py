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

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.camera_info import pinhole_camera_info
from thfm_ros.nodes.fixed_parameters import declare_fixed
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.topics import overridable, profile
from thfm_ros.paths import video_path
from thfm_ros.video import VideoReader

PARAMETERS: tuple[tuple[str, object, str], ...] = (
    ("source", "walker", "Video file, name of a shipped sample, or V4L2 device (/dev/video0)."),
    ("rate", 0.0, "Frames a second; 0: the file's or device's own."),
    ("loop", False, "Start the file again at its end; false: the node ends there."),
    ("frame_id", "camera_optical_frame", "frame_id of the headers (x right, y down, z forward)."),
    ("horizontal_fov_deg", 60.0, "Field of view that camera_info states, degrees; 0: no camera_info."),
    ("width", 0, "Requested width of a device, pixels; 0: its own."),
    ("height", 0, "Requested height of a device, pixels; 0: its own."),
    ("wait_for_subscribers", 0, "Publish nothing until so many subscriptions to `image` exist."),
)


class FileSource:
    """Frames of a video file, as often as wanted."""

    def __init__(self, source: str, loop: bool) -> None:
        self.reader = VideoReader(video_path(source))
        self.fps = self.reader.fps
        self.loop = loop

    def frames(self) -> Iterator[np.ndarray]:
        while True:
            for _, image in self.reader:
                yield image
            if not self.loop:
                return


class DeviceSource:
    """Frames of a V4L2 device through OpenCV."""

    def __init__(self, device: str, width: int, height: int, rate: float) -> None:
        if not Path(device).exists():
            raise UserError(f"camera {device} does not exist: plug it in, or name another (ls /dev/video*)")
        self.device = device
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
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 30.0

    def frames(self) -> Iterator[np.ndarray]:
        while True:
            read, image = self.capture.read()
            if not read:
                raise UserError(f"camera {self.device} gave no image: was it unplugged?")
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class CameraNode(Node):
    """Publishes until the source ends. Latecomers miss nothing that they could use: nothing is queued for them."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__("camera", **kwargs)
        value = declare_fixed(self, PARAMETERS)
        if value["rate"] < 0:
            raise UserError(f"parameter rate = {value['rate']:g}: expected 0 (the source's own) or more")
        is_device = str(value["source"]).startswith("/dev/")
        self.source = (
            DeviceSource(value["source"], value["width"], value["height"], value["rate"])
            if is_device
            else FileSource(value["source"], value["loop"])
        )
        self.rate = value["rate"] or self.source.fps
        self.frame_id, self.fov = value["frame_id"], value["horizontal_fov_deg"]
        self.paced = not is_device  # a device sets the pace by itself
        self.wanted = value["wait_for_subscribers"]
        options = {"qos_overriding_options": overridable()}
        self.images = self.create_publisher(Image, "image", profile("reliable", 5), **options)
        self.infos = self.create_publisher(CameraInfo, "camera_info", profile("reliable", 5), **options)
        self.sent = 0

    def run(self) -> None:
        """Publishes frame after frame in this thread; returns at the source's end or at shutdown."""
        while rclpy.ok(context=self.context) and self.images.get_subscription_count() < self.wanted:
            time.sleep(0.05)
        start = time.monotonic()
        for image in self.source.frames():
            if self.paced:
                time.sleep(max(0.0, start + self.sent / self.rate - time.monotonic()))
            if not rclpy.ok(context=self.context):
                return
            self.publish(image)
        self.images.wait_for_all_acked(rclpy.duration.Duration(seconds=2))
        self.get_logger().info(f"{self.sent} frames sent: the source has ended")

    def publish(self, image: np.ndarray) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self.frame_id)
        if self.fov > 0:
            camera = Intrinsics.from_fov(self.fov, image.shape[1], image.shape[0])
            self.infos.publish(pinhole_camera_info(camera, header))
        self.images.publish(to_image(image, "rgb8", header))
        self.sent += 1


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `camera`."""
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
