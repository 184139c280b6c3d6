"""The mean of checkpoints that came from one another: often better than each (Wortsman et al., ICML 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint, save_checkpoint


def average(models: Sequence[Path], out: Path) -> None:
    """Writes to `out` the last of `models` with the mean of all their weights.

    Raises:
        UserError: fewer than two, or networks that are not built alike.
    """
    if len(models) < 2:
        raise UserError(f"expected two checkpoints or more to average, found {len(models)}")
    *others, last = (load_checkpoint(model) for model in models)
    for name in {name: None for checkpoint in (last, *others) for name in checkpoint.networks}:
        network, *rest = (checkpoint.networks.get(name, nn.Module()) for checkpoint in (last, *others))
        for model, other in zip(models, rest, strict=False):
            _check_alike(network, other, f"{model}, {name}", str(models[-1]))
        states = [n.state_dict() for n in (*rest, network)]
        mean = {key: torch.stack([s[key].double() for s in states]).mean(0) for key in states[-1]}
        network.load_state_dict(mean)  # in the type that it has
    save_checkpoint(out, last)


def _check_alike(ours: nn.Module, other: nn.Module, where: str, like: str) -> None:
    shapes, found = ({k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (ours, other))
    differing = next((k for k in sorted({*shapes, *found}) if shapes.get(k) != found.get(k)), None)
    if differing is not None:
        raise UserError(
            f"{where}: expected weights like those of {like}, found {differing} of shape {found.get(differing)}, not "
            f"{shapes.get(differing)}: only checkpoints that came from one another and have the same parts have a mean"
        )
