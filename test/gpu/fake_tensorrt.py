"""TensorRT without TensorRT: a module that has what its real bindings have and nothing else, over a toy network.

Classes, members and signatures are those of `tensorrt_surface`. A call that the real bindings would refuse is refused
here: an attribute they lack, a missing or unknown argument, an argument of another type.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from tensorrt_surface import Surface
from toy_network import ToyStage

from thfm_ros.engine.build_trt import DTYPES
from thfm_ros.engine.stage_table import TensorSpec

NAMES = {ours: theirs for theirs, ours in DTYPES.items()}


class Member(int):
    """Of an enumeration."""

    def __new__(cls, kind: str, name: str, value: int) -> Member:
        self = super().__new__(cls, value)
        self.kind, self.name = kind, name
        return self

    def __hash__(self) -> int:
        return hash((self.kind, self.name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and (self.kind, self.name) == (other.kind, other.name)


def enumeration(kind: str, names: list[str]) -> Any:
    members = {name: Member(kind, name, index) for index, name in enumerate(names)}
    return type(kind, (), {**members, "__members__": MappingProxyType(members)})


class Bound:
    """An object of the bindings' class `kind`, made by `inside`."""

    def __init__(self, surface: Surface, kind: str, inside: Any) -> None:
        object.__setattr__(self, "_parts", (surface, kind, inside))

    def __getattr__(self, name: str) -> Any:
        surface, kind, inside = self._parts
        described = surface[kind]
        if name in described["properties"]:
            return getattr(inside, name)
        if name in described["signatures"]:
            return lambda *a, **k: getattr(inside, name)(*a, **checked(surface, kind, name, a, k))
        raise AttributeError(f"'{kind}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        surface, kind, inside = self._parts
        if name not in surface[kind]["properties"]:
            raise AttributeError(f"'{kind}' object has no attribute '{name}'")
        setattr(inside, name, value)


def checked(surface: Surface, kind: str, name: str, positional: tuple, named: dict[str, Any]) -> dict[str, Any]:
    """The named arguments, where one of the method's signatures takes all arguments; TypeError otherwise."""
    problems = []
    for signature in surface[kind]["signatures"][name]:
        problem = _problem(surface, signature, positional, named)
        if not problem:
            return named
        problems.append(f"{signature}: {problem}")
    raise TypeError(f"incompatible arguments of {kind}.{name}: {'; '.join(problems)}")


def _problem(surface: Surface, signature: str, positional: tuple, named: dict[str, Any]) -> str:
    inner = re.match(r"\w+\((.*)\)( ->.*)?$", signature)
    assert inner, signature
    parameters = [p.strip() for p in re.split(r",(?![^\[<(]*[\]>)])", inner[1])][1:]  # without self
    names = [p.split(":")[0] for p in parameters]
    if len(positional) > len(names):
        return f"{len(positional)} arguments"
    given = dict(zip(names, positional, strict=False)) | named
    if unknown := set(given) - set(names):
        return f"unknown {unknown}"
    for parameter, name in zip(parameters, names, strict=True):
        annotation, _, default = parameter.partition(":")[2].partition("=")
        if name not in given:
            if not default:
                return f"{name} is missing"
        elif not _fits(surface, annotation.strip(), given[name]) and not (given[name] is None and "None" in default):
            return f"{name} is no {annotation.strip()}"
    return ""


def _fits(surface: Surface, annotation: str, value: Any) -> bool:
    kind = re.split(r"[.:]", annotation)[-1]
    plain = {"int": int, "SupportsInt": int, "str": str, "bool": bool, "float": float}
    if kind in plain:
        return isinstance(value, plain[kind]) and (kind == "bool" or not isinstance(value, bool))
    if kind.lower() == "buffer":
        return isinstance(value, (bytes, memoryview, np.memmap))
    if kind == "ILogger":
        return any(c.__name__ == "ILogger" for c in type(value).__mro__)
    if isinstance(value, Member):
        return value.kind == kind
    return isinstance(value, Bound) and value._parts[1] == kind


class FakeTensorRT(ModuleType):
    """The module `tensorrt` or `tensorrt_rtx`.

    stages: what an engine computes, by the engine's bytes. scratch: bytes by stage. driver: the fake CUDA driver.
    refuses: what fails, of "context", "address", "run", "deserialise", "build".
    """

    def __init__(
        self, surface: Surface, flavor: str, driver: Any, stages: Mapping[str, ToyStage], scratch: Mapping[str, int]
    ) -> None:
        super().__init__(flavor)
        self.surface, self.driver, self.stages, self.scratch = surface, driver, stages, scratch
        self.refuses: set[str] = set()
        self.built: list[tuple[str, dict[str, Any]]] = []  # engines, with their builder's settings
        self.__version__ = surface["__version__"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.surface:
            raise AttributeError(f"module has no attribute '{name}'")
        described = self.surface[name]
        if described["members"]:
            value = enumeration(name, described["members"])
        elif name in ("ILogger", "Logger"):
            value = type("ILogger", (), {"Severity": enumeration("Severity", described_severities(self.surface))})
        else:
            inside = {"Runtime": _Runtime, "Builder": _Builder, "OnnxParser": _Parser}[name]
            value = self._constructor(name, inside)
        setattr(self, name, value)
        return value

    def _constructor(self, kind: str, inside: type) -> Any:
        def make(*positional: Any, **named: Any) -> Bound:
            checked(self.surface, kind, "__init__", positional, named)
            return self.bound(kind, inside(self, *positional, **named))

        return make

    def bound(self, kind: str, inside: Any) -> Bound:
        return Bound(self.surface, kind, inside)


def described_severities(surface: Surface) -> list[str]:
    return surface["ILogger"]["nested"]["Severity"]["members"]


# --- running


class _Runtime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def get_engine_validity(self, data: bytes) -> tuple[Any, int]:
        return self.trt.EngineValidity.VALID, 0

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        if "deserialise" in self.trt.refuses:
            return None
        return self.trt.bound("ICudaEngine", _Engine(self.trt, bytes(data).decode(), self.logger))


class _Engine:
    def __init__(self, trt: FakeTensorRT, name: str, logger: Any) -> None:
        self.trt, self.name, self.logger = trt, name, logger
        self.module = trt.stages[name]
        self.tensors = [*self.module.inputs, *self.module.outputs]
        self.num_io_tensors = len(self.tensors)
        self.device_memory_size_v2 = trt.scratch[name]

    def _spec(self, name: str) -> TensorSpec:
        return next(t for t in self.tensors if t.name == name)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._spec(name).shape

    def get_tensor_dtype(self, name: str) -> Member:
        return self.trt.DataType.__members__[NAMES[self._spec(name).dtype]]

    def create_runtime_config(self) -> Any:
        return self.trt.bound("IRuntimeConfig", _Config(self.trt))

    def create_execution_context(self, how: Any) -> Any:
        if "context" in self.trt.refuses:
            self.logger.log(self.trt.ILogger.Severity.ERROR, "out of\n memory")
            return None
        strategy = how if isinstance(how, Member) else how._parts[2].strategy
        if isinstance(how, Bound) and self.trt.__name__ == "tensorrt_rtx":
            how._parts[2].cache.kernels.add(self.name)
        return self.trt.bound("IExecutionContext", _Context(self, strategy.name))


class _Config:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt, self.cache, self.cuda_graph_strategy = trt, _Cache(), None
        self.strategy = trt.ExecutionContextAllocationStrategy.STATIC

    def create_runtime_cache(self) -> Any:
        return self.trt.bound("IRuntimeCache", _Cache())

    def set_runtime_cache(self, cache: Bound) -> bool:
        self.cache = cache._parts[2]
        return True

    def set_execution_context_allocation_strategy(self, strategy: Member) -> None:
        self.strategy = strategy


class _Cache:
    def __init__(self) -> None:
        self.kernels: set[str] = set()

    def serialize(self) -> bytes:
        return " ".join(sorted(self.kernels)).encode()

    def deserialize(self, data: bytes) -> bool:
        self.kernels |= set(bytes(data).decode().split())
        return True


class _Context:
    """Runs the stage when the stream gets there, and fills its scratch memory with rubbish."""

    def __init__(self, engine: _Engine, strategy: str) -> None:
        self.engine, self.trt, self.strategy = engine, engine.trt, strategy
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)
        self.ready = False
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: self._run(dict(self.addresses), self.memory))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if "address" in self.trt.refuses:
            return False
        assert name in {t.name for t in self.engine.tensors}
        self.addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self.strategy == "USER_MANAGED"
        assert memory % 256 == 0
        assert size >= self.engine.device_memory_size_v2
        self.memory = (memory, size)

    def execute_async_v3(self, stream_handle: int) -> bool:
        short = self.strategy == "USER_MANAGED" and self.memory[1] < self.engine.device_memory_size_v2
        if "run" in self.trt.refuses or short or len(self.addresses) < len(self.engine.tensors):
            return False
        driver, handle = self.trt.driver, ctypes.c_void_p(stream_handle)
        captured = driver.fake_enqueue(handle, self.call, None)
        if captured and not (self.ready and self.trt.__name__ == "tensorrt"):
            driver.fake_break_capture(handle)  # it sets itself up in its first run
        self.ready = True
        return True

    def _run(self, addresses: dict[str, int], memory: tuple[int, int]) -> None:
        stage = self.engine.module
        results = stage([loaded(addresses[t.name], t) for t in stage.inputs])
        for spec, result in zip(stage.outputs, results, strict=True):
            stored(addresses[spec.name], spec, result)
        ctypes.memset(memory[0], 0x55, memory[1])


