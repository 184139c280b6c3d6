"""torch: runs a checkpoint folder directly, or the checkpoint inside a bundle; optionally through Torch-TensorRT.

The only backend that needs `thfm_ros.model` (and so diffusers). It is the reference of the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thfm_ros.engine.device import cpu_name
from thfm_ros.engine.manifest import Manifest, Stage
from thfm_ros.engine.recipes import WindowOptions
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.shipped import MODEL_PACKAGES
from thfm_ros.engine.stage_table import WINDOWS
from thfm_ros.errors import UserError

if TYPE_CHECKING:
    from thfm_ros.engine.modules import StageModule
    from thfm_ros.engine.stage_table import Geometry
    from thfm_ros.model.checkpoint import Checkpoint


class TorchRuntime(StageRuntime):
    """Stages as torch modules, on the GPU where there is one.

    A bundle runs there in its own precision. On a CPU, and of a checkpoint everywhere, all is computed in float32,
    without TF32: that is the reference of the other backends.

    threads: None leaves torch's setting, which is one for the whole process.
    """

    def __init__(
        self,
        manifest: Manifest,
        checkpoint: Checkpoint,
        geometry: Geometry,
        threads: int | None = None,
        lower: bool | None = None,
    ) -> None:
        """lower: whether to run in the bundle's precision."""
        import torch

        if threads:
            torch.set_num_threads(threads)
        cuda = torch.cuda.is_available()
        self._torch, self._device = torch, "cuda" if cuda else "cpu"
        self._lower = bool(cuda and manifest.weights) if lower is None else lower
        info = {
            "backend": manifest.backend,
            "version": torch.__version__,
            "device": torch.cuda.get_device_name() if cuda else cpu_name(),
            "threads": str(torch.get_num_threads()),
        }
        prompts = {t: p[0].float().numpy() for t, p in checkpoint.prompts.items() if t in manifest.tasks}
        stages = _stages(manifest, checkpoint, geometry)
        if not manifest.stages:
            manifest = dataclasses.replace(manifest, stages={n: m.described("fp32") for n, m in stages.items()})
        super().__init__(manifest, prompts, info)
        if self._lower:
            stages = self._in_own_precision(stages, geometry)
        self._stages = {name: m.on(self._device) for name, m in stages.items()}

    def _in_own_precision(self, stages: dict[str, StageModule], geometry: Geometry) -> dict[str, StageModule]:
        from thfm_ros.engine.export import DTYPES
        from thfm_ros.model.checkpoint import load_checkpoint

        types = {name: DTYPES[stage.precision] for name, stage in self.manifest.stages.items()}
        for dtype in set(types.values()) - {self._torch.float32}:
            other = _stages(self.manifest, load_checkpoint(self.manifest.root / "checkpoint", dtype), geometry)
            stages = {name: other[name] if types.get(name) == dtype else m for name, m in stages.items()}
        return stages

    def precision(self, stage: Stage) -> str:
        if not self._lower:
            return "fp32"
        return stage.precision if stage.precision in ("fp16", "bf16", "fp32") else "tf32"

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._arithmetic(stage):
            return self._stages[stage](inputs)

    @contextmanager
    def _arithmetic(self, stage: str) -> Iterator[None]:
        """TF32 where the stage has it and nowhere else; torch's own default differs by operation."""
        backends = self._torch.backends
        before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
        tf32 = self.precision(self.manifest.stages[stage]) == "tf32"
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = tf32
        try:
            yield
        finally:
            backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before

    def stage_ms(self, stage: str, feeds: Mapping[str, np.ndarray]) -> float:
        """On a GPU by its own clock, of one run on inputs that are there."""
        if self._device == "cpu":
            return super().stage_ms(stage, feeds)
        with self._arithmetic(stage):
            return self._stages[stage].gpu_ms(self.fed(stage, feeds))

    def close(self) -> None:
        self._stages.clear()
        super().close()


