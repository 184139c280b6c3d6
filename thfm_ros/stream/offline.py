"""A whole recording through the same buffer and estimator that the node uses, without threads and without losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.buffer import ClipBuffer, Item
from thfm_ros.stream.estimator import FrameResult, StreamEstimator
from thfm_ros.stream.ledger import FrameLedger
from thfm_ros.stream.lens import Lens


class RecordedFrame(NamedTuple):
    """One frame of a recording, as `StreamEstimator.push` takes it."""

    stamp_ns: int
    image: np.ndarray  # (h, w, 3) uint8 RGB
    intrinsics: Intrinsics | None = None
    depth: np.ndarray | None = None  # (h, w) metres, registered to the image
    lens: Lens | None = None  # of an image that is not rectified


def run_stream(
    estimator: StreamEstimator,
    frames: Iterable[RecordedFrame | tuple[int, np.ndarray, Intrinsics | None]],
    tasks: Sequence[str],
    stride: int,
    ledger: FrameLedger | None = None,
    every_frame: bool = False,
) -> Iterator[FrameResult]:
    """Yields the results of every sampled frame, in the order of their arrival.

    A gap, a jump back in time or another image size ends a clip; what waits is answered as its end. Frames are sampled
    as the node samples them: those the model does not need, and those out of order, get no result (`ledger` counts
    them as "rate" and "late").

    Args:
        frames: in the order of their arrival; a tuple (stamp_ns, image, intrinsics) will do for one.
        stride: new frames a pass; what is left at the end of a clip makes a last, shorter one.
        ledger: where to count what became of every frame.
        every_frame: also those that come faster than the model's rate. A window then spans less time.
    """
    ledger = ledger or FrameLedger()
    fps = math.inf if every_frame else estimator.fps
    buffer = ClipBuffer(fps, capacity=estimator.frames, stride=stride, live=False, ledger=ledger)
    clip = 0

    def passes(items: list[Item]) -> Iterator[list[FrameResult]]:
        nonlocal clip
        for item in items:
            image, *camera = item.payload
            if item.clip != clip or not estimator.continues(image):
                yield estimator.finish(tasks)
                clip = item.clip
            elif estimator.full:
                yield estimator.step(tasks)
            estimator.push(item.stamp_ns, image, *camera)
        yield estimator.step(tasks)

    def results(items: list[Item]) -> Iterator[FrameResult]:
        for results in passes(items):
            ledger.answered(len(results))
            yield from results

    estimator.reset()
    for stamp_ns, *payload in frames:
        buffer.offer(stamp_ns, payload)
        while items := buffer.take():
            yield from results(items)
    while items := buffer.flush():
        yield from results(items)
    held = estimator.finish(tasks)
    ledger.answered(len(held))
    yield from held
    if estimator.config.newest_only:
        totals = ledger.totals()
        ledger.dropped("newest", totals.sampled - totals.answered)
