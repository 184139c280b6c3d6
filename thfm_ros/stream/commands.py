"""`thfm run`: a video through the network, offline, with the estimator that the ROS node uses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from thfm_ros.tasks import DEFAULT_TASKS

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from thfm_ros.stream.estimator import FrameResult
    from thfm_ros.stream.ledger import Totals
    from thfm_ros.video import VideoReader, VideoWriter

PANEL_HEIGHT = 240


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    video: str = typer.Argument(..., help="Any video file, or the name of a shipped sample (walker)."),
    out: Path = typer.Option(..., "--out", "-o", help="MP4 to write: the input and every output side by side."),
    bundle: str = typer.Option("", help="Bundle or checkpoint folder; default: the weights that ship."),
    backend: str = typer.Option("auto", help="auto, openvino, onnxruntime, torch, tensorrt or torch_tensorrt."),
    tasks: str = typer.Option(",".join(DEFAULT_TASKS), help="Comma-separated tasks."),
    stride: int = typer.Option(8, min=1, help="New frames a pass; smaller is slower and sees more past."),
    fov: float = typer.Option(60.0, min=1.0, max=179.0, help="Horizontal field of view in degrees, for metres."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0: all."),
    json_file: Path | None = typer.Option(None, "--json", help="Figures as JSON."),
) -> None:
    """Run the network over a video and write a film of all outputs. Needs no ROS."""
    from rich.console import Console
    from rich.markup import escape

    from thfm_ros.errors import UserError
    from thfm_ros.files import write_json
    from thfm_ros.paths import video_path, writable

    console = Console()
    if json_file:  # now, and not after the work
        if json_file.is_dir():
            raise UserError(f"cannot write {json_file}: it is a folder: name a file")
        writable(json_file)
    figures = run_video(video_path(video), out, bundle, backend, tasks.split(","), stride, fov, threads, console)
    shown = {k: f"{v:.1f}" if isinstance(v, float) else v for k, v in figures.items() if k != "refused"}
    console.print(", ".join(f"{k} {v}" for k, v in shown.items()))
    for line in figures.get("refused", ()):  # type: ignore[union-attr]
        console.print(f"[yellow]{escape(line)}[/]")
    console.print(f"look at {out}")
    if json_file:
        write_json(json_file, figures)


def run_video(
    video: Path,
    out: Path,
    bundle: str,
    backend: str,
    tasks: list[str],
    stride: int,
    fov_deg: float,
    threads: int,
    console: Console,
) -> dict[str, float | int | str | list[str]]:
    """Writes the film; figures: what ran and which backends were refused, frames read, sampled and answered ("frames"),
    frames a second, how many of them with metric depth and with a person. A line says which frames have no result, and
    why.

    Where it is interrupted or fails, the film has the frames that were done, and a line says how many.
    """
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.shipped import shipped_bundle
    from thfm_ros.errors import UserError
    from thfm_ros.geometry import Intrinsics
    from thfm_ros.processes import Interrupts
    from thfm_ros.stream.estimator import StreamEstimator
    from thfm_ros.stream.ledger import FrameLedger
    from thfm_ros.stream.offline import run_stream
    from thfm_ros.video import VideoReader, VideoWriter

    reader = VideoReader(video)
    _check(tasks, out)
    done = metric = populated = 0
    ids: set[str] = set()
    film, total, ledger = VideoWriter(out, reader.fps, keep=True), None, FrameLedger()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _saying_what_is_kept(film, lambda: (done, total), console), contextlib.ExitStack() as stack:
        stack.enter_context(film)  # before the network: it finds out what cannot be
        path = bundle or shipped_bundle(report=console.print)
        runtime = load_runtime(path, backend=backend, threads=threads or None, tasks=tasks)
        stack.callback(runtime.close)
        estimator = StreamEstimator(runtime)
        for line in estimator.shortcomings if {"keypoints_2d", "keypoints_3d"} & set(tasks) else ():
            console.print(line, style="yellow", highlight=False)
        if not set(tasks) & set(runtime.manifest.tasks):
            has = ", ".join(runtime.manifest.tasks)
            raise UserError(f"the bundle has none of the tasks {', '.join(tasks)}: choose among those it has, {has}")
        film.fps = min(estimator.fps, reader.fps)
        total = round(reader.frames * min(1.0, estimator.fps / reader.fps)) or None
        progress = stack.enter_context(Progress(*columns, console=console))
        bar = progress.add_task("frames", total=total)
        frames = (
            (round(t * 1e9), image, Intrinsics.from_fov(fov_deg, image.shape[1], image.shape[0])) for t, image in reader
        )
        interrupts = stack.enter_context(Interrupts())
        started = time.perf_counter()
        for result in interrupts.between(run_stream(estimator, frames, tasks, stride, ledger)):
            film.write(film_frame(result), result.stamp_ns / 1e9)
            done += 1
            metric += result.depth is not None
            populated += bool(result.people)
            ids |= {person.id for person in result.people}
            rate = done / (time.perf_counter() - started)
            progress.update(bar, advance=1, description=f"{rate:.1f} frames/s")
        totals = ledger.totals()
        if not totals.answered:
            raise UserError(f"expected a video with pictures, found none in {video}: name another file")
    seconds = time.perf_counter() - started
    for line in remarks(reader, film, totals):
        console.print(line, style="yellow", highlight=False)
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
    }


def _check(tasks: list[str], out: Path) -> None:
    """Raises UserError where these tasks or this output cannot be."""
    from thfm_ros.errors import UserError
    from thfm_ros.paths import writable
    from thfm_ros.stream.estimator import conflict
    from thfm_ros.tasks import get_task

    for name in tasks:
        get_task(name)
    if problem := conflict(tasks):
        raise UserError(problem)
    if out.suffix.lower() != ".mp4":
        raise UserError(f"the output has to be an .mp4 file, found {out}: name it {out.with_suffix('.mp4')}")
    writable(out)


def remarks(reader: VideoReader, film: VideoWriter, totals: Totals) -> list[str]:
    """What the film does not show as the file has it, a line each."""
    from thfm_ros.stream.ledger import DROPS

    lines = [f"{reader.path}: {note}" for note in reader.notes]
    if reader.damaged:
        lines.append(f"{reader.path}: {reader.damaged} damaged frames were left out")
    if film.letterboxed:
        lines.append(f"{reader.path} changes its size: {film.letterboxed} frames of {film.path} have borders")
    for reason, count in totals.unanswered().items():
        lines.append(f"{count} of {totals.received} frames are not in the film: {DROPS[reason]}")
    return lines


@contextlib.contextmanager
def _saying_what_is_kept(
    film: VideoWriter, progress: Callable[[], tuple[int, int | None]], console: Console
) -> Iterator[None]:
    """After an early end: where the film of what was done is, and how much that is."""
    try:
        yield
    except BaseException:
        done, total = progress()
        if film.kept is not None:
            console.print(f"ended early: {film.kept} has {done} of {total or '?'} frames", soft_wrap=True)
        raise


def film_frame(result: FrameResult) -> np.ndarray:
    """The input with its skeletons and every output of one frame as a labelled grid, uint8 RGB."""
    from thfm_ros import panels
    from thfm_ros.stream.drawing import draw_people

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
