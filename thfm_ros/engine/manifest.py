"""The manifest of a bundle: what the folder holds, for which machine, and how to tell that it is whole.

`open_bundle` checks, in this order and each with its own message: the folder, the JSON, the format version, the fields,
and what `checks.check_bundle` finds in files and values. The machine is checked by `device.check_device`, the numbers
by `golden.check_golden`. numpy and the standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.files import write_text

FORMAT = 4
MANIFEST = "manifest.json"
IMAGE = "image"  # input of a guided decoder, and of keypoints that look: the video that the latents were made of
FEATURES = "features_"  # outputs of `encode`, by their stride, that `decode` and `keypoints` take under the same name
# auto: float32 graph, bf16 arithmetic where the CPU is fast at it. tf32: float32 graph, TF32 on the GPU.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "auto")
BACKENDS = ("tensorrt", "torch_tensorrt", "openvino", "onnxruntime", "torch")  # best first
WHOLE_CLIP = ("encode", "transform", "keypoints", "decode")
STREAM = tuple(f"{stage}_{call}" for stage in WHOLE_CLIP for call in ("init", "step"))


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a stage. dtype by its numpy name ("bfloat16" besides)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle: POSIX path relative to the folder, bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Stage:
    """One compiled function. `onnx_data` holds the weights of an ONNX file above 2 GB.

    gflop: arithmetic of one run, 2 FLOP a multiply-accumulate, counted in torch at export; 0: not counted.
    """

    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    onnx: FileEntry | None = None
    onnx_data: FileEntry | None = None
    engine: FileEntry | None = None
    gflop: float = 0.0

    def files(self) -> tuple[FileEntry, ...]:
        return tuple(f for f in (self.onnx, self.onnx_data, self.engine) if f is not None)


@dataclass(frozen=True)
class EngineInfo:
    """For which machine the engines were compiled.

    flavor: "tensorrt" or "tensorrt_rtx". version: exact version of that package; "" until compiled.
    compute_capabilities: such as "SM87". platform: "Linux-x86_64".
    workspace_mb: memory limit of the builder; None: the builder's own choice.
    """

    flavor: str
    version: str
    compute_capabilities: tuple[str, ...]
    platform: str
    workspace_mb: int | None = None


@dataclass(frozen=True)
class Statistics:
    """Summary of an output: `blocks` are the means of its flattened values in 64 equal pieces."""

    mean: float
    std: float
    blocks: tuple[float, ...]


@dataclass(frozen=True)
class Golden:
    """Outputs of every stage for seeded inputs, as torch computed them in float32.

    seeds: of the inputs, by the name that a stage and its batches share.
    tolerance: by precision, the largest difference of any statistic in units of `golden.scale`.
    """

    seeds: dict[str, int]
    tolerance: dict[str, float]
    stages: dict[str, dict[str, Statistics]]


@dataclass(frozen=True)
class Manifest:
    """Everything that a machine needs to know about a bundle."""

    format: int
    target: str
    backends: tuple[str, ...]
    checkpoint: str
    recipe: str
    preset: str
    trained: bool
    frames: int
    height: int
    width: int
    fps: float
    latent_shape: tuple[int, int, int, int]
    tasks: tuple[str, ...]
    joint_set: str
    window: int | None  # latent frames that a causal stream sees, its own included; None: no such stages
    stages: dict[str, Stage]
    weights: tuple[FileEntry, ...]  # the checkpoint inside the bundle, for backends that run torch
    weights_sha256: str  # of the checkpoint that was exported
    prompts: FileEntry | None
    engine: EngineInfo | None = None
    golden: Golden | None = None
    root: Path = field(default=Path(), compare=False)
    backend: str = field(default="", compare=False)  # the one that runs it; set by load_runtime

    @property
    def rebuild(self) -> str:
        """The command that makes this bundle anew."""
        command = ["thfm", "export", self.checkpoint, "--recipe", self.recipe, "--out", str(self.root), "--replace"]
        return shlex.join(command)

    def path(self, entry: FileEntry) -> Path:
        return self.root / entry.path

    def files(self) -> tuple[FileEntry, ...]:
        stages = (entry for stage in self.stages.values() for entry in stage.files())
        return (*((self.prompts,) if self.prompts else ()), *stages, *self.weights)

    def looks(self, stage: str) -> bool:
        """Whether `decode` or `keypoints` also has the video that the latents were made of."""
        return stage in self.stages and any(t.name == IMAGE for t in self.stages[stage].inputs)

    def context(self, stage: str) -> tuple[TensorSpec, ...]:
        """Inputs of `decode` or `keypoints` beside latents and prompt: the video, or features that `encode` gave."""
        inputs = self.stages[stage].inputs if stage in self.stages else ()
        return tuple(t for t in inputs if t.name == IMAGE or t.name.startswith(FEATURES))

    def variants(self, stage: str) -> dict[int, str]:
        """Batch size -> stage name of the compiled sizes of `stage`, largest first."""
        found = {s.inputs[0].shape[0]: n for n, s in self.stages.items() if base_name(n) == stage}
        return dict(sorted(found.items(), reverse=True))


def base_name(stage: str) -> str:
    """ "decode_x4" -> "decode"."""
    head, _, tail = stage.rpartition("_x")
    return head if head and tail.isdecimal() else stage


def file_entry(root: Path, path: Path) -> FileEntry:
    return FileEntry(path.relative_to(root).as_posix(), path.stat().st_size, sha256(path))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(manifest: Manifest) -> None:
    """Writes manifest.json into `manifest.root`, complete or not at all."""
    data = dataclasses.asdict(manifest)
    del data["root"], data["backend"]
    write_text(manifest.root / MANIFEST, json.dumps(data, indent=1) + "\n")


def open_bundle(path: str | Path) -> Manifest:
    """The manifest of the bundle at `path` after every check of the files; UserError with the first that fails."""
    from thfm_ros.engine.checks import check_bundle  # which imports the classes above

    root = Path(path)
    generic = f"rebuild: thfm export CHECKPOINT --recipe engines/RECIPE.yaml --out {shlex.quote(str(root))}"
    if not root.is_dir():
        raise UserError(f"no bundle at {root}: expected a folder with {MANIFEST}, found none; {generic}")
    if not (root / MANIFEST).is_file():
        raise UserError(f"{root} is not a bundle: expected {MANIFEST} in it, found none; {generic}")
    try:
        data = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{root / MANIFEST} is damaged: expected JSON, found {error}; {generic}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise UserError(f"{root}: bundle format: expected {FORMAT}, found {found}; {generic}")
    try:
        manifest = dataclasses.replace(_parse(Manifest, data, "manifest"), root=root)
    except (TypeError, ValueError) as error:
        raise UserError(f"{root / MANIFEST}: fields: {error}; {generic}") from None
    check_bundle(manifest)
    return manifest


def is_cache(spec: TensorSpec) -> bool:
    """Whether an input or output of a stream's stage is state rather than data."""
    return spec.name.startswith(("cache_", "new_cache_"))


