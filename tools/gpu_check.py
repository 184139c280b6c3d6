"""What an NVIDIA GPU does with this package, in ten minutes: `make gpu-check`. NEVER RUN on a GPU.

    python tools/gpu_check.py --json gpu.json [--minutes 10] [--only NAME]... [--checkpoint DIR]
    python tools/gpu_check.py --markdown gpu.json      # the same as a table for a page

Works with TensorRT, TensorRT for RTX or neither. Without them the TensorRT backend runs its own code on real CUDA over
a stand-in whose engines torch computes. Every check is a process of its own, so one that crashes or hangs costs no
other; what there is no time for is listed. It needs torch with CUDA, diffusers, and of this folder `thfm_ros`,
`engines` and itself; weights are random where --checkpoint names none. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TASKS = ("scene_depth", "scene_normals", "foreground", "dense_pose", "keypoints_2d", "keypoints_3d")
FLAVORS = {"tensorrt": "datacenter.yaml", "tensorrt_rtx": "rtx.yaml"}
PASSES = 100


@dataclass
class Row:
    """One check. state: "ok", "failed" or "skipped". found: one line. figures: everything that was measured."""

    check: str
    state: str
    seconds: float
    found: str
    figures: dict[str, Any] = field(default_factory=dict)


class Skip(Exception):
    """Why a check says nothing on this machine."""


Check = Callable[[Path | None], tuple[str, dict[str, Any]]]


# --- the checks, each with the checkpoint that was asked for


def machine(_: Path | None) -> tuple[str, dict[str, Any]]:
    """The GPU as the driver tells it, and the packages."""
    from thfm_ros.engine.device import current_gpu, platform_name

    _need_gpu()
    gpu = current_gpu()
    assert gpu is not None
    figures: dict[str, Any] = {**asdict(gpu), "platform": platform_name(), "python": sys.version.split()[0]}
    for package in ("torch", *FLAVORS):
        with contextlib.suppress(Exception):
            figures[package] = __import__(package).__version__
    versions = ", ".join(f"{p} {figures[p]}" for p in ("torch", *FLAVORS) if p in figures)
    return f"{gpu.name}, {gpu.capability}, {gpu.memory_mb} MB; {versions or 'no torch, no TensorRT'}", figures


def driver(_: Path | None) -> tuple[str, dict[str, Any]]:
    """Memory, copies, marks and graphs by the calls that the TensorRT backend makes; without torch."""
    from thfm_ros.engine.backends.cuda import Cuda

    _need_gpu()
    cuda = Cuda()
    size = 16 << 20
    host, back = cuda.pinned(size), cuda.pinned(size)
    host[:] = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    one, two = cuda.allocate(size), cuda.allocate(size)
    figures: dict[str, Any] = {}
    for name, work in {
        "upload": lambda: cuda.upload(one.address, host),
        "copy": lambda: cuda.copy(two.address, one.address, size),
        "download": lambda: cuda.download(back, two.address),
    }.items():
        work()
        cuda.forget_marks()
        begin = cuda.mark()
        work()
        end = cuda.mark()
        cuda.synchronize()
        figures[f"{name}_gb_s"] = size / 1e6 / max(cuda.elapsed_ms(begin, end), 1e-6)
    if not np.array_equal(host, back):
        raise AssertionError("what came back differs from what was sent")
    host[:] ^= 0xFF
    graph = cuda.capture(lambda: (cuda.upload(one.address, host), cuda.copy(two.address, one.address, size))[0])
    graph.launch()
    cuda.download(back, two.address)
    cuda.synchronize()
    if not np.array_equal(host, back):
        raise AssertionError("a graph did not do what was captured")
    rates = ", ".join(f"{name.removesuffix('_gb_s')} {value:.1f}" for name, value in figures.items())
    return f"memory, copies, marks and a graph work; GB/s: {rates}", figures


def backend(checkpoint: Path | None, precision: str) -> tuple[str, dict[str, Any]]:
    """The TensorRT backend over engines that torch computes: golden check, against torch, and time a pass."""
    _need_gpu()
    import torch

    from thfm_ros.engine.device import current_gpu
    from thfm_ros.engine.export import DTYPES
    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.modules import geometry_of, network_stages
    from thfm_ros.model.checkpoint import load_checkpoint

    _need_cuda(torch)
    gpu = current_gpu()
    assert gpu is not None
    with tempfile.TemporaryDirectory() as folder:
        root = checkpoint or _random("nano", Path(folder) / "checkpoint")
        network = load_checkpoint(root, DTYPES[precision])
        modules = network_stages(network, geometry_of(network), (1, 4))
        for module in modules.values():
            module.module.to("cuda").eval().requires_grad_(False)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        sys.modules["tensorrt"] = stand_in(modules)
        bundle = named_bundle(root, modules, precision, Path(folder) / "bundle", gpu.capability)
        start = time.perf_counter()
        runtime = load_runtime(bundle, "tensorrt", check="always")
        loaded = time.perf_counter() - start
        return _measured(runtime, load_runtime(root, "torch"), {"load_s": loaded, "precision": precision})


def tensorrt(checkpoint: Path | None, flavor: str) -> tuple[str, dict[str, Any]]:
    """Export, build, golden check, against torch, and time a pass: with the TensorRT that is installed."""
    from thfm_ros.engine.build_trt import build_bundle, load_tensorrt
    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.recipes import load_recipe
    from thfm_ros.errors import UserError

    _need_gpu()
    try:
        load_tensorrt(flavor)
    except UserError as error:
        raise Skip(str(error)) from None
    from thfm_ros.engine.export import export_bundle

    with tempfile.TemporaryDirectory() as folder:
        root = checkpoint or _random("nano", Path(folder) / "checkpoint")
        bundle, start = Path(folder) / "bundle", time.perf_counter()
        export_bundle(root, load_recipe(ROOT / "engines" / FLAVORS[flavor]), bundle)
        exported = time.perf_counter()
        build_bundle(bundle)
        built = time.perf_counter()
        runtime = load_runtime(bundle, "tensorrt", check="always")
        figures = {"export_s": exported - start, "build_s": built - exported, "load_s": time.perf_counter() - built}
        return _measured(runtime, load_runtime(root, "torch"), figures)


def _measured(runtime: Any, reference: Any, figures: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    m, rng = runtime.manifest, np.random.default_rng(0)
    frames = rng.integers(0, 256, (m.frames, m.height, m.width, 3), np.uint8)
    expected, found = reference.predict(frames, TASKS), runtime.predict(frames, TASKS)
    again = runtime.predict(frames, TASKS)
    figures["difference"] = {t: float(np.abs(x - found.dense[t]).mean()) for t, x in expected.dense.items()}
    figures["joints_mm"] = float(1e3 * np.abs(expected.keypoints.xyz - found.keypoints.xyz).mean())
    figures["repeats"] = all(np.array_equal(x, again.dense[t]) for t, x in found.dense.items())
    newest = {task: m.frames - 2 for task in expected.dense if task != "scene_depth"}  # two new frames, as in the node
    wall, device, host = [], [], []
    for _ in range(PASSES):
        start, cpu = time.perf_counter(), time.process_time()
        prediction = runtime.predict(frames, TASKS, newest)
        host.append(1e3 * (time.process_time() - cpu))
        wall.append(1e3 * (time.perf_counter() - start))
        device.append(sum(prediction.timings_ms.values()))
    for name, samples in {"wall_ms": wall, "gpu_ms": device, "host_cpu_ms": host}.items():
        figures[name] = {"p50": float(np.median(samples)), "p99": float(np.percentile(samples, 99))}
    figures["info"] = runtime.info
    runtime.close()
    return (
        f"golden check passed; a pass of six kinds {figures['wall_ms']['p50']:.1f} ms (p99 "
        f"{figures['wall_ms']['p99']:.1f}), of which the GPU {figures['gpu_ms']['p50']:.1f}, host CPU "
        f"{figures['host_cpu_ms']['p50']:.1f}; from torch {max(figures['difference'].values()):.2g} in [-1, 1], "
        f"{figures['joints_mm']:.1f} mm"
    ), figures


def cost(preset: str, size: str, device: str = "cuda") -> tuple[str, dict[str, Any]]:
    """Every stage in torch with random weights, in each type: plain and as a CUDA graph, and its memory."""
    if device == "cuda":
        _need_gpu()
    import torch

    from thfm_ros.engine.modules import geometry_of, network_stages

    if device == "cuda":
        _need_cuda(torch)
    frames, height, width = (int(n) for n in size.split("x"))
    figures: dict[str, Any] = {}
    for precision in ("bf16", "fp16", "tf32"):
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        network = _network(preset, dtype, device)
        stages = network_stages(network, geometry_of(network, frames, height, width))
        for name, stage in stages.items():
            inputs = [torch.zeros(t.shape, dtype=getattr(torch, t.dtype), device=device) for t in stage.inputs]
            with torch.inference_mode():
                try:
                    figures[f"{name} {precision}"] = _timed(torch, lambda s=stage, i=inputs: s.module(*i), device)
                except RuntimeError as error:  # short of memory, most likely: the next stage may fit
                    figures[f"{name} {precision}"] = {"error": " ".join(str(error).split())[:200]}
        del network, stages
        if device == "cuda":
            torch.cuda.empty_cache()
    best: dict[str, float] = {}
    for name, row in figures.items():
        for how in ("graph_ms", "eager_ms"):
            if row.get(how) is not None:
                stage = name.split()[0]
                best[stage] = min(best.get(stage, np.inf), row[how])
    return "best of three types, ms: " + ", ".join(f"{s} {ms:.1f}" for s, ms in best.items()), figures


def _timed(torch: Any, run: Callable[[], Any], device: str, repeats: int = 10) -> dict[str, Any]:
    if device != "cuda":
        start = time.perf_counter()
        run()
        return {"eager_ms": 1e3 * (time.perf_counter() - start), "graph_ms": None}
    torch.cuda.reset_peak_memory_stats()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()
        run()
    torch.cuda.synchronize()
    found: dict[str, Any] = {"eager_ms": _events(torch, run, repeats)}
    found["peak_gb"] = torch.cuda.max_memory_allocated() / 2**30
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            run()
        found["graph_ms"] = _events(torch, graph.replay, repeats)
    except RuntimeError as error:
        found["graph_ms"], found["graph"] = None, " ".join(str(error).split())[:200]
    return found


def _events(torch: Any, run: Callable[[], Any], repeats: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats


def training(_: Path | None, preset: str = "nano", device: str = "cuda") -> tuple[str, dict[str, Any]]:
    """Images a second forwards and backwards through codec and transformer in bf16, without data: a ceiling."""
    if device == "cuda":
        _need_gpu()
    import torch

    if device == "cuda":
        _need_cuda(torch)
    network = _network(preset, torch.float32, device)
    config, figures = network.config, {}
    modules = torch.nn.ModuleList([network.vae, network.transformer]).train()
    for batch in (1, 4, 16) if device == "cuda" else (1,):
        video = torch.rand(batch, 3, config.frames, config.height, config.width, device=device) * 2 - 1
        prompt = torch.zeros(batch, config.text_length, network.transformer.config.text_dim, device=device)

        def step(video: Any = video, prompt: Any = prompt) -> None:
            with torch.autocast(device, torch.bfloat16):
                features = network.vae.features(video)
                target = network.transformer(network.vae.encode(features), prompt).sample
                loss = network.vae.decode(target, features).float().square().mean()
            loss.backward()
            modules.zero_grad(set_to_none=True)

        step()
        wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        wait()
        start, repeats = time.perf_counter(), 5 if device == "cuda" else 1
        for _ in range(repeats):
            step()
        wait()
        figures[f"batch {batch}"] = batch * config.frames * repeats / (time.perf_counter() - start)
    return "images/s: " + ", ".join(f"{name} {value:.0f}" for name, value in figures.items()), figures


CHECKS: dict[str, tuple[Check, int]] = {  # and the seconds after which it is ended
    "machine": (machine, 60),
    "driver": (driver, 60),
    **{f"backend {p}": (lambda c, p=p: backend(c, p), 120) for p in ("fp16", "bf16", "tf32")},
    **{f"{flavor}": (lambda c, f=flavor: tensorrt(c, f), 300) for flavor in FLAVORS},
    "cost nano": (lambda c: cost("nano", "5x144x240"), 120),
    "cost wan-1.3b": (lambda c: cost("wan-1.3b", "17x480x832"), 240),
    "training": (training, 120),
}


# --- networks, and the stand-in


def _need_gpu() -> None:
    from thfm_ros.engine.device import current_gpu

    if current_gpu() is None:
        raise Skip("no NVIDIA GPU or no driver")


def _need_cuda(torch: Any) -> None:
    if not torch.cuda.is_available():
        raise Skip(f"expected a CUDA build of torch and a GPU, found torch {torch.__version__}")


def _network(preset: str, dtype: Any, device: str) -> Any:
    from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig
    from thfm_ros.model.presets import build, get_preset

    vae, transformer = (model.to(device) for model in build(preset))
    for model in (vae, transformer):  # as a checkpoint is loaded: some parts stay in float32
        kept = set(model._keep_in_fp32_modules or ())
        for name, parameter in model.named_parameters():
            if not kept & set(name.split(".")):
                parameter.data = parameter.data.to(dtype)
    return Checkpoint(vae, transformer, {}, CheckpointConfig.of(get_preset(preset)))


def _random(preset: str, path: Path) -> Path:
    from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, save_checkpoint
    from thfm_ros.model.presets import build, get_preset
    from thfm_ros.model.prompts import embed_tasks, get_embedder

    chosen = get_preset(preset)
    prompts = embed_tasks(get_embedder("hash", dim=chosen.transformer["text_dim"]), chosen.text_length)
    return save_checkpoint(path, Checkpoint(*build(chosen), prompts, CheckpointConfig.of(chosen)))


def named_bundle(checkpoint: Path, modules: Any, precision: str, out: Path, capability: str) -> Path:
    """A bundle for full TensorRT whose engines hold their stages' names, with golden outputs in float32."""
    from safetensors.numpy import save_file

    from thfm_ros.engine.device import platform_name
    from thfm_ros.engine.export import golden_outputs, weights_digest
    from thfm_ros.engine.manifest import EngineInfo, file_entry, write_manifest
    from thfm_ros.engine.modules import geometry_of, manifest_of, network_stages
    from thfm_ros.model.checkpoint import load_checkpoint

    out.mkdir()
    reference = load_checkpoint(checkpoint)
    clip = geometry_of(reference)
    prompts = {name: p[0].float().numpy() for name, p in reference.prompts.items()}
    save_file(prompts, out / "prompts.safetensors")
    stages = {}
    for name, module in modules.items():
        (out / f"{name}.engine").write_text(name)
        stages[name] = module.described(precision, engine=file_entry(out, out / f"{name}.engine"))
    single = network_stages(reference, clip, (1, 4))
    golden = golden_outputs(reference, single, prompts, lambda name: precision)
    manifest = manifest_of(
        reference, clip, target="gpu-check", backends=("tensorrt",), checkpoint=str(checkpoint), recipe="",
        stages=stages, weights=(), weights_sha256=weights_digest(checkpoint), golden=golden, root=out,
        prompts=file_entry(out, out / "prompts.safetensors"),
        engine=EngineInfo("tensorrt", VERSION, (capability,), platform_name()),
    )  # fmt: skip
    write_manifest(manifest)
    return out


