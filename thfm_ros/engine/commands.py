"""`thfm export`, `thfm build`, `thfm verify` and `thfm bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("export")(export)
    app.command("build")(build)


def export(
    checkpoint: Path = typer.Argument(..., help="checkpoint folder"),
    recipe: Path = typer.Option(..., help="engines/TARGET.yaml"),
    out: Path = typer.Option(..., help="bundle folder to write"),
    compile_: bool = typer.Option(True, "--compile/--no-compile", help="compile engines where this machine can"),
) -> None:
    """A checkpoint to a bundle for one target: ONNX, golden outputs, manifest, and engines where they can be built."""
    from thfm_ros.engine.build_trt import build_bundle
    from thfm_ros.engine.device import current_gpu
    from thfm_ros.engine.export import export_bundle
    from thfm_ros.engine.recipes import load_recipe

    chosen = load_recipe(recipe)
    with _progress() as report:
        manifest = export_bundle(checkpoint, chosen, out, report)
        here = chosen.tensorrt is not None and (chosen.tensorrt.flavor == "tensorrt_rtx" or current_gpu() is not None)
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
    from thfm_ros.engine.build_trt import build_bundle

    with _progress() as report:
        manifest = build_bundle(bundle, force, report)
    assert manifest.engine is not None
    info = manifest.engine
    typer.echo(f"{bundle}: {info.flavor} {info.version} for {', '.join(info.compute_capabilities)}")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done and for how long; every finished item stays."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
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
