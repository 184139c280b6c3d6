"""Checkpoints averaged: the mean of their weights, and nothing else of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.tasks import TASKS
from thfm_ros.train.average import average


def saved(folder: Path, seed: int, **transformer: int) -> Path:
    preset = PRESETS["tiny"]
    preset = replace(preset, transformer={**preset.transformer, **transformer})
    size = preset.transformer["text_dim"]
    prompts = {task: torch.ones(1, preset.text_length, size) for task in TASKS}
    config = CheckpointConfig.of(preset, notes={"seed": seed})
    return save_checkpoint(folder, Checkpoint(*build(preset, seed), prompts, config))


def test_weights_are_the_mean_and_the_rest_is_the_lasts(tmp_path: Path) -> None:
    models = [saved(tmp_path / str(seed), seed) for seed in range(3)]
    average(models, tmp_path / "mean")
    made, *parts = (load_checkpoint(folder) for folder in (tmp_path / "mean", *models))
    for name in ("vae", "transformer"):
        states = [getattr(part, name).state_dict() for part in parts]
        for key, weight in getattr(made, name).state_dict().items():
            torch.testing.assert_close(weight, torch.stack([s[key] for s in states]).mean(0))
    assert made.config == parts[-1].config


def test_a_checkpoint_averaged_with_itself_is_itself(tmp_path: Path) -> None:
    model = saved(tmp_path / "one", 0)
    average([model, model], tmp_path / "mean")
    ours, same = (load_checkpoint(folder).transformer.state_dict() for folder in (tmp_path / "mean", model))
    assert all(torch.equal(ours[key], weight) for key, weight in same.items())


def test_networks_that_differ_are_refused(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one", 0), saved(tmp_path / "other", 0, num_layers=1)
    with pytest.raises(UserError, match="expected two checkpoints or more"):
        average([one], tmp_path / "mean")
    with pytest.raises(UserError, match="only checkpoints that came from one another"):
        average([other, one], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
