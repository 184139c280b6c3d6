"""`thfm demo` and `thfm doctor`."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)
    app.command("doctor")(doctor)


def demo(
    source: str = typer.Option("walker", help="video file, shipped sample, or V4L2 device"),
    checkpoint: Path | None = typer.Option(None, help="checkpoint folder (default: the one that ships)"),
    out: Path = typer.Option(Path("out"), help="folder for demo.mp4, demo.png and the logs"),
    rate: float = typer.Option(0.0, min=0.0, help="camera frames a second; 0: all that this machine can process"),
    bag: bool = typer.Option(False, help="also write every message to an MCAP bag"),
    json_file: Path | None = typer.Option(None, "--json", help="write the table here as JSON"),
) -> None:
    """Plays a video through the real ROS 2 graph: camera, perception and recorder, and shows what came out."""
    from thfm_ros.system.demo import run_demo

    run_demo(source, checkpoint, out, rate, bag, json_file)


def doctor(
    json_file: Path | None = typer.Option(None, "--json", help="write the table here as JSON"),
    recheck: bool = typer.Option(False, help="run the golden checks of all bundles again that are remembered"),
) -> None:
    """What this machine has, what is missing, and the command that fixes it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from thfm_ros.files import write_json
    from thfm_ros.paths import writable_file
    from thfm_ros.system import doctor

    if json_file:
        writable_file(json_file)
    if recheck:
        for line in doctor.recheck():
            typer.echo(line)
    findings = doctor.examine()
    table = Table("", "what", "found", "fix", box=None, pad_edge=False)
    marks = {"ok": "[green]ok[/]", "optional": "[yellow]-[/]", "warn": "[yellow]![/]", "missing": "[red]no[/]"}
    for f in findings:
        table.add_row(marks[f.state], *(escape(text) for text in (f.what, f.found, f.fix)))
    Console(width=None if Console().is_terminal else 160).print(table)
    if json_file:
        write_json(json_file, [f.__dict__ for f in findings])
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(1)
