"""`thfm export`, `thfm build`, `thfm verify` and `thfm bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from thfm_ros.files import write_json
from thfm_ros.paths import writable_file


def register(app: typer.Typer) -> None:
    app.command("export")(export)
    app.command("build")(build)
    app.command("verify")(verify)
    app.command("bench")(bench)


def export(
    checkpoint: Path = typer.Argument(..., help="checkpoint folder"),
    recipe: Path = typer.Option(..., help="engines/TARGET.yaml"),
    out: Path = typer.Option(..., help="bundle folder to write"),
    compile_: bool = typer.Option(True, "--compile/--no-compile", help="compile engines where this machine can"),
    replace: bool = typer.Option(False, help="also a complete bundle at --out, which a running node may read"),
) -> None:
    """A checkpoint to a bundle for one target: ONNX, golden outputs, manifest, and engines where they can be built."""
    from thfm_ros.engine.build_trt import build_bundle, builds_here
    from thfm_ros.engine.export import export_bundle
    from thfm_ros.engine.recipes import load_recipe

    chosen = load_recipe(recipe)
    with _progress() as report:
        manifest = export_bundle(checkpoint, chosen, out, report, replace)
        here = chosen.tensorrt is not None and builds_here(chosen.target, chosen.tensorrt.flavor)
        if here and compile_:
            manifest = build_bundle(out, report=report)
    size = sum(f.size for f in manifest.files()) / 1e6
    typer.echo(f"wrote {out}: {chosen.target}, {len(manifest.stages)} stages, {size:.1f} MB")
    if chosen.tensorrt is not None and not (here and compile_):
        typer.echo(f"engines are not compiled yet: copy {out} to the device and run there: thfm build {out.name}")


def build(
    bundle: Path = typer.Argument(..., help="bundle folder with ONNX files, such as one copied from another machine"),
    force: bool = typer.Option(False, help="also stages that have an engine"),
) -> None:
    """Compiles the engines of a TensorRT bundle on this machine, offline."""
    from thfm_ros.engine.build_trt import build_bundle, gpu_memory

    with _progress() as report:
        manifest = build_bundle(bundle, force, report)
    assert manifest.engine is not None
    info = manifest.engine
    typer.echo(f"{bundle}: {info.flavor} {info.version} for {', '.join(info.compute_capabilities)}")
    memory = gpu_memory(manifest)
    if memory["weights"]:
        parts = ", ".join(f"{what} {size / 2**20:.0f}" for what, size in memory.items())
        typer.echo(f"on the GPU: {sum(memory.values()) / 2**20:.0f} MB ({parts})")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done and for how long; every finished item stays."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: list = []

        def report(what: str) -> None:
            if tasks:
                progress.stop_task(tasks[-1])
                progress.update(tasks[-1], total=1, completed=1)
            tasks.append(progress.add_task(what, total=None))

        yield report
        if tasks:
            progress.update(tasks[-1], total=1, completed=1)


def verify(
    bundle: Path = typer.Argument(..., help="bundle folder"),
    checkpoint: Path = typer.Option(..., help="the checkpoint it was exported from"),
    backend: str = typer.Option("auto", help="of the bundle"),
    clips: int = typer.Option(2, min=1, help="number of clips"),
    video: Path | None = typer.Option(None, help="clips of this file instead of generated ones"),
    json_file: Path | None = typer.Option(None, "--json", help="write the rows to this file"),
) -> None:
    """A bundle against torch on held-out clips, in physical units; exit code 1 where a limit is passed."""
    import dataclasses
    import math

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.verify import synthetic_clips, verify, video_clips

    if json_file is not None:
        writable_file(json_file)
    with _progress() as report:
        report("load")
        runtime = load_runtime(bundle, backend)
        manifest = runtime.manifest
        reference = load_runtime(checkpoint, "torch", windows=manifest.windows)
        report("clips")
        inputs = video_clips(video, manifest, clips) if video else synthetic_clips(manifest, clips)
        report("compare")
        rows = verify(runtime, reference, inputs)
    kind = "trained" if manifest.trained else "random weights"
    title = f"{bundle} on {manifest.backend} against torch, {clips} clips, {kind}"
    table = Table(title=escape(title), title_justify="left")
    for column in ("what", "precision", "difference", "limit", "unit", ""):
        table.add_column(column)
    for row in rows:
        value = "nothing to compare" if math.isnan(row.value) else f"{row.value:.3g}"
        table.add_row(
            escape(row.name), row.precision, value, f"{row.limit:g}", row.unit, "ok" if row.good else "TOO LARGE"
        )
    Console().print(table)
    _notes(runtime.notes)
    if json_file is not None:
        finite = [{**dataclasses.asdict(r), "value": r.value if math.isfinite(r.value) else None} for r in rows]
        write_json(json_file, {"bundle": str(bundle), "info": runtime.info, "rows": finite})
    if not all(row.good for row in rows):
        raise typer.Exit(1)


def bench(
    bundles: list[Path] = typer.Argument(..., help="bundle folders of one checkpoint and geometry"),
    checkpoint: Path | None = typer.Option(None, help="also run it in torch and in eager diffusers, the baseline"),
    rounds: int = typer.Option(100, min=1, help="times that every stage runs on every backend"),
    max_minutes: float = typer.Option(5.0, min=0.0, help="measure no longer: fewer rounds then, at least 3"),
    threads: int | None = typer.Option(None, min=1, help="of CPU backends; all by default"),
    json_file: Path | None = typer.Option(None, "--json", help="write everything to this file"),
) -> None:
    """Latency of every stage on every backend that works here, on the same clip, taking turns."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from thfm_ros.engine.bench import BASELINE, Run, measure, summary, warm_up
    from thfm_ros.engine.bundle import open_bundle
    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.refusals import one_line
    from thfm_ros.engine.runtime import default_threads
    from thfm_ros.errors import UserError

    if json_file is not None:
        writable_file(json_file)
    count = threads or default_threads()
    runs: list[Run] = []
    notes: list[str] = []
    with _progress() as report:
        if checkpoint is not None:
            from thfm_ros.engine.eager import EagerDiffusers

            report("load eager diffusers and torch")
            runs.append(warm_up(BASELINE, lambda: EagerDiffusers(checkpoint, count)))
            runs.append(warm_up("torch, flat", lambda: load_runtime(checkpoint, "torch", count)))
        for bundle in bundles:
            for backend in open_bundle(bundle).backends:
                report(f"load {bundle.name} on {backend}")
                try:
                    load = lambda b=bundle, n=backend: load_runtime(b, n, count)  # noqa: E731
                    runs.append(warm_up(f"{bundle.name}, {backend}", load))
                except Exception as error:  # whatever a driver or library comes up with
                    notes.append(f"{bundle.name} on {backend}: {one_line(error)}")
    if not runs:
        raise UserError(f"nothing to measure: {'; '.join(notes)}")
    shapes = {(r.runtime.manifest.preset, r.runtime.manifest.latent_shape) for r in runs}
    if len(shapes) > 1:
        raise UserError(f"expected bundles of one preset and geometry, found {sorted(shapes)}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("measure", total=rounds * len(runs))
        report_turn = lambda done, expected: progress.update(task, completed=done, total=expected)  # noqa: E731
        peaks = measure(runs, rounds, report_turn, 60 * max_minutes)
    result = {**summary(runs, peaks), "rounds_asked": rounds, "max_minutes": max_minutes}
    _print_bench(result)
    _notes(notes)
    if json_file is not None:
        write_json(json_file, {**result, "not_run": notes})


def _print_bench(result: dict) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    clip, machine = result["clip"], result["machine"]
    title = (
        f"{clip['preset']} {clip['width']}x{clip['height']}, {clip['frames']} frames; {machine['device']}, "
        f"measured peak {', '.join(f'{v:.0f} GFLOP/s {k}' for k, v in machine['peak_gflops'].items())}; "
        f"{result['rounds']} of {result['rounds_asked']} rounds"
    )
    if result["rounds"] < result["rounds_asked"]:
        title += f" (at most {result['max_minutes']:g} minutes)"
    stages = Table(title=escape(title), title_justify="left")
    for column in ("run", "stage", "precision", "samples", "median ms", "p95", "p99", "of peak", "x eager"):
        stages.add_column(column, justify="left" if column in ("run", "stage", "precision") else "right")
    totals = Table(title="frames/s of whole clips, by the stages' medians", title_justify="left")
    rates = ("one dense task", "keypoints", "all kinds", "x eager (all)", "at the peak")
    crowds = list(dict.fromkeys(n for run in result["runs"] for n in run["frames_per_s_by_people"]))
    for column in ("run", *rates, *(f"all, {n} people" for n in crowds), "pass ms", "p99", "load s", "memory MB"):
        totals.add_column(column, justify="left" if column == "run" else "right")
    for run in result["runs"]:
        for name, row in run["stages"].items():
            of_peak, times = row.get("of_peak"), row.get("times_eager")
            stages.add_row(
                escape(run["name"]),
                name,
                row["precision"],
                str(row["samples"]),
                *("-" if row[k] is None else f"{row[k]:.1f}" for k in ("median_ms", "p95_ms", "p99_ms")),
                f"{of_peak:.0%}" if of_peak is not None else "",
                f"{times:.2f}" if times is not None else "",
            )
        stages.add_section()
        per_clip = run["clip_ms"]
        times, best = run.get("times_eager"), run.get("times_eager_at_peak")
        totals.add_row(
            escape(run["name"]),
            *(f"{1e3 * clip['frames'] / per_clip[k]:.2f}" for k in ("one_dense", "keypoints", "all")),
            *(f"{x['all']:.2f}" if x and "all" in x else "" for x in (times, best)),
            *(f"{run['frames_per_s_by_people'].get(n, float('nan')):.2f}" for n in crowds),
            *(
                "-" if (run["pass_ms"] or {}).get(k) is None else f"{run['pass_ms'][k]:.1f}"
                for k in ("median_ms", "p99_ms")
            ),
            f"{run['load_s']:.1f}",
            f"{run['memory_mb']:.0f}",
        )
    Console().print(stages, totals)


def _notes(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"not run: {note}" if "not tried" not in note else note, err=True)
