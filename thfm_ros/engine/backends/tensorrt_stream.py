"""Streams of TensorRT engines, whose caches stay on the GPU. NEVER RUN on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from thfm_ros.engine.backends.cuda import Cuda, DeviceMemory
from thfm_ros.engine.backends.tensorrt_executor import Executor, as_float32
from thfm_ros.engine.manifest import TensorSpec, is_cache
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.streams import StageStream, check_stream_input, check_stream_stages


class Device(Protocol):
    """What a stream needs of the backend that it belongs to, beside `StageRuntime`."""

    cuda: Cuda

    def buffer(self, spec: TensorSpec) -> DeviceMemory: ...

    def bind(self, name: str, buffers: Mapping[str, DeviceMemory]) -> Executor: ...

    def upload(self, spec: TensorSpec, value: np.ndarray, buffer: DeviceMemory) -> None: ...

    def download(self, spec: TensorSpec, buffer: DeviceMemory) -> np.ndarray: ...


class DeviceStream(StageStream):
    """Caches in two sets: a step reads one and writes the other, never the same memory."""

    def __init__(self, runtime: StageRuntime, device: Device, base: str, constants: Sequence[np.ndarray] = ()) -> None:
        check_stream_stages(runtime, base)
        self._owner, self._device = runtime, device
        self._names = init, step = f"{base}_init", f"{base}_step"
        stages = runtime.manifest.stages
        device.cuda.activate()
        sets = [[device.buffer(t) for t in stages[step].inputs if is_cache(t)] for _ in range(2)]

        def bind(
            name: str, reads: list[DeviceMemory], writes: list[DeviceMemory], data: dict[str, DeviceMemory]
        ) -> Executor:
            caches = iter([*reads, *writes])  # in the manifest's order: inputs, then outputs
            tensors = (*stages[name].inputs, *stages[name].outputs)
            return device.bind(name, {t.name: next(caches) if is_cache(t) else data[t.name] for t in tensors})

        def data(name: str) -> dict[str, DeviceMemory]:
            stage = stages[name]
            buffers = {t.name: device.buffer(t) for t in (*stage.inputs, *stage.outputs) if not is_cache(t)}
            for spec, value in zip(stage.inputs[1:], constants, strict=False):  # caches follow
                device.upload(spec, value, buffers[spec.name])
            return buffers

        later = data(step)
        self._start = bind(init, [], sets[0], data(init))
        self._steps = (bind(step, sets[0], sets[1], later), bind(step, sets[1], sets[0], later))
        self._count = 0

    def reset(self) -> None:
        self._count = 0

    def advance(self, x: np.ndarray) -> list[np.ndarray]:
        owner, device = self._owner, self._device
        device.cuda.activate()
        name = self._names[min(self._count, 1)]
        check_stream_input(owner, name, x)
        executor = self._start if self._count == 0 else self._steps[(self._count - 1) % 2]
        stage = owner.manifest.stages[name]
        given = stage.inputs[0]
        device.upload(given, x, executor.buffers[given.name])
        executor()
        results = [t for t in stage.outputs if not is_cache(t)]
        hosts = [device.download(t, executor.buffers[t.name]) for t in results]
        device.cuda.synchronize()
        self._count += 1
        return [as_float32(host, t) for host, t in zip(hosts, results, strict=True)]
