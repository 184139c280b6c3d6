"""Sampling by stamps, bounds, clips and the books: received = answered + dropped + waiting, always."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from thfm_ros.stream.buffer import NS, ClipBuffer
from thfm_ros.stream.ledger import DROPS, FrameLedger


def stamps(rate: float, count: int, start: float = 100.0, jitter: float = 0.0, seed: int = 0) -> list[int]:
    noise = np.random.default_rng(seed).uniform(-jitter, jitter, count)
    return [int((start + i / rate + noise[i]) * NS) for i in range(count)]


def balance(buffer: ClipBuffer) -> bool:
    t = buffer.totals()
    return t.received == t.answered + sum(t.drops.values()) + buffer.waiting


@pytest.mark.parametrize("rate", [13.0, 15.0, 24.0, 25.0, 29.97, 30.0, 60.0, 90.0])
@pytest.mark.parametrize("jitter", [0.0, 0.003])
def test_faster_cameras_are_sampled_at_the_models_rate(rate: float, jitter: float) -> None:
    buffer = ClipBuffer(12.0, capacity=10_000)
    seconds = 20
    for s in stamps(rate, int(rate * seconds), jitter=jitter):
        buffer.offer(s, None)
    assert buffer.waiting == pytest.approx(12 * seconds, abs=2)
    kept = np.array([i.stamp_ns for i in buffer.flush()])
    assert np.diff(kept).max() / NS <= 1 / 12 + 1 / rate + 2 * jitter + 1e-6
    assert np.diff(kept).min() / NS >= 1 / 12 - 0.25 / 12 - 1 / rate - 2 * jitter


@pytest.mark.parametrize("rate", [1.1, 2.0, 5.0, 10.0, 11.5, 11.9, 11.99, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_slower_camera_has_every_frame_taken_despite_jitter(rate: float, seed: int) -> None:
    buffer = ClipBuffer(12.0, capacity=10_000)
    for s in stamps(rate, 1000, jitter=0.008, seed=seed):
        buffer.offer(s, None)
    assert buffer.waiting == 1000


@pytest.mark.parametrize(
    ("jump", "ends"), [(-50.0, True), (5.0, True), (1e6, True), (-0.1, False), (0.0, False), (0.9, False)]
)
def test_jumps_end_a_clip_whose_frames_come_first_and_small_steps_back_do_not(jump: float, ends: bool) -> None:
    buffer = ClipBuffer(12.0, capacity=50, stride=50)
    for s in stamps(12.0, 10):
        buffer.offer(s, "old")
    last = stamps(12.0, 10)[-1]
    kept = buffer.offer(last + int(jump * NS), "new")
    assert buffer.totals().resets == int(ends)
    if ends:
        assert [i.payload for i in buffer.take()] == ["old"] * 10  # less than a stride, but no more will come
        assert buffer.take() == []
        assert [i.payload for i in buffer.flush()] == ["new"]
        assert sum(buffer.totals().drops.values()) == 0
    else:
        assert buffer.take() == []
        items = buffer.flush()
        assert [i.payload for i in items] == ["old"] * 10 + ["new"] * kept
        assert len({i.clip for i in items}) == 1
        assert balance_after_answer(buffer, items)


def balance_after_answer(buffer: ClipBuffer, items: list) -> bool:
    buffer.ledger.answered(len(items))
    return balance(buffer)


def test_the_newest_win_and_every_loss_is_counted() -> None:
    buffer = ClipBuffer(12.0, capacity=4)
    for i, s in enumerate(stamps(12.0, 10)):
        buffer.offer(s, i)
    assert buffer.totals().drops["overrun"] == 6
    items = buffer.flush()
    assert [i.payload for i in items] == [6, 7, 8, 9]
    assert balance_after_answer(buffer, items)


def test_the_oldest_gives_way_across_clips_too() -> None:
    buffer = ClipBuffer(12.0, capacity=3, stride=3)
    for second in range(0, 50, 10):
        buffer.offer(second * NS, second)
    assert [[i.payload for i in buffer.take()] for _ in range(3)] == [[20], [30], []]
    assert [i.payload for i in buffer.flush()] == [40]
    assert buffer.totals().drops["overrun"] == 2


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("stride", [1, 3, 5])
@pytest.mark.parametrize("rate", [0.2, 0.95, 1.05, 2.9, 5.0, 11.0, 12.0, 30.0])
def test_no_frame_of_a_camera_waits_for_longer_than_a_stride_lasts(rate: float, stride: int) -> None:
    clock = Clock()
    buffer = ClipBuffer(12.0, capacity=5, stride=stride, clock=clock)
    taken, longest = 0, 0.0
    arrivals = [i / rate for i in range(20)]
    for tick in range(int(1000 * arrivals[-1]) + 1000):
        clock.now = 1000.0 + tick / 1000
        while arrivals and arrivals[0] <= tick / 1000:
            buffer.offer(round((50 + arrivals.pop(0)) * NS), None)
        for item in buffer.take():
            taken += 1
            longest = max(longest, clock.now - item.arrived_s)
    totals = buffer.totals()
    assert taken == totals.sampled == totals.received - totals.drops["rate"]
    assert totals.drops["rate"] == 0 or rate > 12
    assert longest <= stride / 12 + 0.002


def test_the_frames_of_a_file_wait_for_their_stride() -> None:
    clock = Clock()
    buffer = ClipBuffer(12.0, capacity=5, stride=3, live=False, clock=clock)
    buffer.offer(0, None)
    clock.now += 1e6
    assert buffer.take() == []
    assert len(buffer.flush()) == 1


def test_a_worker_that_waits_wakes_when_a_frame_has_waited_long_enough() -> None:
    buffer = ClipBuffer(12.0, capacity=5, stride=4)
    buffer.offer(0, None)
    assert len(buffer.take(timeout=30.0)) == 1


def test_zero_stamps_are_late_after_the_first() -> None:
    buffer = ClipBuffer(12.0, capacity=4)
    assert buffer.offer(0, None)
    assert not buffer.offer(0, None)
    assert buffer.totals().drops["late"] == 1


def test_take_waits_for_the_stride() -> None:
    buffer = ClipBuffer(12.0, capacity=8, stride=3)
    got: list[int] = []
    worker = threading.Thread(target=lambda: got.append(len(buffer.take(timeout=5.0))))
    worker.start()
    for s in stamps(12.0, 3):
        buffer.offer(s, None)
    worker.join(5)
    assert got == [3]
    assert buffer.take() == []


def test_a_new_stride_counts_for_a_worker_that_waits() -> None:
    buffer = ClipBuffer(12.0, capacity=8, stride=8)
    for s in stamps(12.0, 3):
        buffer.offer(s, None)
    got: list[int] = []
    worker = threading.Thread(target=lambda: got.append(len(buffer.take(timeout=5.0))))
    worker.start()
    buffer.stride = 2
    worker.join(5)
    assert got == [3]
    buffer.stride = 100
    assert buffer.stride == 8  # a stride beyond the capacity would never come


def test_the_books_balance_under_random_streams_and_threads() -> None:
    buffer = ClipBuffer(12.0, capacity=5, stride=2)
    done = threading.Event()

    def work() -> None:
        while not done.is_set() or buffer.waiting:
            items = buffer.take(timeout=0.01) or buffer.flush()
            buffer.ledger.answered(len(items))

    worker = threading.Thread(target=work)
    worker.start()
    rng = np.random.default_rng(3)
    now = 0.0
    for _ in range(3000):
        now += float(rng.choice([1 / 30, 0.0, -0.05, -20.0, 4.0], p=[0.9, 0.03, 0.03, 0.02, 0.02]))
        buffer.offer(int((1000 + now) * NS), None)
    done.set()
    worker.join(10)
    assert balance(buffer)
    assert set(buffer.totals().drops) == set(DROPS)


def test_a_clip_is_handed_out_as_a_whole_and_in_order() -> None:
    rng = np.random.default_rng(7)
    buffer = ClipBuffer(12.0, capacity=10_000, stride=3)
    now, given, got = 100.0, [], []
    for index in range(2000):
        now += float(rng.choice([1 / 12, 0.0, -0.05, -20.0, 4.0], p=[0.7, 0.1, 0.1, 0.05, 0.05]))
        if buffer.offer(int(now * NS), index):
            given.append(index)
        if rng.random() < 0.3:
            got.append(buffer.take())
    while items := buffer.flush():
        got.append(items)
    assert [i.payload for items in got for i in items] == given
    for items in got:
        assert len({i.clip for i in items}) <= 1
        assert [i.stamp_ns for i in items] == sorted({i.stamp_ns for i in items})


def test_a_reset_drops_and_counts_what_waits() -> None:
    buffer = ClipBuffer(12.0, capacity=9, stride=9)
    for s in (0, NS // 12, 30 * NS):
        buffer.offer(s, None)
    buffer.reset()
    assert (buffer.waiting, buffer.totals().drops["reset"], buffer.totals().resets) == (0, 3, 2)
    assert balance(buffer)


def test_the_ledger_knows_its_reasons() -> None:
    ledger = FrameLedger()
    with pytest.raises(ValueError, match="expected one of rate, newest"):
        ledger.dropped("tired")
    ledger.received()
    ledger.dropped("late")
    copy = ledger.totals()
    ledger.received()
    assert (copy.received, copy.sampled, copy.unanswered()) == (1, 0, {"late": 1})


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="fps > 0"):
        ClipBuffer(0.0, 4)
