"""Training checkpoints: all that an exact resume needs, as one safetensors and one JSON file; never pickles.

A checkpoint is written under a temporary name, flushed to the disk, and renamed: a kill at any moment leaves the last
complete one. The data's state is the step itself (see `thfm_ros.train.data`).
"""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.train.ema import Ema

FORMAT_VERSION = 1


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*[0-9]"), key=lambda p: int(p.name[5:]))


def save_state(
    folder: Path,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    ema: Ema,
    record: dict[str, Any],
    keep: int,
) -> Path:
    """Write `folder/step-N` atomically, then delete all but the newest `keep`."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter.detach().contiguous().cpu()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value).detach().contiguous().cpu()
    for name, value in ema.shadow.items():
        tensors[f"ema/{name}"] = value.contiguous().cpu()
    record = {**record, "format_version": FORMAT_VERSION, "step": step, "ema_updates": ema.updates}
    final = folder / f"step-{step:08d}"
    try:
        with atomic(final) as temporary:
            temporary.mkdir()
            save_file(tensors, temporary / "state.safetensors")
            (temporary / "state.json").write_text(json.dumps(record, indent=1) + "\n")
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space" in str(error)
        reason = "the disk is full" if full else str(error)
        raise UserError(f"cannot save step {step} in {folder}: {reason}; earlier checkpoints are kept") from None
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_state(
    path: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, ema: Ema
) -> dict[str, Any]:
    """Everything back in place; returns the record. UserError if the networks differ."""
    try:
        record = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"damaged {path}: {error}; delete it to resume from the checkpoint before it") from None
    if record.get("format_version") != FORMAT_VERSION:
        found = record.get("format_version")
        raise UserError(f"{path}: expected format_version {FORMAT_VERSION}, found {found}: start the run afresh")
    saved = {name.removeprefix("parameter/") for name in tensors if name.startswith("parameter/")}
    if saved != set(parameters):
        odd = sorted(saved ^ set(parameters))[0]
        raise UserError(f"{path} belongs to another network or set of trained parameters (first difference: {odd})")
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = tensors[f"parameter/{name}"]
            if value.shape != parameter.shape:
                raise UserError(f"{path}: {name} is {tuple(value.shape)}, the network has {tuple(parameter.shape)}")
            parameter.copy_(value)
            state = {
                key.split("/")[1]: tensors[key] for key in tensors if key.startswith("optimizer/") and _ends(key, name)
            }
            if state:  # Adam keeps its step count on the CPU
                optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
            if name in ema.shadow:
                ema.shadow[name].copy_(tensors[f"ema/{name}"])
    ema.updates = record["ema_updates"]
    return record


def _ends(key: str, name: str) -> bool:
    return key.split("/", 2)[2] == name
