"""`thfm info` and `thfm init`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from thfm_ros.errors import UserError
from thfm_ros.files import write_json
from thfm_ros.paths import writable_file

if TYPE_CHECKING:
    from rich.table import Table

    from thfm_ros.model.info import Cost


def register(app: typer.Typer) -> None:
    app.command("info")(info)
    app.command("init")(init)


def info(
    preset: str = typer.Argument("nano", help="tiny, nano, wan-1.3b or wan-5b; or a checkpoint folder"),
    size: str = typer.Option("", help="clip as WIDTHxHEIGHTxFRAMES; the preset's own by default"),
    tasks: int = typer.Option(1, help="dense tasks of a clip"),
    dtype: str = typer.Option("bfloat16", help="float32, float16 or bfloat16"),
    narrow: bool = typer.Option(False, "--narrow", help="with a narrow decoder in the place of the autoencoder's own"),
    json_file: Path | None = typer.Option(None, "--json", help="write the numbers to this file"),
) -> None:
    """Parameters, FLOPs and memory of a preset or checkpoint for a clip, by counting on the meta device."""
    from rich.console import Console

    from thfm_ros.model.checkpoint import preset_of
    from thfm_ros.model.info import DTYPES, measure
    from thfm_ros.model.presets import PRESETS, get_preset

    if json_file is not None:
        writable_file(json_file)
    chosen = preset_of(preset) if preset not in PRESETS and Path(preset).is_dir() else get_preset(preset)
    if narrow and chosen.decoder is None:
        chosen = replace(chosen, decoder={})
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype '{dtype}': expected one of {', '.join(DTYPES)}")
    if tasks < 1:
        raise UserError(f"expected at least 1 task, found {tasks}")
    width, height, frames = parse_size(size) if size else (chosen.width, chosen.height, chosen.frames)
    cost = measure(chosen, height, width, frames, dtype)
    Console().print(_table(cost, tasks))
    if json_file is not None:
        write_json(json_file, {**cost.as_dict(), "tasks": tasks, "total_flops": cost.total_flops(tasks)})


def init(
    preset: str = typer.Argument(..., help="tiny, nano, wan-1.3b or wan-5b"),
    out: Path = typer.Option(..., help="checkpoint folder to write"),
    seed: int = typer.Option(0, help="of the random weights"),
    from_wan: str = typer.Option("", help="start from public Wan weights: a folder, or a hub id in the local cache"),
    text_encoder: str = typer.Option("", help="where umt5 is, if not in --from-wan"),
) -> None:
    """An untrained checkpoint: random weights, or Wan's plus fresh keypoint tokens, with all prompts embedded."""
    from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_config, save_checkpoint
    from thfm_ros.model.presets import build, get_preset
    from thfm_ros.model.prompts import embed_tasks, get_embedder
    from thfm_ros.model.transformer import THFMTransformer3DModel
    from thfm_ros.model.wan import vae_from_wan

    chosen = get_preset(preset)
    if out.exists() and not (out / "thfm.json").is_file():
        raise UserError(f"{out} exists and is not a checkpoint: name another folder")
    if out.exists() and load_config(out).trained:
        raise UserError(f"{out} is a trained checkpoint: name another folder, or remove it first")
    embedder = get_embedder(chosen.text_encoder, text_encoder or from_wan or None, chosen.transformer["text_dim"])
    if from_wan:
        vae = vae_from_wan(from_wan)
        own = {key: chosen.transformer[key] for key in ("token_frames", "window")}
        transformer = THFMTransformer3DModel.from_wan(from_wan, seed=seed, **own)
    else:
        vae, transformer = build(chosen, seed)
    config = CheckpointConfig.of(chosen, notes={"seed": seed, "from_wan": from_wan})
    save_checkpoint(out, Checkpoint(vae, transformer, embed_tasks(embedder, chosen.text_length), config))
    typer.echo(f"wrote {out}: {preset}, untrained")


def parse_size(text: str) -> tuple[int, int, int]:
    """WIDTHxHEIGHTxFRAMES, whole numbers above 0."""
    try:
        width, height, frames = (int(part) for part in text.lower().split("x"))
    except ValueError:
        width = height = frames = 0
    if min(width, height, frames) < 1:
        raise UserError(f"expected a size as WIDTHxHEIGHTxFRAMES (832x480x81), found '{text}'")
    return width, height, frames


def _table(cost: Cost, tasks: int) -> Table:
    from rich.markup import escape
    from rich.table import Table

    title = f"{cost.preset}: {cost.width}x{cost.height}, {cost.frames} frames, {cost.tokens} tokens, {cost.dtype}"
    table = Table(title=escape(title), title_justify="left")
    for name in ("stage", "parameters", "TFLOP", "weights", "peak activations"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in cost.stages:
        table.add_row(
            "decode, narrow" if stage.stage == "decode" and cost.decoder == "narrow" else stage.stage,
            f"{stage.parameters / 1e6:.2f} M",
            f"{stage.flops / 1e12:.4g}",
            _size(stage.weight_bytes),
            _size(stage.peak_activation_bytes),
        )
    table.add_section()
    weights = sum(stage.weight_bytes for stage in cost.stages)
    peak = max(stage.peak_activation_bytes for stage in cost.stages)
    parameters = sum(stage.parameters for stage in cost.stages)
    total = f"{cost.total_flops(tasks) / 1e12:.4g}"
    table.add_row(f"clip, {tasks} dense", f"{parameters / 1e6:.2f} M", total, _size(weights), _size(peak))
    table.caption = (
        f"transform in closed form: {cost.transform_closed_form / 1e12:.4g} TFLOP; {_size(weights + peak)} together\n"
        f"decoder: {_decoder(cost)}"
    )
    return table


def _decoder(cost: Cost) -> str:
    if cost.decoder == "vae":
        return "the autoencoder's own"
    own, narrow = cost.vae_decode_flops, cost.stages[-1].flops
    return f"narrow, 1/{own / narrow:.1f} of the autoencoder's own ({own / 1e12:.4g} TFLOP)"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