class TorchTensorRT(TorchRuntime):
    """Every stage through torch.export and Torch-TensorRT's dynamo compiler, in the bundle's precision. NEVER RUN on a
    GPU.

    Compiled anew at every start, which takes minutes: all that is kept from one to the next is how fast which kernels
    were. Bundles for `tensorrt` are compiled once.
    """

    def __init__(
        self, manifest: Manifest, checkpoint: Checkpoint, geometry: Geometry, threads: int | None = None
    ) -> None:
        self._compiler = _torch_tensorrt()
        super().__init__(manifest, checkpoint, geometry, threads, lower=True)
        self._compiled: set[str] = set()
        self.info["compiler"] = self._compiler.__version__

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from thfm_ros.paths import optional_cache_folder

        if stage not in self._compiled:
            examples = tuple(self._torch.from_numpy(x).to(self._device) for x in inputs.values())
            program = self._torch.export.export(self._stages[stage].module, examples)
            cache = optional_cache_folder("torch_tensorrt")
            compiled = self._compiler.dynamo.compile(
                program,
                arg_inputs=list(examples),
                use_explicit_typing=True,  # the modules' own types; later releases know nothing else
                require_full_compilation=True,  # an operator that is left to torch is an error, not a slow stage
                min_block_size=1,
                disable_tf32=self.precision(self.manifest.stages[stage]) != "tf32",  # its default is TF32
                **({"timing_cache_path": str(cache / "timing.cache")} if cache else {}),
            )
            self._stages[stage] = dataclasses.replace(self._stages[stage], module=compiled)
            self._compiled.add(stage)
        return super().compute(stage, inputs)


def _stages(manifest: Manifest, checkpoint: Checkpoint, geometry: Geometry) -> dict[str, StageModule]:
    """Those of the manifest; of a checkpoint, whose manifest has none, without batches of tasks."""
    from thfm_ros.engine.modules import network_stages

    windows = manifest.variants(WINDOWS) if manifest.stages else WindowOptions.batch
    return network_stages(checkpoint, geometry, tuple(manifest.variants("transform")) or (1,), tuple(windows))


def _torch_tensorrt() -> Any:
    try:
        import torch
        import torch_tensorrt
    except (ImportError, OSError) as error:  # OSError: libnvinfer is missing
        raise UserError(
            f"the torch-tensorrt target needs torch_tensorrt and a CUDA build of torch, found {error}: on the GPU "
            "machine: pip install torch-tensorrt"
        ) from None
    if not torch.cuda.is_available():
        raise UserError("the torch-tensorrt target needs an NVIDIA GPU, found none")
    return torch_tensorrt


def open_runtime(manifest: Manifest, threads: int) -> TorchRuntime:
    """Opens the checkpoint inside a bundle."""
    if not manifest.weights:
        raise UserError(f"{manifest.root}: expected the checkpoint inside the bundle, found none; use another backend")
    return _open(manifest.root / "checkpoint", manifest, threads)


def open_checkpoint(
    root: Path, backend: str, threads: int | None, windows: Sequence[int] | None = None
) -> TorchRuntime:
    """Opens a checkpoint folder: its manifest holds the native clip and no files."""
    return _open(root, None, threads, backend, windows or WindowOptions.size)


def _open(
    root: Path,
    manifest: Manifest | None,
    threads: int | None,
    backend: str = "torch",
    windows: Sequence[int] = WindowOptions.size,
) -> TorchRuntime:
    try:
        from thfm_ros.engine.modules import checkpoint_manifest, geometry_of
        from thfm_ros.model.checkpoint import load_checkpoint
    except ImportError as error:
        raise UserError(
            f"the torch backend needs torch and diffusers, found {error}: pip install {MODEL_PACKAGES}"
        ) from None
    checkpoint = load_checkpoint(root)
    if manifest is None:
        geometry = geometry_of(checkpoint, windows=windows)
        manifest = checkpoint_manifest(root, checkpoint, geometry, backend)
    else:
        geometry = geometry_of(checkpoint, manifest.frames, manifest.height, manifest.width, manifest.windows)
    kind = TorchTensorRT if manifest.backend == "torch_tensorrt" else TorchRuntime
    return kind(manifest, checkpoint, geometry, threads)
