"""`thfm bench`: every bundle on every backend that works here, the same clip, in one run.

Backends take turns, stage by stage, and the machine's peak is measured in every round between them: what else loads
the machine then touches all of them alike, and the ratios hold where absolute times do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.engine.device import cpu_name
from thfm_ros.engine.golden import Arrays, golden_inputs
from thfm_ros.engine.peak import peak_gflops, peak_kind
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.stage_table import WINDOWS
from thfm_ros.tasks import DEFAULT_TASKS

BASELINE = "eager diffusers"
FEWEST_ROUNDS = 3  # however slow: a median needs them
FEWEST_SAMPLES = {95: 20, 99: 100}  # percentile -> samples below which it would be the maximum under another name
PEOPLE = (0, 1, 3, 6)  # in view: each has a window, whose stages take the place of the keypoint pass
CHOICES = {"one_dense": (1, False), "keypoints": (0, True), "all": (4, True)}  # dense tasks, keypoints or not


@dataclass
class Run:
    """One runtime and its samples. memory_mb: growth of the process's resident memory by loading and first runs.

    frames: of the clip that whole passes are measured with; None: they are not. passes: their milliseconds, all kinds.
    """

    name: str
    runtime: StageRuntime
    load_s: float = 0.0
    memory_mb: float = 0.0
    samples: dict[str, list[float]] = field(default_factory=dict)  # stage -> ms
    frames: np.ndarray | None = None
    passes: list[float] = field(default_factory=list)

    def predict(self) -> None:
        """A pass as the node's: frames up, all kinds computed, results there for whoever reads them."""
        m = self.runtime.manifest
        self.runtime.predict(self.frames, [t for t in DEFAULT_TASKS if t in m.tasks])

    def median(self, stage: str) -> float:
        return float(np.median(self.samples[stage]))

    def peak(self, stage: str) -> str:
        """The kind of peak that a stage is compared with."""
        runtime = self.runtime
        return peak_kind(runtime.precision(runtime.manifest.stages[stage]), runtime.info["device"] != cpu_name())


def warm_up(name: str, open_: Callable[[], StageRuntime]) -> Run:
    """Opens a runtime and runs every stage once."""
    before, start = resident_mb(), time.perf_counter()
    run = Run(name, open_())
    for stage, inputs in stage_inputs(run.runtime).items():
        run.runtime.run(stage, inputs)
        run.samples[stage] = []
        if stage == "encode":
            run.frames = inputs["frames"][0]
    run.predict()
    run.load_s, run.memory_mb = time.perf_counter() - start, resident_mb() - before
    return run


def stage_inputs(runtime: StageRuntime) -> dict[str, Arrays]:
    """The golden inputs: the same for every backend of one geometry."""
    return {n: golden_inputs(n, s.inputs, runtime.prompts) for n, s in runtime.manifest.stages.items()}


