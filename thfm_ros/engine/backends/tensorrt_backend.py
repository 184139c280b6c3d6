"""TensorRT engines on an NVIDIA GPU: full TensorRT and TensorRT for RTX. NEVER RUN: written without a GPU at hand.

torch lends memory, streams and CUDA graphs; every engine works on buffers bound once, on a stream of its own. Within a
pass nothing but the frames in and the results out crosses to the host. Engines are code: the bytes that are
deserialised are the bytes whose sha256 was checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from thfm_ros.engine.build_trt import DTYPES, load_tensorrt
from thfm_ros.engine.device import check_device, current_gpu, device_rebuild, platform_name
from thfm_ros.engine.manifest import IMAGE, Manifest, TensorSpec, is_cache
from thfm_ros.engine.results import Keypoints, Prediction, probabilities
from thfm_ros.engine.runtime import StageRuntime, bundle_prompts, sparse_prompt, task_stages
from thfm_ros.engine.streams import StageStream, changing, check_stream_input, check_stream_stages
from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.paths import optional_cache_folder
from thfm_ros.tasks import get_task


def deserialise(trt: Any, runtime: Any, manifest: Manifest, name: str) -> Any:
    """An ICudaEngine, after the sha256 of its bytes, TensorRT's own validity test and its inputs and outputs.

    trt: the module, `tensorrt` or `tensorrt_rtx`. runtime: a trt.Runtime.
    """
    stage, again = manifest.stages[name], f"rebuild: {device_rebuild(manifest)}"
    assert stage.engine is not None
    path = manifest.path(stage.engine)
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != stage.engine.sha256:
        raise UserError(f"{path} was changed: expected sha256 {stage.engine.sha256}, found {digest}; {again}")
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
    """One execution context of an engine, bound to buffers for good, replayed as a CUDA graph."""

    def __init__(self, owner: TensorRT, name: str, buffers: dict[str, Any]) -> None:
        self._torch, self._stream, self.buffers = owner.torch, owner.stream, buffers
        self._context = owner.context(name)
        self._graph: Any = None
        self._capture = owner.trt.__name__ == "tensorrt"  # TensorRT for RTX captures by itself
        self._name = name
        for tensor, buffer in buffers.items():
            if not self._context.set_tensor_address(tensor, buffer.data_ptr()):
                raise UserError(
                    f"TensorRT refuses the buffer '{tensor}' of {name}, {tuple(buffer.shape)} {buffer.dtype}"
                )

    def __call__(self) -> None:
        """Enqueues one run on the owner's stream; the caller synchronises."""
        if self._graph is not None:
            self._graph.replay()
            return
        self._enqueue()
        if self._capture:  # after the first run: TensorRT sets up lazily, which a capture must not record
            self._stream.synchronize()
            graph = self._torch.cuda.CUDAGraph()
            with self._torch.cuda.graph(graph, stream=self._stream):
                self._enqueue()
            self._graph = graph

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise RuntimeError(f"TensorRT could not run {self._name}")