def _bits(address: int, spec: TensorSpec) -> np.ndarray:
    kind = np.dtype("uint16" if spec.dtype == "bfloat16" else spec.dtype)
    raw = (ctypes.c_char * (int(np.prod(spec.shape)) * kind.itemsize)).from_address(address)
    return np.frombuffer(raw, kind).reshape(spec.shape)


def loaded(address: int, spec: TensorSpec) -> np.ndarray:
    bits = _bits(address, spec).copy()
    return (bits.astype(np.uint32) << 16).view(np.float32) if spec.dtype == "bfloat16" else bits


def stored(address: int, spec: TensorSpec, value: np.ndarray) -> None:
    """The values have to be such that the type holds them."""
    value = np.ascontiguousarray(value)
    _bits(address, spec)[...] = value.view(np.uint32) >> 16 if spec.dtype == "bfloat16" else value


# --- building


class _Builder:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def create_network(self, flags: int = 0) -> Any:
        return self.trt.bound("INetworkDefinition", _Network(self.trt, flags))

    def create_builder_config(self) -> Any:
        return self.trt.bound("IBuilderConfig", _BuilderConfig(self.trt))

    def build_serialized_network(self, network: Bound, config: Bound) -> Any:
        if "build" in self.trt.refuses:
            self.logger.log(self.trt.ILogger.Severity.ERROR, "no\n kernel")
            return None
        inside = network._parts[2]
        self.trt.built.append((inside.name, {"network": inside.flags, **config._parts[2].settings()}))
        return memoryview(inside.name.encode())