def measure(
    runs: Sequence[Run],
    rounds: int,
    report: Callable[[int, int], None] = lambda done, expected: None,
    max_s: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, float]]:
    """Fills the samples of all runs; returns the machine's measured peaks (kind -> GFLOP/s) of every round.

    Ends after the last round that fits into `max_s`, but not before `FEWEST_ROUNDS` (or `rounds`, if fewer). `report`
    hears how many turns are done and how many are expected. Ctrl-C ends it too; what was measured by then counts.
    """
    inputs = [stage_inputs(run.runtime) for run in runs]
    kinds = sorted({run.peak(stage) for run in runs for stage in run.samples})
    peaks: list[dict[str, float]] = []
    began, fit, done = clock(), rounds, 0
    try:
        while len(peaks) < fit:
            peaks.append({kind: peak_gflops(kind) for kind in kinds})
            for run, feeds in zip(runs, inputs, strict=True):
                for stage, feed in feeds.items():
                    run.samples[stage].append(run.runtime.stage_ms(stage, feed))
                if run.frames is not None:
                    start = clock()
                    run.predict()
                    run.passes.append(1e3 * (clock() - start))
                done += 1
                report(done, fit * len(runs))
            a_round = (clock() - began) / len(peaks)
            if max_s < rounds * a_round:
                fit = min(rounds, max(FEWEST_ROUNDS, len(peaks), int(max_s / a_round)))
            else:
                fit = rounds
    except KeyboardInterrupt:
        if not all(all(run.samples.values()) for run in runs):
            raise
        del peaks[max(1, done // len(runs)) :]  # of the round that was cut off
    report(done, done)
    return peaks


def quantiles(samples: Sequence[float]) -> dict[str, float | None]:
    """Median, p95 and p99; None where the samples are too few to hold one beyond it."""
    found: dict[str, float | None] = {"median_ms": float(np.median(samples))}
    for percent, fewest in FEWEST_SAMPLES.items():
        found[f"p{percent}_ms"] = float(np.percentile(samples, percent)) if len(samples) >= fewest else None
    return found


def resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import os

    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def clip_stages(run: Run, dense: int, keypoints: bool) -> list[str]:
    """What one clip runs: one encode, a transform and a decode for each dense task, a keypoint pass."""
    stages = ["encode", *(["keypoints"] if keypoints else [])]
    return stages + [name for stage in ("transform", "decode") for _, name in run.runtime.plan(stage, dense)]


def crowd_stages(run: Run, people: int) -> list[str]:
    """What one clip runs for depth, normals, mask, dense pose, `instances` and the skeletons of so many people.

    [] where the bundle has no windows.
    """
    if WINDOWS not in run.samples:
        return []
    return clip_stages(run, 5, False) + [name for _, name in run.runtime.plan(WINDOWS, people)]


def total_ms(run: Run, stages: Sequence[str]) -> float:
    """By the stages' medians."""
    return sum(run.median(name) for name in stages)


def _ideal_ms(run: Run, stages: Sequence[str], gflop: dict[str, float], peak: dict[str, float]) -> float | None:
    """All arithmetic of `stages` at the measured peak; None where it was not counted."""
    if not all(name in gflop for name in stages):
        return None
    return sum(1e3 * gflop[name] / peak[run.peak(name)] for name in stages)


def stage_gflop(runs: Sequence[Run]) -> dict[str, float]:
    """Gives GFLOP of every stage, as the bundles' manifests say; all runs compute the same network."""
    return {name: s.gflop for run in runs for name, s in run.runtime.manifest.stages.items() if s.gflop}


def summary(runs: Sequence[Run], peaks: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Everything that was measured, as JSON: milliseconds, frames/s, and ratios to eager diffusers and to the peak."""
    gflop = stage_gflop(runs)
    peak = {kind: float(np.median([p[kind] for p in peaks])) for kind in peaks[0]}
    base = next((run for run in runs if run.name == BASELINE), None)
    out = []
    for run in runs:
        m = run.runtime.manifest
        stages = {}
        for name, samples in run.samples.items():
            p50 = run.median(name)
            row: dict[str, Any] = {**quantiles(samples), "samples": len(samples)}
            row["precision"] = run.runtime.precision(m.stages[name])
            if name in gflop:
                row["gflop"] = gflop[name]
                row["of_peak"] = 1e3 * gflop[name] / p50 / peak[run.peak(name)]
            if base is not None and name in base.samples:
                row["times_eager"] = base.median(name) / p50
            stages[name] = row
        clip = {what: total_ms(run, clip_stages(run, *choice)) for what, choice in CHOICES.items()}
        dense, points, every = (clip[what] for what in CHOICES)
        sparse = ("keypoints_2d", "keypoints_3d")
        fps = {t: 1e3 * m.frames / (points if t in sparse else dense) for t in m.tasks}
        entry = {
            "name": run.name,
            "info": run.runtime.info,
            "trained": m.trained,
            "load_s": run.load_s,
            "memory_mb": run.memory_mb,
            "stages": stages,
            "clip_ms": clip,
            "pass_ms": quantiles(run.passes),
            "frames_per_s": {**fps, "all": 1e3 * m.frames / every},
            "frames_per_s_by_people": {
                str(n): 1e3 * m.frames / total_ms(run, stages_of) for n in PEOPLE if (stages_of := crowd_stages(run, n))
            },
        }
        if base is not None:
            eager = {what: total_ms(base, clip_stages(base, *choice)) for what, choice in CHOICES.items()}
            entry["times_eager"] = {what: eager[what] / clip[what] for what in CHOICES}
            # The shortest possible time: all arithmetic at the peak. No program beats it with these operations.
            ideal = {w: _ideal_ms(run, clip_stages(run, *c), gflop, peak) for w, c in CHOICES.items()}
            entry["times_eager_at_peak"] = {w: eager[w] / ms for w, ms in ideal.items() if ms}
        out.append(entry)
    m = runs[0].runtime.manifest
    return {
        "clip": {"preset": m.preset, "frames": m.frames, "height": m.height, "width": m.width, "fps": m.fps},
        "all": list(DEFAULT_TASKS),
        "machine": {"device": runs[0].runtime.info.get("device", ""), "peak_gflops": peak},
        "rounds": len(peaks),
        "runs": out,
    }
