"""`thfm evaluate`: a checkpoint on real pictures, on a public data set or on held-out synthetic clips."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from thfm_ros.evaluate import real_commands
from thfm_ros.evaluate.progress import progress

if TYPE_CHECKING:
    from thfm_ros.evaluate.predictors import Predictor
    from thfm_ros.evaluate.real_report import RealReport
    from thfm_ros.evaluate.report import Report
    from thfm_ros.evaluate.synthetic import ClipSource, SyntheticReport
    from thfm_ros.stream.estimator import StreamEstimator

CONSTANT = "constant"
GIVEN = (288, 480, 12.0)  # height, width, frames a second of crowds whose people are given
KEPT = "their rows are kept, the same command goes on from there"
# The published data sets (benchmarks.py), a command each.
PUBLISHED = {
    "hi4d": "human surface normals on Hi4D",
    "goliath-face": "human depth on Goliath-Face",
    "goliath-upper": "human depth on Goliath-UpperBody",
    "goliath-full": "human depth on Goliath-FullBody",
    "videomatte": "soft foreground on VideoMatte240K",
    "photomatte85": "soft foreground on PhotoMatte85",
    "ppm100": "soft foreground on PPM-100",
    "emdb": "3D joints on EMDB",
    "rich": "3D joints on RICH",
    "h36m": "3D joints on Human3.6M",
}
CHECKPOINT = typer.Option(..., help="checkpoint or bundle folder; 'constant' for a baseline that ignores the image")
OUT = typer.Option(None, help="folder of rows and reports; default out/evaluate/BENCHMARK")
JSON = typer.Option(None, "--json", help="also write the report there")
STRIDE = typer.Option(None, min=1, help="new frames a window; default half a window")
BACKEND = typer.Option("auto", help="what runs the model")
THREADS = typer.Option(None, min=1, help="CPU threads")
RESUME = typer.Option(True, help="reuse rows that an earlier run left in --out")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="A network on real pictures, on held-out synthetic clips, or on a published data set.")
    real_commands.register(group)
    group.command("synthetic")(synthetic)
    group.command("crowd")(crowd)
    for name, title in PUBLISHED.items():
        group.command(name, help=f"The table of {title} with this checkpoint's row, beside the paper's.")(published)
    app.add_typer(group, name="evaluate", no_args_is_help=True)


def published(
    context: typer.Context,
    checkpoint: str = CHECKPOINT,
    data: Path = typer.Option(..., "--data", "--root", help="the data set's folder"),
    out: Path | None = OUT,
    json_file: Path | None = JSON,
    option: list[str] = typer.Option([], help="a choice of the protocol, name=value; repeatable"),
    body_models: Path | None = typer.Option(None, help="folder of SMPL / SMPL-X models (emdb, rich)"),
    stride: int | None = STRIDE,
    backend: str = BACKEND,
    threads: int | None = THREADS,
    limit: int | None = typer.Option(None, min=1, help="only the first recordings"),
    resume: bool = RESUME,
) -> None:
    """The benchmark's table with this checkpoint's row, beside the paper's."""
    from thfm_ros.evaluate.benchmarks import get_benchmark
    from thfm_ros.evaluate.runner import evaluate

    _check(json_file, backend)
    benchmark = get_benchmark(str(context.info_name))
    folder = out or Path("out/evaluate") / benchmark.name
    options = benchmark.parse(option)
    recordings = benchmark.read(data, options, body_models)[:limit]
    predictor = _open(checkpoint, benchmark.needs(options), stride, backend, threads)
    with progress(benchmark.name, sum(r.frames for r in recordings), "frames", KEPT) as advance:
        report = evaluate(
            benchmark, recordings, predictor, options, folder, _command(), resume, lambda _, count: advance(count)
        )
    _finish(report, folder, json_file)


def synthetic(
    checkpoint: str = CHECKPOINT,
    data: Path | None = typer.Option(None, "--data", "--root", help="shards of thfm generate --split test"),
    out: Path | None = OUT,
    json_file: Path | None = JSON,
    seed: int = typer.Option(0, help="which held-out clips"),
    clips: int | None = typer.Option(None, min=1, help="how many; default 32, or all of the shards"),
    frames: int | None = typer.Option(None, min=2, help="frames a clip; default two windows"),
    size: str | None = typer.Option(None, help="HxW of the clips; default the network's"),
    baseline: bool = typer.Option(True, help="print the constant baseline beside it"),
    stride: int | None = STRIDE,
    backend: str = BACKEND,
    threads: int | None = THREADS,
    resume: bool = RESUME,
) -> None:
    """All tasks on held-out synthetic clips, a constant baseline beside them."""
    from thfm_ros.evaluate import synthetic as run
    from thfm_ros.evaluate.predictors import MEASURED, ConstantPredictor

    _check(json_file, backend)
    folder = out or Path("out/evaluate/synthetic")
    predictor = _open(checkpoint, MEASURED, stride, backend, threads)
    source, count = _clips(predictor, data, seed, clips, frames, size)
    predictors: list[Predictor] = [predictor]
    if baseline and predictor.name != CONSTANT:
        predictors.append(ConstantPredictor(predictor.tasks))
    with progress("synthetic", count, "clips", KEPT) as advance:
        report = run.evaluate(predictors, source, count, folder, _command(), resume, step=lambda _: advance(1))
    _finish(report, folder, json_file)


