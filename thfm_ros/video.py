"""Video files in and out, through PyAV, which is loaded by the first video: a robot's nodes start without it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

import numpy as np

from thfm_ros.errors import UserError

if TYPE_CHECKING:
    import av


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise UserError(f"videos need PyAV, found: {error}: pip install 'av>=13,<18'") from None
    return av


class VideoReader:
    """Iterates over (time in seconds, RGB uint8 (H, W, 3)) of a video file; can be iterated again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise UserError(f"expected a video file, found the folder {self.path}: name a file in it")
        if not self.path.is_file():
            raise UserError(f"video not found: {self.path}: check the path")
        av = _pyav()
        convert = "name another file, or convert it (ffmpeg -i IN OUT.mp4)"
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise UserError(f"no video stream in {self.path}: name a file with pictures, not with sound alone")
                stream = container.streams.video[0]
                self.fps = float(stream.average_rate or stream.guessed_rate or 0)
                self.width, self.height = stream.codec_context.width, stream.codec_context.height
                self.frames = stream.frames  # 0 where the container does not say
        except PermissionError:
            raise UserError(f"cannot read {self.path}: no permission: chmod +r it, or name another file") from None
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"cannot read {self.path} as a video: {error.strerror or error}: {convert}") from None
        if self.fps <= 0 or self.width <= 0 or self.height <= 0:
            found = f"cannot read {self.path} as a video: no frame rate or size in its header"
            raise UserError(f"{found}: {convert}")

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        start: float | None = None
        time = 0.0
        av = _pyav()
        with av.open(str(self.path)) as container:
            try:
                for number, frame in enumerate(container.decode(video=0)):
                    stamp = frame.time if frame.time is not None else number / self.fps
                    start = stamp if start is None else start
                    time = stamp - start
                    yield time, frame.to_ndarray(format="rgb24")
            except av.FFmpegError as error:
                reason = f"{self.path} is damaged after {time:.2f} s: {error.strerror or error}"
                raise UserError(f"{reason}: cut off what follows, or name another file") from None


def read_clip(path: str | Path, frames: int, fps: float, start: float = 0.0) -> np.ndarray:
    """(frames, H, W, 3) uint8 RGB sampled at `fps` from `start` seconds on: at each instant the frame then shown."""
    reader = VideoReader(path)
    wanted = [start + i / fps for i in range(frames)]
    picked: list[np.ndarray] = []
    shown, shown_until = None, 0.0
    for time, image in reader:
        while shown is not None and len(picked) < frames and wanted[len(picked)] < time - 1e-6:
            picked.append(shown)
        if len(picked) == frames:
            break
        shown, shown_until = image, time + 1 / reader.fps
    while shown is not None and len(picked) < frames and wanted[len(picked)] < shown_until - 1e-6:
        picked.append(shown)
    if len(picked) < frames:
        raise UserError(f"{path} is too short: {frames} frames at {fps:g} fps from {start:g} s, found {len(picked)}")
    return np.stack(picked)


class VideoWriter:
    """H.264 MP4 written to a temporary name and renamed when complete; use as a context manager.

    fps: may be set until the first frame is written.
    """

    def __init__(self, path: str | Path, fps: float, crf: int = 18) -> None:
        self.path = Path(path)
        self.fps = fps
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._crf = crf
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> VideoWriter:
        if self.path.is_dir():
            raise UserError(f"cannot write {self.path}: it is a folder: name a file")
        av = _pyav()
        with self._named():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()  # libav itself opens the file with the first frame, which may be minutes later
            self._container = av.open(str(self._temporary), "w", format="mp4")
        return self

    def write(self, image: np.ndarray) -> None:
        """One RGB uint8 (H, W, 3) frame; odd sizes lose their last row or column (H.264 has 4:2:0 colour)."""
        assert self._container is not None, "use VideoWriter as a context manager"
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(1001))
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        frame = _pyav().VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        with self._named():
            self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._container is not None
        av = _pyav()
        try:
            if kind is None:
                if self._stream is None:
                    raise UserError(f"nothing to write to {self.path}: no frame was given: expected at least one")
                with self._named():
                    self._container.mux(self._stream.encode(None))
                    self._container.close()
                    self._temporary.replace(self.path)
        finally:
            with contextlib.suppress(av.FFmpegError, OSError):  # whatever went wrong is already on its way
                self._container.close()
            self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """A disk that is full, or a place that cannot be written, as one line that names the film."""
        av = _pyav()
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            fix = "make room, or choose another place" if full else "choose another place"
            raise UserError(f"cannot write {self.path}: {error.strerror or error}: {fix}") from None
