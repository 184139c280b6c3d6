"""A whole recording through the same buffer and estimator that the node uses, without threads and without drops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.buffer import ClipBuffer, Item
from thfm_ros.stream.estimator import FrameResult, StreamEstimator


def run_stream(
    estimator: StreamEstimator,
    frames: Iterable[tuple[int, np.ndarray, Intrinsics | None]],
    tasks: Sequence[str],
    stride: int,
) -> Iterator[FrameResult]:
    """Results of every sampled frame, oldest first.

    Args:
        frames: (stamp in ns, RGB uint8 (h, w, 3), its camera or None) in the order of their arrival.
        stride: new frames a pass; what is left at the end makes a last, shorter one.
    """
    buffer = ClipBuffer(estimator.fps, capacity=estimator.frames, stride=stride)

    def answer(items: list[Item]) -> list[FrameResult]:
        for item in items:
            if item.starts:
                estimator.reset()
            image, intrinsics = item.payload
            estimator.push(item.stamp_ns, image, intrinsics)
        return estimator.step(tasks) if items else []

    for stamp_ns, image, intrinsics in frames:
        buffer.offer(stamp_ns, (image, intrinsics))
        yield from answer(buffer.take())
    yield from answer(buffer.flush())
