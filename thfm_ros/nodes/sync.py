"""Pairs of messages by approximate stamp: message_filters where it is installed, the same behaviour where not.

The node pairs only the *headers* of colour images with depth images, so that no colour frame ever waits for depth.
The two classes below mirror the published behaviour of message_filters' classes of the same names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from std_msgs.msg import Header

NS = 1_000_000_000


def stamp_ns(header: Header) -> int:
    """Nanoseconds of a header's stamp."""
    return header.stamp.sec * NS + header.stamp.nanosec


class SimpleFilter:
    """Passes what `signalMessage` is given to every registered callback."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:
        self._callbacks.append((callback, args))
        return len(self._callbacks) - 1

    def signalMessage(self, *messages: Any) -> None:
        for callback, args in self._callbacks:
            callback(*messages, *args)


class ApproximateTimeSynchronizer(SimpleFilter):
    """Calls back with one message of each filter whose stamps are less than `slop` seconds apart, the nearest ones.

    Each filter keeps `queue_size` messages, the oldest stamps give way; a message is used at most once.
    """

    def __init__(self, filters: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
        super().__init__()
        self._queues: list[dict[int, Any]] = [{} for _ in filters]
        self._queue_size, self._slop_ns = queue_size, round(slop * NS)
        self._lock = threading.Lock()
        for index, source in enumerate(filters):
            source.registerCallback(self._add, index)

    def _add(self, msg: Any, index: int) -> None:
        stamp = stamp_ns(msg.header)
        with self._lock:
            mine = self._queues[index]
            mine[stamp] = msg
            while len(mine) > self._queue_size:
                del mine[min(mine)]
            chosen = [stamp]
            for queue in self._queues[:index] + self._queues[index + 1 :]:
                near = [s for s in queue if abs(s - stamp) <= self._slop_ns]
                if not near:
                    return
                chosen.append(min(near, key=lambda s: abs(s - stamp)))
            if stamp not in mine or max(chosen) - min(chosen) >= self._slop_ns:
                return
            others = chosen[1:]
            stamps = [*others[:index], stamp, *others[index:]]
            messages = [queue.pop(s) for queue, s in zip(self._queues, stamps, strict=True)]
            self.signalMessage(*messages)


def make_synchronizer(queue_size: int, slop: float) -> tuple[Any, Any, Any]:
    """(first filter, second filter, synchroniser); feed the filters with signalMessage."""
    try:
        import message_filters
    except ImportError:
        first, second = SimpleFilter(), SimpleFilter()
        return first, second, ApproximateTimeSynchronizer([first, second], queue_size, slop)
    first, second = message_filters.SimpleFilter(), message_filters.SimpleFilter()
    return first, second, message_filters.ApproximateTimeSynchronizer([first, second], queue_size, slop)
