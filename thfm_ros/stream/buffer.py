"""The inbox between a camera of any rate and the worker: samples by stamp, bounded, newest wins, counts every drop."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

NS = 1_000_000_000

# Why a frame that came in was never answered.
DROPS = {
    "rate": "the camera is faster than the model: not needed",
    "newest": "only the newest frame of a stride is answered (parameter newest_only)",
    "late": "its stamp is equal to or slightly older than one already taken",
    "overrun": "the worker was busy for longer than a window: the oldest waiting frame gave way",
    "reset": "it was waiting when the stream started anew (gap, jump back, other size, deactivation)",
    "malformed": "the image could not be read",
    "failed": "the pass that should have answered it failed",
    "idle": "no output topic has a subscriber",
    "camera": "it came from a second camera on the same topic (another frame_id or size)",
}


@dataclass(frozen=True)
class Item:
    """One sampled frame waiting for the worker; `starts` marks the first of a new stream."""

    stamp_ns: int
    payload: Any
    starts: bool


@dataclass
class Totals:
    """What became of every frame: received = answered + sum of the drops + those still waiting."""

    received: int = 0
    answered: int = 0
    resets: int = 0
    drops: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(DROPS, 0)))

    def copy(self) -> Totals:
        return Totals(self.received, self.answered, self.resets, Counter(self.drops))


class ClipBuffer:
    """Thread-safe. The camera's side calls `offer`, which only compares stamps; the worker's side calls `take`.

    Frames are sampled at `fps` by their stamps: a frame is taken when it reaches the next instant of a grid
    1/fps apart that starts at the first frame, up to a quarter of a period early, so that a jittery camera at
    just this rate loses nothing. A camera slower than `fps` has every frame taken.

    Args:
        fps: frames a second that the model was trained on.
        capacity: most frames waiting for the worker; the oldest give way.
        stride: frames that the worker gets at once, at least.
        gap_s: a larger step between stamps starts a new stream.
        late_s: a step back of at most this is a frame out of order, and dropped; a larger one a new stream.
    """

    def __init__(self, fps: float, capacity: int, stride: int = 1, gap_s: float = 1.0, late_s: float = 0.2) -> None:
        if fps <= 0 or capacity < 1:
            raise ValueError(f"expected fps > 0 and capacity >= 1, found {fps} and {capacity}")
        self.fps, self.capacity, self.gap_s, self.late_s = fps, capacity, gap_s, late_s
        self._stride = min(stride, capacity)
        self._waiting: deque[Item] = deque()
        self._arrived = threading.Condition()
        self._totals = Totals()
        self._first_ns: int | None = None  # where the sampling grid starts
        self._last_ns = 0  # newest stamp seen
        self._slot = -1  # newest instant of the grid that has its frame
        self._starts = True

    def offer(self, stamp_ns: int, payload: Any) -> bool:
        """One frame from the camera; True when it was kept for the worker. Never blocks on the worker."""
        with self._arrived:
            self._totals.received += 1
            if self._first_ns is not None:
                step = (stamp_ns - self._last_ns) / NS
                if -self.late_s <= step <= 0:
                    return self._dropped("late")
                if step < 0 or step > self.gap_s:
                    self._restart()
            if self._first_ns is None:
                self._first_ns = stamp_ns
            self._last_ns = stamp_ns
            slot = int((stamp_ns - self._first_ns) / NS * self.fps + 0.25)
            if slot <= self._slot:
                return self._dropped("rate")
            self._slot = slot
            if len(self._waiting) == self.capacity:
                oldest = self._waiting.popleft()
                self._totals.drops["overrun"] += 1
                if oldest.starts and self._waiting:  # the new stream still has to be announced
                    self._waiting[0] = Item(self._waiting[0].stamp_ns, self._waiting[0].payload, True)
                elif oldest.starts:
                    self._starts = True
            self._waiting.append(Item(stamp_ns, payload, self._starts))
            self._starts = False
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
        """Every waiting frame once there is a stride of them; [] where that takes more than `timeout` seconds."""
        with self._arrived:
            ready = self._arrived.wait_for(lambda: len(self._waiting) >= self._stride, timeout)
            return self._all() if ready else []

    def flush(self) -> list[Item]:
        """What is waiting, however little (the end of a file)."""
        with self._arrived:
            return self._all()

    def _all(self) -> list[Item]:
        items = list(self._waiting)
        self._waiting.clear()
        return items

    def reset(self) -> None:
        """Forgets everything that waits; the next frame starts a new stream."""
        with self._arrived:
            self._restart()

    def answered(self, count: int = 1) -> None:
        with self._arrived:
            self._totals.answered += count

    def refused(self, reason: str) -> None:
        """One frame from the camera that was not offered."""
        with self._arrived:
            self._totals.received += 1
            self._totals.drops[reason] += 1

    def dropped(self, reason: str, count: int = 1) -> None:
        """The worker's own drops: taken, but not answered."""
        with self._arrived:
            self._totals.drops[reason] += count

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def totals(self) -> Totals:
        with self._arrived:
            return self._totals.copy()

    def _dropped(self, reason: str) -> bool:
        self._totals.drops[reason] += 1
        return False

    def _restart(self) -> None:
        self._totals.drops["reset"] += len(self._waiting)
        if self._first_ns is not None:
            self._totals.resets += 1
        self._waiting.clear()
        self._first_ns, self._slot, self._starts = None, -1, True
