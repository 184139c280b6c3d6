"""Diagnostics speak diagnostic_updater's language."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from thfm_ros.nodes.diagnostics import FrequencyStatus, StageTimes, TimeStampStatus, status

S = 1_000_000_000


def test_frequency() -> None:
    rate = FrequencyStatus(10.0, tolerance=0.1, window=3)
    rate.report(0.0)
    for second in range(1, 6):
        rate.tick(10)
        level, message, values = rate.report(float(second))
        assert (level, message) == ("ok", "Desired frequency met")
        assert values["Actual frequency (Hz)"] == pytest.approx(10.0)
    rate.tick(8)
    rate.report(6.0)
    rate.tick(8)
    rate.report(7.0)
    rate.tick(8)
    level, message, values = rate.report(8.0)
    assert (level, message) == ("warn", "Frequency too low.")
    for second in (9.0, 10.0, 11.0):
        level, message, values = rate.report(second)
    assert (level, message) == ("error", "No events recorded.")
    assert values["Events in window"] == 0
    assert values["Events since startup"] == 74
    assert values["Minimum acceptable frequency (Hz)"] == 9.0
    assert list(values)[:2] == ["Events in window", "Events since startup"]


def test_a_pause_is_no_low_frequency() -> None:
    rate = FrequencyStatus(10.0)
    rate.report(0.0)
    rate.tick(10)
    rate.report(1.0)
    rate.restart()
    for second in (60.0, 61.0, 62.0):
        level, message, values = rate.report(second)
        assert (level, message) == ("ok", "Desired frequency met")
        assert values["Duration of window (s)"] == second - 60.0
        rate.tick(10)


@pytest.mark.parametrize(
    ("stamps", "level", "words"),
    [
        ([99.5, 99.9], "ok", "reasonable"),
        ([99.5, 110.0], "error", "too far in future"),
        ([99.5, 10.0], "error", "too far in past"),
        ([0.0], "error", "Zero timestamp"),
        ([], "warn", "No data"),
    ],
)
def test_stamps(stamps: list[float], level: str, words: str) -> None:
    stamp = TimeStampStatus()
    for s in stamps:
        stamp.tick(int(s * S), 100 * S)
    found, message, _ = stamp.report()
    assert (found, words in message) == (level, True)
    assert stamp.report()[1] == "No data since last update."  # each report starts anew


def test_stage_times_and_the_message() -> None:
    times = StageTimes()
    times.add({"encode": 10.0})
    times.add({"encode": 30.0, "decode": 1.0})
    assert times.report() == {
        "encode": {"count": 2, "mean": 20.0, "max": 30.0},
        "decode": {"count": 1, "mean": 1.0, "max": 1.0},
    }
    assert times.report() == {}
    message = status("warn", "perception: x", "slow", {"Actual frequency (Hz)": 9.5, "Count": 3}, "perception")
    assert message.level == DiagnosticStatus.WARN
    assert [(v.key, v.value) for v in message.values] == [("Actual frequency (Hz)", "9.500000"), ("Count", "3")]
