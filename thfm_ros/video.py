"""Video files in and out (PyAV), and fitting any image into the network's size with its aspect kept."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics


class VideoReader:
    """Iterates over (time in seconds, RGB uint8 (H, W, 3)) of a video file; can be iterated again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise UserError(f"expected a video file, found the folder {self.path}: name a file in it")
        if not self.path.is_file():
            raise UserError(f"video not found: {self.path}: check the path")
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
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        with self._named():
            self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._container is not None
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
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            fix = "make room, or choose another place" if full else "choose another place"
            raise UserError(f"cannot write {self.path}: {error.strerror or error}: {fix}") from None


@dataclass(frozen=True)
class Fit:
    """How a source image was placed into the network's: scaled by `scale`, padded by (left, top)."""

    source: tuple[int, int]  # width, height
    target: tuple[int, int]  # width, height
    content: tuple[int, int]  # width, height of the source inside the target
    offset: tuple[int, int]  # left, top padding, pixels of the target

    @classmethod
    def of(cls, source: tuple[int, int], target: tuple[int, int]) -> Fit:
        scale = min(target[0] / source[0], target[1] / source[1])
        content = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        content = (min(content[0], target[0]), min(content[1], target[1]))
        return cls(source, target, content, ((target[0] - content[0]) // 2, (target[1] - content[1]) // 2))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(h, w[, C]) of the source size -> (H, W[, C]) of the target, black borders."""
        shrinking = self.content[0] < self.source[0]
        resized = cv2.resize(image, self.content, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        left, top = self.offset
        right, bottom = self.target[0] - self.content[0] - left, self.target[1] - self.content[1] - top
        return cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)

    def crop(self, image: np.ndarray) -> np.ndarray:
        """(..., H, W, C) or (H, W) of the target without its borders; a view."""
        left, top = self.offset
        rows, columns = slice(top, top + self.content[1]), slice(left, left + self.content[0])
        return image[..., rows, columns] if image.ndim == 2 else image[..., rows, columns, :]

    def points_to_source(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) continuous pixels of the target -> of the source."""
        scale = np.array([self.source[0] / self.content[0], self.source[1] / self.content[1]])
        return (np.asarray(points, dtype=float) - np.array(self.offset)) * scale

    def points_to_target(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) continuous pixels of the source -> of the target."""
        scale = np.array([self.content[0] / self.source[0], self.content[1] / self.source[1]])
        return np.asarray(points, dtype=float) * scale + np.array(self.offset)

    def intrinsics(self, source: Intrinsics) -> Intrinsics:
        """The source's camera as it looks into the target image."""
        left, top = self.offset
        return source.resized(*self.content).cropped(-left, -top, *self.target)


def fit(image: np.ndarray, width: int, height: int) -> tuple[np.ndarray, Fit]:
    """The image letterboxed into (height, width), and how to get back."""
    placement = Fit.of((image.shape[1], image.shape[0]), (width, height))
    return placement.apply(image), placement
