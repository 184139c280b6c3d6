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
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thfm_ros import processes
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.device import available_memory_mb, current_gpu, platform_name
from thfm_ros.engine.manifest import EngineInfo, FileEntry, Manifest, TensorSpec, file_entry, write_manifest
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
BUILDER_MB = 512  # what a builder takes besides the weights and its workspace
Report = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """An engine and what its network takes and gives, as the parser understood the ONNX file."""

    engine: Any  # memoryview-able
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    version: str


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


def compile_onnx(
    path: Path,
    flavor: str,
    compute_capabilities: tuple[str, ...] = (),
    workspace_mb: int | None = None,
    timing_cache: Path | None = None,
    tf32: bool = False,
) -> Built:
    """One ONNX file to one engine. UserError with TensorRT's own words where it parses or builds nothing.

    compute_capabilities: of tensorrt_rtx, such as SM89. timing_cache: of full TensorRT; makes later builds faster.
    """
    trt = load_tensorrt(flavor)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    # TensorRT 11 and TensorRT for RTX are always strongly typed; 10 needs the flag.
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    if network is None:
        raise UserError(f"{flavor}: expected an empty network, found none{_because(logger)}")
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(str(parser.get_error(i)).strip() for i in range(parser.num_errors))
        raise UserError(f"{flavor} cannot parse {path}: {_one_line(errors) or 'no reason given'}")
    inputs = _specs(network.num_inputs, network.get_input)
    outputs = _specs(network.num_outputs, network.get_output)
    config = builder.create_builder_config()
    if config is None:
        raise UserError(f"{flavor}: expected a builder configuration, found none{_because(logger)}")
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default; a stage in fp32 is one because it needs it
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
        raise UserError(f"{flavor} built nothing from {path} for {_targets(compute_capabilities)}{_because(logger)}")
    if cache is not None and timing_cache is not None:
        _write(timing_cache, config.get_timing_cache().serialize())
    return Built(engine, inputs, outputs, trt.__version__)


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


def _logger(trt: Any) -> Any:
    """Keeps errors for the message; TensorRT would print them and return None."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _because(logger: Any) -> str:
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
    for name, stage in manifest.stages.items():
        if stage.engine is None:
            report(f"build {name}")
            done = dataclasses.replace(stage, engine=build_stage(manifest, name, info))
            manifest = dataclasses.replace(manifest, stages={**manifest.stages, name: done}, engine=info)
            write_manifest(manifest)
    return open_bundle(root)


def _this_machine(info: EngineInfo) -> dict[str, Any]:
    version = load_tensorrt(info.flavor).__version__
    capabilities = info.compute_capabilities
    if info.flavor == "tensorrt":
        gpu = current_gpu()
        if gpu is None:
            raise UserError("full TensorRT builds for the GPU it runs on: expected an NVIDIA GPU, found none")
        capabilities = (gpu.capability,)
    return {"version": version, "compute_capabilities": capabilities, "platform": platform_name()}


def build_stage(manifest: Manifest, name: str, info: EngineInfo) -> FileEntry:
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
        raise UserError(
            f"the builder of {name} was killed, as the kernel does when memory runs out: expected room for "
            f"{size // 2**20 + workspace + BUILDER_MB} MB, found {available_memory_mb()} MB free now: close programs, "
            "add swap, or lower workspace_mb in the recipe; finished stages are kept, so run thfm build again"
        )
    reply = _last_line(done.stdout)
    if done.returncode != 0 or reply is None:
        reason = (reply or {}).get("error") or _one_line(done.stderr[-400:]) or f"exit code {done.returncode}"
        raise UserError(f"building {name} failed: {reason}")
    check_network(manifest, name, reply)
    return file_entry(manifest.root, engine)


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


def workspace_limit(name: str, size: int, wanted_mb: int | None, free_mb: int) -> int:
    """Workspace in MB that leaves room for the weights (twice: parsed and serialised) and the builder itself."""
    room = free_mb - 2 * (size >> 20) - BUILDER_MB
    if room < 64:
        raise UserError(
            f"building {name}: expected {2 * (size >> 20) + BUILDER_MB + 64} MB of free memory, found {free_mb}: "
            "close programs or add swap"
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
    print(json.dumps({side: [dataclasses.asdict(s) for s in given] for side, given in specs.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