def crowd(
    checkpoint: Path | None = typer.Option(None, help="checkpoint or bundle folder"),
    boxes: str = typer.Option("own", help="given: people's true pixels, for the tracker alone; own: a network's"),
    out: Path | None = OUT,
    json_file: Path | None = JSON,
    seed: int = typer.Option(0, help="which held-out clips"),
    clips: int = typer.Option(8, min=1, help="how many"),
    frames: int = typer.Option(60, min=2, help="frames a clip, at the network's rate"),
    size: str | None = typer.Option(None, help="HxW of the camera; default twice the network's"),
    stride: int = typer.Option(4, min=1, help="new frames a pass"),
    max_people: int = typer.Option(6, min=1, help="the nearest who are reported, as the node's parameter"),
    backend: str = BACKEND,
    threads: int | None = THREADS,
    resume: bool = RESUME,
) -> None:
    """Everyone in held-out synthetic crowds: ids over time (MOTA, IDF1, HOTA), joints and masks of each person."""
    from thfm_ros.errors import UserError
    from thfm_ros.evaluate import crowd as run
    from thfm_ros.evaluate.synthetic import GeneratedClips
    from thfm_ros.stream.estimator import StreamConfig
    from thfm_ros.synth.config import SynthConfig, parse_size

    _check(json_file, backend)
    if boxes not in ("given", "own") or (boxes == "own") == (checkpoint is None):
        raise UserError(
            f"expected --boxes own with a --checkpoint, or --boxes given without, found --boxes {boxes} "
            f"{'without one' if checkpoint is None else 'with one'}"
        )
    folder = out or Path("out/evaluate/crowd")
    estimator, identity, name, height, width, fps = None, {"people by": "their true pixels"}, "tracker", *GIVEN
    if checkpoint is not None:
        estimator = run.open_estimator(checkpoint, backend, threads, StreamConfig(max_people=max_people))
        for line in estimator.shortcomings:
            typer.echo(line)
        m = estimator.runtime.manifest
        height, width, fps, name = 2 * m.height, 2 * m.width, m.fps, f"THFM {m.preset}"
        identity = _crowd_identity(estimator, checkpoint)
    height, width = parse_size(size) if size else (height, width)
    source = GeneratedClips(run.crowd_config(SynthConfig(height=height, width=width, fps=fps), frames), seed)
    protocol = run.CrowdProtocol(stride=stride)
    with progress("crowd", clips, "clips", KEPT) as advance:
        report = run.evaluate(
            estimator, identity, source, clips, folder, _command(), name, resume, protocol,
            lambda _: advance(1),
        )  # fmt: skip
    _finish(report, folder, json_file)


def _crowd_identity(estimator: StreamEstimator, checkpoint: Path) -> dict[str, Any]:
    from thfm_ros.evaluate.predictors import fingerprint

    m = estimator.runtime.manifest
    return {
        "model": m.preset,
        "trained": m.trained,
        "network": f"{m.width}x{m.height}x{m.frames}",
        "windows": "x".join(map(str, m.windows or ())),
        "people by": estimator.people_by,
        "backend": m.backend,
        "weights": str(checkpoint),
        "fingerprint": fingerprint(checkpoint),
    }


def _check(json_file: Path | None, backend: str) -> None:
    """UserError now, and not after the work, for what cannot be."""
    from thfm_ros.engine.manifest import check_backend
    from thfm_ros.paths import writable_file

    if json_file:
        writable_file(json_file)
    check_backend(backend)


def _finish(report: Report | SyntheticReport | RealReport, folder: Path, json_file: Path | None) -> None:
    """Shows a report that lies in its folder, and only then writes it elsewhere: a full disk hides nothing."""
    from thfm_ros.evaluate.report import write_json

    typer.echo(report.markdown())
    if json_file:
        write_json(json_file, report.as_dict())
    typer.echo(f"wrote {folder / 'report.md'} and report.json")


def _command() -> str:
    return shlex.join(["thfm", *sys.argv[1:]])


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
