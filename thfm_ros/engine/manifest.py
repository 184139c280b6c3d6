"""The manifest of a bundle: what the folder holds, for which machine, and how to tell that it is whole.

`bundle.open_bundle` reads and checks it. numpy and the standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thfm_ros.engine.stage_table import WINDOWS, TensorSpec, base_name, batch_of
from thfm_ros.errors import ParameterError, UserError
from thfm_ros.files import write_text

FORMAT = 7
MANIFEST = "manifest.json"
# auto: float32 graph, bf16 arithmetic where the CPU is fast at it. tf32: float32 graph, TF32 on the GPU.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "auto")
BACKENDS = ("tensorrt", "torch_tensorrt", "openvino", "onnxruntime", "torch")


def check_backend(name: str) -> None:
    """Raises ParameterError for what is neither a backend nor auto."""
    if name != "auto" and name not in BACKENDS:
        raise ParameterError(f"unknown backend '{name}': expected auto or one of {', '.join(BACKENDS)}")


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
    weights, scratch: bytes that an engine takes on a GPU, as its builder reports; 0: it does not.
    """

    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    onnx: FileEntry | None = None
    onnx_data: FileEntry | None = None
    engine: FileEntry | None = None
    gflop: float = 0.0
    weights: int = 0
    scratch: int = 0

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

    @property
    def windows(self) -> tuple[int, int] | None:
        """Width and height of the windows around people that the bundle takes; None where it has no such stage."""
        if WINDOWS not in self.stages:
            return None
        _, _, height, width, _ = next(t.shape for t in self.stages[WINDOWS].inputs if t.name == "frames")
        return width, height

    def variants(self, stage: str) -> dict[int, str]:
        """Batch size -> stage name of the compiled sizes of `stage`, largest first."""
        found = {batch_of(name): name for name in self.stages if base_name(name) == stage}
        return dict(sorted(found.items(), reverse=True))


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
