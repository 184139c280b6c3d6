"""`thfm build`: ONNX to TensorRT engines, with one code for full TensorRT and TensorRT for RTX.

Every network is built strongly typed: the precision is that of the exported model. TensorRT for RTX compiles for
listed compute capabilities and needs no GPU; full TensorRT compiles for the GPU it runs on. A stage is built in a
process of its own, so that its memory is returned, and being killed for memory is not confused with other failures.
This file, run as a program, is that process.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thfm_ros import processes
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.device import available_memory_mb, current_gpu, platform_name
from thfm_ros.engine.manifest import EngineInfo, Manifest, Stage, file_entry, write_manifest
from thfm_ros.engine.stage_table import WHOLE_CLIP, WINDOWS, TensorSpec, base_name
from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.paths import optional_cache_folder

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
OLDEST = (10, 3)
WEIGHTS_TIMES = 3.2  # of an ONNX file's size: parsed, packed and serialised; measured with the builder of RTX
BUILDER_MB = 512  # what a builder takes besides the weights and its workspace
JETSONS = ("orin", "thor")  # targets whose engines a workstation's GPU cannot make
MEMORY = re.compile(r"Total (Weights|Activation) Memory: (\d+) bytes")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """An engine and what its network takes and gives, as the parser understood the ONNX file.

    weights, scratch: bytes that it will take on a GPU, as the builder says; 0 where it does not.
    """

    engine: Any  # memoryview-able
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    version: str
    weights: int = 0
    scratch: int = 0


def load_tensorrt(flavor: str) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`; UserError where it is missing."""
    try:
        return importlib.import_module(flavor)
    except (ImportError, OSError) as error:
        hint = (
            "pip install --no-deps tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs tensorrt-rtx-cu13"
            if flavor == "tensorrt_rtx"
            else "it comes with JetPack, or from NVIDIA's package index"
        )
        raise UserError(f"expected the package {flavor}, found {error}: {hint}") from None


def check_version(flavor: str, version: str) -> None:
    """UserError for a full TensorRT that would build another network without a word."""
    numbers = tuple(int(n) for n in version.split(".")[:2])
    if flavor == "tensorrt" and numbers < OLDEST:
        raise UserError(
            f"expected TensorRT {OLDEST[0]}.{OLDEST[1]} or newer, whose networks are strongly typed (JetPack 6.1), "
            f"found {version}: update it"
        )


def compile_onnx(
    path: Path,
    flavor: str,
    compute_capabilities: tuple[str, ...] = (),
    workspace_mb: int | None = None,
    timing_cache: Path | None = None,
    tf32: bool = False,
    listen: Report | None = None,
) -> Built:
    """One ONNX file to one engine. UserError with TensorRT's own words where it parses or builds nothing.

    compute_capabilities: of tensorrt_rtx, such as SM89. timing_cache: of full TensorRT; makes later builds faster.
    listen: hears all that the builder says, the engine's layers among it.
    """
    trt = load_tensorrt(flavor)
    check_version(flavor, trt.__version__)
    logger = error_log(trt, listen)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 11 and TensorRT for RTX are always strongly typed; 10 needs the flag.
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    if network is None:
        raise UserError(f"{flavor}: expected an empty network, found none{because(logger)}")
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(str(parser.get_error(i)).strip() for i in range(parser.num_errors))
        raise UserError(f"{flavor} cannot parse {path}: {_one_line(errors) or 'no reason given'}")
    inputs = _specs(network.num_inputs, network.get_input)
    outputs = _specs(network.num_outputs, network.get_output)
    config = builder.create_builder_config()
    if config is None:
        raise UserError(f"{flavor}: expected a builder configuration, found none{because(logger)}")
    if listen is not None:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default; a stage in fp32 is one because it needs it
    # Nano's small kernels spend more time on waiting for each other's streams than they gain by running side by side.
    config.max_aux_streams = 0
    if workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    if compute_capabilities:
        _set_targets(trt, config, flavor, compute_capabilities)
    cache = None
    if timing_cache is not None and flavor == "tensorrt":
        cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.exists() else b"")
        if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another version or GPU: start anew
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserError(f"{flavor} built nothing from {path} for {_targets(compute_capabilities)}{because(logger)}")
    if cache is not None and timing_cache is not None:
        _write(timing_cache, config.get_timing_cache().serialize())
    memory = logger.memory
    return Built(engine, inputs, outputs, trt.__version__, memory["Weights"], memory["Activation"])


