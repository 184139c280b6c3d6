"""What came over each topic: messages, rate, size, and latency from the stamp of the frame they describe."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LATENCIES = 4096  # kept of each topic


@dataclass
class TopicTraffic:
    """One topic's messages; latencies in milliseconds, times in seconds of one clock.

    Counts are exact. Of more than LATENCIES latencies a random sample is kept, every message as likely as any other:
    every n-th would be biased, because the ages of a stride's frames repeat.
    """

    type: str
    messages: int = 0
    bytes: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    timed: int = 0  # messages with a latency
    _random: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    def add(self, received_s: float, size: int, latency_ms: float | None) -> None:
        self.first_s = received_s if self.messages == 0 else self.first_s
        self.last_s = received_s
        self.messages += 1
        self.bytes += size
        if latency_ms is None:
            return
        self.timed += 1
        if len(self.latencies_ms) < LATENCIES:
            self.latencies_ms.append(latency_ms)
        elif (place := self._random.randrange(self.timed)) < LATENCIES:
            self.latencies_ms[place] = latency_ms

    def row(self) -> dict[str, Any]:
        """Figures for a table; None where there are too few messages to tell."""
        span = self.last_s - self.first_s
        median, p95 = np.percentile(self.latencies_ms, [50, 95]) if self.latencies_ms else (None, None)
        return {
            "type": self.type,
            "messages": self.messages,
            "rate_hz": round((self.messages - 1) / span, 2) if self.messages > 1 and span > 0 else None,
            "latency_ms_median": None if median is None else round(float(median), 1),
            "latency_ms_p95": None if p95 is None else round(float(p95), 1),
            "megabytes": round(self.bytes / 1e6, 2),
        }
