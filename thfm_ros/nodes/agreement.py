"""Whether inputs that must agree do: depth with colour, one camera on a topic. Every problem is one line."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.nodes.camera_info import same_aspect
from thfm_ros.nodes.logs import without_numbers
from thfm_ros.stream.scale import FAR_M, LEAST_MEASURED, NEAR_M

if TYPE_CHECKING:
    from sensor_msgs.msg import Image

VIEW_TOLERANCE = 0.05  # of the focal length, and of the width for the principal point
SAMPLES = 16384  # pixels by which a depth image is judged
FAR_MEDIAN_M = 200.0  # farther things are not what a depth camera measures, but other units


class Findings:
    """What is wrong with the inputs: one line a subject, logged when it is new but for its numbers, kept until it is
    mended."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._lines: dict[str, str] = {}
        self._logged: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def note(self, subject: str, line: str | None) -> None:
        """The problem with this subject; None: there is none (any more)."""
        with self._lock:
            if line is None:
                self._lines.pop(subject, None)
                return
            self._lines[subject] = line
            key = subject, without_numbers(line)
            new = key not in self._logged
            if len(self._logged) >= 100:  # bounded, whatever a broken driver sends
                self._logged.clear()
            self._logged.add(key)
        if new:
            self._warn(line)

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return list(self._lines.values())


class OneCamera:
    """Lets one camera through where several publish on one topic: the one that was there first, while it sends.

    A camera that changes its mode is not two: only who comes back after another has appeared shows that both are there.

    Args:
        silence_s: a camera that has sent nothing for so long makes room for the other.
    """

    LEAST = 2  # images before a camera is one: a corrupt header is none
    MEMORY_S = 60.0

    def __init__(self, silence_s: float = 2.0) -> None:
        self.silence_s = silence_s
        self._seen: dict[str, tuple[float, int]] = {}  # as they appeared: when the last image came, and how many
        self._current = ""
        self._others: set[str] = set()

    def admit(self, camera: str, now_s: float) -> bool:
        """Whether this camera's image is to be used. `camera`: what tells it apart; `now_s`: a monotonic time."""
        returns, sending = self._recent(camera, now_s), self._recent(self._current, now_s)
        self._seen[camera] = (now_s, self._seen.get(camera, (0.0, 0))[1] + 1)
        if camera == self._current:
            return True
        self._forget(now_s)
        if sending and camera in self._others:
            return False
        if sending and returns:  # both are there
            newer = max(camera, self._current, key=list(self._seen).index)
            if self._seen[newer][1] >= self.LEAST:
                self._others.add(newer)
            if camera in self._others:
                return False
        self._others.discard(camera)
        self._current = camera
        return True

    def _forget(self, now_s: float) -> None:
        self._seen = {c: v for c, v in self._seen.items() if now_s - v[0] <= self.MEMORY_S}
        self._others &= self._seen.keys()

    def others(self, now_s: float) -> list[str]:
        """The cameras that are turned away now."""
        return sorted(c for c in self._others.copy() if self._recent(c, now_s))

    def _recent(self, camera: str, now_s: float) -> bool:
        return camera in self._seen and now_s - self._seen[camera][0] <= self.silence_s


def same_frame(one: str, other: str) -> bool:
    """True where two frame_ids name the same frame, or one of them is not given."""
    one, other = one.strip().lstrip("/"), other.strip().lstrip("/")
    return not one or not other or one == other


def check_registered(depth: Image, frame_id: str, size: tuple[int, int]) -> None:
    """UserError unless this depth image may show the view of a colour image of this frame and size (width, height)."""
    if not same_frame(depth.header.frame_id, frame_id):
        raise UserError(
            f"depth image: expected frame_id '{frame_id}', the colour image's, found '{depth.header.frame_id}': "
            "subscribe to depth that is registered to the colour camera"
        )
    if not depth.width or not depth.height:
        raise UserError(f"depth image: expected pixels, found {depth.width}x{depth.height}: correct the driver")
    if not same_aspect((depth.width, depth.height), size):
        raise UserError(
            f"depth image: expected the aspect ratio of the colour image ({size[0]}x{size[1]}), found "
            f"{depth.width}x{depth.height}: subscribe to depth that is registered to the colour camera"
        )


def check_same_view(depth: Image, found: Intrinsics, colour: Intrinsics) -> None:
    """UserError unless the depth camera's intrinsics `found` are those of the colour image, but for the size."""
    wanted = colour.resized(depth.width, depth.height)
    focal = max(abs(found.fx / wanted.fx - 1), abs(found.fy / wanted.fy - 1))
    centre = max(abs(found.cx - wanted.cx), abs(found.cy - wanted.cy)) / depth.width
    if focal > VIEW_TOLERANCE or centre > VIEW_TOLERANCE:
        raise UserError(
            f"depth image: expected the colour camera's view (fx {wanted.fx:.0f}, cx {wanted.cx:.0f} at "
            f"{depth.width}x{depth.height}), found fx {found.fx:.0f}, cx {found.cx:.0f} in its camera_info: "
            "subscribe to depth that is registered to the colour camera"
        )


def check_measures(depth: np.ndarray) -> None:
    """UserError unless a depth image (h, w) in metres, NaN invalid, measures something, and plausibly in metres."""
    spacing = max(1, round(math.sqrt(depth.size / SAMPLES)))  # a part of a large image tells as much
    valid = depth[::spacing, ::spacing]
    valid = valid[np.isfinite(valid)]
    if len(valid) and np.median(valid) > FAR_MEDIAN_M:
        raise UserError(
            f"depth image: expected metres, found a median of {np.median(valid):.0f}: 32FC1 is in metres and 16UC1 in "
            "millimetres (REP-118); correct the driver"
        )
    near = spacing**2 * int(((valid > NEAR_M) & (valid < FAR_M)).sum())
    if near < LEAST_MEASURED:
        raise UserError(
            f"depth image: expected at least {LEAST_MEASURED} pixels between {NEAR_M:g} and {FAR_M:g} m, "
            f"found {'none' if near == 0 else 'fewer'}: uncover the depth camera, or check its encoding"
        )