def _set_targets(trt: Any, config: Any, flavor: str, wanted: tuple[str, ...]) -> None:
    if not hasattr(config, "set_compute_capability"):
        raise UserError(
            f"{flavor} builds only for the GPU it runs on: expected no compute capabilities, found {wanted}"
        )
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        member = trt.ComputeCapability.__members__.get(name)
        if member is None or not config.set_compute_capability(member, index):
            raise UserError(
                f"{flavor} {trt.__version__}: expected compute capabilities of {', '.join(known)}, found {name}"
            )


def _specs(count: int, get: Callable[[int], Any]) -> tuple[TensorSpec, ...]:
    tensors = [get(i) for i in range(count)]
    return tuple(TensorSpec(t.name, tuple(t.shape), DTYPES[t.dtype.name]) for t in tensors)


def error_log(trt: Any, listen: Report | None = None) -> Any:
    """A logger that keeps errors for the message; TensorRT would print them and return None. And what memory an engine
    will take, which the builder says in passing."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.memory = {"Weights": 0, "Activation": 0}

        def log(self, severity: Any, message: str) -> None:
            if found := MEMORY.match(message):
                self.memory[found[1]] = int(found[2])
            if listen is not None:
                listen(message)
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def because(logger: Any) -> str:
    return f": {_one_line(logger.errors[-1])}" if logger.errors else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


def _targets(wanted: tuple[str, ...]) -> str:
    return ", ".join(wanted) or "this GPU"


# --- a whole bundle


def build_bundle(root: str | Path, force: bool = False, report: Report = lambda what: None) -> Manifest:
    """Compiles every stage of a bundle that has no engine yet (`force`: of all), offline, on this machine.

    The manifest is rewritten after every stage, so a build that was interrupted goes on where it stopped.
    """
    manifest = open_bundle(root)
    info = manifest.engine
    if info is None:
        raise UserError(f"{root}: expected a bundle for TensorRT, found one for {', '.join(manifest.backends)}")
    info = dataclasses.replace(info, **_this_machine(info))
    assert manifest.engine is not None
    if force or (manifest.engine.version and manifest.engine != info):  # no engine of another machine is worth keeping
        blank = {name: dataclasses.replace(stage, engine=None) for name, stage in manifest.stages.items()}
        manifest = dataclasses.replace(manifest, stages=blank)
        write_manifest(manifest)  # before the first engine is overwritten, whose digest it would have otherwise
    for name, stage in manifest.stages.items():
        if stage.engine is None:
            report(f"build {name}")
            done = build_stage(manifest, name, info)
            manifest = dataclasses.replace(manifest, stages={**manifest.stages, name: done}, engine=info)
            write_manifest(manifest)
    return open_bundle(root)


def builds_here(target: str, flavor: str) -> bool:
    """Whether this machine can make engines for a recipe's target: full TensorRT builds for the GPU it runs on."""
    foreign = target in JETSONS and platform_name() == "Linux-x86_64"
    if flavor == "tensorrt" and (foreign or current_gpu() is None):
        return False
    try:
        load_tensorrt(flavor)
    except UserError:
        return False
    return True


def _this_machine(info: EngineInfo) -> dict[str, Any]:
    version = load_tensorrt(info.flavor).__version__
    capabilities = info.compute_capabilities
    if info.flavor == "tensorrt":
        gpu = current_gpu()
        if gpu is None:
            raise UserError("full TensorRT builds for the GPU it runs on: expected an NVIDIA GPU, found none")
        capabilities = (gpu.capability,)
    return {"version": version, "compute_capabilities": capabilities, "platform": platform_name()}


