"""Between sensor_msgs/CameraInfo and Intrinsics.

ROS (like OpenCV) puts the centre of the first pixel at 0, this package at 0.5: principal points differ by half a
pixel, which matters when an image is made smaller.
"""

from __future__ import annotations

import math

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics


def intrinsics_of(info: CameraInfo, width: int, height: int, rectified: bool = False) -> Intrinsics:
    """Intrinsics of an image of this size.

    Args:
        rectified: the image is `image_rect`: P applies instead of K.
    Raises UserError where the matrix is empty, not finite, or belongs to an image of another shape.
    """
    k = info.p if rectified else info.k
    fx, fy = float(k[0]), float(k[5] if rectified else k[4])
    cx, cy = float(k[2]), float(k[6] if rectified else k[5])
    name = "P" if rectified else "K"
    if not all(math.isfinite(v) for v in (fx, fy, cx, cy)):
        raise UserError(f"camera_info has values in {name} that are not finite: calibrate the camera")
    if fx <= 0 or fy <= 0:
        raise UserError(f"camera_info has no focal length in {name} ({fx:g}, {fy:g}): calibrate the camera")
    full_width, full_height = _delivered_size(info) if info.width and info.height else (width, height)
    cx, cy = cx + 0.5, cy + 0.5
    roi = info.roi
    if roi.width and roi.height:
        cx, cy = cx - roi.x_offset, cy - roi.y_offset
    bx, by = max(1, info.binning_x), max(1, info.binning_y)
    intrinsics = Intrinsics(fx / bx, fy / by, cx / bx, cy / by, full_width, full_height)
    if (full_width, full_height) == (width, height):
        return intrinsics
    if abs(full_width * height - full_height * width) > max(full_width, full_height) * 2:
        raise UserError(
            f"camera_info is for {full_width}x{full_height}, the image is {width}x{height}: another aspect ratio"
        )
    return intrinsics.resized(width, height)


def _delivered_size(info: CameraInfo) -> tuple[int, int]:
    """Width, height of the image after region of interest and binning."""
    roi = info.roi
    width, height = (roi.width, roi.height) if roi.width and roi.height else (info.width, info.height)
    return max(1, width // max(1, info.binning_x)), max(1, height // max(1, info.binning_y))


def scaled_camera_info(
    info: CameraInfo, source_size: tuple[int, int], width: int, height: int, header: Header
) -> CameraInfo:
    """The camera_info of an output image of width x height that shows the whole view of `info`.

    K and P are scaled; the lens model stays, because the pixels still show that lens. Binning and region of interest
    are worked into K and P. Stamp and frame are the header's.

    Args:
        source_size: width, height of the camera's image.
    """
    delivered = _delivered_size(info) if info.width and info.height else source_size
    sx, sy = width / delivered[0], height / delivered[1]
    bx, by = max(1, info.binning_x), max(1, info.binning_y)
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
    i = intrinsics
    out = CameraInfo(header=header, width=i.width, height=i.height, distortion_model="plumb_bob", d=[0.0] * 5)
    out.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    out.k = [i.fx, 0.0, i.cx - 0.5, 0.0, i.fy, i.cy - 0.5, 0.0, 0.0, 1.0]
    out.p = [*out.k[:3], 0.0, *out.k[3:6], 0.0, *out.k[6:], 0.0]
    return out
