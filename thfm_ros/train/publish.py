"""A trained checkpoint as it ships: half precision, and a card that says where it comes from and what it reaches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, write_text
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.train.networks import repeat_tokens

LIMIT_MB = 40


def publish(
    model: Path,
    out: Path,
    report: Path | None = None,
    curves: Path | None = None,
    remarks: Path | None = None,
    frames: int = 0,
    real: Sequence[Path] = (),
    limit_mb: float = LIMIT_MB,
) -> float:
    """`model` to `out` with weights in float16 (loading casts them back). Returns the weights' size in MB.

    Args:
        report: folder of `thfm evaluate synthetic` (report.md). curves: picture of the held-out metrics over samples.
        remarks: Markdown file, the part of the card that no command can know.
        frames: for networks that have seen still images only: ship them for clips of so many frames (4k + 1), every
            latent frame for itself (causal attention, window 1).
        real: folders of `thfm evaluate coco`, `views` and `nobody` (report.md); their tables come first.
    Raises:
        UserError: above `limit_mb`, or a file is missing; `out` stays as it was.
    """
    table = _read(report / "report.md", "run `thfm evaluate synthetic --out` first") if report else ""
    photographs = [_read(folder / "report.md", "run `thfm evaluate coco --out` first") for folder in real]
    written = _read(remarks, "name a Markdown file") if remarks else ""
    if curves and not curves.is_file():
        raise UserError(f"cannot read {curves}: no such file; run `thfm plot-training` first")
    if curves and cv2.imread(str(curves)) is None:
        raise UserError(
            f"cannot read {curves}: expected a picture (.png), found something else; run `thfm plot-training` first"
        )
    checkpoint = load_checkpoint(model)
    if frames:
        _stills_to_clips(checkpoint, frames)
    count = 0
    for network in checkpoint.networks.values():
        network.half()
        count += sum(p.numel() for p in network.parameters())
    size = 2 * count / 1e6
    if size > limit_mb:
        raise UserError(f"expected at most {limit_mb} MB of weights, found {size:.1f} MB: train a smaller network")
    save_checkpoint(out, checkpoint)
    parts = [(out / "README.md").read_text().rstrip(), written.strip()]
    parts += [_section(text) for text in photographs]
    if curves:
        with atomic(out / "training.png") as temporary:
            shutil.copyfile(curves, temporary)
        parts.append("![held-out metrics over samples seen](training.png)")
    parts.append(_section(table))
    parts.append(history(checkpoint.config))
    write_text(out / "README.md", "\n\n".join(part for part in parts if part) + "\n")
    return size


def _stills_to_clips(checkpoint: Checkpoint, frames: int) -> None:
    if frames < 5 or frames % 4 != 1 or checkpoint.config.frames != 1:
        found = f"{frames} for a network of {checkpoint.config.frames}"
        raise UserError(f"frames: expected 4k + 1 >= 5 for a network that was trained on 1 frame, found {found}")
    repeat_tokens(checkpoint.transformer)
    checkpoint.transformer.register_to_config(attention="causal", window=1)
    checkpoint.config = replace(checkpoint.config, frames=frames, attentions=["causal"])


def _section(report: str) -> str:
    """A report as a part of the card: its title one level lower."""
    return f"#{report.strip()}" if report.startswith("# ") else report.strip()


def history(config: CheckpointConfig) -> str:
    """The stages a checkpoint went through, in order, as a table."""
    lines = [
        "## Stages of training",
        "",
        "| stage | clip | steps | batch | rows (clip, task) | hours (wall) | dropped |",
        "|" + "---|" * 7,
    ]
    for row in config.notes.get("stages", []):
        hours = row["seconds"] / 3600
        lines.append(
            f"| {row['stage']} | {row['clip']} | {row['steps']} | {row['batch']} x {row['tasks_per_clip']} | "
            f"{row['samples']} | {hours:.2f} | {row['dropped']} |"
        )
    return "\n".join(lines)


def _read(path: Path, fix: str) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {fix}") from None
    except UnicodeDecodeError:
        raise UserError(f"cannot read {path}: expected text in UTF-8, found other bytes; {fix}") from None
