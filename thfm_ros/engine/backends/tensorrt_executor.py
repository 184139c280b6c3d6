"""One TensorRT engine: from the file to something that runs on a stream. NEVER RUN on a GPU.

Engines are code: a file whose sha256 is not the manifest's is not deserialised. It is mapped, not read: an engine of
gigabytes would take them twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from thfm_ros.engine.backends.cuda import Cuda, DeviceMemory, Graph
from thfm_ros.engine.build_trt import DTYPES
from thfm_ros.engine.device import device_rebuild
from thfm_ros.engine.digests import digest
from thfm_ros.engine.manifest import Manifest
from thfm_ros.engine.stage_table import TensorSpec
from thfm_ros.errors import UserError

_LOG = logging.getLogger(__name__)


def deserialise(trt: Any, runtime: Any, manifest: Manifest, name: str) -> Any:
    """An ICudaEngine, after the sha256 of its file, TensorRT's own validity test and its inputs and outputs.

    trt: the module, `tensorrt` or `tensorrt_rtx`. runtime: a trt.Runtime.
    """
    stage, again = manifest.stages[name], f"rebuild: {device_rebuild(manifest)}"
    assert stage.engine is not None
    path = manifest.path(stage.engine)
    if (found_digest := digest(path)) != stage.engine.sha256:
        raise UserError(f"{path} was changed: expected sha256 {stage.engine.sha256}, found {found_digest}; {again}")
    data = np.memmap(path, mode="r")
    if hasattr(runtime, "get_engine_validity"):
        validity, diagnostics = runtime.get_engine_validity(data)
        if validity == trt.EngineValidity.INVALID:
            raise UserError(
                f"{path}: expected a valid engine, found an invalid one (diagnostics {diagnostics}); {again}"
            )
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise UserError(f"{path}: expected an engine that {trt.__name__} {trt.__version__} loads, found none; {again}")
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {(n, tuple(engine.get_tensor_shape(n)), DTYPES[engine.get_tensor_dtype(n).name]) for n in names}
    expected = {(t.name, t.shape, t.dtype) for t in (*stage.inputs, *stage.outputs)}
    if found != expected:
        raise UserError(f"{path}: inputs and outputs: expected {sorted(expected)}, found {sorted(found)}; {again}")
    return engine


class Executor:
    """One execution context of an engine, bound to buffers for good, replayed as a CUDA graph.

    shown: the tasks whose prompts its buffer holds. capture: False where TensorRT captures by itself.
    """

    def __init__(self, cuda: Cuda, name: str, context: Any, buffers: Mapping[str, DeviceMemory], capture: bool) -> None:
        self.name, self.buffers = name, buffers
        self.shown: tuple[str, ...] = ()
        self._cuda, self._context, self._capture = cuda, context, capture
        self._graph: Graph | None = None
        for tensor, buffer in buffers.items():
            if not self._context.set_tensor_address(tensor, buffer.address):
                raise UserError(f"TensorRT refuses the buffer '{tensor}' of {name}, {buffer.size} bytes")

    def use(self, scratch: DeviceMemory) -> None:
        """Takes memory for what lies between the layers; a graph of older memory is captured anew."""
        self._graph = None
        self._context.set_device_memory(scratch.address, scratch.size)

    def __call__(self) -> None:
        """Enqueues one run on the stream; the caller synchronises."""
        if self._graph is not None:
            self._graph.launch()
            return
        self._enqueue()
        if self._capture:  # after the first run: TensorRT sets up lazily, which a capture must not record
            self._cuda.synchronize()
            try:
                self._graph = self._cuda.capture(self._enqueue)
            except RuntimeError as error:  # another thread's doing, or a layer's
                self._capture = False
                _LOG.warning("%s runs without a CUDA graph, which is slower: %s", self.name, error)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._cuda.stream):
            raise RuntimeError(f"TensorRT could not run {self.name}")


def bfloat16(value: np.ndarray) -> np.ndarray:
    """The bits of float32 values, rounded to nearest even."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def as_float32(host: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """A copy of what `download` gave."""
    if spec.dtype == "bfloat16":
        return (host.astype(np.uint32) << 16).view(np.float32)
    return host.astype(np.float32)
