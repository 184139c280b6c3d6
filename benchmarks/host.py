"""What a pass costs the host: processor time of all that is not inside a stage, on one core.

    python benchmarks/host.py [--passes 30] [--json host.json]

Frames go through the estimator as in the node, over stages that cost nothing: their outputs are there. `cpu` is what
every CPU backend shares; `tensorrt` is the TensorRT backend over the stand-ins of test/gpu, which here copy and run
nothing, because on a machine with a GPU the GPU does that. Processor time, not wall time: it holds on a loaded machine.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "gpu")]

from cuda_driver import Driver, compile_driver  # noqa: E402
from fake_tensorrt import FakeTensorRT  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from tensorrt_surface import surface  # noqa: E402
from toy_network import ToyStage, named_manifest  # noqa: E402

from thfm_ros.engine import device  # noqa: E402
from thfm_ros.engine.backends.tensorrt_backend import TensorRT  # noqa: E402
from thfm_ros.engine.manifest import EngineInfo, Manifest  # noqa: E402
from thfm_ros.engine.runtime import StageRuntime  # noqa: E402
from thfm_ros.engine.stage_table import Geometry, batched  # noqa: E402
from thfm_ros.files import write_json  # noqa: E402
from thfm_ros.stream.estimator import StreamEstimator  # noqa: E402
from thfm_ros.tasks import TASKS as ALL  # noqa: E402

TASKS = ("scene_depth", "scene_normals", "foreground", "dense_pose", "keypoints_2d", "keypoints_3d")


@dataclass(frozen=True)
class Shape:
    """Of a network. stride: new frames a pass. batches: sizes of transform and decode."""

    geometry: Geometry
    stride: int = 4
    batches: tuple[int, ...] = (1, 4)


FEATURES = ((2, 24), (4, 48), (8, 96), (16, 160))
SHAPES = {
    "nano 240x144x5": Shape(Geometry(5, 144, 240, (64, 2, 9, 15), 32, (16, 384), FEATURES, (4,)), stride=2),
    "wan-1.3b 832x480x17": Shape(Geometry(17, 480, 832, (16, 5, 60, 104), 32, (512, 4096)), batches=(1,)),
}


def stages_of(shape: Shape) -> dict[str, ToyStage]:
    """The stages of whole clips, whose function is never called."""
    g = shape.geometry
    names = ["encode", "keypoints", *(batched(stage, n) for n in shape.batches for stage in ("transform", "decode"))]
    return {name: ToyStage(g.inputs(name), g.outputs(name), lambda *_: []) for name in names}


class Free(StageRuntime):
    """Stages whose outputs are there."""

    def __init__(self, manifest: Manifest, prompts: dict[str, np.ndarray]) -> None:
        super().__init__(manifest, prompts, {})
        rng = np.random.default_rng(0)
        self.made = {
            name: {t.name: rng.uniform(-1, 1, t.shape).astype(np.float32) for t in stage.outputs}
            for name, stage in manifest.stages.items()
        }

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(self.made[stage])


def milliseconds(runtime: Any, shape: Shape, passes: int) -> dict[str, float]:
    """Median and least processor time of a pass."""
    estimator, rng = StreamEstimator(runtime), np.random.default_rng(1)
    images = [
        rng.integers(0, 256, (shape.geometry.height, shape.geometry.width, 3), np.uint8) for _ in range(shape.stride)
    ]
    found, number = [], 0
    for index in range(passes + 3):
        for image in images:
            estimator.push(round(number * 1e9 / 12), image)
            number += 1
        start = time.process_time()
        estimator.step(TASKS)
        if index >= 3:  # the window is full, buffers are there
            found.append(1e3 * (time.process_time() - start))
    return {"cpu_ms": float(np.median(found)), "least_ms": min(found)}


def measure(shape: Shape, passes: int, library: Path, folder: Path) -> dict[str, dict[str, float]]:
    """The CPU backends' share and the TensorRT backend."""
    stages, bindings = stages_of(shape), surface("10.13")
    prompts = {task: np.zeros(shape.geometry.prompt, np.float32) for task in sorted(ALL)}
    engine = EngineInfo("tensorrt", bindings["__version__"], ("SM89",), device.platform_name())
    manifest = named_manifest(folder, stages, prompts, engine, shape.geometry)
    device.CUDA_DRIVER = str(library)
    driver = Driver(ctypes.CDLL(str(library)))
    sys.modules["tensorrt"] = FakeTensorRT(bindings, "tensorrt", driver, stages, dict.fromkeys(stages, 1024))
    gpu = TensorRT(manifest)
    driver.idle()
    found = {"cpu": milliseconds(Free(manifest, prompts), shape, passes)}
    return {**found, "tensorrt": milliseconds(gpu, shape, passes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=30, help="of each network, after three that fill the window")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    table = Table("network", "new frames", "CPU backends, ms", "least", "TensorRT, ms", "least")
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        library = compile_driver(Path(folder) / "libcuda.so.1")
        for name, shape in SHAPES.items():
            found = result[name] = measure(shape, arguments.passes, library, Path(folder) / name.split()[0])
            figures = (f"{found[kind][what]:.1f}" for kind in ("cpu", "tensorrt") for what in ("cpu_ms", "least_ms"))
            table.add_row(name, str(shape.stride), *figures)
    Console().print(table)
    if arguments.json:
        write_json(arguments.json, {"device": device.cpu_name(), "passes": arguments.passes, "host": result})


if __name__ == "__main__":
    main()
