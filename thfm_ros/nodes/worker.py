"""The thread that turns waiting frames into published results. It never blocks a callback, and survives failures."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any, Protocol

from thfm_ros.errors import UserError
from thfm_ros.nodes.diagnostics import StageTimes
from thfm_ros.nodes.inputs import Camera, Inputs, to_rgb
from thfm_ros.nodes.outputs import Outputs
from thfm_ros.stream.buffer import ClipBuffer, Item
from thfm_ros.stream.estimator import FrameResult, StreamConfig, StreamEstimator


@dataclass(frozen=True)
class Settings:
    """The parameters that the worker reads afresh for every pass."""

    tasks: list[str]
    stream: StreamConfig
    rectified: str  # "auto", "true" or "false"
    fov_deg: float
    max_failures: int


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
        self._open: dict[int, tuple[Any, Camera]] = {}  # stamp -> header and camera of frames still to be answered
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
            items = self._buffer.take(timeout=0.1)
            if not items:
                continue
            settings = self._host.settings()
            try:
                self._work(items, settings)
            except Exception as error:  # nothing that one frame does may end the thread
                self._close("failed")
                if not self._stopping.is_set() and self._host.alive():
                    self._failed(error, settings)
        self._close("reset")

    def _work(self, items: list[Item], settings: Settings) -> None:
        tasks = self._outputs.tasks(settings.tasks, self._inputs.measures)
        if not tasks:
            self._close("idle")
            self._buffer.dropped("idle", len(items))
            self._estimator.reset()
            return
        self._estimator.config = settings.stream
        if items[0].starts:
            self._close("reset")
            self._estimator.reset()
        for stamp_ns, depth in self._inputs.depths(self._estimator.measurable):
            self._estimator.measure(stamp_ns, depth)
        self._open.update({item.stamp_ns: (item.payload.header, Camera(None, None)) for item in items})
        started = time.perf_counter()
        for item in items:
            self._take_in(item, settings)
        convert_ms = 1e3 * (time.perf_counter() - started)
        results = self._estimator.step(tasks)
        if not results:
            return
        self._failures, self.last_error = 0, ""
        started = time.perf_counter()
        ages = [age for result in results if (age := self._publish(result)) is not None]
        self._buffer.answered(len(ages))
        self._host.on_answered(len(ages), ages)
        self._close("newest" if settings.stream.newest_only else "overrun")
        publish_ms = 1e3 * (time.perf_counter() - started)
        self._times.add({"convert": convert_ms, **self._estimator.timings_ms, "publish": publish_ms})

    def _take_in(self, item: Item, settings: Settings) -> None:
        """One message to the estimator; a malformed one is counted and reported."""
        header = item.payload.header
        try:
            image = to_rgb(item.payload)
        except UserError as error:
            del self._open[item.stamp_ns]
            self._buffer.dropped("malformed")
            self._host.warn(str(error))
            return
        height, width = image.shape[:2]
        camera = Camera(None, None)
        try:
            camera = self._inputs.camera(header, width, height, settings.rectified, settings.fov_deg)
            self.camera_problem = "" if camera.intrinsics else "waiting for camera_info: no 3D outputs yet"
        except UserError as error:
            self.camera_problem = f"no 3D outputs: {error}"
            self._host.warn(str(error))
        depth = dict(self._inputs.depths([item.stamp_ns])).get(item.stamp_ns)
        if self._estimator.push(item.stamp_ns, image, camera.intrinsics, depth, camera.lens):
            self._close("reset", before_ns=item.stamp_ns)  # another resolution
        self._open[item.stamp_ns] = (header, camera)

    def _publish(self, result: FrameResult) -> float | None:
        """The age in seconds of the frame when its outputs left."""
        header, camera = self._open.pop(result.stamp_ns)
        if self._stopping.is_set():
            self._buffer.dropped("reset")
            return None
        self._outputs.publish(result, header, camera.info)
        joints = {"measured" if p.measured else "body size" for p in result.people if p.located}
        self.metres = {"Depth image by": result.metric_source, "Joints by": ", ".join(sorted(joints)) or "none"}
        return (self._host.now_ns() - result.stamp_ns) / 1e9

    def _close(self, reason: str, before_ns: int | None = None) -> None:
        """Gives up on open frames (those older than `before_ns`): they will never be answered."""
        given_up = [s for s in self._open if before_ns is None or s < before_ns]
        self._buffer.dropped(reason, len(given_up))
        for stamp in given_up:
            del self._open[stamp]

    def _failed(self, error: Exception, settings: Settings) -> None:
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