def read_prompts(manifest: Manifest) -> dict[str, np.ndarray]:
    """Task -> (L, D) float32."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    assert manifest.prompts is not None
    path = manifest.path(manifest.prompts)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: expected safetensors, found {error}; rebuild: {manifest.rebuild}") from None


# --- JSON -> dataclasses: every field there, of its type, and none besides


def _parse(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise TypeError(f"{where}: expected an object, found {type(data).__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in ("root", "backend")}
    if extra := sorted(set(data) - set(fields)):
        raise ValueError(f"{where}: expected {', '.join(fields)}, found also {', '.join(extra)}")
    if missing := [n for n in fields if n not in data]:
        raise ValueError(f"{where}: expected {', '.join(missing)}, found none")
    return cls(**{name: _value(f.type, data[name], f"{where}.{name}") for name, f in fields.items()})


_CLASSES = {c.__name__: c for c in (TensorSpec, FileEntry, Stage, EngineInfo, Statistics, Golden)}


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotation `kind` (a string) says."""
    kind = str(kind)
    if kind.endswith(" | None"):
        return None if value is None else _value(kind.removesuffix(" | None"), value, where)
    if kind in _CLASSES:
        return _parse(_CLASSES[kind], value, where)
    if kind.startswith("tuple["):
        inner = kind[6:-1]
        if not isinstance(value, list):
            raise TypeError(f"{where}: expected a list, found {type(value).__name__}")
        item = inner.split(",")[0].strip()
        if not inner.endswith("...") and len(value) != inner.count(",") + 1:
            raise ValueError(f"{where}: expected {inner.count(',') + 1} values, found {len(value)}")
        return tuple(_value(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if kind.startswith("dict["):
        inner = kind[9:-1]  # dict[str, ...]
        if not isinstance(value, dict):
            raise TypeError(f"{where}: expected an object, found {type(value).__name__}")
        return {k: _value(inner.strip(), v, f"{where}.{k}") for k, v in value.items()}
    expected = {"int": int, "float": (int, float), "str": str, "bool": bool}[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and kind != "bool"):
        raise TypeError(f"{where}: expected {kind}, found {value!r}")
    if kind == "float":
        if not math.isfinite(value):
            raise ValueError(f"{where}: expected a finite number, found {value}")
        return float(value)
    return value
