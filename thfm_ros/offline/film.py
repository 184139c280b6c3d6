"""A film of all outputs side by side."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from thfm_ros import panels
from thfm_ros.stream.drawing import draw_people
from thfm_ros.stream.estimator import FrameResult
from thfm_ros.video import VideoWriter

PANEL_HEIGHT = 240


class Film:
    """An MP4 that appears when its block ends, at the recording's own times; of a failed block what was done by then.

    fps: may be set until the first frame is written. kept: where the film is after an early end.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._writer = VideoWriter(path, fps, keep=True)
        self._last_ns: int | None = None
        self._start_ns, self._step_ns = 0, round(1e9 / fps)

    @property
    def path(self) -> Path:
        return self._writer.path

    @property
    def kept(self) -> Path | None:
        return self._writer.kept

    @property
    def letterboxed(self) -> int:
        return self._writer.letterboxed

    def expect(self, fps: float) -> None:
        """How many frames a second will come, for players that do not look at each frame's time."""
        self._writer.fps = fps

    def __enter__(self) -> Film:
        self._writer.__enter__()
        return self

    def write(self, result: FrameResult) -> None:
        """One frame. After a jump back in time (a bag that loops) it follows the last one directly."""
        if self._last_ns is None:
            self._start_ns = result.stamp_ns
        elif result.stamp_ns > self._last_ns:
            self._step_ns = result.stamp_ns - self._last_ns
        else:
            self._start_ns -= self._last_ns + self._step_ns - result.stamp_ns
        self._last_ns = result.stamp_ns
        self._writer.write(film_frame(result), (result.stamp_ns - self._start_ns) / 1e9)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def film_frame(result: FrameResult) -> np.ndarray:
    """The input with its skeletons and every output of one frame as a labelled grid, uint8 RGB."""
    height = PANEL_HEIGHT
    width = round(height * result.size[0] / result.size[1] / 2) * 2
    drawn = draw_people(result.image, result.people, result.instances)
    pictures = [("input", drawn)]
    if result.depth is not None:
        pictures.append((f"depth, metres by {result.metric_source}", panels.depth_color(result.depth)))
    elif result.disparity is not None:
        pictures.append(("disparity, no metric scale", panels.disparity_color(result.disparity)))
    if result.normals is not None:
        pictures.append(("normals", panels.normals_color(result.normals)))
    if result.foreground is not None:
        pictures.append(("foreground", panels.mask_gray(result.foreground)))
    if result.dense_pose is not None:
        pictures.append(("dense pose", panels.dense_pose_color(result.dense_pose)))
    return panels.grid([panels.panel(image, label, width, height) for label, image in pictures], columns=3)
