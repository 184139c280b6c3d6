"""/diagnostics and ~/stats: rates, stamps, stage times, ages, drops, the model and what is wrong with it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from thfm_ros.nodes.diagnostics import FrequencyStatus, StageTimes, TimeStampStatus, status
from thfm_ros.nodes.topics import PUBLISHED, overridable, profile
from thfm_ros.stream.ledger import DROPS, Totals


class Reports:
    """Collects from the callbacks and the worker; `publish` is called by a timer, whatever the node's state."""

    def __init__(self, node: Node) -> None:
        self._node = node
        topics = {t.name: t for t in PUBLISHED}
        self._publishers = {
            name: node.create_publisher(
                DiagnosticArray,
                name,
                profile(topics[name].qos, topics[name].depth),
                qos_overriding_options=overridable(),
            )
            for name in ("/diagnostics", "~/stats")
        }
        self.times = StageTimes()
        self.stamps = TimeStampStatus()
        self.input_rate = FrequencyStatus(1.0)
        self.output_rate = FrequencyStatus(1.0)
        self._ages: list[float] = []
        self._lost = 0
        self._past: deque[Totals] = deque(maxlen=5)  # as many reports as the rates look back
        self._lock = threading.Lock()
        self._model: dict[str, object] = {}
        self._precision = ""
        self.refused: list[str] = []  # better backends than the one that runs, and why they do not

    def configure(self, runtime: Any, min_output_hz: float) -> None:
        """A model was loaded: its camera rate is the target of the input."""
        manifest = runtime.manifest
        self.refused = list(getattr(runtime, "warnings", ()))  # runtimes of others need not have them
        self._precision = getattr(runtime, "computed_in", "")
        self.input_rate = FrequencyStatus(float(manifest.fps))
        self.output_rate = FrequencyStatus(min_output_hz, tolerance=0.0)
        self._model = {
            "Backend": manifest.backend,
            "Frames": manifest.frames,
            "Size": f"{manifest.width}x{manifest.height}",
            "Model rate (Hz)": float(manifest.fps),
            "Tasks": " ".join(manifest.tasks),
            "Trained": manifest.trained,
        }

    def start(self) -> None:
        """Frames come from now on, for the first time or after a pause."""
        self.input_rate.restart()
        self.output_rate.restart()

    def on_received(self, stamp_ns: int, now_ns: int) -> None:
        self.input_rate.tick()
        self.stamps.tick(stamp_ns, now_ns)

    def on_lost(self, count: int) -> None:
        """Images that the transport lost before they reached this node."""
        with self._lock:
            self._lost += count

    def on_answered(self, count: int, ages_s: list[float]) -> None:
        self.output_rate.tick(count)
        with self._lock:
            self._ages += ages_s

    def publish(
        self,
        state: str,
        reason: str,
        totals: Totals | None,
        waiting: int,
        camera_problem: str,
        pass_error: str,
        max_age_s: float,
        disagreements: Sequence[str],
        camera: Mapping[str, object],
    ) -> None:
        now = self._node.get_clock().now().to_msg()
        name = self._node.get_fully_qualified_name().lstrip("/")
        self.stamps.max_acceptable_s = max_age_s
        diagnostics = DiagnosticArray()
        diagnostics.header.stamp = now
        diagnostics.status = [self._model_status(name, state, reason, camera_problem, pass_error)]
        if self._model:
            diagnostics.status.append(self._backend_status(name))
        if state == "active":
            monotonic = time.monotonic()
            agree = ("warn", "; ".join(disagreements)) if disagreements else ("ok", "The inputs agree.")
            for label, report in (
                ("camera", (*agree, camera)),
                ("input frequency", self.input_rate.report(monotonic)),
                ("output frequency", self.output_rate.report(monotonic)),
                ("input stamps", self.stamps.report()),
            ):
                level, message, values = report
                if label == "output frequency" and level != "ok":
                    message += self._unanswered(totals)
                diagnostics.status.append(status(level, f"{name}: {label}", message, values, name))  # type: ignore[arg-type]
        self._past.append(totals or Totals())
        self._publishers["/diagnostics"].publish(diagnostics)
        stats = DiagnosticArray()
        stats.header.stamp = now
        stats.status = self._stats(name, totals, waiting)
        self._publishers["~/stats"].publish(stats)

    def _unanswered(self, totals: Totals | None) -> str:
        """Why frames of the last reports had no result, the commonest reason first; "" where none was dropped."""
        if totals is None or not self._past:
            return ""
        drops = totals.drops - self._past[0].drops  # of a new ledger after a reload: what it has so far
        return "".join(f" {n} frames dropped ({why}: {DROPS[why]})." for why, n in drops.most_common() if why != "rate")

    def _model_status(
        self, name: str, state: str, reason: str, camera_problem: str, pass_error: str
    ) -> DiagnosticStatus:
        values: dict[str, object] = {"State": state, **self._model}
        level, message = "ok", state
        if reason:
            level, message = "error", reason
        elif pass_error:
            level, message = "error", f"the last pass failed: {pass_error}"
        elif camera_problem and state == "active":
            level, message = "warn", camera_problem
        elif self._model and not self._model["Trained"]:
            level, message = "warn", "random weights: outputs are noise"
        return status(level, f"{name}: model", message, values, name)

    def _backend_status(self, name: str) -> DiagnosticStatus:
        """What the network runs with, and the better backends that were refused."""
        backend = str(self._model["Backend"])
        values = {"Backend": backend, "Precision": self._precision, "Refused": len(self.refused)}
        values |= {f"Refused {i}": line for i, line in enumerate(self.refused, 1)}
        level, message = ("warn", "; ".join(self.refused)) if self.refused else ("ok", backend)
        return status(level, f"{name}: backend", message, values, name)

    def _stats(self, name: str, totals: Totals | None, waiting: int) -> list[DiagnosticStatus]:
        """One status a stage (count, mean, max in ms), one for ages (s) and one for what became of every frame."""
        with self._lock:
            ages, self._ages = self._ages, []
            lost = self._lost
        stages = [
            status(
                "ok",
                f"{name}: stage {stage}",
                "",
                {"Count": v["count"], "Mean (ms)": v["mean"], "Max (ms)": v["max"]},
                name,
            )
            for stage, v in self.times.report().items()
        ]
        age = {
            "Count": len(ages),
            "Mean (s)": sum(ages) / len(ages) if ages else 0.0,
            "Max (s)": max(ages, default=0.0),
        }
        out = [*stages, status("ok", f"{name}: age", "", age, name)]
        if totals is not None:
            frames = {"Received": totals.received, "Answered": totals.answered, "Waiting": waiting}
            frames |= {f"Dropped: {reason}": count for reason, count in sorted(totals.drops.items())}
            out.append(
                status(
                    "ok", f"{name}: frames", "", {**frames, "Resets": totals.resets, "Lost in transport": lost}, name
                )
            )
        return out
