"""OpenVINO on the CPU. Compiled models are cached in the user's cache folder, so a warm start skips compilation."""

from __future__ import annotations

import hashlib

import numpy as np

from thfm_ros.engine.device import cpu_name, fast_bf16
from thfm_ros.engine.manifest import Manifest, Stage
from thfm_ros.engine.runtime import StageRuntime, bundle_prompts
from thfm_ros.errors import UserError
from thfm_ros.paths import optional_cache_folder

HINTS = {"fp32": "f32", "tf32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVino(StageRuntime):
    """Stages of precision "auto" run in bf16 where the CPU has instructions for it, in float32 elsewhere."""

    def __init__(self, manifest: Manifest, threads: int) -> None:
        import openvino

        self._auto = "bf16" if fast_bf16() else "fp32"
        info = {
            "backend": "openvino",
            "version": openvino.__version__,
            "threads": str(threads),
            "device": cpu_name(),
            "auto": self._auto,
        }
        super().__init__(manifest, bundle_prompts(manifest), info)
        self._core = openvino.Core()
        self._properties = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinned threads of two processes would share a core
        }
        self._requests: dict[str, openvino.InferRequest] = {}

    def precision(self, stage: Stage) -> str:
        return self._auto if stage.precision == "auto" else stage.precision

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.prepare(stage)
        request = self._requests[stage]
        for name, value in inputs.items():
            request.get_tensor(name).data[...] = value
        request.infer()
        return {t.name: request.get_tensor(t.name).data.copy() for t in self.manifest.stages[stage].outputs}

    def prepare(self, stage: str) -> None:
        if stage not in self._requests:
            self._requests[stage] = self._compile(stage)

    def _compile(self, name: str):
        stage = self.manifest.stages[name]
        assert stage.onnx is not None
        # Set explicitly: OpenVINO's own default is bf16 on CPUs that have it, also where a stage asks for float32.
        hint = HINTS[self.precision(stage)]
        properties = {**self._properties, "INFERENCE_PRECISION_HINT": hint}
        # A folder for each: OpenVINO gives what it compiled in float32 also to who asks for bf16, which computes NaN
        # then (2026.4); and a home directory may be shared by machines with other CPUs.
        device = hashlib.sha256(self.device.encode()).hexdigest()[:12]
        if cache := optional_cache_folder(f"openvino/{device}-{hint}"):
            properties["CACHE_DIR"] = str(cache)
        try:
            model = self._core.compile_model(str(self.manifest.path(stage.onnx)), "CPU", properties)
        except RuntimeError as error:
            raise UserError(f"OpenVINO cannot compile {name}: {(str(error).strip() or '?').splitlines()[-1]}") from None
        # OpenVINO takes what the CPU has in place of what it lacks, and goes on.
        if (found := model.get_property("INFERENCE_PRECISION_HINT").to_string()) != hint:
            raise UserError(
                f"OpenVINO on this CPU: expected {name} in {hint}, found {found}: take another precision (auto) in "
                f"{self.manifest.recipe or 'the recipe'}, then {self.manifest.rebuild}"
            )
        return model.create_infer_request()

    def unload(self, stage: str) -> None:
        self._requests.pop(stage, None)

    def close(self) -> None:
        self._requests.clear()
        super().close()


def open_runtime(manifest: Manifest, threads: int) -> OpenVino:
    """UserError where OpenVINO is not installed."""
    try:
        return OpenVino(manifest, threads)
    except ModuleNotFoundError:
        raise UserError("expected the package openvino, found none: pip install 'openvino>=2025.0,<2027'") from None
    except (ImportError, OSError) as error:  # installed, but not for this machine
        raise UserError(
            f"the package openvino cannot be loaded: {error}: pip install --force-reinstall openvino"
        ) from None
