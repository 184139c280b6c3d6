"""Loading diffusers models strictly: safetensors only, the expected class, every weight present."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from diffusers import ModelMixin
from diffusers.utils import logging

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
    check_values(folder / "config.json", cls.__init__, config)
    logger = logging.get_logger("diffusers.models")  # several modules under it report the same
    level = logger.level
    logger.setLevel("CRITICAL")  # what is missing or unexpected is raised below, in one line
    try:
        model, info = cls.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except UserError:
        raise
    except Exception as error:  # whatever a class meets where values of its config.json do not fit one another
        raise UserError(f"cannot load {expected} from {folder}: {_first_line(error)}") from None
    finally:
        logger.setLevel(level)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            names = ", ".join(str(key) for key in list(info[problem])[:3])
            count = f"{len(info[problem])} {problem.replace('_', ' ')}"
            raise UserError(
                f"{folder}: expected the weights that config.json describes, found {count}: {names}; "
                "another version made it, or it is damaged: restore it, take weights/nano, or train anew"
            )
    return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a diffusers model folder."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except OSError:
        raise UserError(f"not a diffusers model: {folder / 'config.json'} is missing") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"damaged {folder / 'config.json'}: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"damaged {folder / 'config.json'}: expected names and values, found {config!r:.40}")
    return config


def check_values(file: Path, owner: type | Callable[..., Any], values: Mapping[str, Any], least: int = 1) -> None:
    """UserError where a value of a JSON file is not of the type that a class or function names; others are let be.

    least: of whole numbers.
    """
    for name, hint in get_type_hints(owner).items():
        if name in values and not _fits(values[name], hint, least):
            kind = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
            more = f" of {least} or more" if hint is int else ""
            found = json.dumps(values[name])
            raise UserError(f"damaged {file}: expected {name} as {kind}{more}, found {found:.40}: restore the file")


def _fits(value: Any, hint: Any, least: int) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind, least) for kind in get_args(hint))
    if origin in (list, tuple, Sequence):
        return isinstance(value, (list, tuple)) and all(_fits(item, get_args(hint)[0], least) for item in value)
    if hint in (int, float):
        number = isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
        return number and (hint is float or value >= least)
    return not isinstance(origin or hint, type) or isinstance(value, origin or hint)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
