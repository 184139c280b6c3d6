"""Diagnostics with the names that diagnostic_updater's FrequencyStatus and TimeStampStatus use, without it.

Monitors and dashboards know these keys. All classes are thread-safe and know no clock: times are given.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


def status(level: str, name: str, message: str, values: Mapping[str, object], hardware_id: str) -> DiagnosticStatus:
    """A DiagnosticStatus; floats are written with six decimals as diagnostic_updater does."""
    pairs = [KeyValue(key=k, value=f"{v:.6f}" if isinstance(v, float) else str(v)) for k, v in values.items()]
    return DiagnosticStatus(level=LEVELS[level], name=name, message=message, hardware_id=hardware_id, values=pairs)


class FrequencyStatus:
    """Events a second over the last `window` reports, against a target."""

    def __init__(self, target_hz: float, tolerance: float = 0.1, window: int = 5) -> None:
        self.target_hz, self.tolerance = target_hz, tolerance
        self._count = 0
        self._reports: deque[tuple[float, int]] = deque(maxlen=window)
        self._lock = threading.Lock()

    def tick(self, count: int = 1) -> None:
        with self._lock:
            self._count += count

    def restart(self) -> None:
        """Looks back no farther than now: in a pause nothing was to come."""
        with self._lock:
            self._reports.clear()

    def report(self, now_s: float) -> tuple[str, str, dict[str, object]]:
        """(level, message, values) at a monotonic time."""
        with self._lock:
            since, before = self._reports[0] if self._reports else (now_s, self._count)
            self._reports.append((now_s, self._count))
            events, window, total = self._count - before, now_s - since, self._count
        frequency = events / window if window > 0 else 0.0
        minimum = self.target_hz * (1 - self.tolerance)
        if window > 0 and events == 0:
            level, message = "error", "No events recorded."
        elif window > 0 and frequency < minimum:
            level, message = "warn", "Frequency too low."
        else:
            level, message = "ok", "Desired frequency met"
        values: dict[str, object] = {
            "Events in window": events,
            "Events since startup": total,
            "Duration of window (s)": float(window),
            "Actual frequency (Hz)": float(frequency),
            "Target frequency (Hz)": float(self.target_hz),
            "Minimum acceptable frequency (Hz)": float(minimum),
        }
        return level, message, values


class TimeStampStatus:
    """How old stamps are when they arrive; too old, in the future or zero is an error until the next report."""

    def __init__(self, min_acceptable_s: float = -1.0, max_acceptable_s: float = 5.0) -> None:
        self.min_acceptable_s, self.max_acceptable_s = min_acceptable_s, max_acceptable_s
        self._lock = threading.Lock()
        self._early = self._late = self._zeros = 0
        self._clear()

    def _clear(self) -> None:
        self._least: float | None = None
        self._most: float | None = None
        self._zero_seen = False

    def tick(self, stamp_ns: int, now_ns: int) -> None:
        with self._lock:
            if stamp_ns == 0:
                self._zero_seen = True
                return
            delay = (now_ns - stamp_ns) / 1e9
            self._least = delay if self._least is None else min(self._least, delay)
            self._most = delay if self._most is None else max(self._most, delay)

    def report(self) -> tuple[str, str, dict[str, object]]:
        with self._lock:
            least, most, zero = self._least, self._most, self._zero_seen
            level, message = "ok", "Timestamps are reasonable."
            if least is None and not zero:
                level, message = "warn", "No data since last update."
            if least is not None and least < self.min_acceptable_s:
                level, message = "error", "Timestamps too far in future seen."
                self._early += 1
            if most is not None and most > self.max_acceptable_s:
                level, message = "error", "Timestamps too far in past seen."
                self._late += 1
            if zero:
                level, message = "error", "Zero timestamp seen."
                self._zeros += 1
            values: dict[str, object] = {
                "Earliest timestamp delay:": float(least or 0.0),
                "Latest timestamp delay:": float(most or 0.0),
                "Earliest acceptable timestamp delay:": float(self.min_acceptable_s),
                "Latest acceptable timestamp delay:": float(self.max_acceptable_s),
                "Late diagnostic update count:": self._late,
                "Early diagnostic update count:": self._early,
                "Zero seen diagnostic update count:": self._zeros,
            }
            self._clear()
        return level, message, values


class StageTimes:
    """Mean and worst time of each stage since the last report, milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = {}

    def add(self, times_ms: Mapping[str, float]) -> None:
        with self._lock:
            for stage, value in times_ms.items():
                entry = self._times.setdefault(stage, [0, 0.0, 0.0])
                entry[0] += 1
                entry[1] += value
                entry[2] = max(entry[2], value)

    def report(self) -> dict[str, dict[str, float]]:
        """stage -> {"count", "mean", "max"}."""
        with self._lock:
            times, self._times = self._times, {}
        return {s: {"count": n, "mean": total / n, "max": most} for s, (n, total, most) in times.items()}
