"""The smallest real network: the "tiny" preset with random weights, as a checkpoint folder."""

from __future__ import annotations

from pathlib import Path


def make_tiny_checkpoint(path: Path) -> Path:
    from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, save_checkpoint
    from thfm_ros.model.presets import build, get_preset
    from thfm_ros.model.prompts import embed_tasks, get_embedder

    preset = get_preset("tiny")
    vae, transformer = build(preset, seed=5)
    prompts = embed_tasks(get_embedder("hash", dim=preset.transformer["text_dim"]), preset.text_length)
    save_checkpoint(path, Checkpoint(vae, transformer, prompts, CheckpointConfig.of(preset)))
    return path
