"""Checkpoints with random weights for tests."""

from __future__ import annotations

from pathlib import Path


def make_checkpoint(preset: str, path: Path) -> Path:
    from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, save_checkpoint
    from thfm_ros.model.presets import build, get_preset
    from thfm_ros.model.prompts import embed_tasks, get_embedder

    chosen = get_preset(preset)
    vae, transformer = build(chosen, seed=3)
    embedder = get_embedder("hash", dim=chosen.transformer["text_dim"])
    prompts = embed_tasks(embedder, chosen.text_length)
    save_checkpoint(path, Checkpoint(vae, transformer, prompts, CheckpointConfig.of(chosen)))
    return path
