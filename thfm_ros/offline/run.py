"""A recording through the estimator into its outputs: a film, a bag, the Rerun viewer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from thfm_ros.errors import UserError
from thfm_ros.offline.annotated_bag import AnnotatedBag
from thfm_ros.offline.film import Film
from thfm_ros.offline.recording import Recording
from thfm_ros.stream.estimator import FrameResult, StreamEstimator
from thfm_ros.stream.ledger import DROPS, FrameLedger, Totals

if TYPE_CHECKING:
    from rich.console import Console


class Output(Protocol):
    """What is made of the results; a context manager whose block is the run. kept: what an early end leaves, if any."""

    path: Path | None
    kept: Path | None

    def __enter__(self) -> Output: ...

    def write(self, result: FrameResult) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How the network runs. every_frame: also frames that come faster than its rate."""

    tasks: Sequence[str]
    bundle: str = ""
    backend: str = "auto"
    stride: int = 8
    threads: int = 0
    every_frame: bool = False


def run(
    recording: Recording, outputs: Sequence[Output], settings: Settings, console: Console
) -> dict[str, float | int | str | list[str]]:
    """Writes the outputs; figures: what ran and which backends were refused, frames read, sampled and answered
    ("frames"), frames a second, how many of them with metric depth and with a person. A line says which frames have no
    result, and why.

    Where it is interrupted or fails, the outputs have the frames that were done, and a line says how many.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.shipped import shipped_bundle
    from thfm_ros.processes import Interrupts
    from thfm_ros.stream.offline import run_stream

    tasks = list(settings.tasks)
    done = metric = populated = 0
    ids: set[str] = set()
    total, ledger = None, FrameLedger()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _saying_what_is_kept(outputs, lambda: (done, total), console), contextlib.ExitStack() as stack:
        for output in outputs:  # before the network: they find out what cannot be
            stack.enter_context(output)
        path = settings.bundle or shipped_bundle(report=lambda line: console.print(line, markup=False))
        runtime = load_runtime(path, backend=settings.backend, threads=settings.threads or None, tasks=tasks)
        stack.callback(runtime.close)
        estimator = StreamEstimator(runtime)
        for line in estimator.shortcomings if {"keypoints_2d", "keypoints_3d"} & set(tasks) else ():
            console.print(line, style="yellow", highlight=False, markup=False)
        if not set(tasks) & set(runtime.manifest.tasks):
            has = ", ".join(runtime.manifest.tasks)
            raise UserError(f"the bundle has none of the tasks {', '.join(tasks)}: choose among those it has, {has}")
        fps = recording.fps if settings.every_frame else min(estimator.fps, recording.fps)
        for output in outputs:
            if isinstance(output, Film):
                output.expect(fps)
        total = round(recording.frames * min(1.0, fps / recording.fps)) or None
        progress = stack.enter_context(Progress(*columns, console=console))
        bar = progress.add_task("frames", total=total)
        interrupts = stack.enter_context(Interrupts())
        for output in outputs:
            if isinstance(output, AnnotatedBag):
                output.interrupts = interrupts
        started = time.perf_counter()
        results = run_stream(estimator, recording, tasks, settings.stride, ledger, settings.every_frame)
        for result in interrupts.between(results):
            for output in outputs:
                output.write(result)
            done += 1
            metric += result.depth is not None
            populated += bool(result.people)
            ids |= {person.id for person in result.people}
            rate = done / (time.perf_counter() - started)
            progress.update(bar, advance=1, description=f"{rate:.1f} frames/s")
        if estimator.doubt:
            console.print(estimator.doubt, style="yellow", highlight=False, markup=False)
        totals = ledger.totals()
        if not totals.answered:
            unread = f" ({recording.damaged} could not be read: {recording.notes[-1]})" if recording.damaged else ""
            raise UserError(f"expected a recording with pictures, found none in {recording.path}{unread}: name another")
    seconds = time.perf_counter() - started
    for line in remarks(recording, outputs, totals):
        console.print(line, style="yellow", highlight=False, markup=False)
    return {
        "backend": runtime.manifest.backend,
        "precision": runtime.computed_in,
        "refused": runtime.warnings,
        "trained": str(runtime.manifest.trained).lower(),
        "read": totals.received,
        "sampled": totals.sampled,
        "frames": totals.answered,
        "frames/s": totals.answered / seconds,
        "with metric depth": metric,
        "with a person": populated,
        "people": len(ids),
        **{name: value for output in outputs for name, value in getattr(output, "figures", {}).items()},
    }


def remarks(recording: Recording, outputs: Sequence[Output], totals: Totals) -> list[str]:
    """What the outputs do not show as the file has it, a line each."""
    lines = [f"{recording.path}: {note}" for note in recording.notes]
    if recording.damaged:
        lines.append(f"{recording.path}: {recording.damaged} damaged frames were left out")
    for output in outputs:
        if isinstance(output, Film) and output.letterboxed:
            lines.append(
                f"{recording.path} changes its size: {output.letterboxed} frames of {output.path} have borders"
            )
    for reason, count in totals.unanswered().items():
        lines.append(f"{count} of {totals.received} frames have no result: {DROPS[reason]}")
    return lines


@contextlib.contextmanager
def _saying_what_is_kept(
    outputs: Sequence[Output], progress: Callable[[], tuple[int, int | None]], console: Console
) -> Iterator[None]:
    """After an early end: where what was done is, and how much that is."""
    try:
        yield
    except BaseException:
        done, total = progress()
        for output in outputs:
            if output.kept is not None:
                line = f"ended early: {output.kept} has {done} of {total or '?'} frames"
                console.print(line, soft_wrap=True, markup=False)
        raise
