"""Several stages as one command: each starts from the one before, and they share the time there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.schema import parse, read_yaml
from thfm_ros.train.config import TrainConfig, load_config


@dataclass(frozen=True)
class StageEntry:
    """config: file beside the recipe. name: of the stage and its folder, if not the file's. share: of --max-minutes.
    set: overrides, `{out}` is the recipe's folder."""

    config: str
    name: str = ""
    share: float = 1.0
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeTable:
    """The file."""

    stages: tuple[StageEntry, ...]


@dataclass(frozen=True)
class RecipeStage:
    """One stage, ready to run: its name, folder, config and share of the time in (0, 1]."""

    name: str
    out: Path
    config: TrainConfig
    share: float

    @property
    def finished(self) -> bool:
        return (self.out / "finished").exists()

    def finish(self) -> None:
        (self.out / "finished").touch()


def read_recipe(path: Path, out: Path, overrides: tuple[str, ...] = ()) -> list[RecipeStage]:
    """`stages: [{config, share, set}, ...]`; every config is checked before anything runs."""
    entries = parse(RecipeTable, read_yaml(path, "recipe"), str(path)).stages
    if not entries:
        raise UserError(f"{path}: expected at least one stage, found none")
    shares = [entry.share for entry in entries]
    total = sum(shares)
    if min(shares) < 0 or not total:
        found = ", ".join(f"{share:g}" for share in shares)
        raise UserError(f"{path}: share: expected 0 or more, and one above 0, found {found}")
    stages = []
    for entry in entries:
        own = [text.replace("{out}", str(out)) for text in entry.set]
        config = load_config(path.parent / entry.config, [*own, *overrides])
        name = entry.name or Path(entry.config).stem
        if name in (stage.name for stage in stages):
            raise UserError(f"{path}: two stages are called {name}; give one a `name`")
        stages.append(RecipeStage(name, out / name, config, entry.share / total))
    return stages


def remaining(stages: list[RecipeStage], max_minutes: float) -> Iterator[tuple[RecipeStage, float]]:
    """The unfinished stages and the minutes each of them gets: `max_minutes` times its share."""
    for stage in stages:
        if not stage.finished:
            yield stage, math.inf if math.isinf(max_minutes) else max_minutes * stage.share


def run_recipe(stages: list[RecipeStage], max_minutes: float, source: Any = None) -> Path:
    """Run what is unfinished; a stage whose time is over counts as finished. Returns the last stage's model."""
    from thfm_ros.train.trainer import Trainer

    for stage, minutes in remaining(stages, max_minutes):
        trainer = Trainer(stage.config, stage.out, source)
        trainer.fit(minutes, cool_down=True)
        if trainer.accelerator.is_main_process:
            stage.finish()
        trainer.accelerator.wait_for_everyone()
    return stages[-1].out / "model"
