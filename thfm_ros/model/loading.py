"""Loading diffusers models strictly: safetensors only, the expected class, every weight present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import logging
from safetensors import SafetensorError

from thfm_ros.errors import UserError

Model = TypeVar("Model", bound=ModelMixin)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def refuse_pickles(folder: Path) -> None:
    """UserError where a folder holds weights that loading would execute."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in PICKLES:
            raise UserError(f"expected weights as .safetensors, found a pickle, {file}: convert and delete it")


def load_model(cls: type[Model], folder: Path, dtype: torch.dtype, class_name: str | None = None) -> Model:
    """`cls` from a local folder in evaluation mode.

    class_name: the class that the folder's config.json must name; `cls` itself by default.
    """
    config = read_config(folder)
    expected, found = class_name or cls.__name__, config.get("_class_name")
    if found != expected:
        raise UserError(f"{folder}: expected a checkpoint of {expected}, found {found}: wrong architecture")
    logger = logging.get_logger("diffusers.models.model_loading_utils")
    level = logger.level
    logger.setLevel("ERROR")  # what is missing or unexpected is raised below, in one line
    try:
        model, info = cls.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"cannot load {expected} from {folder}: {_first_line(error)}") from None
    finally:
        logger.setLevel(level)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            names = ", ".join(str(key) for key in list(info[problem])[:3])
            count = f"{len(info[problem])} {problem.replace('_', ' ')}"
            raise UserError(f"{folder}: expected the weights that config.json describes, found {count}: {names}")
    return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a diffusers model folder."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except OSError:
        raise UserError(f"not a diffusers model: {folder / 'config.json'} is missing") from None
    except ValueError as error:
        raise UserError(f"damaged {folder / 'config.json'}: {error}") from None
    return config


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
