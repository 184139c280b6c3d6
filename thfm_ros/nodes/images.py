"""Between sensor_msgs images and numpy arrays. Every function is pure; errors are UserErrors of one line."""

from __future__ import annotations

import array
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from thfm_ros.encoded_image import decode_image, image_size
from thfm_ros.errors import UserError

if TYPE_CHECKING:  # what decodes takes any object with the fields of the message: bags are read without ROS
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

MAX_PIXELS = 64_000_000  # a larger size is a corrupt header, not a camera


def _scale_16(pixels: np.ndarray) -> np.ndarray:
    return (pixels >> 8).astype(np.uint8)


# encoding -> (channels, dtype, to RGB). The names are those of sensor_msgs/image_encodings.hpp.
_PACKED: dict[str, tuple[int, type, Callable[[np.ndarray], np.ndarray]]] = {
    "rgb8": (3, np.uint8, lambda p: p),
    "bgr8": (3, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_BGR2RGB)),
    "8UC3": (3, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_BGR2RGB)),  # OpenCV's order, as cv_bridge has it
    "rgba8": (4, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_BGRA2RGB)),
    "mono8": (1, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_GRAY2RGB)),
    "8UC1": (1, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_GRAY2RGB)),
    "mono16": (1, np.uint16, lambda p: cv2.cvtColor(_scale_16(p), cv2.COLOR_GRAY2RGB)),
    "rgb16": (3, np.uint16, _scale_16),
    "bgr16": (3, np.uint16, lambda p: cv2.cvtColor(_scale_16(p), cv2.COLOR_BGR2RGB)),
    "yuv422": (2, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (2, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (2, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": (2, np.uint8, lambda p: cv2.cvtColor(p, cv2.COLOR_YUV2RGB_YUY2)),
}
BAYER = tuple(f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg"))
for _name in BAYER:
    _code = getattr(cv2, f"COLOR_Bayer{_name[6:10].upper()}2RGB")
    _PACKED[_name] = (1, np.uint8, lambda p, c=_code: cv2.cvtColor(p, c))
    _PACKED[_name.replace("8", "16")] = (1, np.uint16, lambda p, c=_code: _scale_16(cv2.cvtColor(p, c)))

_PLANAR = {  # 4:2:0: a plane of Y, then half as many rows of interleaved chroma
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "nv21": cv2.COLOR_YUV2RGB_NV21,
}

COLOR_ENCODINGS = (*_PACKED, *_PLANAR)
DEPTH_ENCODINGS = ("32FC1", "16UC1", "mono16")


def _rows(msg: Image, rows: int, row_bytes: int) -> np.ndarray:
    """(rows, row_bytes) uint8 view of the data without the padding that `step` allows."""
    step = msg.step or row_bytes
    if step < row_bytes:
        raise UserError(f"malformed {msg.encoding} image: step {step} is less than {msg.width} px need ({row_bytes})")
    if len(msg.data) < step * (rows - 1) + row_bytes:
        raise UserError(
            f"malformed {msg.encoding} image: {msg.width}x{msg.height} with step {step} needs {step * rows} bytes, "
            f"found {len(msg.data)}"
        )
    data = np.frombuffer(msg.data, np.uint8)
    if len(data) < step * rows:  # the last row may lack its padding
        data = np.concatenate([data, np.zeros(step * rows - len(data), np.uint8)])
    return data[: step * rows].reshape(rows, step)[:, :row_bytes]


def _check_size(msg: Image) -> None:
    if msg.width == 0 or msg.height == 0 or len(msg.data) == 0:
        raise UserError(f"empty image: {msg.width}x{msg.height}, {len(msg.data)} bytes")
    if msg.width * msg.height > MAX_PIXELS:
        raise UserError(f"malformed image: {msg.width}x{msg.height} is no camera's size")


def _pixels(msg: Image, channels: int, dtype: type) -> np.ndarray:
    """(H, W[, channels]) in the machine's byte order."""
    size = np.dtype(dtype).itemsize
    rows = np.ascontiguousarray(_rows(msg, msg.height, msg.width * channels * size))
    order = ">" if msg.is_bigendian else "<"
    pixels = rows.view(np.dtype(dtype).newbyteorder(order)).astype(dtype, copy=False)
    return pixels.reshape((msg.height, msg.width) if channels == 1 else (msg.height, msg.width, channels))


def image_to_rgb(msg: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a colour or gray image. UserError for anything malformed or unknown."""
    _check_size(msg)
    if msg.encoding in _PACKED:
        channels, dtype, convert = _PACKED[msg.encoding]
        if channels == 2 and msg.width % 2:
            raise UserError(f"malformed {msg.encoding} image: its width has to be even, found {msg.width}")
        return convert(_pixels(msg, channels, dtype))
    if msg.encoding in _PLANAR:
        if msg.width % 2 or msg.height % 2:
            raise UserError(f"malformed {msg.encoding} image: its size has to be even, found {msg.width}x{msg.height}")
        planes = np.ascontiguousarray(_rows(msg, msg.height * 3 // 2, msg.width))
        return cv2.cvtColor(planes, _PLANAR[msg.encoding])
    return _by_cv_bridge(msg)


def _by_cv_bridge(msg: Image) -> np.ndarray:
    _refuse_depth(msg.encoding)
    _refuse_unnamed_channels(msg.encoding)
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise UserError(
            f"image encoding '{msg.encoding}' is not supported without cv_bridge: install ros-<distro>-cv-bridge, "
            f"or publish one of {', '.join(COLOR_ENCODINGS)}"
        ) from None
    try:
        return CvBridge().imgmsg_to_cv2(msg, "rgb8")
    except (CvBridgeError, RuntimeError, ValueError) as error:
        raise UserError(f"image encoding '{msg.encoding}' is not supported by cv_bridge either: {error}") from None


def _refuse_depth(encoding: str) -> None:
    if re.fullmatch(r"(16|32|64)[USF]C1", encoding):
        raise UserError(
            f"image encoding '{encoding}' is that of a depth image: expected a colour image: "
            "remap the colour camera's topic to image, and this one to depth_camera/image"
        )


def _refuse_unnamed_channels(encoding: str) -> None:
    """UserError for OpenCV's type names, which say how a pixel is stored and not what it shows."""
    if re.fullmatch(r"(8|16|32|64)[USF]C\d+", encoding):
        named = {"8UC2": "yuv422_yuy2 or yuv422", "8UC4": "bgra8 or rgba8", "16UC3": "bgr16 or rgb16"}
        fix = f"publish it as {named.get(encoding, 'bgr8 or rgb8')}"
        raise UserError(f"image encoding '{encoding}' does not say which channel is which colour: {fix}")


def compressed_to_rgb(msg: CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a CompressedImage, as image_transport's `compressed` publishes it.

    Its format is "jpeg" or "png", or "ENCODING; jpeg compressed ORDER": the encoding of the image that was compressed,
    and the channels' order in the file, where that is no camera's own file. The bytes say what they are, whatever the
    format says. An EXIF orientation is ignored: camera_info describes the pixels as they were sent.
    """
    encoding, _, transport = (part.strip() for part in msg.format.partition(";"))
    if "compressedDepth" in transport or encoding == "compressedDepth":
        raise UserError(
            f"compressed image of format '{msg.format}' is a depth image: expected a colour image: "
            "remap the colour camera's compressed topic to image/compressed"
        )
    _refuse_depth(encoding)
    data = bytes(msg.data)
    width, height = image_size(data) or (0, 0)
    if width * height > MAX_PIXELS:
        raise UserError(f"malformed compressed image: {width}x{height} is no camera's size")
    try:
        image = decode_image(data, cv2.IMREAD_UNCHANGED)
    except ValueError as error:
        raise UserError(
            f"malformed compressed image: format '{msg.format}', {len(data)} bytes cannot be decoded: {error}: "
            "expected a whole JPEG or PNG"
        ) from None
    if image.dtype == np.uint16:
        image = _scale_16(image)
    if image.dtype != np.uint8:
        raise UserError(
            f"compressed image of format '{msg.format}': expected 8 or 16 bits a value, found {image.dtype}"
        )
    if image.ndim == 2:
        eight_bits = encoding.replace("16", "8")
        return _PACKED[eight_bits if eight_bits in BAYER else "mono8"][2](image)
    image = np.ascontiguousarray(image[..., :3])
    return image if "compressed rgb" in transport else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def depth_to_metres(msg: Image) -> np.ndarray:
    """(H, W) float32 metres, NaN invalid, from REP-118's 32FC1 (m) or 16UC1 (mm, 0 = invalid)."""
    _check_size(msg)
    if msg.encoding not in DEPTH_ENCODINGS:
        raise UserError(f"depth encoding '{msg.encoding}' is unknown: expected one of {', '.join(DEPTH_ENCODINGS)}")
    if msg.encoding == "32FC1":
        depth = _pixels(msg, 1, np.float32).copy()
    else:
        depth = _pixels(msg, 1, np.uint16).astype(np.float32) / 1000.0
    with np.errstate(invalid="ignore"):
        depth[~(depth > 0) | ~np.isfinite(depth)] = np.nan
    return depth


_LAYOUTS = {
    "rgb8": (np.uint8, 3),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "32FC1": (np.float32, 1),
    "32FC3": (np.float32, 3),
}


def to_bytes(values: np.ndarray | bytes) -> array.array[int]:
    """The data field of a message: bytes or an ndarray would be checked element by element."""
    data = array.array("B")
    data.frombytes(values if isinstance(values, bytes) else np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    return data


def to_image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """An Image message of (H, W[, 3]) pixels; encoding: of _LAYOUTS; the dtype has to be the encoding's."""
    from sensor_msgs.msg import Image

    dtype, channels = _LAYOUTS[encoding]
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != dtype or found != channels:
        raise ValueError(f"{encoding} needs {np.dtype(dtype)} x {channels}, found {pixels.dtype} x {found}")
    pixels = np.ascontiguousarray(pixels)
    return Image(
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=to_bytes(pixels),
    )
