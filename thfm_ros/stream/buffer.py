"""The inbox between a camera of any rate and the worker: samples by stamp, bounded, newest wins, clip by clip."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thfm_ros.stream.ledger import FrameLedger, Totals

NS = 1_000_000_000


@dataclass(frozen=True)
class Item:
    """One sampled frame waiting for the worker. Frames with the same `clip` follow each other without a gap."""

    stamp_ns: int
    payload: Any
    clip: int
    arrived_s: float  # by the buffer's clock


class ClipBuffer:
    """Thread-safe. The camera's side calls `offer`, which only compares stamps; the worker's side calls `take`.

    Frames are sampled at `fps` by their stamps: a frame is taken when it reaches the next instant of a grid
    1/fps apart that starts at the first frame, up to a quarter of a period early, so that a jittery camera at
    just this rate loses nothing. A camera slower than `fps` has every frame taken: the grid follows it.

    A gap or a jump back ends a clip. Its frames stay and are handed out before those of the next one.

    Args:
        fps: frames a second that the model was trained on.
        capacity: most frames waiting for the worker; the oldest give way.
        stride: frames that the worker gets at once, at least, unless their clip ends.
        gap_s: a larger step between stamps starts a new clip.
        late_s: a step back of at most this is a frame out of order, and dropped; a larger one starts a new clip.
        live: a camera: less than a stride is handed out once the oldest frame has waited for as long as a stride lasts
            at `fps`. False: a file, whose frames may take their time.
        ledger: where frames are counted.
        clock: seconds, ascending, that waiting is measured by.
    """

    def __init__(
        self,
        fps: float,
        capacity: int,
        stride: int = 1,
        gap_s: float = 1.0,
        late_s: float = 0.2,
        live: bool = True,
        ledger: FrameLedger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if fps <= 0 or capacity < 1:
            raise ValueError(f"expected fps > 0 and capacity >= 1, found {fps} and {capacity}")
        self.fps, self.capacity, self.gap_s, self.late_s, self.live = fps, capacity, gap_s, late_s, live
        self.ledger = ledger or FrameLedger()
        self._clock = clock
        self._stride = max(1, min(stride, capacity))
        self._period_ns = round(NS / fps)
        self._waiting: deque[Item] = deque()
        self._arrived = threading.Condition()
        self._clip = 0
        self._last_ns: int | None = None  # newest stamp of the clip; None: the next frame starts one
        self._due_ns = 0  # the next instant of the sampling grid

    def offer(self, stamp_ns: int, payload: Any) -> bool:
        """Takes one frame from the camera; True when it was kept for the worker. Never blocks on the worker."""
        with self._arrived:
            self.ledger.received()
            if self._last_ns is not None:
                step = (stamp_ns - self._last_ns) / NS
                if -self.late_s <= step <= 0:
                    self.ledger.dropped("late")
                    return False
                if step < 0 or step > self.gap_s:
                    self._end_clip()
            if self._last_ns is None:
                self._due_ns = stamp_ns
            self._last_ns = stamp_ns
            early = self._period_ns // 4
            if stamp_ns < self._due_ns - early:
                self.ledger.dropped("rate")
                return False
            # A camera that is faster than `fps` is never this late; for a slower one the grid moves.
            self._due_ns = max(self._due_ns + self._period_ns, stamp_ns + early)
            if len(self._waiting) == self.capacity:
                self._waiting.popleft()
                self.ledger.dropped("overrun")
            self._waiting.append(Item(stamp_ns, payload, self._clip, self._clock()))
            self._arrived.notify_all()
            return True

    @property
    def stride(self) -> int:
        return self._stride

    @stride.setter
    def stride(self, value: int) -> None:
        """Counts at once, also for a worker that waits already. Never more than fits."""
        with self._arrived:
            self._stride = max(1, min(value, self.capacity))
            self._arrived.notify_all()

    def take(self, timeout: float = 0.0) -> list[Item]:
        """Returns the waiting frames of the oldest clip once they are a stride, their clip has ended, or (`live`) they
        have waited long enough; [] where none of this happens within `timeout` seconds."""
        with self._arrived:
            until = self._clock() + timeout
            while (now := self._clock()) < (due := self._ready_at()):
                if now >= until:
                    return []
                self._arrived.wait(min(due, until) - now)
            return self._oldest_clip()

    def flush(self) -> list[Item]:
        """Returns what is waiting of the oldest clip, however little (the end of a file)."""
        with self._arrived:
            return self._oldest_clip()

    def reset(self) -> None:
        """Drops everything that waits; the next frame starts a new clip."""
        with self._arrived:
            self.ledger.dropped("reset", len(self._waiting))
            self._waiting.clear()
            if self._last_ns is not None:
                self._end_clip()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def totals(self) -> Totals:
        """Returns what became of every frame."""
        return self.ledger.totals()

    def _ready_at(self) -> float:
        """The time by the clock from which the oldest clip may be taken; inf while that depends on further frames."""
        if not self._waiting:
            return math.inf
        oldest = self._waiting[0]
        if len(self._waiting) >= self._stride or self._waiting[-1].clip != oldest.clip:
            return -math.inf
        return oldest.arrived_s + self._stride / self.fps if self.live else math.inf

    def _oldest_clip(self) -> list[Item]:
        items: list[Item] = []
        while self._waiting and (not items or self._waiting[0].clip == items[0].clip):
            items.append(self._waiting.popleft())
        return items

    def _end_clip(self) -> None:
        self.ledger.restarted()
        self._clip += 1
        self._last_ns = None