def build_stage(manifest: Manifest, name: str, info: EngineInfo) -> Stage:
    """One stage in a child process; its engine beside its ONNX file."""
    stage = manifest.stages[name]
    if stage.onnx is None:
        raise UserError(f"{manifest.root}: expected the ONNX file of {name}, found none; rebuild: {manifest.rebuild}")
    size = stage.onnx.size + (stage.onnx_data.size if stage.onnx_data else 0)
    workspace = workspace_limit(name, size, info.workspace_mb, available_memory_mb())
    engine = manifest.root / f"{name}.engine"
    request = {
        "onnx": str(manifest.path(stage.onnx)),
        "flavor": info.flavor,
        "compute_capabilities": info.compute_capabilities if info.flavor == "tensorrt_rtx" else (),
        "workspace_mb": workspace,
        "engine": str(engine),
        "tf32": stage.precision == "tf32",
    }
    done = processes.run("thfm_ros.engine.build_trt", json.dumps(request))
    if done.returncode in (-9, 137):
        room = builder_mb(size) + workspace
        raise UserError(
            f"the builder of {name} was killed, as the kernel does when memory runs out: expected room for "
            f"{room} MB, found {available_memory_mb()} MB free now: close programs, add swap, or lower workspace_mb in "
            "the recipe; finished stages are kept, so run thfm build again"
        )
    reply = _last_line(done.stdout)
    if done.returncode != 0 or reply is None:
        reason = (reply or {}).get("error") or _one_line(done.stderr[-400:]) or f"exit code {done.returncode}"
        raise UserError(f"building {name} failed: {reason}")
    check_network(manifest, name, reply)
    memory = {what: reply[what] for what in ("weights", "scratch")}
    return dataclasses.replace(stage, engine=file_entry(manifest.root, engine), **memory)


def gpu_memory(manifest: Manifest) -> dict[str, int]:
    """Bytes on the GPU of a bundle with engines: weights, what lies between the layers (once for all stages, which
    run in turn) and the buffers of whole clips. 0 of what the builder did not say."""
    stages = {name: s for name, s in manifest.stages.items() if base_name(name) in (*WHOLE_CLIP, WINDOWS)}
    outputs = {(name, t.name): t for name, s in stages.items() for t in s.outputs}
    return {
        "weights": sum(s.weights for s in stages.values()),
        "scratch": max((s.scratch for s in stages.values()), default=0),
        "buffers": sum(4 * math.prod(t.shape) for t in outputs.values()),
    }


def check_network(manifest: Manifest, name: str, reply: dict[str, Any]) -> None:
    """The parsed network takes and gives what the manifest says."""
    stage = manifest.stages[name]
    for side, specs in (("inputs", stage.inputs), ("outputs", stage.outputs)):
        expected = [[s.name, list(s.shape), s.dtype] for s in specs]
        found = [[s["name"], list(s["shape"]), s["dtype"]] for s in reply[side]]
        if found != expected:
            raise UserError(
                f"{manifest.root}: {side} of the parsed network {name}: expected {expected}, found {found}; "
                f"rebuild: {manifest.rebuild}"
            )


def builder_mb(size: int) -> int:
    """What a builder takes besides its workspace, for an ONNX file of `size` bytes with its weights."""
    return round(WEIGHTS_TIMES * (size >> 20)) + BUILDER_MB


def workspace_limit(name: str, size: int, wanted_mb: int | None, free_mb: int) -> int:
    """Workspace in MB that leaves room for the weights (several times) and the builder itself."""
    taken = builder_mb(size)
    room = free_mb - taken
    if room < 64:
        raise UserError(
            f"building {name}: expected {taken + 64} MB of free memory, found {free_mb}: close programs or add swap"
        )
    return min(room, wanted_mb) if wanted_mb is not None else room // 2


def _last_line(stdout: str) -> dict[str, Any] | None:
    lines = stdout.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else None
    except ValueError:
        return None


def _write(path: Path, data: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def main() -> int:
    """The child process: a JSON request as the argument, a JSON reply as the last line."""
    request = json.loads(sys.argv[1])
    cache = optional_cache_folder("tensorrt")
    try:
        built = compile_onnx(
            Path(request["onnx"]),
            request["flavor"],
            tuple(request["compute_capabilities"]),
            request["workspace_mb"],
            cache and cache / "timing.cache",
            request["tf32"],
        )
        _write(Path(request["engine"]), built.engine)
    except UserError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    specs = {"inputs": built.inputs, "outputs": built.outputs}
    reply = {side: [dataclasses.asdict(s) for s in given] for side, given in specs.items()}
    print(json.dumps({**reply, "weights": built.weights, "scratch": built.scratch}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
