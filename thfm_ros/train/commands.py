"""`thfm train` and its recipe, previews, plots, averages and publishing."""

from __future__ import annotations

import math
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("train")(train)
    app.command("preview-training")(preview_training)
    app.command("train-recipe")(train_recipe)
    app.command("plot-training")(plot_training)
    app.command("average")(average)
    app.command("publish")(publish)


def train(
    config: Path = typer.Argument(..., help="YAML file, see config/train/"),
    out: Path = typer.Option(..., help="folder of the run; one that holds a run of the same config is resumed"),
    max_minutes: float = typer.Option(math.inf, help="end cleanly after this time, with a resumable state"),
    override: list[str] = typer.Option([], "--set", help="key=value or table.key=value in place of the file's"),
) -> None:
    """Train one stage; several processes with `accelerate launch -m thfm_ros.cli train ...`."""
    from thfm_ros.train.config import load_config
    from thfm_ros.train.trainer import Trainer

    _check_folder(out)
    trainer = Trainer(load_config(config, override), out)
    done = trainer.fit(max_minutes)
    if trainer.accelerator.is_main_process:
        state = "finished" if done else "out of time, run the same command to go on"
        typer.echo(f"{out / 'model'}: {state} at step {trainer.step} of {trainer.config.steps}")


def preview_training(
    config: Path = typer.Argument(..., help="YAML file, see config/train/"),
    out: Path = typer.Option(Path("training.png"), help="picture to write"),
    pictures: int = typer.Option(48, min=1, help="how many"),
    step: int = typer.Option(0, min=0, help="from which step on"),
    override: list[str] = typer.Option([], "--set", help="key=value or table.key=value in place of the file's"),
) -> None:
    """A sheet of pictures as training sees them, each above itself with people and joints drawn over it."""
    from thfm_ros.paths import writable_picture
    from thfm_ros.train.config import load_config
    from thfm_ros.train.data import missing_pictures
    from thfm_ros.train.preview import write_training_sheet

    writable_picture(out)
    loaded = load_config(config, override)
    for line in missing_pictures(loaded):
        typer.echo(line)
    write_training_sheet(loaded, out, pictures, step=step)
    typer.echo(f"wrote {out}")


def train_recipe(
    recipe: Path = typer.Argument(..., help="YAML file of stages, see config/train/nano-recipe.yaml"),
    out: Path = typer.Option(..., help="folder with one run a stage; finished stages are skipped"),
    max_minutes: float = typer.Option(math.inf, help="of all stages together, split by their shares"),
    override: list[str] = typer.Option([], "--set", help="key=value for every stage"),
) -> None:
    """Several stages in one command, each from the one before: all of nano on an offline GPU machine."""
    from thfm_ros.train.recipe import read_recipe, run_recipe

    _check_folder(out)
    typer.echo(f"trained {run_recipe(read_recipe(recipe, out, tuple(override)), max_minutes)}")


def plot_training(
    runs: list[Path] = typer.Argument(..., help="folders of runs (log.jsonl); several are compared"),
    out: Path = typer.Option(Path("training.png"), help="picture to write"),
    metric: list[str] = typer.Option([], help="held-out metrics to show; all by default"),
) -> None:
    """Held-out metrics over samples seen, one curve a run: where the next hour of training pays."""
    from thfm_ros.train.plots import plot_runs

    plot_runs(runs, out, metric)
    typer.echo(f"wrote {out}")


def average(
    models: list[Path] = typer.Argument(..., help="checkpoint folders that came from one another, the latest last"),
    out: Path = typer.Option(..., help="folder of the new checkpoint"),
) -> None:
    """The mean of the weights of several checkpoints: often better than each of them."""
    from thfm_ros.train.average import average as run

    run(models, out)
    typer.echo(f"wrote {out}")


def publish(
    model: Path = typer.Argument(..., help="checkpoint folder, a run's best/ or model/"),
    out: Path = typer.Option(Path("weights/nano"), help="folder to ship; an older checkpoint there is replaced"),
    report: Path | None = typer.Option(None, help="folder of `thfm evaluate synthetic` for the card's table"),
    curves: Path | None = typer.Option(None, help="picture of `thfm plot-training` for the card"),
    remarks: Path | None = typer.Option(None, help="Markdown file with what the card says besides"),
    frames: int = typer.Option(0, help="a network of still images: ship it for clips of so many frames (5, 9, ...)"),
    real: list[Path] = typer.Option([], help="folder of `thfm evaluate coco`, `views` or `nobody`; repeatable"),
) -> None:
    """A checkpoint in half precision with a model card, at most 40 MB."""
    from thfm_ros.train.publish import publish as run

    size = run(model, out, report, curves, remarks, frames, real)
    typer.echo(f"wrote {out}: {size:.1f} MB of weights")


def _check_folder(out: Path) -> None:
    """UserError now, and not after networks and data are there, where a file is in the place of the run's folder."""
    from thfm_ros.errors import UserError

    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"cannot write to {out}: {there} is a file: choose a folder with --out")
