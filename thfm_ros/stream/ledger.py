"""The ledger of a stream: what became of every frame, in numbers."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

# Why a frame that came in was never answered.
DROPS = {
    "rate": "the camera is faster than the model: not needed",
    "newest": "only the newest frame of a stride is answered (parameter newest_only)",
    "late": "its stamp is equal to or slightly older than one already taken",
    "overrun": "the worker was busy for longer than a window: the oldest waiting frame gave way",
    "reset": "it was waiting when the node was paused, reset or deactivated, or unloaded its model",
    "malformed": "the image could not be read",
    "failed": "the pass that should have answered it failed",
    "idle": "nobody subscribes to an output of the enabled tasks",
    "camera": "it came from a second camera on the same topic (another frame_id or size)",
}


@dataclass
class Totals:
    """What became of every frame: received = answered + sum of the drops + those still being worked on.

    `resets` counts the clips that ended because of a gap, a jump back or a reset.
    """

    received: int = 0
    answered: int = 0
    resets: int = 0
    drops: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(DROPS, 0)))

    @property
    def sampled(self) -> int:
        """Frames that were meant to be answered: neither more than the model needs, nor out of order, nor another's."""
        return self.received - self.drops["rate"] - self.drops["late"] - self.drops["camera"]

    def unanswered(self) -> dict[str, int]:
        """reason -> frames, of the frames that were wanted and had no result."""
        return {reason: count for reason, count in self.drops.items() if count and reason not in ("rate", "newest")}


class FrameLedger:
    """Counts frames as they come in, are answered or dropped. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = Totals()

    def received(self) -> None:
        """Counts one frame of the camera."""
        with self._lock:
            self._totals.received += 1

    def refused(self, reason: str) -> None:
        """Counts one frame of the camera that was not even looked at."""
        self.received()
        self.dropped(reason)

    def answered(self, count: int = 1) -> None:
        """Counts frames whose results left."""
        with self._lock:
            self._totals.answered += count

    def dropped(self, reason: str, count: int = 1) -> None:
        """Counts frames that will never be answered; `reason` is a key of DROPS."""
        if reason not in DROPS:
            raise ValueError(f"expected one of {', '.join(DROPS)}, found {reason!r}")
        with self._lock:
            self._totals.drops[reason] += count

    def restarted(self) -> None:
        """Counts a clip that ended."""
        with self._lock:
            self._totals.resets += 1

    def totals(self) -> Totals:
        """Returns a copy of the numbers."""
        with self._lock:
            t = self._totals
            return Totals(t.received, t.answered, t.resets, Counter(t.drops))
