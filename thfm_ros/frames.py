"""Turns a decoded video frame into what a player shows: its time, and upright RGB of square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import av

_BT709, _UNSPECIFIED = 1, 2  # matrices of H.273, as AVFrame.colorspace has them
_LIMITED, _FULL = 1, 2  # ranges, as AVFrame.color_range has them
_HD_HEIGHT = 720  # from here on pictures that do not name their matrix are BT.709, as players take them
_WIDEST = 8  # a sample aspect ratio beyond it is a broken header


class FrameClock:
    """Gives every frame its time in seconds: 0 for the first one, and always later than the one before.

    Args:
        fps: nominal rate, which places a frame without a time of its own.
        by_order: times are those of decoding, because the container has no others (AVI).

    Attributes:
        origin: the container's time at 0, seconds.
    """

    def __init__(self, fps: float, by_order: bool = False) -> None:
        self._step, self._by_order = 1 / fps, by_order
        self._last = -self._step
        self._origin: float | None = None

    def __call__(self, frame: av.VideoFrame) -> float:
        following = self._last + self._step
        stamp = frame.dts if self._by_order else frame.pts
        if stamp is None or not frame.time_base:
            time = following
        else:
            seconds = float(stamp * frame.time_base)
            if self._origin is None:
                self._origin = seconds - following
            time = seconds - self._origin
        self._last = time if time > self._last else following
        return self._last

    @property
    def origin(self) -> float:
        return self._origin or 0.0


def shown(frame: av.VideoFrame, aspect: Fraction | None) -> np.ndarray:
    """uint8 RGB (H, W, 3), contiguous: the frame in its colours, of one field, with square pixels, upright.

    aspect: width of a pixel by its height; None: unknown, which means square.
    """
    image = _rgb(frame)
    size = (frame.width, frame.height)
    if aspect and Fraction(1, _WIDEST) <= aspect <= _WIDEST:
        size = (max(1, round(frame.width * aspect)), frame.height)
    if frame.interlaced_frame and frame.height > 1:
        image = image[::2]  # the two fields are of two instants
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(_upright(image, _display_matrix(frame)))


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    matrix = int(frame.colorspace)
    if matrix == _BT709 or (matrix == _UNSPECIFIED and frame.height >= _HD_HEIGHT and not frame.format.is_rgb):
        # Named one by one: older versions of PyAV do not look at the frame's own.
        limits = {"src_color_range": int(frame.color_range) or _LIMITED, "dst_color_range": _FULL}
        frame = frame.reformat(format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU601", **limits)
    return frame.to_ndarray(format="rgb24")


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """(2, 2): (x, y) of a picture @ matrix = (x, y) as shown. None where the frame is shown as it is."""
    data: Any  # PyAV's stubs take it for a name
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3)[:2, :2]
    return None


def _upright(image: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """The image turned and mirrored by the nearest multiple of 90 degrees."""
    if matrix is None:
        return image
    (a, b), (c, d) = matrix.tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, across, down = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        across, down = a < 0, d < 0
    return image[:: -1 if down else 1, :: -1 if across else 1]
