"""Makes bags as rosbag2 leaves them: raw or compressed images, both storages, zstd, split, without definitions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from ruamel.yaml import YAML
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from stream_fakes import moving_square

from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.bag import typestore
from thfm_ros.nodes.camera_info import pinhole_camera_info
from thfm_ros.nodes.images import to_image

NS = 1_000_000_000
START = 1_760_000_000 * NS
DELAY = 20_000_000  # from stamp to record
RATE = 30.0
NO_TIME = QosTime(0, 0)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, NO_TIME, NO_TIME,
    QosLiveliness.AUTOMATIC, NO_TIME, False,
)  # fmt: skip


def type_of(message: Any) -> str:
    return f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"


def header(stamp_ns: int, frame_id: str = "camera_optical") -> Header:
    head = Header(frame_id=frame_id)
    head.stamp.sec, head.stamp.nanosec = divmod(stamp_ns, NS)
    return head


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * NS + message.header.stamp.nanosec


def raw(head: Header, pixels: np.ndarray) -> Image:
    return to_image(pixels, "rgb8", head)


def jpeg(head: Header, pixels: np.ndarray) -> CompressedImage:
    data = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    return CompressedImage(header=head, format="rgb8; jpeg compressed bgr8", data=data)


def camera_info(head: Header, width: int = 96, height: int = 64) -> CameraInfo:
    return pinhole_camera_info(Intrinsics.from_fov(53.13, width, height), head)  # focal length = width


Entry = tuple[str, Any, int]  # topic, message, time of its record


def camera(
    count: int = 24, topic: str = "/cam/image_raw", image: Any = raw, info: bool = True, start: int = START
) -> list[Entry]:
    """One camera at RATE: its images with their calibration, and a topic of something else."""
    entries: list[Entry] = []
    namespace = topic.removesuffix("/compressed").rpartition("/")[0]
    for i in range(count):
        head = header(start + round(i / RATE * NS))
        recorded = stamp_of(raw(head, np.zeros((1, 1, 3), np.uint8))) + DELAY
        if info:
            entries.append((f"{namespace}/camera_info", camera_info(head), recorded))
        entries.append((topic, image(head, moving_square(i)), recorded))
        if i % 5 == 0:
            entries.append(("/chatter", String(data=f"{i}"), recorded + 1))
    return entries


@dataclass
class Kind:
    """How a bag is stored."""

    storage: str = "mcap"
    mode: CompressionMode = CompressionMode.NONE
    files: int = 1
    qos: dict[str, list[Qos]] = field(default_factory=lambda: {"/chatter": [LATCHED]})


def write_bag(path: Path, entries: Iterable[Entry], kind: Kind | None = None) -> Path:
    """A bag of these messages. One of several files is joined from bags of a part each, as rosbag2 splits them."""
    kind, entries = kind or Kind(), list(entries)
    if kind.files > 1:
        return _joined(path, entries, kind)
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[kind.storage.upper()])
    writer.set_compression(kind.mode, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for topic, message, recorded in entries:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, type_of(message), typestore=typestore(), offered_qos_profiles=kind.qos.get(topic, [])
                )
            writer.write(connections[topic], recorded, serialize_message(message))
    return path


def _joined(path: Path, entries: list[Entry], kind: Kind) -> Path:
    path.mkdir()
    size = -(-len(entries) // kind.files)
    whole: dict[str, Any] = {}
    for number in range(kind.files):
        part = path.parent / f"{path.name}_{number}"
        write_bag(part, entries[number * size : (number + 1) * size], Kind(kind.storage, kind.mode, qos=kind.qos))
        metadata = YAML(typ="safe").load((part / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        shutil.move(part / metadata["relative_file_paths"][0], path)
        shutil.rmtree(part)
        if not whole:
            whole = metadata
            continue
        whole["relative_file_paths"] += metadata["relative_file_paths"]
        whole["message_count"] += metadata["message_count"]
        end = metadata["starting_time"]["nanoseconds_since_epoch"] + metadata["duration"]["nanoseconds"]
        whole["duration"]["nanoseconds"] = end - whole["starting_time"]["nanoseconds_since_epoch"]
        counts = {t["topic_metadata"]["name"]: t["message_count"] for t in metadata["topics_with_message_count"]}
        for topic in whole["topics_with_message_count"]:
            topic["message_count"] += counts.get(topic["topic_metadata"]["name"], 0)
    with (path / "metadata.yaml").open("w") as file:
        YAML(typ="safe").dump({"rosbag2_bagfile_information": whole}, file)
    return path


def read_bag(path: Path) -> list[tuple[str, str, int, bytes]]:
    """topic, type, time of record and bytes of every message, in their order."""
    with Reader(path) as reader:
        return [(c.topic, c.msgtype, time, bytes(data)) for c, time, data in reader.messages()]