class _Network:
    def __init__(self, trt: FakeTensorRT, flags: int) -> None:
        self.trt, self.flags, self.name = trt, flags, ""

    def _tensor(self, spec: TensorSpec) -> Any:
        return self.trt.bound("ITensor", _Tensor(self.trt, spec))

    @property
    def num_inputs(self) -> int:
        return len(self.trt.stages[self.name].inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.trt.stages[self.name].outputs)

    def get_input(self, index: int) -> Any:
        return self._tensor(self.trt.stages[self.name].inputs[index])

    def get_output(self, index: int) -> Any:
        return self._tensor(self.trt.stages[self.name].outputs[index])


class _Tensor:
    def __init__(self, trt: FakeTensorRT, spec: TensorSpec) -> None:
        self.name, self.shape, self.dtype = spec.name, spec.shape, trt.DataType.__members__[NAMES[spec.dtype]]


class _Parser:
    def __init__(self, trt: FakeTensorRT, network: Bound, logger: Any) -> None:
        self.network, self.num_errors = network._parts[2], 0

    def parse_from_file(self, model: str) -> bool:
        self.network.name = model.rpartition("/")[2].removesuffix(".onnx")
        return True


class _BuilderConfig:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt, self.flags, self.limits, self.cache = trt, {"TF32"}, {}, b""
        self.num_compute_capabilities, self.max_aux_streams = 0, -1
        self.profiling_verbosity: Any = None
        self.capabilities: list[str] = []

    def settings(self) -> dict[str, Any]:
        return {
            "flags": set(self.flags), "limits": dict(self.limits), "cache": self.cache,
            "aux_streams": self.max_aux_streams, "capabilities": self.capabilities,
        }  # fmt: skip

    def set_flag(self, flag: Member) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Member) -> None:
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Member, pool_size: int) -> None:
        self.limits[pool.name] = pool_size

    def set_compute_capability(self, compute_capability: Member, index: int) -> bool:
        self.capabilities.append(compute_capability.name)
        return True

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        return self.trt.bound("ITimingCache", _TimingCache(bytes(serialized_timing_cache)))

    def set_timing_cache(self, cache: Bound, ignore_mismatch: bool) -> bool:
        if cache._parts[2].data == b"of another GPU" and not ignore_mismatch:
            return False
        self.cache = cache._parts[2].data
        return True

    def get_timing_cache(self) -> Any:
        return self.trt.bound("ITimingCache", _TimingCache(self.cache + b"."))


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> memoryview:
        return memoryview(self.data)