class TensorRT(StageRuntime):
    """A bundle's engines on the first GPU."""

    def __init__(self, manifest: Manifest) -> None:
        assert manifest.engine is not None
        self.trt = load_tensorrt(manifest.engine.flavor)
        gpu = current_gpu()
        if gpu is None:
            raise UserError(f"{manifest.engine.flavor} needs an NVIDIA GPU and its driver, found none")
        check_device(manifest, self.trt.__version__, gpu.capability, platform_name())
        try:
            import torch
        except ImportError as error:
            raise UserError(f"the tensorrt backend needs a CUDA build of torch, found {error}") from None
        if not torch.cuda.is_available():
            raise UserError(f"the tensorrt backend needs a CUDA build of torch, found {torch.__version__}")
        info = {
            "backend": "tensorrt",
            "flavor": manifest.engine.flavor,
            "version": self.trt.__version__,
            "device": gpu.name,
        }
        super().__init__(manifest, bundle_prompts(manifest), info)
        self.torch = torch
        self.stream = torch.cuda.Stream()  # never the default stream, which would wait for everybody else's work
        self._runtime = self.trt.Runtime(self.trt.Logger(self.trt.Logger.ERROR))
        self._engines: dict[str, Any] = {}
        self._configs: dict[str, Any] = {}
        self._executors: dict[str, Executor] = {}
        self._pinned: dict[str, Any] = {}
        cache = optional_cache_folder("tensorrt_rtx")
        self._jit_path = cache and cache / f"{gpu.capability}-{self.trt.__version__}.cache"
        self._jit: Any = None

    def context(self, name: str) -> Any:
        """A new execution context of a stage; its engine is loaded at first use."""
        if name not in self._engines:
            engine = deserialise(self.trt, self._runtime, self.manifest, name)
            self._engines[name] = engine
            # TensorRT for RTX compiles its kernels here and now. Full TensorRT has runtime configurations too since
            # 10.13, without a cache and without a strategy for graphs.
            if self.trt.__name__ == "tensorrt_rtx":
                config = engine.create_runtime_config()
                self._jit = self._jit or self._load_jit(config)
                config.set_runtime_cache(self._jit)
                config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                self._configs[name] = config
        config = self._configs.get(name)
        engine = self._engines[name]
        context = engine.create_execution_context(config) if config else engine.create_execution_context()
        if context is None:
            raise UserError(f"TensorRT cannot make room for {name}: expected enough GPU memory, found too little")
        return context

    def buffer(self, spec: TensorSpec) -> Any:
        return self.torch.empty(spec.shape, dtype=getattr(self.torch, spec.dtype), device="cuda")

    def executor(self, name: str) -> Executor:
        if name not in self._executors:
            stage = self.manifest.stages[name]
            self._executors[name] = Executor(
                self, name, {t.name: self.buffer(t) for t in (*stage.inputs, *stage.outputs)}
            )
        return self._executors[name]

    def run(self, stage: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Through pinned memory; every copy and the run itself in order on one stream."""
        executor, specs = self.executor(stage), self.manifest.stages[stage]
        with self.torch.cuda.stream(self.stream):
            for spec, value in zip(specs.inputs, inputs, strict=True):
                self.upload(f"{stage}.{spec.name}", value, executor.buffers[spec.name])
            executor()
            hosts = [self.download(f"{stage}.{t.name}", executor.buffers[t.name]) for t in specs.outputs]
        self.stream.synchronize()
        return [host.float().numpy().copy() for host in hosts]

    def predict(self, video: np.ndarray, tasks: Sequence[str]) -> Prediction:
        """As the base class, with the latents staying on the GPU; times are the GPU's own."""
        m = self.manifest
        self._expect("video", (1, 3, m.frames, m.height, m.width), video)
        self._check_tasks(tasks)
        self.require(task_stages(m, tasks))
        dense = [t for t in tasks if get_task(t).kind == "dense"]
        sparse = [t for t in tasks if get_task(t).kind == "sparse"]
        marks: list[tuple[str, Any, Any]] = []
        results: dict[str, Any] = {}
        with self.torch.cuda.stream(self.stream):
            encode = self.executor("encode")
            self.upload("encode.video", video, encode.buffers["video"])
            self._timed("encode", encode, marks)
            latents = encode.buffers["latents"]
            if sparse:
                buffers = self.executor("keypoints").buffers
                self._show("keypoints", encode)
                self._transform("keypoints", latents, [sparse_prompt(sparse)], marks)
                results = {k: self.download(f"keypoints.{k}", buffers[k]) for k in ("xy", "xyz", "visibility")}
            done, decoders = 0, self.manifest.variants("decode")
            for count, name in self.plan("transform", len(dense)):
                target = self._transform(name, latents, dense[done : done + count], marks)
                decode = self.executor(decoders[count])
                decode.buffers["latents"].copy_(target)
                self._show(decoders[count], encode)
                self._timed("decode", decode, marks)
                for index, task in enumerate(dense[done : done + count]):
                    results[task] = self.download(f"video.{task}", decode.buffers["video"][index])
                done += count
        self.stream.synchronize()
        times = dict.fromkeys(("encode", "transform", "decode"), 0.0)
        for kind, begin, end in marks:
            times[kind] += begin.elapsed_time(end)
        arrays = {name: host.numpy().copy() for name, host in results.items()}
        keypoints = None
        if sparse:
            xy, xyz, logits = (arrays.pop(k)[0] for k in ("xy", "xyz", "visibility"))
            keypoints = Keypoints(xy, xyz, probabilities(logits))
        return Prediction({t: v.transpose(1, 2, 3, 0) for t, v in arrays.items()}, keypoints, times)

    def _transform(self, name: str, latents: Any, tasks: Sequence[str], marks: list[tuple[str, Any, Any]]) -> Any:
        """Runs one transform stage for `tasks`; its first output's buffer."""
        executor = self.executor(name)
        executor.buffers["latents"].copy_(latents.expand_as(executor.buffers["latents"]))
        prompt = np.stack([self.prompts[task] for task in tasks])
        self.upload(f"{name}.prompt", prompt, executor.buffers["prompt"])
        self._timed("transform", executor, marks)
        return executor.buffers[self.manifest.stages[name].outputs[0].name]

    def _show(self, name: str, encode: Executor) -> None:
        """Gives a stage what it sees of the clip beside its latents."""
        buffers = self.executor(name).buffers
        for spec in self.manifest.context(name):
            buffers[spec.name].copy_(encode.buffers["video" if spec.name == IMAGE else spec.name])

    def _timed(self, kind: str, executor: Executor, marks: list[tuple[str, Any, Any]]) -> None:
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(self.stream)
        executor()
        end.record(self.stream)
        marks.append((kind, begin, end))

    def upload(self, key: str, value: np.ndarray, buffer: Any) -> None:
        host = self._host(key, buffer)
        self.stream.synchronize()  # the copy before this one may still read the pinned memory
        host.copy_(self.torch.from_numpy(np.ascontiguousarray(value)))  # also casts caches that are not float32
        buffer.copy_(host, non_blocking=True)

    def download(self, key: str, buffer: Any) -> Any:
        """Pinned host memory that holds the buffer once the stream is synchronised."""
        host = self._host(key, buffer)
        host.copy_(buffer, non_blocking=True)
        return host

    def _host(self, key: str, buffer: Any) -> Any:
        if key not in self._pinned:
            self._pinned[key] = self.torch.empty(buffer.shape, dtype=buffer.dtype, pin_memory=True)
        return self._pinned[key]

    def prepare(self, stage: str) -> None:
        self.executor(stage)

    def unload(self, stage: str) -> None:
        for held in (self._executors, self._configs, self._engines):
            held.pop(stage, None)

    def stage_stream(self, base: str, constants: Sequence[np.ndarray] = ()) -> DeviceStream:
        return DeviceStream(self, base, constants)

    def close(self) -> None:
        if self._jit is not None:
            self._save_jit()
        for held in (self._executors, self._configs, self._engines, self._pinned):
            held.clear()
        super().close()

    def _load_jit(self, config: Any) -> Any:
        cache = config.create_runtime_cache()
        if self._jit_path is not None and self._jit_path.exists():
            cache.deserialize(self._jit_path.read_bytes())
        return cache

    def _save_jit(self) -> None:
        if self._jit_path is None:
            return
        try:
            with atomic(self._jit_path) as temporary:
                temporary.write_bytes(self._jit.serialize())
        except OSError:
            return  # only the next start is slower


class DeviceStream(StageStream):
    """Caches stay on the GPU in two sets: a step reads one and writes the other, never the same memory."""

    def __init__(self, runtime: TensorRT, base: str, constants: Sequence[np.ndarray] = ()) -> None:
        check_stream_stages(runtime, base)
        self._owner = runtime
        self._names = init, step = f"{base}_init", f"{base}_step"
        stages = runtime.manifest.stages
        sets = [[runtime.buffer(t) for t in stages[step].inputs if is_cache(t)] for _ in range(2)]

        def bind(name: str, reads: list[Any], writes: list[Any], data: dict[str, Any]) -> Executor:
            caches = iter([*reads, *writes])  # in the manifest's order: inputs, then outputs
            tensors = (*stages[name].inputs, *stages[name].outputs)
            return Executor(runtime, name, {t.name: next(caches) if is_cache(t) else data[t.name] for t in tensors})

        def data(name: str) -> dict[str, Any]:
            stage = stages[name]
            buffers = {t.name: runtime.buffer(t) for t in (*stage.inputs, *stage.outputs) if not is_cache(t)}
            with runtime.torch.cuda.stream(runtime.stream):
                for spec, value in zip(stage.inputs[1:], constants, strict=False):  # an image and caches follow
                    runtime.upload(f"stream.{name}.{spec.name}", value, buffers[spec.name])
            return buffers

        later = data(step)
        self._start = bind(init, [], sets[0], data(init))
        self._steps = (bind(step, sets[0], sets[1], later), bind(step, sets[1], sets[0], later))
        self._count = 0

    def reset(self) -> None:
        self._count = 0

    def advance(self, x: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        owner = self._owner
        name = self._names[min(self._count, 1)]
        check_stream_input(owner, name, x, *others)
        executor = self._start if self._count == 0 else self._steps[(self._count - 1) % 2]
        stage = owner.manifest.stages[name]
        with owner.torch.cuda.stream(owner.stream):
            for spec, value in zip(changing(stage), (x, *others), strict=True):
                owner.upload(f"stream.{name}.{spec.name}", value, executor.buffers[spec.name])
            executor()
            hosts = [
                owner.download(f"stream.{name}.{t.name}", executor.buffers[t.name])
                for t in stage.outputs
                if not is_cache(t)
            ]
        owner.stream.synchronize()
        self._count += 1
        return [host.numpy().copy() for host in hosts]


def open_runtime(manifest: Manifest, threads: int) -> TensorRT:
    """UserError where the package, the GPU, the engines or the versions do not fit."""
    return TensorRT(manifest)
