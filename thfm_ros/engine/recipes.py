"""Recipes: one YAML a target that says what `thfm export` puts into a bundle. Unknown keys are refused."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from thfm_ros.engine.manifest import BACKENDS, PRECISIONS, WHOLE_CLIP, base_name
from thfm_ros.errors import UserError

FORMATS = ("onnx", "tensorrt", "torch")
FLAVORS = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class TensorRTOptions:
    """flavor: the package. compute_capabilities: targets of tensorrt_rtx; tensorrt builds for the GPU it runs on.

    workspace_mb: memory limit of the builder; None: half of what is free.
    """

    flavor: str
    compute_capabilities: tuple[str, ...] = ()
    workspace_mb: int | None = None


@dataclass(frozen=True)
class Recipe:
    """What a bundle holds.

    format: onnx (CPU backends), tensorrt (ONNX plus engines) or torch (the checkpoint itself).
    precision: of every stage; stream stages follow encode and decode. batch: sizes in which the transforms and the
    decodes of several tasks are compiled. stream: also the stages of streams, which neither the node nor `thfm run`
    uses: they make up more than half of a bundle. frames, height, width: another clip than the checkpoint's native one.
    """

    target: str
    description: str
    format: str
    backends: tuple[str, ...]
    precision: dict[str, str]
    path: str = ""
    batch: tuple[int, ...] = (1,)
    stream: bool = False
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    tensorrt: TensorRTOptions | None = field(default=None)

    def precision_of(self, stage: str) -> str:
        base = base_name(stage)
        return self.precision[base.split("_")[0] if base not in self.precision else base]


def load_recipe(path: str | Path) -> Recipe:
    """Reads and checks a recipe; UserError with expected, found and the file."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except OSError:
        raise UserError(f"no recipe at {path}: expected one of engines/*.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    options = data.pop("tensorrt", None)
    values = _known(Recipe, data, str(path), hidden=("path", "tensorrt"))
    recipe = Recipe(**values, path=str(path), tensorrt=_tensorrt(options, path) if options is not None else None)
    _check(recipe, path)
    return recipe


def _tensorrt(options: Any, path: Path) -> TensorRTOptions:
    if not isinstance(options, dict):
        raise UserError(f"{path}: tensorrt: expected a mapping of keys, found {options!r}")
    return TensorRTOptions(**_known(TensorRTOptions, options, f"{path}: tensorrt"))


def _known(cls: type, data: dict[str, Any], where: str, hidden: tuple[str, ...] = ()) -> dict[str, Any]:
    """`data` if its keys are fields of `cls` and of their types; lists become tuples."""
    known = {f.name: f for f in fields(cls) if f.name not in hidden}
    if extra := [str(key) for key in data if key not in known]:
        raise UserError(f"{where}: expected the keys {', '.join(known)}, found {', '.join(extra)}")
    required = [n for n, f in known.items() if f.default is f.default_factory]  # both MISSING
    if missing := [n for n in required if n not in data]:
        raise UserError(f"{where}: expected the keys {', '.join(missing)}, found none")
    types = {"str": str, "bool": bool, "int | None": int, "dict[str, str]": dict}
    values = {}
    for key, value in data.items():
        kind = str(known[key].type)
        if kind.startswith("tuple["):
            item = int if "int" in kind else str
            good = isinstance(value, list) and all(type(v) is item for v in value)
            value = tuple(value) if good else value
        else:
            good = type(value) is types[kind] or (value is None and "None" in kind)
        if not good:
            raise UserError(f"{where}: {key}: expected {kind}, found {value!r}")
        values[key] = value
    return values


def _check(recipe: Recipe, path: Path) -> None:
    def one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
        if value not in allowed:
            raise UserError(f"{path}: {what}: expected one of {', '.join(allowed)}, found {value}")

    one_of("format", recipe.format, FORMATS)
    for backend in recipe.backends:
        one_of("backends", backend, BACKENDS)
    if set(recipe.precision) != set(WHOLE_CLIP):
        raise UserError(
            f"{path}: precision: expected the stages {', '.join(WHOLE_CLIP)}, found {', '.join(recipe.precision)}"
        )
    for stage, precision in recipe.precision.items():
        one_of(f"precision of {stage}", precision, PRECISIONS)
    if 1 not in recipe.batch or min(recipe.batch) < 1:
        raise UserError(f"{path}: batch: expected positive sizes, 1 among them, found {list(recipe.batch)}")
    if recipe.format == "tensorrt":
        if recipe.tensorrt is None:
            raise UserError(f"{path}: expected the key tensorrt for format tensorrt, found none")
        one_of("tensorrt: flavor", recipe.tensorrt.flavor, FLAVORS)
        if bad := sorted({p for p in recipe.precision.values() if p in ("auto", "int8")}):
            raise UserError(f"{path}: precision: TensorRT stages take fp32, tf32, fp16 or bf16, found {', '.join(bad)}")
        if (recipe.tensorrt.flavor == "tensorrt_rtx") != bool(recipe.tensorrt.compute_capabilities):
            raise UserError(
                f"{path}: tensorrt: compute_capabilities: expected a list for tensorrt_rtx and none for tensorrt "
                f"(which builds for the GPU it runs on), found {list(recipe.tensorrt.compute_capabilities)}"
            )
