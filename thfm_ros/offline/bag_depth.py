"""The depth camera of a bag: for each colour image the depth image of the same moment, in metres."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.offline.bag_files import BagFile

SLOP_S = 0.05  # a colour and a depth image are of the same moment when their stamps are less apart
DELAY_S = 3.0  # by which one of them may be recorded before the other: recorders are slow at times
NS = 1_000_000_000


class BagDepth:
    """Depth images on one topic, registered to the colour camera (REP-118: 32FC1 m or 16UC1 mm).

    The bag is opened a second time, because a depth image may be recorded after its colour image.

    Args:
        decode: gives the message of serialised bytes. note: takes a line about images that are not used.
    """

    def __init__(self, path: Path, topic: str, decode: Callable[[bytes], Any], note: Callable[[str], None]) -> None:
        self._bag, self._topic, self._decode, self._note = BagFile(path), topic, decode, note
        self.start()

    def start(self) -> None:
        """From the beginning of the bag."""
        self._messages = self._bag.messages([c for c in self._bag.connections if c.topic == self._topic])
        self._near: deque[tuple[int, int, bytes]] = deque()  # time of the record, stamp, message
        self._next: tuple[int, int, bytes] | None = self._read()

    def close(self) -> None:
        self._bag.close()

    def _read(self) -> tuple[int, int, bytes] | None:
        found = next(self._messages, None)
        return None if found is None else (found[1], _stamp_ns(found[2]), bytes(found[2]))

    def of(self, stamp_ns: int, recorded_ns: int, frame_id: str, size: tuple[int, int]) -> np.ndarray | None:
        """(h, w) metres, NaN unknown, at a colour image of this frame and size (width, height); None without any."""
        slop, delay = round(SLOP_S * NS), round(DELAY_S * NS)
        while self._next is not None and self._next[0] <= recorded_ns + (0 if self._ahead(stamp_ns) else delay):
            self._near.append(self._next)
            self._next = self._read()
        first = recorded_ns - delay
        while self._near and (self._near[0][0] < first or not -slop < self._near[0][1] - stamp_ns < delay):
            self._near.popleft()
        nearest = min(self._near, key=lambda item: abs(item[1] - stamp_ns), default=None)
        if nearest is None or abs(nearest[1] - stamp_ns) >= slop:
            return None
        return self._metres(nearest[2], frame_id, size)

    def _ahead(self, stamp_ns: int) -> bool:
        """Whether the last image read is past this moment; farther ahead it is from before a jump back of time."""
        return bool(self._near) and SLOP_S * NS <= self._near[-1][1] - stamp_ns < DELAY_S * NS

    def _metres(self, data: bytes, frame_id: str, size: tuple[int, int]) -> np.ndarray | None:
        from thfm_ros.nodes.agreement import check_measures, check_registered
        from thfm_ros.nodes.images import depth_to_metres

        try:
            message = self._decode(data)
            check_registered(message, frame_id, size)
            depth = depth_to_metres(message)
            check_measures(depth)
        except UserError as error:
            self._note(f"{self._topic}: {error}; metres come from the skeleton there")
            return None
        return depth


def _stamp_ns(data: bytes) -> int:
    """Of a serialised message that begins with a header, without decoding its pixels."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * NS + nanoseconds
