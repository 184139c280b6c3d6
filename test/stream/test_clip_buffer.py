"""Sampling by stamps, bounds, resets and the books: received = answered + dropped + waiting, always."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from thfm_ros.stream.buffer import DROPS, NS, ClipBuffer


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


@pytest.mark.parametrize("rate", [2.0, 5.0, 10.0, 12.0])
def test_a_slower_camera_has_every_frame_taken_despite_jitter(rate: float) -> None:
    buffer = ClipBuffer(12.0, capacity=10_000)
    for s in stamps(rate, 100, jitter=0.008):
        buffer.offer(s, None)
    assert buffer.waiting == 100


@pytest.mark.parametrize(
    ("jump", "restarts"), [(-50.0, True), (5.0, True), (1e6, True), (-0.1, False), (0.0, False), (0.9, False)]
)
def test_jumps_start_a_new_stream_and_small_steps_back_do_not(jump: float, restarts: bool) -> None:
    buffer = ClipBuffer(12.0, capacity=50)
    for s in stamps(12.0, 10):
        buffer.offer(s, "old")
    last = stamps(12.0, 10)[-1]
    buffer.offer(last + int(jump * NS), "new")
    items = buffer.flush()
    assert balance_after_answer(buffer, items)
    assert buffer.totals().resets == int(restarts)
    if restarts:
        assert [i.payload for i in items] == ["new"]
        assert items[0].starts
        assert buffer.totals().drops["reset"] == 10
    else:
        assert [i.starts for i in items] == [True] + [False] * (len(items) - 1)


def balance_after_answer(buffer: ClipBuffer, items: list) -> bool:
    buffer.answered(len(items))
    return balance(buffer)


def test_the_newest_win_and_every_loss_is_counted() -> None:
    buffer = ClipBuffer(12.0, capacity=4)
    for i, s in enumerate(stamps(12.0, 10)):
        buffer.offer(s, i)
    assert buffer.totals().drops["overrun"] == 6
    items = buffer.flush()
    assert [i.payload for i in items] == [6, 7, 8, 9]
    assert items[0].starts  # the start of the stream is announced even when its first frame was lost
    assert balance_after_answer(buffer, items)


def test_a_capacity_of_one_still_announces_a_new_stream() -> None:
    buffer = ClipBuffer(12.0, capacity=1)
    for i, s in enumerate(stamps(12.0, 5)):
        buffer.offer(s, i)
    (item,) = buffer.flush()
    assert (item.payload, item.starts) == (4, True)


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
            buffer.answered(len(items))

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


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="fps > 0"):
        ClipBuffer(0.0, 4)
