"""Recipes: one YAML a target that says what `thfm export` puts into a bundle. Unknown keys are refused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from thfm_ros.engine.manifest import PRECISIONS
from thfm_ros.engine.stage_table import WHOLE_CLIP, WINDOWS, base_name
from thfm_ros.errors import UserError
from thfm_ros.schema import parse, read_yaml

# Of each format the backends that can run it.
FORMATS = {
    "onnx": ("openvino", "onnxruntime"),
    "tensorrt": ("tensorrt",),
    "torch": ("torch_tensorrt", "torch"),
}
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
class WindowOptions:
    """Keypoints of clips around one person each. size: width, height; batch: how many people at once."""

    size: tuple[int, ...] = (112, 144)
    batch: tuple[int, ...] = (1, 2, 4)


@dataclass(frozen=True)
class Recipe:
    """What a bundle holds.

    format: onnx (CPU backends), tensorrt (ONNX plus engines) or torch (the checkpoint itself).
    precision: of every stage. batch: sizes in which the transforms and the decodes of several tasks are compiled.
    frames, height, width: another clip than the checkpoint's native one.
    windows: also the stages for windows around people, without which a frame has one skeleton; in the precision of
    encode, from which everything else follows.
    """

    target: str
    description: str
    format: str
    backends: tuple[str, ...]
    precision: dict[str, str]
    path: str = ""
    batch: tuple[int, ...] = (1,)
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    windows: WindowOptions | None = field(default=None)
    tensorrt: TensorRTOptions | None = field(default=None)

    def precision_of(self, stage: str) -> str:
        base = base_name(stage)
        return self.precision["encode" if base == WINDOWS else base]


def load_recipe(path: str | Path) -> Recipe:
    """Reads and checks a recipe; UserError with expected, found and the file."""
    path = Path(path)
    recipe = replace(parse(Recipe, read_yaml(path, "recipe"), str(path), without=("path",)), path=str(path))
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    def one_of(what: str, value: str, allowed: Collection[str]) -> None:
        if value not in allowed:
            raise UserError(f"{path}: {what}: expected one of {', '.join(allowed)}, found {value}")

    one_of("format", recipe.format, FORMATS)
    for backend in recipe.backends:
        one_of(f"backends of format {recipe.format}", backend, FORMATS[recipe.format])
    if not recipe.backends or len(set(recipe.backends)) < len(recipe.backends):
        found = ", ".join(recipe.backends) or "none"
        raise UserError(f"{path}: backends: expected at least one, each once, found {found}")
    if set(recipe.precision) != set(WHOLE_CLIP):
        raise UserError(
            f"{path}: precision: expected the stages {', '.join(WHOLE_CLIP)}, found {', '.join(recipe.precision)}"
        )
    for stage, precision in recipe.precision.items():
        one_of(f"precision of {stage}", precision, PRECISIONS)
    windows = recipe.windows or WindowOptions()
    for what, batch in (("batch", recipe.batch), ("windows: batch", windows.batch)):
        if 1 not in batch or min(batch) < 1:
            raise UserError(f"{path}: {what}: expected positive sizes, 1 among them, found {list(batch)}")
    if len(windows.size) != 2 or min(windows.size) < 1:
        raise UserError(f"{path}: windows: size: expected width and height, found {list(windows.size)}")
    workspace = recipe.tensorrt.workspace_mb if recipe.tensorrt else None
    sizes = {"frames": recipe.frames, "height": recipe.height, "width": recipe.width, "workspace_mb": workspace}
    for what, size in sizes.items():
        if size is not None and size < 1:
            raise UserError(f"{path}: {what}: expected a positive number, found {size}")
    if recipe.format == "torch" and "int8" in recipe.precision.values():
        raise UserError(f"{path}: precision: torch stages take fp32, tf32, fp16, bf16 or auto, found int8")
    if recipe.format != "tensorrt" and recipe.tensorrt is not None:
        raise UserError(f"{path}: expected the key tensorrt for format tensorrt only, found it for {recipe.format}")
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
