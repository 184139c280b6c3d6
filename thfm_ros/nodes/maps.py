"""Messages of a frame's maps: images, compressed images and points. Each function makes one message of one result."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from thfm_ros.geometry import at_depth
from thfm_ros.nodes.images import to_bytes, to_image
from thfm_ros.nodes.pictures import overlay
from thfm_ros.panels import dense_pose_color, normals_color
from thfm_ros.stream.estimator import FrameResult

# compressedDepth states A / depth + B in 16 bits, 0 unknown. A is by image_transport's default quantization of 100:
# 1 cm at 10 m. What is nearer than 15 cm is stated as 15 cm, what is farther than 100 m as unknown.
INVERSE_DEPTH = 0
MAX_DEPTH_M = 100.0
DEPTH_A = 100.0 * 101.0
DEPTH_B = 1.0 - DEPTH_A / MAX_DEPTH_M


@dataclass(frozen=True)
class MapSettings:
    """points_step: `depth/points` has every n-th pixel of every n-th row. jpeg_quality: 1 to 100."""

    points_step: int = 4
    jpeg_quality: int = 80


def _depth(result: FrameResult, header: Header) -> Image | None:
    return None if result.depth is None else to_image(result.depth, "32FC1", header)


def _inverse_depth(result: FrameResult, header: Header) -> Image | None:
    return None if result.disparity is None else to_image(result.disparity.astype(np.float32), "32FC1", header)


def _normals(result: FrameResult, header: Header) -> Image | None:
    return None if result.normals is None else to_image(result.normals, "32FC3", header)


def _normals_color(result: FrameResult, header: Header) -> Image | None:
    return None if result.normals is None else to_image(normals_color(result.normals), "rgb8", header)


def _mask(result: FrameResult) -> np.ndarray | None:
    return None if result.foreground is None else (result.foreground * 255.0 + 0.5).astype(np.uint8)


def _foreground(result: FrameResult, header: Header) -> Image | None:
    mask = _mask(result)
    return None if mask is None else to_image(mask, "mono8", header)


def _dense_pose(result: FrameResult, header: Header) -> Image | None:
    return None if result.dense_pose is None else to_image(result.dense_pose, "32FC3", header)


def _dense_pose_color(result: FrameResult, header: Header) -> Image | None:
    return None if result.dense_pose is None else to_image(dense_pose_color(result.dense_pose), "rgb8", header)


def _instances(result: FrameResult, header: Header) -> Image | None:
    return None if result.instances is None else to_image(result.instances, "mono16", header)


def _overlay(result: FrameResult, header: Header) -> Image:
    return to_image(overlay(result.image, result.foreground, result.people, result.instances), "rgb8", header)


# topic -> image of one frame; None where the frame has nothing for it
IMAGES: dict[str, Callable[[FrameResult, Header], Image | None]] = {
    "depth/image": _depth,
    "inverse_depth/image": _inverse_depth,
    "normals/image": _normals,
    "normals/image_color": _normals_color,
    "foreground/image": _foreground,
    "dense_pose/image": _dense_pose,
    "dense_pose/image_color": _dense_pose_color,
    "instances/image": _instances,
    "overlay/image": _overlay,
}


def _compressed(header: Header, form: str, extension: str, pixels: np.ndarray, options: list[int]) -> CompressedImage:
    done, data = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError(f"OpenCV did not write {extension} of {pixels.dtype} {pixels.shape}")
    return CompressedImage(header=header, format=form, data=to_bytes(data))


def _overlay_jpeg(result: FrameResult, header: Header, settings: MapSettings) -> CompressedImage:
    picture = overlay(result.image, result.foreground, result.people, result.instances)
    options = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality]
    return _compressed(header, "rgb8; jpeg compressed bgr8", ".jpg", picture[..., ::-1], options)


def _foreground_png(result: FrameResult, header: Header, settings: MapSettings) -> CompressedImage | None:
    mask = _mask(result)
    return None if mask is None else _compressed(header, "mono8; png compressed ", ".png", mask, [])


def _compressed_depth(result: FrameResult, header: Header, settings: MapSettings) -> CompressedImage | None:
    """PNG of 16 bits of inverse depth, behind the 12 bytes that say how it is stated."""
    if result.depth is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        stated = np.clip(DEPTH_A / result.depth + DEPTH_B, 0, 65535)
    known = result.depth < MAX_DEPTH_M  # NaN is not
    codes = np.where(known, np.rint(stated), 0).astype(np.uint16)
    message = _compressed(header, "32FC1; compressedDepth png", ".png", codes, [])
    message.data = to_bytes(struct.pack("<iff", INVERSE_DEPTH, DEPTH_A, DEPTH_B)) + message.data
    return message


def _points(result: FrameResult, header: Header, settings: MapSettings) -> PointCloud2 | None:
    """The pixels whose depth is known; x, y, z as float32, rgb packed into the bits of another, as PCL has it."""
    if result.depth is None or result.intrinsics is None:
        return None
    step = settings.points_step
    known = np.isfinite(result.depth[::step, ::step])
    rows, columns = np.nonzero(known)
    pixels = np.stack([columns, rows], -1) * step + 0.5
    points = np.empty((len(rows), 4), np.float32)
    points[:, :3] = at_depth(pixels, result.depth[::step, ::step][known], result.intrinsics)
    red, green, blue = result.image[::step, ::step][known].astype(np.uint32).T
    points[:, 3] = (red << 16 | green << 8 | blue).astype(np.uint32).view(np.float32)
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=[
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(("x", "y", "z", "rgb"))
        ],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        is_dense=True,
        data=to_bytes(points),
    )


# topic -> the same in another form, by the settings
FORMS: dict[str, Callable[[FrameResult, Header, MapSettings], CompressedImage | PointCloud2 | None]] = {
    "overlay/image/compressed": _overlay_jpeg,
    "foreground/image/compressed": _foreground_png,
    "depth/image/compressedDepth": _compressed_depth,
    "depth/points": _points,
}
