"""The thread that turns waiting frames into published results. It never blocks a callback, and survives failures."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from thfm_ros.errors import UserError
from thfm_ros.nodes.diagnostics import StageTimes
from thfm_ros.nodes.inputs import Camera, Inputs, to_rgb
from thfm_ros.nodes.outputs import Outputs, OutputSettings
from thfm_ros.stream.buffer import NS, ClipBuffer, Item
from thfm_ros.stream.estimator import FrameResult, StreamConfig, StreamEstimator


@dataclass(frozen=True)
class Settings:
    """The parameters that the worker reads afresh for every pass."""

    tasks: list[str]
    stream: StreamConfig
    rectified: str  # "auto", "true" or "false"
    fov_deg: float
    max_failures: int
    outputs: OutputSettings


class Host(Protocol):
    """What the worker needs of its node."""

    def settings(self) -> Settings: ...
    def now_ns(self) -> int: ...
    def alive(self) -> bool: ...
    def warn(self, text: str) -> None: ...
    def on_answered(self, count: int, ages_s: list[float]) -> None: ...
    def on_lost(self, reason: str) -> None: ...


class Worker:
    """One thread from `start` to `stop`; the estimator belongs to it meanwhile."""

    def __init__(
        self,
        host: Host,
        buffer: ClipBuffer,
        estimator: StreamEstimator,
        inputs: Inputs,
        outputs: Outputs,
        times: StageTimes,
    ) -> None:
        self._host, self._buffer, self._estimator = host, buffer, estimator
        self._inputs, self._outputs, self._times = inputs, outputs, times
        self._ledger = buffer.ledger
        self._open: dict[int, tuple[Any, Camera]] = {}  # stamp -> header and camera of frames still to be answered
        self._clip: int | None = None  # that the estimator's frames belong to
        self._convert_ms = 0.0  # since the last pass
        self._last_frame_s = 0.0  # when the estimator got its last frame, by the steady clock
        self._silent = True  # nothing came since the last frame's clip was ended
        self._last_ns: int | None = None  # stamp of the estimator's last frame; None: the next one begins a clip
        self._unreadable = False  # an image since then could not be read
        self._failures = 0
        self._stopping = threading.Event()
        self.camera_problem = ""  # why 3D outputs wait, for diagnostics
        self.metres: dict[str, object] = {}  # what gave those of the last frame, for diagnostics
        self.last_error = ""
        self._thread = threading.Thread(target=self._run, name="thfm-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Ends after the pass that runs now, which cannot be interrupted; False where that takes longer."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            items = deque(self._buffer.take(timeout=0.1))
            settings = self._host.settings()
            before = self._last_frame_s
            try:
                if items:
                    self._work(items, settings)
                    if self._last_frame_s == before:  # images may come and none be a frame: unreadable ones
                        self._watch(settings)
                elif not self._buffer.waiting:
                    self._watch(settings)
            except Exception as error:  # nothing that one frame does may end the thread
                self._close("failed", len(items))
                self._failed(error, settings)
        self._close("reset")

    def _work(self, items: deque[Item], settings: Settings) -> None:
        """Processes waiting frames of one clip, which leave `items` as they are taken in."""
        tasks = self._tasks(settings)
        offered = [t for t in settings.tasks if t in self._estimator.runtime.manifest.tasks]
        self._inputs.findings.note("tasks", self._outputs.unserved(offered))
        if not tasks:
            self._close("idle", len(items))
            self._estimator.reset()
            self._outputs.clear()  # nobody looks for people any more
            self._clip = None
            return
        self._estimator.config = settings.stream
        if items[0].clip != self._clip:
            self._answer(tasks, settings, ends=True)
            self._clip = items[0].clip
        for stamp_ns, depth in self._inputs.depths(self._estimator.measurable):
            self._estimator.measure(stamp_ns, depth)
        while items and not self._stopping.is_set():
            self._take_in(items[0], tasks, settings)
            items.popleft()
        self._answer(tasks, settings)
        self._ledger.dropped("reset", len(items))  # those that a stop left

    def _watch(self, settings: Settings) -> None:
        """Ends the clip of a camera that fell silent, or sends nothing that can be read: held frames are answered, and
        nobody is in view any more."""
        patience_s = self._buffer.gap_s + self._buffer.stride / self._buffer.fps
        if self._silent or time.monotonic() - self._last_frame_s < patience_s:
            return
        self._silent = True
        if self._open and (tasks := self._tasks(settings)):
            self._answer(tasks, settings, ends=True)
        if not self._stopping.is_set():
            self._outputs.clear()

    def _tasks(self, settings: Settings) -> list[str]:
        return self._outputs.tasks(settings.tasks, self._inputs.measures)

    def _take_in(self, item: Item, tasks: list[str], settings: Settings) -> None:
        """One message to the estimator; a malformed one is counted and reported."""
        started = time.perf_counter()
        header = item.payload.header
        try:
            image = to_rgb(item.payload)
        except UserError as error:
            self._ledger.dropped("malformed")
            self._host.warn(str(error))
            self._unreadable = True
            return
        height, width = image.shape[:2]
        camera = Camera(None, None)
        try:
            camera = self._inputs.camera(header, width, height, settings.rectified, settings.fov_deg)
            self.camera_problem = "" if camera.intrinsics else "waiting for camera_info: no 3D outputs yet"
        except UserError as error:
            self.camera_problem = f"no 3D outputs: {error}"  # which the inputs have noted
        depth = dict(self._inputs.depths([item.stamp_ns])).get(item.stamp_ns)
        self._convert_ms += 1e3 * (time.perf_counter() - started)
        if not self._estimator.continues(image) or self._follows_hole(item.stamp_ns):
            self._answer(tasks, settings, ends=True)
        elif self._estimator.full:
            self._answer(tasks, settings)
        started = time.perf_counter()
        self._estimator.push(item.stamp_ns, image, camera.intrinsics, depth, camera.lens)
        self._open[item.stamp_ns] = (header, camera)
        self._convert_ms += 1e3 * (time.perf_counter() - started)
        self._last_frame_s, self._silent = time.monotonic(), False
        self._last_ns, self._unreadable = item.stamp_ns, False

    def _follows_hole(self, stamp_ns: int) -> bool:
        """Whether unreadable images have left a gap before this frame, which the buffer took for frames of the clip.

        Frames that a slow machine leaves out are no gap: the camera saw people all the time.
        """
        return self._unreadable and self._last_ns is not None and (stamp_ns - self._last_ns) / NS > self._buffer.gap_s

    def _answer(self, tasks: list[str], settings: Settings, ends: bool = False) -> None:
        """One pass for the frames that are open; `ends`: they are the last of their clip. A failure is reported."""
        if self._stopping.is_set():
            return
        if ends:
            self._last_ns = None
        try:
            results = self._estimator.finish(tasks) if ends else self._estimator.step(tasks)
            if self._estimator.doubt:
                self._host.warn(self._estimator.doubt)
            if results:
                self._failures, self.last_error = 0, ""
                self._publish(results, settings)
        except Exception as error:
            self._close("failed")
            self._failed(error, settings)

    def _publish(self, results: list[FrameResult], settings: Settings) -> None:
        started = time.perf_counter()
        ages_s = []
        self._outputs.begin_pass()
        for result in results:
            if self._stopping.is_set():  # what is still open is closed at the end of the thread
                break
            header, camera = self._open[result.stamp_ns]
            self._outputs.publish(result, header, camera.info, settings.outputs)
            joints = {"measured" if p.measured else "body size" for p in result.people if p.located}
            self.metres = {"Depth image by": result.metric_source, "Joints by": ", ".join(sorted(joints)) or "none"}
            del self._open[result.stamp_ns]
            self._ledger.answered()
            ages_s.append((self._host.now_ns() - result.stamp_ns) / 1e9)
        else:
            self._close("newest" if settings.stream.newest_only else "overrun")
        self._inputs.findings.note("target_frame", self._outputs.problem or None)
        self._host.on_answered(len(ages_s), ages_s)
        publish_ms = 1e3 * (time.perf_counter() - started)
        self._times.add({"convert": self._convert_ms, **self._estimator.timings_ms, "publish": publish_ms})
        self._convert_ms = 0.0

    def _close(self, reason: str, more: int = 0) -> None:
        """Gives up on the open frames, and on `more` that were not opened yet: they will never be answered."""
        self._ledger.dropped(reason, len(self._open) + more)
        self._open.clear()

    def _failed(self, error: Exception, settings: Settings) -> None:
        if self._stopping.is_set() or not self._host.alive():
            return
        self._failures += 1
        self.last_error = " ".join(f"{type(error).__name__}: {error}".split())
        where = traceback.extract_tb(error.__traceback__)[-1]
        self._host.warn(
            f"pass failed ({self._failures} of {settings.max_failures} in a row): {self.last_error} "
            f"({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"
        )
        if self._failures >= settings.max_failures:
            self._stopping.set()
            self._host.on_lost(self.last_error)