VERSION = "0.stand-in"


def stand_in(modules: Any) -> types.ModuleType:
    """What the backend uses of `tensorrt`, over modules of torch on the GPU."""
    import torch

    from thfm_ros.engine.build_trt import DTYPES

    names = {ours: theirs for theirs, ours in DTYPES.items()}

    class Context:
        def __init__(self, module: Any) -> None:
            self.module, self.addresses = module, {}
            self.pool = torch.cuda.MemPool()  # its graph's memory is nobody else's

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self.addresses[name] = memory
            return True

        def set_device_memory(self, memory: int, size: int) -> None:
            assert memory % 256 == 0

        def execute_async_v3(self, stream: int) -> bool:
            with (
                torch.cuda.stream(torch.cuda.ExternalStream(stream)),
                torch.cuda.use_mem_pool(self.pool),
                torch.inference_mode(),
            ):
                inputs = (on_gpu(self.addresses[t.name], t) for t in self.module.inputs)
                results = self.module.module(*inputs)
                for spec, result in zip(self.module.outputs, results, strict=True):
                    on_gpu(self.addresses[spec.name], spec).copy_(result)
            return True

    class Engine:
        device_memory_size_v2 = 1 << 20

        def __init__(self, name: str) -> None:
            self.module = modules[name]
            self.tensors = {t.name: t for t in (*self.module.inputs, *self.module.outputs)}
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self.tensors)[index]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.tensors[name].shape

        def get_tensor_dtype(self, name: str) -> Any:
            return types.SimpleNamespace(name=names[self.tensors[name].dtype])

        def create_execution_context(self, strategy: Any) -> Context:
            return Context(self.module)

    class Memory:
        def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
            self.__cuda_array_interface__ = {
                "shape": shape, "typestr": kind, "data": (address, False), "version": 3,
            }  # fmt: skip

    def on_gpu(address: int, spec: Any) -> Any:
        kind = {"float32": "<f4", "float16": "<f2", "bfloat16": "<i2", "uint8": "|u1"}[spec.dtype]
        tensor = torch.as_tensor(Memory(address, spec.shape, kind), device="cuda")
        return tensor.view(torch.bfloat16) if spec.dtype == "bfloat16" else tensor

    class Severity:
        ERROR, INTERNAL_ERROR = 1, 0

    class Logger:
        def __init__(self) -> None: ...

    Logger.Severity = Severity  # type: ignore[attr-defined]
    module = types.ModuleType("tensorrt")
    module.__version__ = VERSION
    module.ILogger = Logger
    module.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED=2)
    module.Runtime = lambda logger: types.SimpleNamespace(deserialize_cuda_engine=lambda data: Engine(data.decode()))
    return module


