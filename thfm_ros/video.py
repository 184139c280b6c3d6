"""Video files in and out, through PyAV, which is loaded by the first video: a robot's nodes start without it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from thfm_ros.encoded_image import decode_image, image_format
from thfm_ros.errors import UserError
from thfm_ros.files import atomic, unwritable
from thfm_ros.frames import FrameClock, shown
from thfm_ros.letterbox import letterbox

if TYPE_CHECKING:
    import av

CONVERT = "name another file, or convert it (ffmpeg -i IN OUT.mp4)"
INTERLACED = "interlaced: one field of each frame is shown, which is half its lines"
BROKEN = "damaged in places: frames there are missing, or show parts of others"
LEAST_MISSING_S = 1.0  # shorter ends are those of the sound
FASTEST = 240  # frames a second; a higher rate may be that of the clock, so frames are counted
ATTACHED_PICTURE, PQ = 0x400, 16  # libav's AV_DISPOSITION_ATTACHED_PIC and AVCOL_TRC_SMPTE2084
BT601, LIMITED = 6, 1  # libav's matrix and range of what the writer writes
TICKS = 90_000  # a second, in the files that are written


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise UserError(f"videos need PyAV, found: {error}: pip install 'av>=13,<18'") from None
    return av


class VideoReader:
    """Iterates over (time in seconds, RGB uint8 (H, W, 3)) of a video as a player shows it; can be iterated again.

    Times begin at 0 and increase, unevenly where the file says so. Frames are upright and have square pixels, and each
    has its own size: a file may change it. A picture (JPEG, PNG, ...) is a video of one frame.

    Attributes:
        fps: mean frame rate. width, height: of the first frame. frames: their number, 0 where the file does not say.
        notes: what is shown otherwise than the file has it, a line each.
        damaged: frames that the last iteration left out because they could not be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self.damaged = 0
        _check_file(self.path)
        try:
            self._still = _still(self.path)
            if self._still is None:
                self._read_header()
            else:
                self.fps, self.frames = 1.0, 1
        except PermissionError:
            raise UserError(f"cannot read {self.path}: no permission: chmod +r it, or name another file") from None
        first = next((image for _, image in self), None)
        if first is None:
            raise UserError(f"cannot read {self.path} as a video: none of its frames can be decoded: {CONVERT}")
        self.height, self.width = first.shape[:2]

    def _read_header(self) -> None:
        av = _pyav()
        try:
            with self._open() as container:
                stream = self._stream(container)
                self.frames = stream.frames
                rate = stream.average_rate if stream.start_time is not None else stream.guessed_rate
                self.fps = float(rate or stream.average_rate or 0)
                if not 0 < self.fps <= FASTEST:  # no rate, as in a browser's recording
                    stamps = _stamps(container, stream)
                    seconds = stamps[-1] - stamps[0] if stamps else 0.0
                    self.fps, self.frames = ((len(stamps) - 1) / seconds if seconds else 1.0), len(stamps)
                if stream.codec_context.color_trc == PQ:
                    self.notes.append("HDR (PQ) shown without tone mapping: its colours are pale")
        except PermissionError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"cannot read {self.path} as a video: {error.strerror or error}: {CONVERT}") from None
        if self.fps <= 0:
            raise UserError(f"cannot read {self.path} as a video: no frame rate in its header: {CONVERT}")

    def longest_gap(self) -> float:
        """Seconds between the two neighbouring frames that are farthest apart; of the whole file, without decoding."""
        if self._still is not None:
            return 0.0
        with self._open() as container:
            stamps = _stamps(container, self._stream(container))
        return max((after - before for before, after in itertools.pairwise(stamps)), default=1 / self.fps)

    def _open(self) -> av.container.InputContainer:
        return _pyav().open(_file_url(self.path))

    def _stream(self, container: av.container.InputContainer) -> av.VideoStream:
        """The first stream of moving pictures: the cover of a song is none."""
        for stream in container.streams.video:
            if not int(getattr(stream, "disposition", 0)) & ATTACHED_PICTURE:
                return stream
        raise UserError(f"no video stream in {self.path}: name a file with pictures, not with sound alone")

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        self.damaged = 0
        if self._still is not None:
            yield 0.0, self._still
            return
        time = 0.0
        with self._open() as container:
            stream = self._stream(container)
            clock = FrameClock(self.fps, by_order=container.format.name == "avi")
            step = 1 / self.fps  # the longest so far
            try:
                for frame in self._decoded(container, stream):
                    if frame.interlaced_frame:
                        self._note(INTERLACED)
                    time, before = clock(frame), time
                    step = max(step, time - before)
                    yield time, shown(frame, stream.sample_aspect_ratio)
            except _pyav().FFmpegError as error:
                reason = f"{self.path} is damaged after {time:.2f} s: {error.strerror or error}"
                raise UserError(f"{reason}: cut off what follows, or name another file") from None
            named = self._named_seconds(container, stream) - max(0.0, clock.origin)  # from which some count
            if named - time > step + max(step, LEAST_MISSING_S):
                self._note(f"its last frame is at {time:.2f} s, its header names {named:.2f} s: the end is missing")

    def _named_seconds(self, container: av.container.InputContainer, stream: av.VideoStream) -> float:
        """How long the file lasts by its header, which a recording that was cut off still has; 0: it does not say."""
        if "mp4" in container.format.name:
            return 0.0  # its index is cut off too, or names frames that are not there, which is an error
        seconds = (container.duration or 0) / _pyav().time_base
        seconds -= min(
            max(container.start_time or 0, 0) / _pyav().time_base, seconds
        )  # some count from 0, others do not
        return max(seconds, stream.frames / self.fps)

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Whole frames. Where each is by itself (MJPEG) a damaged one is left out, elsewhere it ends the video."""
        alone = stream.codec_context.name == "mjpeg"
        if alone:
            stream.codec_context.options = {"err_detect": "explode"}  # else half a frame counts as one
        for packet in container.demux(stream):
            if packet.is_corrupt and not alone:
                self._note(BROKEN)
            try:
                frames = packet.decode()
            except _pyav().FFmpegError:
                if not alone:
                    raise
                self.damaged += 1
                continue
            whole = [frame for frame in frames if not frame.is_corrupt]
            self.damaged += len(frames) - len(whole)
            yield from whole


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"expected a video file, found the folder {path}: name a file in it")
    if not path.is_file() and set("%*") & set(path.name):
        make = f"make a video of the pictures (ffmpeg -i '{path.name}' OUT.mp4), and name that"
        raise UserError(f"expected a video file, found a pattern of names, {path}: {make}")
    if not path.is_file():
        raise UserError(f"video not found: {path}: check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): name another file, or make it again")


def _still(path: Path) -> np.ndarray | None:
    """RGB of a file that is one picture, turned as its EXIF says; None for anything else."""
    with path.open("rb") as file:
        head = file.read(512)
    kind = image_format(head)
    moving = any(mark in head for mark in (b"acTL", b"ANIM", b"avis"))  # animated PNG, WebP, AVIF
    stream = kind == "jpeg" and path.suffix.lower() not in (".jpg", ".jpeg", ".jpe", ".jfif")  # one JPEG after another
    if not kind or moving or stream:
        return None
    try:
        return cv2.cvtColor(decode_image(path.read_bytes()), cv2.COLOR_BGR2RGB)
    except ValueError as error:
        raise UserError(f"cannot read the picture {path}: {error}: name another file") from None


def _stamps(container: av.container.InputContainer, stream: av.VideoStream) -> list[float]:
    """Times of the frames in seconds, in order, read without decoding; those that have one."""
    stamps = (packet.pts if packet.pts is not None else packet.dts for packet in container.demux(stream) if packet.size)
    base = stream.time_base or Fraction(1)
    return sorted(float(stamp * base) for stamp in stamps if stamp is not None)


def _file_url(path: Path) -> str:
    """What libav takes for a file, whatever its name: a colon would end a protocol's."""
    return f"file:{path}"


