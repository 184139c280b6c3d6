"""Between sensor_msgs/CameraInfo and Intrinsics.

ROS (like OpenCV) puts the centre of the first pixel at 0, this package at 0.5: principal points differ by half a
pixel, which matters when an image is made smaller.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.lens import Lens

if TYPE_CHECKING:  # what reads takes any object with the fields of the message: bags are read without ROS
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header

FOCAL_LENGTHS = (0.04, 100.0)  # in widths of the image: fields of view of 171 and 0.6 degrees
MARGIN = 0.05  # of the image, at each border, where no principal point lies
MOST_STRETCH = 3.0  # between fx and fy
RECTIFIED_NAME = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")  # image_rect, rect/image, image_rect_color/compressed


def intrinsics_of(info: CameraInfo, width: int, height: int, rectified: bool = False) -> Intrinsics:
    """Intrinsics of an image of this size.

    Args:
        rectified: the image is `image_rect`: P applies instead of K.
    Raises UserError where the matrix is empty, not finite, no camera's, or belongs to an image of another shape.
    """
    k = info.p if rectified else info.k
    fx, fy = float(k[0]), float(k[5] if rectified else k[4])
    cx, cy = float(k[2]), float(k[6] if rectified else k[5])
    delivered = _delivered_size(info) if info.width and info.height else (width, height)
    _check_region(info, width, height)
    _check_matrix("P" if rectified else "K", (fx, fy, cx, cy), _calibrated_size(info, width, height))
    cx, cy = cx + 0.5, cy + 0.5
    roi = info.roi
    if roi.width and roi.height:
        cx, cy = cx - roi.x_offset, cy - roi.y_offset
    bx, by = _binning(info)
    intrinsics = Intrinsics(fx / bx, fy / by, cx / bx, cy / by, *delivered)
    if delivered == (width, height):
        return intrinsics
    if not same_aspect(delivered, (width, height)):
        raise UserError(
            f"camera_info is for {delivered[0]}x{delivered[1]}, the image is {width}x{height}: another aspect ratio; "
            "use the camera_info of this image, with its size, binning and roi"
        )
    return intrinsics.resized(width, height)


def same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """True where images of these sizes (width, height) may show the same view: equal but for rounding to pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= 2 * max(*one, *other)


def is_rectified(setting: str, topic: str) -> bool:
    """Whether an image is rectified, so that P of camera_info applies, else K and D.

    Args:
        setting: "true", "false", or "auto": by the topic's name (image_rect), as image_proc and drivers name it.
        topic: the resolved name of the image's topic.
    """
    return setting == "true" or (setting == "auto" and bool(RECTIFIED_NAME.search(topic)))


def has_projection(info: CameraInfo) -> bool:
    """False where P was never filled in: K has to do for a rectified image, too."""
    return any(info.p)


def lens_of(info: CameraInfo) -> Lens | None:
    """The lens of an image that is not rectified; None without distortion. UserError where D is not finite."""
    d = tuple(float(v) for v in info.d)
    if not all(math.isfinite(v) for v in d):
        raise UserError("camera_info has values in D that are not finite: calibrate the camera")
    return Lens(info.distortion_model, d) if any(d) else None