# --- the program


def run_checks(only: list[str], checkpoint: Path | None, minutes: float) -> Iterator[Row]:
    """Rows as they come; each from a process that is ended when its time is up."""
    began = time.monotonic()
    for name, (_, limit) in CHECKS.items():
        if only and name not in only:
            continue
        left = 60 * minutes - (time.monotonic() - began)
        if left < 15:
            yield Row(name, "skipped", 0.0, f"no time left of {minutes:g} minutes")
            continue
        yield _in_process(name, checkpoint, min(limit, left))


def _in_process(name: str, checkpoint: Path | None, limit: float) -> Row:
    start = time.monotonic()
    command = [sys.executable, __file__, "--child", name, *(["--checkpoint", str(checkpoint)] if checkpoint else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return Row(name, "failed", time.monotonic() - start, f"not done after {limit:.0f} s")
    seconds = time.monotonic() - start
    try:
        return Row(**{**json.loads(done.stdout.strip().splitlines()[-1]), "seconds": seconds})
    except (IndexError, ValueError, TypeError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Row(name, "failed", seconds, last[:400])


def one_check(name: str, checkpoint: Path | None) -> Row:
    """In this process."""
    start = time.monotonic()
    try:
        found, figures = CHECKS[name][0](checkpoint)
        return Row(name, "ok", time.monotonic() - start, found, figures)
    except Skip as why:
        return Row(name, "skipped", time.monotonic() - start, str(why))
    except Exception as error:  # whatever a driver or library comes up with is what this is to find out
        return Row(
            name, "failed", time.monotonic() - start, f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
        )


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table for a page."""
    lines = ["| check | | s | found |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {r['check']} | {r['state']} | {r['seconds']:.0f} | {r['found']} |" for r in rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all checks together")
    parser.add_argument("--only", action="append", default=[], choices=list(CHECKS), help="this check; may be repeated")
    parser.add_argument("--checkpoint", type=Path, help="its weights, else random ones of nano")
    parser.add_argument(
        "--markdown", type=Path, metavar="JSON", help="print the table of such a file and do nothing else"
    )
    parser.add_argument("--child", choices=list(CHECKS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(asdict(one_check(arguments.child, arguments.checkpoint))))
        return 0
    if arguments.markdown:
        print(markdown(json.loads(arguments.markdown.read_text())["checks"]))
        return 0
    rows = []
    for row in run_checks(arguments.only, arguments.checkpoint, arguments.minutes):
        rows.append(asdict(row))
        print(f"{row.check:16} {row.state:8} {row.seconds:5.0f} s  {row.found}", flush=True)
        if arguments.json:  # after every check: what ends this program does not end what it found
            arguments.json.write_text(json.dumps({"checks": rows}, indent=1) + "\n")
    return int(any(row["state"] == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
