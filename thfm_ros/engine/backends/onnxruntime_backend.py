"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np

from thfm_ros.engine.device import cpu_name
from thfm_ros.engine.manifest import Manifest, Stage
from thfm_ros.engine.runtime import StageRuntime, bundle_prompts
from thfm_ros.errors import UserError


class OnnxRuntime(StageRuntime):
    def __init__(self, manifest: Manifest, threads: int) -> None:
        import onnxruntime

        info = {
            "backend": "onnxruntime",
            "version": onnxruntime.__version__,
            "threads": str(threads),
            "device": cpu_name(),
        }
        super().__init__(manifest, bundle_prompts(manifest), info)
        self._ort = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def precision(self, stage: Stage) -> str:
        return stage.precision if stage.precision in ("int8", "fp16") else "fp32"

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.prepare(stage)
        names = [t.name for t in self.manifest.stages[stage].outputs]
        return dict(zip(names, self._sessions[stage].run(names, inputs), strict=True))

    def prepare(self, stage: str) -> None:
        if stage in self._sessions:
            return
        entry = self.manifest.stages[stage].onnx
        assert entry is not None
        path, providers = str(self.manifest.path(entry)), ["CPUExecutionProvider"]
        try:
            self._sessions[stage] = self._ort.InferenceSession(path, self._options, providers=providers)
        except Exception as error:  # its own kinds, which have no common base
            raise UserError(f"ONNX Runtime cannot load {stage}: {' '.join(str(error).split())}") from None

    def unload(self, stage: str) -> None:
        self._sessions.pop(stage, None)

    def close(self) -> None:
        self._sessions.clear()
        super().close()


def open_runtime(manifest: Manifest, threads: int) -> OnnxRuntime:
    """UserError where ONNX Runtime is not installed."""
    try:
        return OnnxRuntime(manifest, threads)
    except ModuleNotFoundError:
        raise UserError("expected the package onnxruntime, found none: pip install 'onnxruntime>=1.20,<2'") from None
    except (ImportError, OSError) as error:  # installed, but not for this machine
        raise UserError(
            f"the package onnxruntime cannot be loaded: {error}: pip install --force-reinstall onnxruntime"
        ) from None