def _check_matrix(name: str, values: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    """UserError unless fx, fy, cx, cy (as ROS has them) may belong to a camera with images of this size."""
    fx, fy, cx, cy = values
    width, height = size
    if not all(math.isfinite(v) for v in values):
        raise UserError(f"camera_info has values in {name} that are not finite: calibrate the camera")
    if fx <= 0 or fy <= 0:
        raise UserError(f"camera_info has no focal length in {name} ({fx:g}, {fy:g}): calibrate the camera")
    least, most = (f * width for f in FOCAL_LENGTHS)
    if not (least <= fx <= most and least <= fy <= most and 1 / MOST_STRETCH <= fx / fy <= MOST_STRETCH):
        raise UserError(
            f"camera_info: expected focal lengths of {least:.0f} to {most:.0f} px in {name} for {width} px of width, "
            f"found fx {fx:g} and fy {fy:g}: {name} has to be in pixels, not normalised; calibrate the camera"
        )
    if not (MARGIN <= (cx + 0.5) / width <= 1 - MARGIN and MARGIN <= (cy + 0.5) / height <= 1 - MARGIN):
        raise UserError(
            f"camera_info: expected the principal point in {name} within the image of {width}x{height}, "
            f"found cx {cx:g} and cy {cy:g}: calibrate the camera; a cut-out is described by roi"
        )


def _check_region(info: CameraInfo, width: int, height: int) -> None:
    """UserError where the region of interest is not one of the calibrated image, or the image is not cut out."""
    roi = info.roi
    if not (roi.width and roi.height and info.width and info.height):
        return
    region = f"roi {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset})"
    if roi.x_offset + roi.width > info.width or roi.y_offset + roi.height > info.height:
        raise UserError(
            f"camera_info: expected a roi within its {info.width}x{info.height}, found {region}: correct the driver"
        )
    bx, by = _binning(info)
    whole = (info.width // bx, info.height // by)
    if (width, height) == whole != _delivered_size(info):
        raise UserError(
            f"camera_info: expected an image of the {region}, found the whole {width}x{height}: publish a roi of zeros"
        )


def _binning(info: CameraInfo) -> tuple[int, int]:
    return max(1, info.binning_x), max(1, info.binning_y)


def _calibrated_size(info: CameraInfo, width: int, height: int) -> tuple[int, int]:
    """Width, height of the image that K and P are for: neither cut out nor binned."""
    if info.width and info.height:
        return info.width, info.height
    (bx, by), roi = _binning(info), info.roi
    return roi.x_offset + width * bx, roi.y_offset + height * by


def _delivered_size(info: CameraInfo) -> tuple[int, int]:
    """Width, height of the image after region of interest and binning."""
    roi, (bx, by) = info.roi, _binning(info)
    width, height = (roi.width, roi.height) if roi.width and roi.height else (info.width, info.height)
    return max(1, width // bx), max(1, height // by)


def scaled_camera_info(
    info: CameraInfo, source_size: tuple[int, int], width: int, height: int, header: Header
) -> CameraInfo:
    """The camera_info of an output image of width x height that shows the whole view of `info`.

    K and P are scaled; the lens model stays, because the pixels still show that lens. Binning and region of interest
    are worked into K and P. Stamp and frame are the header's.

    Args:
        source_size: width, height of the camera's image.
    """
    from sensor_msgs.msg import CameraInfo

    delivered = _delivered_size(info) if info.width and info.height else source_size
    sx, sy = width / delivered[0], height / delivered[1]
    bx, by = _binning(info)
    left, top = (info.roi.x_offset, info.roi.y_offset) if info.roi.width and info.roi.height else (0, 0)

    def moved_x(c: float) -> float:
        return (c + 0.5 - left) / bx * sx - 0.5

    def moved_y(c: float) -> float:
        return (c + 0.5 - top) / by * sy - 0.5

    fx, fy, k, p = sx / bx, sy / by, info.k, info.p
    out = CameraInfo(header=header, width=width, height=height)
    out.distortion_model, out.d, out.r = info.distortion_model, list(info.d), info.r
    out.k = [k[0] * fx, k[1] * fx, moved_x(k[2]), 0.0, k[4] * fy, moved_y(k[5]), 0.0, 0.0, 1.0]
    if p[0] > 0:
        out.p = [
            *(p[0] * fx, p[1] * fx, moved_x(p[2]), p[3] * fx),
            *(p[4] * fy, p[5] * fy, moved_y(p[6]), p[7] * fy),
            *p[8:],
        ]
    else:
        out.p = [*out.k[:3], 0.0, *out.k[3:6], 0.0, *out.k[6:], 0.0]
    return out


def pinhole_camera_info(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """The camera_info of an ideal camera, for one that is only described by its field of view."""
    from sensor_msgs.msg import CameraInfo

    i = intrinsics
    out = CameraInfo(header=header, width=i.width, height=i.height, distortion_model="plumb_bob", d=[0.0] * 5)
    out.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    out.k = [i.fx, 0.0, i.cx - 0.5, 0.0, i.fy, i.cy - 0.5, 0.0, 0.0, 1.0]
    out.p = [*out.k[:3], 0.0, *out.k[3:6], 0.0, *out.k[6:], 0.0]
    return out
