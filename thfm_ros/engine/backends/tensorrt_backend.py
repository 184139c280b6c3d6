"""TensorRT engines on an NVIDIA GPU: full TensorRT and TensorRT for RTX. NEVER RUN: written without a GPU at hand.

Every engine works on buffers bound once, on one stream. Within a pass nothing but the frames in and the wanted frames
out crosses to the host, and nothing waits before its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from thfm_ros.engine.backends.cuda import Cuda, DeviceMemory
from thfm_ros.engine.backends.tensorrt_executor import Executor, as_float32, bfloat16, deserialise
from thfm_ros.engine.build_trt import because, error_log, load_tensorrt
from thfm_ros.engine.device import check_device, current_gpu, platform_name
from thfm_ros.engine.manifest import Manifest
from thfm_ros.engine.results import Prediction, keypoints_of
from thfm_ros.engine.runtime import StageRuntime, bundle_prompts, sparse_prompt, task_stages
from thfm_ros.engine.stage_table import FEATURES, TensorSpec, base_name
from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.paths import optional_cache_folder
from thfm_ros.tasks import get_task

ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1}


class TensorRT(StageRuntime):
    """A bundle's engines on the first GPU."""

    def __init__(self, manifest: Manifest) -> None:
        if manifest.engine is None:
            raise UserError(f"{manifest.root}: expected a bundle for TensorRT, found none; rebuild: {manifest.rebuild}")
        self.trt = load_tensorrt(manifest.engine.flavor)
        gpu = current_gpu()
        if gpu is None:
            raise UserError(f"{manifest.engine.flavor} needs an NVIDIA GPU and its driver, found none")
        check_device(manifest, self.trt.__version__, gpu.capability, platform_name())
        info = {
            "backend": "tensorrt",
            "flavor": manifest.engine.flavor,
            "version": self.trt.__version__,
            "device": gpu.name,
        }
        super().__init__(manifest, bundle_prompts(manifest), info)
        self.cuda = Cuda()
        self._log = error_log(self.trt)
        self._runtime = self.trt.Runtime(self._log)
        self._engines: dict[str, Any] = {}
        self._configs: dict[str, Any] = {}
        self._executors: dict[str, Executor] = {}
        self._bound: WeakKeyDictionary[Executor, int] = WeakKeyDictionary()  # bytes that each wants of the scratch
        self._scratch: DeviceMemory | None = None
        self._wires: WeakValueDictionary[str, DeviceMemory] = WeakValueDictionary()
        self._on_device: dict[str, DeviceMemory] = {}  # prompts
        cache = optional_cache_folder("tensorrt_rtx")
        self._jit_path = cache and cache / f"{gpu.capability}-{self.trt.__version__}.cache"
        self._jit: Any = None
        self._jit_saved = 0  # engines whose kernels are in the file

    # --- engines and memory

    def context(self, name: str) -> Any:
        """A new execution context of a stage, without memory of its own; its engine is loaded at first use."""
        if name not in self._engines:
            self._engines[name] = deserialise(self.trt, self._runtime, self.manifest, name)
        engine, strategy = self._engines[name], self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        # Full TensorRT has runtime configurations too since 10.13, without a cache and a strategy for graphs.
        if self.trt.__name__ == "tensorrt_rtx":
            if name not in self._configs:  # kernels are compiled here and now
                config = engine.create_runtime_config()
                self._jit = self._jit or self._load_jit(config)
                config.set_runtime_cache(self._jit)
                config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                config.set_execution_context_allocation_strategy(strategy)
                self._configs[name] = config
            context = engine.create_execution_context(self._configs[name])
        else:
            context = engine.create_execution_context(strategy)
        if context is None:
            raise UserError(f"TensorRT makes no context for {name}{because(self._log)}")
        return context

    def bind(self, name: str, buffers: Mapping[str, DeviceMemory]) -> Executor:
        """An executor of a stage. All share one scratch memory, because they run in turn on one stream."""
        capture = self.trt.__name__ == "tensorrt"  # TensorRT for RTX captures by itself
        executor = Executor(self.cuda, name, self.context(name), buffers, capture)
        self._bound[executor] = self._engines[name].device_memory_size_v2
        wanted, size = max(self._bound.values()), self._scratch.size if self._scratch else 0
        if self._scratch is not None and size >= wanted:
            executor.use(self._scratch)
            return executor
        try:
            self._share(wanted)
        except UserError:  # the others go on in as much as they had
            del self._bound[executor]
            try:
                self._share(size)
            except UserError:  # somebody else has it by now: all are bound again when they are used
                self._executors.clear()
                self._bound.clear()
            raise
        return executor

    def _share(self, size: int) -> None:
        """New scratch memory for all that are bound; UserError, and none, where it is not there."""
        self.cuda.synchronize()
        self._scratch = None  # freed before the larger one is taken
        self._scratch = self.cuda.allocate(size)
        for each in self._bound:
            each.use(self._scratch)

    def buffer(self, spec: TensorSpec) -> DeviceMemory:
        return self.cuda.allocate(int(np.prod(spec.shape)) * ITEM_SIZES[spec.dtype])

    def executor(self, name: str) -> Executor:
        """Of a whole clip's stage, on the pass's buffers: a stage reads where the one before it wrote."""
        if name not in self._executors:
            stage = self.manifest.stages[name]
            buffers = {t.name: self._wire(name, t) for t in (*stage.inputs, *stage.outputs)}
            self._executors[name] = self.bind(name, buffers)
        return self._executors[name]

    def _wire(self, name: str, spec: TensorSpec) -> DeviceMemory:
        base, suffix = base_name(name), name.removeprefix(base_name(name))
        key = f"{name}.{spec.name}"
        if spec.name.startswith(FEATURES) or (spec.name == "latents" and base == "encode"):
            key = spec.name
        elif spec.name == "latents" and base in ("transform", "keypoints") and spec.shape[0] == 1:
            key = spec.name  # of a batch they are copies
        elif (base, spec.name) in (("transform", "target"), ("decode", "latents")):
            key = f"target{suffix}"
        buffer = self._wires.get(key)
        if buffer is None:
            buffer = self._wires[key] = self.buffer(spec)
        return buffer

    # --- running

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Through pinned memory; every copy and the run itself in order on one stream."""
        self.cuda.activate()
        executor, specs = self.executor(stage), self.manifest.stages[stage]
        executor.shown = ()
        for spec in specs.inputs:
            self.upload(spec, inputs[spec.name], executor.buffers[spec.name])
        executor()
        hosts = {t.name: self.download(t, executor.buffers[t.name]) for t in specs.outputs}
        self.cuda.synchronize()
        return {t.name: as_float32(hosts[t.name], t) for t in specs.outputs}

    def stage_ms(self, stage: str, feeds: Mapping[str, np.ndarray]) -> float:
        """Of one run, as in a pass: a graph where there is one, its inputs on the GPU before it begins."""
        self.cuda.activate()
        self.cuda.forget_marks()
        executor, inputs = self.executor(stage), self.fed(stage, feeds)
        executor.shown = ()
        for spec in self.manifest.stages[stage].inputs:
            self.upload(spec, inputs[spec.name], executor.buffers[spec.name])
        marks: list[tuple[str, Any, Any]] = []
        with self._timed(stage, marks):
            executor()
        self.cuda.synchronize()
        return sum(self.cuda.elapsed_ms(begin, end) for _, begin, end in marks)

    def predict(self, frames: np.ndarray, tasks: Sequence[str], first: Mapping[str, int] | None = None) -> Prediction:
        """As the base class, with everything in between staying on the GPU; times are the GPU's own.

        The arrays lie in pinned memory, which is used again once nothing refers to them.
        """
        self._check_tasks(tasks)
        self.require(task_stages(self.manifest, tasks))
        dense = [t for t in tasks if get_task(t).kind == "dense"]
        sparse = [t for t in tasks if get_task(t).kind == "sparse"]
        self.cuda.activate()
        self.cuda.forget_marks()
        marks: list[tuple[str, Any, Any]] = []
        self._begin(frames)
        with self._timed("encode", marks):
            self.executor("encode")()
        points: dict[str, np.ndarray] = {}
        if sparse:
            keypoints = self.executor("keypoints")
            self._show(keypoints, [sparse_prompt(sparse)])
            with self._timed("transform", marks):
                keypoints()
            outputs = self.manifest.stages["keypoints"].outputs
            points = {t.name: self.download(t, keypoints.buffers[t.name]) for t in outputs}
        videos: dict[str, np.ndarray] = {}
        done, decoders = 0, self.manifest.variants("decode")
        for count, name in self.plan("transform", len(dense)):
            batch = dense[done : done + count]
            with self._timed("transform", marks):
                self._transform(self.executor(name), batch)
            decode = self.executor(decoders[count])
            with self._timed("decode", marks):
                decode()
            for index, task in enumerate(batch):
                videos[task] = self._frames_of(decode, index, (first or {}).get(task, 0))
            done += count
        self.cuda.synchronize()
        times = dict.fromkeys(("encode", "transform", "decode"), 0.0)
        for kind, begin, end in marks:
            times[kind] += self.cuda.elapsed_ms(begin, end)
        self._save_jit()
        found = keypoints_of(points)[0] if sparse else None
        return Prediction({t: v.transpose(1, 2, 3, 0) for t, v in videos.items()}, found, times)

    def _begin(self, frames: np.ndarray) -> None:
        """The frames to the GPU."""
        encode, (spec,) = self.executor("encode"), self.manifest.stages["encode"].inputs
        self.upload(spec, self.fed("encode", {"frames": frames[None]})["frames"], encode.buffers[spec.name])

    def _transform(self, executor: Executor, tasks: Sequence[str]) -> None:
        """One transform stage for `tasks`; a batch has the latents once for each."""
        self._show(executor, tasks)
        if len(tasks) > 1:
            latents, all_ = self.executor("encode").buffers["latents"], executor.buffers["latents"]
            for index in range(len(tasks)):
                self.cuda.copy(all_.address + index * latents.size, latents.address, latents.size)
        executor()

    def _show(self, executor: Executor, tasks: Sequence[str]) -> None:
        """The tasks' prompts, which cross to the GPU once and are copied there where others were before."""
        if executor.shown == tuple(tasks):
            return
        for index, task in enumerate(tasks):
            if task not in self._on_device:
                prompt = self.prompts[task]
                self._on_device[task] = self.cuda.allocate(prompt.nbytes)
                self.upload(TensorSpec("prompt", prompt.shape), prompt, self._on_device[task])
            prompt_ = self._on_device[task]
            self.cuda.copy(executor.buffers["prompt"].address + index * prompt_.size, prompt_.address, prompt_.size)
        executor.shown = tuple(tasks)

    def _frames_of(self, decode: Executor, index: int, first: int) -> np.ndarray:
        """(3, T - first, H, W) of one task of a batch, there once the stream is synchronised."""
        m = self.manifest
        frame = 4 * m.height * m.width
        host = self.cuda.pinned(3 * (m.frames - first) * frame).reshape(3, -1)
        for channel in range(3):
            start = (3 * index + channel) * m.frames + first
            self.cuda.download(host[channel], decode.buffers["video"].address + start * frame)
        return host.view(np.float32).reshape(3, m.frames - first, m.height, m.width)

    @contextmanager
    def _timed(self, kind: str, marks: list[tuple[str, Any, Any]]) -> Iterator[None]:
        begin = self.cuda.mark()
        yield
        marks.append((kind, begin, self.cuda.mark()))

    def upload(self, spec: TensorSpec, value: np.ndarray, buffer: DeviceMemory) -> None:
        """Copies at once to pinned memory, and on the stream to the GPU; in the tensor's type."""
        host = self.cuda.pinned(buffer.size)
        if spec.dtype == "bfloat16":
            host.view(np.uint16)[:] = bfloat16(value).ravel()
        else:
            np.copyto(host.view(spec.dtype).reshape(spec.shape), value.reshape(spec.shape), casting="unsafe")
        self.cuda.upload(buffer.address, host)

    def download(self, spec: TensorSpec, buffer: DeviceMemory) -> np.ndarray:
        """Pinned memory that holds the buffer once the stream is synchronised; bfloat16 as its bits."""
        host = self.cuda.pinned(buffer.size)
        self.cuda.download(host, buffer.address)
        return host.view("uint16" if spec.dtype == "bfloat16" else spec.dtype).reshape(spec.shape)

    def prepare(self, stage: str) -> None:
        self.cuda.activate()
        self.executor(stage)

    def unload(self, stage: str) -> None:
        for held in (self._executors, self._configs, self._engines):
            held.pop(stage, None)

    def close(self) -> None:
        self.cuda.activate()
        self._save_jit()
        for held in (self._executors, self._configs, self._engines, self._on_device):
            held.clear()
        self._scratch = None
        self.cuda.close()
        super().close()

    # --- kernels that TensorRT for RTX compiled on this machine

    def _load_jit(self, config: Any) -> Any:
        cache = config.create_runtime_cache()
        if self._jit_path is not None and self._jit_path.exists():
            cache.deserialize(self._jit_path.read_bytes())
        return cache

    def _save_jit(self) -> None:
        """After every pass with new engines, because a robot is switched off and not closed."""
        if self._jit is None or self._jit_path is None or self._jit_saved == len(self._configs):
            return
        self._jit_saved = len(self._configs)
        try:
            with atomic(self._jit_path) as temporary:
                temporary.write_bytes(self._jit.serialize())
        except OSError:
            return  # only the next start is slower


def open_runtime(manifest: Manifest, threads: int) -> TensorRT:
    """UserError where the package, the GPU, the engines or the versions do not fit."""
    return TensorRT(manifest)
