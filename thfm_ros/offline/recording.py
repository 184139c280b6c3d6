"""What `thfm run` reads: a recording gives the frames of one camera, and says what it left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.offline import RecordedFrame
from thfm_ros.video import VideoReader


class Recording(Protocol):
    """The frames of one camera, in the order of the file.

    Attributes:
        fps: mean frame rate. frames: their number, 0 where the file does not say.
        dated: stamps count from 1970, else from the first frame.
        notes: what is shown otherwise than the file has it, a line each.
        damaged: frames that were left out because they could not be read.
    """

    path: Path
    fps: float
    frames: int
    dated: bool
    notes: list[str]
    damaged: int

    def __iter__(self) -> Iterator[RecordedFrame]: ...


class VideoRecording:
    """A video file, taken by an ideal camera of this horizontal field of view in degrees."""

    dated = False

    def __init__(self, path: Path, fov_deg: float) -> None:
        self._reader = VideoReader(path)
        self._fov_deg = fov_deg
        self.path, self.fps, self.frames, self.notes = path, self._reader.fps, self._reader.frames, self._reader.notes

    @property
    def damaged(self) -> int:
        return self._reader.damaged

    def __iter__(self) -> Iterator[RecordedFrame]:
        for time, image in self._reader:
            camera = Intrinsics.from_fov(self._fov_deg, image.shape[1], image.shape[0])
            yield RecordedFrame(round(time * 1e9), image, camera)
