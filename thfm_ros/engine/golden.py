"""The golden input: seeded inputs of every stage, statistics of what comes out, and the check on the device.

TensorRT has been seen to build engines that run and are wrong (depth scaled by a factor that changes from frame to
frame). So the outputs that torch computed at export are compared on every machine, the first time that it uses a stage.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from thfm_ros.engine.manifest import Manifest, Stage, Statistics
from thfm_ros.engine.stage_table import FEATURES, TENSORS, TensorSpec, base_name, gives_joints
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS

CHECK = 6  # changes with what is compared and how: what an older check found is not remembered then
SEED = 20260521
BLOCKS = 64
OVERALL = 3  # times as strict with mean and deviation as with blocks: rounding averages out there, a factor does not
PATCHES = 8  # of a golden picture, along each side
DISTINCT = 2  # items of a batch that differ; the others repeat them in turn
# Largest difference of a statistic, in units of `scale`: three times the largest that rounding of that kind was
# measured to give (docs/engine.md, benchmarks/precision.py); of fp32 more, for sums in another order.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 2e-2, "bf16": 1.2e-1, "int8": 1.5e-1}
# Times the tolerance of a joint's place in the image and of its visibility, but in fp32: on golden pictures nobody is
# seen, many places are about as likely, and rounding chooses any of them. What is left of the check are numbers, in the
# right unit. Joints in space, of the same features, keep to the tolerance, and `thfm verify` compares places on people.
JUMPS = 100.0
Arrays = dict[str, np.ndarray]
RunStage = Callable[[str, Arrays], Arrays]


def golden_inputs(name: str, inputs: Sequence[TensorSpec], prompts: Arrays, seed: int = SEED) -> Arrays:
    """Seeded inputs: smooth pictures (uint8), latents and features with unit variance (float32), real prompts.

    Smooth, because on noise a trained network shows nothing: its decoder paints black, its joints are nowhere. Every
    channel and every frame has a level of its own. The first item of a batch is the single stage's input; the second
    differs, and has another task's prompt, so that mixing them up moves the statistics. Later ones repeat these two.
    """
    base = base_name(name)
    kind = "sparse" if gives_joints(base) else "dense"
    embeddings = [p for t, p in prompts.items() if t in TASKS and TASKS[t].kind == kind] or list(prompts.values())
    arrays = {}
    for spec in inputs:
        key = zlib.crc32(f"{base}.{spec.name}".encode())
        items = []
        for item in range(min(spec.shape[0], DISTINCT)):
            if spec.name == "prompt":
                items.append(embeddings[item % len(embeddings)])
                continue
            rng = np.random.default_rng([seed, key, item])
            shape = spec.shape[1:]
            if spec.name == "frames":
                shape = (shape[3], *shape[:3])  # channels first, as the others
            level = 2 * rng.random((*shape[:2], *(1,) * (len(shape) - 2))) - 1
            if spec.name == "frames":
                picture = 0.25 * level + 0.75 * _picture(rng, shape)
                items.append(np.rint(127.5 * (picture.transpose(1, 2, 3, 0) + 1)))
            else:
                items.append(1.5**0.5 * (level + 2 * rng.random(shape) - 1))
        items = [items[n % len(items)] for n in range(spec.shape[0])]
        arrays[spec.name] = np.stack(items).astype("uint8" if spec.dtype == "uint8" else "float32")
    return arrays


def _picture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """(C, 1, H, W) for a video of `shape`: random colours in [-1, 1] at the nodes of a grid, blended in between."""
    channels, _, height, width = shape
    grid = 2 * rng.random((channels, 1, PATCHES + 1, PATCHES + 1)) - 1
    rows, columns = (_blend(size) for size in (height, width))
    return rows @ grid @ columns.T


def _blend(size: int) -> np.ndarray:
    """(size, PATCHES + 1) the share of every node in every pixel of a line; rows sum to 1."""
    nodes, pixels = np.arange(PATCHES + 1), np.linspace(0, PATCHES, size)
    return np.maximum(0, 1 - np.abs(pixels[:, None] - nodes))


def statistics(x: np.ndarray) -> Statistics:
    flat = np.asarray(x, np.float64).ravel()
    blocks = [float(b.mean()) for b in np.array_split(flat, min(BLOCKS, flat.size))]
    return Statistics(float(flat.mean()), float(flat.std()), tuple(blocks))


def scale(output: TensorSpec, expected: Statistics) -> float:
    """What a difference is held against: the deviation, or for what hardly varies a quarter of its level, or a share
    of its range: rounding does not vanish with the deviation. Never 0; a factor of 1.1 on a constant output is still
    0.4 of it."""
    return max(
        expected.std,
        abs(expected.mean) / 4,
        TENSORS[FEATURES if output.name.startswith(FEATURES) else output.name].scale,
    )


def allowed(limit: float, output: str, precision: str, jumps: float = JUMPS) -> float:
    """Largest difference of an output of a stage with that tolerance, computed in that precision."""
    return limit * jumps if output in ("xy", "visibility") and precision != "fp32" else limit


def difference(output: TensorSpec, expected: Statistics, found: Statistics) -> float:
    """Largest difference of any statistic in units of `scale`, of mean and deviation `OVERALL` times; inf for NaN."""
    a, b = (np.array([OVERALL * s.mean, OVERALL * s.std, *s.blocks]) for s in (expected, found))
    if a.shape != b.shape or not np.isfinite(b).all():
        return float("inf")
    return float(np.abs(a - b).max() / scale(output, expected))


def check_stage(
    manifest: Manifest, name: str, run: RunStage, precision: Callable[[Stage], str], prompts: Arrays
) -> str:
    """Runs a stage on its golden input; "" or, where an output differs by more than the tolerance, what differs.

    precision: what a stage is really computed in on this machine. prompts: as `manifest.read_prompts` gives them.
    """
    golden, stage = manifest.golden, manifest.stages[name]
    if golden is None or name not in golden.stages:
        raise UserError(
            f"{manifest.root}: expected golden outputs of stage {name} in the manifest, found none; "
            f"rebuild: {manifest.rebuild}"
        )
    outputs = run(name, golden_inputs(name, stage.inputs, prompts, golden.seeds[base_name(name)]))
    computed_in = precision(stage)
    for spec in stage.outputs:
        limit = allowed(golden.tolerance[computed_in], spec.name, computed_in)
        found = difference(spec, golden.stages[name][spec.name], statistics(outputs[spec.name]))
        if not found <= limit:
            return (
                f"golden check of stage {name}, output {spec.name}: expected a difference of at most {limit:g} "
                f"({computed_in}), found {found:.3g}: this machine computes something else"
            )
    return ""