def read_clip(path: str | Path, frames: int, fps: float, start: float = 0.0) -> np.ndarray:
    """(frames, H, W, 3) uint8 RGB sampled at `fps` from `start` seconds on: at each instant the frame then shown."""
    reader = VideoReader(path)
    wanted = [start + i / fps for i in range(frames)]
    picked: list[np.ndarray] = []
    current, until = None, 0.0
    for time, image in reader:
        while current is not None and len(picked) < frames and wanted[len(picked)] < time - 1e-6:
            picked.append(current)
        if len(picked) == frames:
            break
        current, until = image, time + 1 / reader.fps
    while current is not None and len(picked) < frames and wanted[len(picked)] < until - 1e-6:
        picked.append(current)
    if len(picked) < frames:
        raise UserError(f"{path} is too short: {frames} frames at {fps:g} fps from {start:g} s, found {len(picked)}")
    return stack(picked, path)


def stack(images: Sequence[np.ndarray], path: str | Path) -> np.ndarray:
    """(N, H, W, 3) of a video's frames; UserError where it changes its size."""
    sizes = list(dict.fromkeys((image.shape[1], image.shape[0]) for image in images))
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise UserError(f"{path}: expected frames of one size, found {found}: cut it where the size changes")
    return np.stack(images)


class VideoWriter:
    """H.264 MP4 that appears when its block ends; use as a context manager.

    fps: may be set until the first frame is written. keep: where the block fails, the frames written by then are a
    film too: at `path`, or as NAME.partial.mp4 beside an older film that is there; `kept` says where.
    letterboxed: frames of another size than the first one, which gives the film its size.
    """

    def __init__(self, path: str | Path, fps: float, crf: int = 18, keep: bool = False) -> None:
        self.path = Path(path)
        self.fps = fps
        self.letterboxed = 0
        self.kept: Path | None = None
        self._keep = keep
        self._crf = crf
        self._failure: UserError | None = None  # of writing the file itself: there is nothing to keep
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._time = 0.0
        self._last: int | None = None  # pts of the last frame

    def __enter__(self) -> VideoWriter:
        if self.path.is_dir():
            raise UserError(f"cannot write {self.path}: it is a folder: name a file")
        av = _pyav()
        with self._named():
            self._place = atomic(self.path)
            self._temporary = self._place.__enter__()
            self._temporary.touch()  # libav itself opens the file with the first frame, which may be minutes later
            self._container = av.open(_file_url(self._temporary), "w", format="mp4")
        return self

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """One RGB uint8 (H, W, 3) frame, shown from `time` on (seconds, increasing); None: 1 / fps after the last one.

        Odd sizes lose their last row or column (H.264 has 4:2:0 colour).
        """
        assert self._container is not None, "use VideoWriter as a context manager"
        if self._stream is None:
            self._stream = self._add_stream(image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
        width, height = self._stream.width, self._stream.height
        if (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2) != (width, height):
            image = letterbox(image, width, height)[0]
            self.letterboxed += 1
        frame = _pyav().VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        frame.time_base, frame.pts = Fraction(1, TICKS), self._next(time)
        with self._named():
            self._container.mux(self._stream.encode(frame))

    def _next(self, time: float | None) -> int:
        """The next frame's pts: at `time`, but always after the last one."""
        if self._last is None:
            self._time, self._last = time or 0.0, -1
        else:
            self._time = self._time + 1 / self.fps if time is None else time
        self._last = max(self._last + 1, round(self._time * TICKS))
        return self._last

    def _add_stream(self, width: int, height: int) -> av.VideoStream:
        assert self._container is not None
        stream = self._container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        codec = stream.codec_context
        codec.time_base = Fraction(1, TICKS)
        codec.colorspace, codec.color_range = BT601, LIMITED  # as PyAV converts: players take an unnamed HD for BT.709
        return stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        discarded = error
        try:
            self._finish()
            if error is None or (self._keep and not self.path.exists()):
                self.kept, discarded = self.path, None
            elif self._keep:
                self.kept = self.path.with_stem(f"{self.path.stem}.partial")
                self._temporary.replace(self.kept)
        except (UserError, OSError) as failure:
            discarded = failure
            if error is None:
                raise
        finally:
            with self._named():
                self._place.__exit__(*_exception(discarded))

    def _finish(self) -> None:
        """Closes the file. UserError where it holds no frame, or cannot be written."""
        assert self._container is not None
        av = _pyav()
        try:
            if self._failure:
                raise self._failure
            if self._stream is None:
                raise UserError(f"nothing to write to {self.path}: no frame was given: expected at least one")
            with self._named():
                self._container.mux(self._stream.encode(None))
                self._container.close()
        finally:
            with contextlib.suppress(av.FFmpegError, OSError):  # whatever went wrong is already on its way
                self._container.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """A disk that is full, or a place that cannot be written, as one line that names the film."""
        av = _pyav()
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self._failure = unwritable(self.path, error)
            raise self._failure from None


def _exception(
    error: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    """What `__exit__` is given of an exception."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)
