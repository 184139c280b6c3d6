"""The same behaviour with message_filters and with the fallback: one suite runs on both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from std_msgs.msg import Header

from thfm_ros.nodes import sync

MS = 1_000_000


def implementations() -> list[Any]:
    out = [pytest.param(sync, id="fallback")]
    try:
        import message_filters
    except ImportError:
        skip = pytest.mark.skip(reason="message_filters is not installed")
        return [*out, pytest.param(None, id="message_filters", marks=skip)]
    return [*out, pytest.param(message_filters, id="message_filters")]


def stamped(ms: float) -> SimpleNamespace:
    header = Header()
    header.stamp.sec, header.stamp.nanosec = divmod(int(ms * MS), 1_000 * MS)
    return SimpleNamespace(header=header, ms=ms)


class Pairs:
    def __init__(self, module: Any, queue_size: int = 4, slop: float = 0.02) -> None:
        self.colour, self.depth = module.SimpleFilter(), module.SimpleFilter()
        self.sync = module.ApproximateTimeSynchronizer([self.colour, self.depth], queue_size, slop)
        self.found: list[tuple[float, float]] = []
        self.sync.registerCallback(lambda a, b: self.found.append((a.ms, b.ms)))

    def send(self, *events: tuple[str, float]) -> list[tuple[float, float]]:
        for side, ms in events:
            (self.colour if side == "c" else self.depth).signalMessage(stamped(ms))
        return self.found


@pytest.fixture(params=implementations())
def module(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_pairs_in_any_order(module: Any) -> None:
    assert Pairs(module).send(("c", 100), ("d", 105), ("d", 205), ("c", 200)) == [(100, 105), (200, 205)]


def test_the_nearest_wins_and_none_is_used_twice(module: Any) -> None:
    pairs = Pairs(module)
    assert pairs.send(("d", 90), ("d", 98), ("c", 100)) == [(100, 98)]
    assert pairs.send(("c", 101)) == [(100, 98), (101, 90)]
    assert pairs.send(("c", 102)) == [(100, 98), (101, 90)]


def test_nothing_beyond_the_slop(module: Any) -> None:
    assert Pairs(module).send(("c", 100), ("d", 120), ("d", 150), ("d", 70)) == []
    assert Pairs(module).send(("c", 100), ("d", 119)) == [(100, 119)]


def test_memory_is_bounded_and_the_oldest_give_way(module: Any) -> None:
    pairs = Pairs(module, queue_size=3)
    pairs.send(*[("c", 100 * i) for i in range(1, 11)])
    assert pairs.send(("d", 100), ("d", 700)) == []
    assert pairs.send(("d", 800)) == [(800, 800)]


def test_random_streams_pair_alike(module: Any) -> None:
    """Against a plain statement of the rule: every pair is closer than the slop, ordered, and used once."""
    rng = np.random.default_rng(5)
    events = [("c", 33.3 * i) for i in range(60)]
    events += [("d", 33.3 * i + float(rng.uniform(-25, 25))) for i in range(60) if rng.random() > 0.2]
    events.sort(key=lambda e: e[1] + (3 if e[0] == "d" else 0))
    pairs = Pairs(module).send(*events)
    assert len(pairs) > 25
    assert all(abs(a - b) < 20 for a, b in pairs)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


def test_the_node_uses_message_filters_where_it_is_installed() -> None:
    colour, _, _ = sync.make_synchronizer(4, 0.02)
    try:
        import message_filters
    except ImportError:
        assert isinstance(colour, sync.SimpleFilter)
    else:
        assert isinstance(colour, message_filters.SimpleFilter)
