"""`thfm evaluate`: a checkpoint on a public data set or on held-out synthetic clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from thfm_ros.evaluate.predictors import Predictor
    from thfm_ros.evaluate.synthetic import ClipSource

CONSTANT = "constant"


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    benchmark: str = typer.Argument(
        ...,
        help="synthetic, hi4d, goliath-face, goliath-upper, goliath-full, videomatte, photomatte85, ppm100, emdb, "
        "rich or h36m",
    ),
    checkpoint: str = typer.Option(..., help="checkpoint or bundle folder; 'constant' for the answer that never looks"),
    data: Path | None = typer.Option(
        None, help="the data set's folder; synthetic: shards of thfm generate --split test"
    ),
    out: Path | None = typer.Option(None, help="folder of rows and reports; default out/evaluate/BENCHMARK"),
    json_file: Path | None = typer.Option(None, "--json", help="also write the report there"),
    option: list[str] = typer.Option([], help="a choice of the protocol, name=value; repeatable"),
    body_models: Path | None = typer.Option(None, help="folder of SMPL / SMPL-X models (emdb, rich)"),
    seed: int = typer.Option(0, help="synthetic: which held-out clips"),
    clips: int | None = typer.Option(None, min=1, help="synthetic: how many; default 32, or all of the shards"),
    frames: int | None = typer.Option(None, min=2, help="synthetic: frames a clip; default two windows"),
    size: str | None = typer.Option(None, help="synthetic: HxW of the clips; default the network's"),
    baseline: bool = typer.Option(True, help="synthetic: print the constant answer beside it"),
    stride: int | None = typer.Option(None, min=1, help="new frames a window; default half a window"),
    backend: str = typer.Option("auto", help="what runs the model"),
    threads: int | None = typer.Option(None, min=1, help="CPU threads"),
    limit: int | None = typer.Option(None, min=1, help="only the first recordings"),
    resume: bool = typer.Option(True, help="reuse rows that an earlier run left in --out"),
) -> None:
    """The benchmark's table with this checkpoint's row, beside the paper's."""
    import shlex
    import sys

    from thfm_ros.errors import UserError
    from thfm_ros.evaluate.benchmarks import get_benchmark
    from thfm_ros.evaluate.report import write_json
    from thfm_ros.evaluate.runner import evaluate as run
    from thfm_ros.tasks import TASKS

    folder = out or Path("out/evaluate") / benchmark
    command = shlex.join(["thfm", *sys.argv[1:]])
    if benchmark == "synthetic":
        if option:
            raise UserError("the synthetic benchmark has no --option: it takes --seed, --clips, --frames and --size")
        predictor = _open(checkpoint, tuple(TASKS), stride, backend, threads)
        source, count = _clips(predictor, data, seed, clips, frames, size)
        text = _synthetic(predictor, source, count, baseline, folder, command, resume, json_file)
    else:
        chosen = get_benchmark(benchmark)
        options = chosen.parse(option)
        if data is None:
            raise UserError(f"{benchmark} needs --data, the folder of its data set")
        recordings = chosen.read(data, options, body_models)[:limit]
        predictor = _open(checkpoint, chosen.needs(options), stride, backend, threads)
        with _progress(f"{benchmark}", sum(r.frames for r in recordings), "frames") as advance:
            report = run(
                chosen, recordings, predictor, options, folder, command, resume, lambda _, count: advance(count)
            )
        if json_file:
            write_json(json_file, report.as_dict())
        text = report.markdown()
    typer.echo(text)
    typer.echo(f"wrote {folder / 'report.md'} and report.json")


def _open(checkpoint: str, tasks: tuple[str, ...], stride: int | None, backend: str, threads: int | None) -> Predictor:
    from thfm_ros.evaluate.predictors import ConstantPredictor, THFMPredictor

    if checkpoint == CONSTANT:
        return ConstantPredictor(tasks)
    return THFMPredictor.open(Path(checkpoint), tasks, stride, backend, threads)


def _clips(
    predictor: Predictor, data: Path | None, seed: int, clips: int | None, frames: int | None, size: str | None
) -> tuple[ClipSource, int]:
    """Held-out clips from shards, or generated at the network's size, two windows long."""
    from thfm_ros.errors import UserError
    from thfm_ros.evaluate.readers.shards import ShardedClips
    from thfm_ros.evaluate.synthetic import GeneratedClips
    from thfm_ros.synth.config import SynthConfig, parse_size

    if data is not None:
        if frames or size:
            raise UserError("--frames and --size are for generated clips, not for the shards in --data")
        stored = ShardedClips(data)
        return stored, min(clips or len(stored), len(stored))
    width, height = predictor.size or (320, 192)
    if size:
        height, width = parse_size(size)
    window = int(getattr(predictor, "frames", 17))
    fps = float(predictor.identity.get("trained_fps", 12.0))
    config = SynthConfig(frames=frames or 2 * window - 1, height=height, width=width, fps=fps, split="test")
    return GeneratedClips(config, seed), clips or 32


def _synthetic(
    predictor: Predictor,
    source: ClipSource,
    count: int,
    baseline: bool,
    folder: Path,
    command: str,
    resume: bool,
    json_file: Path | None,
) -> str:
    from thfm_ros.evaluate import synthetic
    from thfm_ros.evaluate.predictors import ConstantPredictor
    from thfm_ros.evaluate.report import write_json

    predictors: list[Predictor] = [predictor]
    if baseline and predictor.name != CONSTANT:
        predictors.append(ConstantPredictor(predictor.tasks))
    with _progress("synthetic", count, "clips") as advance:
        report = synthetic.evaluate(predictors, source, count, folder, command, resume, step=lambda _: advance(1))
    if json_file:
        write_json(json_file, report.as_dict())
    return report.markdown()


@contextmanager
def _progress(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + ", {task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, rate="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            state = progress.tasks[0]
            rate = state.completed / state.elapsed if state.elapsed else 0.0
            progress.update(task, rate=f"{rate:.2g} {unit}/s")

        yield advance
