"""The golden input: seeded inputs of every stage, statistics of what comes out, and the check on the device.

TensorRT has been seen to build engines that run and are wrong (depth scaled by a factor that changes from frame to
frame). So the outputs that torch computed at export are compared on every machine, the first time it loads a bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from thfm_ros.engine.manifest import IMAGE, Manifest, Stage, Statistics, TensorSpec, base_name, read_prompts, sha256
from thfm_ros.errors import UserError
from thfm_ros.paths import cache_dir
from thfm_ros.tasks import TASKS

SEED = 20260521
BLOCKS = 64
# Largest difference of a statistic, in standard deviations of the output: three times the largest that rounding of that
# kind was measured to give (docs/engine.md, benchmarks/precision.py); of fp32 more, for sums in another order.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 2e-2, "bf16": 1.2e-1, "int8": 1.5e-1}

RunStage = Callable[[str, Sequence[np.ndarray]], Sequence[np.ndarray]]


def golden_inputs(
    name: str, inputs: Sequence[TensorSpec], prompts: dict[str, np.ndarray], seed: int = SEED
) -> list[np.ndarray]:
    """Seeded float32 inputs: video in [-1, 1], latents and caches with unit variance, real prompts.

    Every item of a batch, every channel and every frame has a level of its own, and every item another task's prompt,
    so that mixing them up moves the statistics; the first item is the single stage's input.
    """
    base = base_name(name)
    kind = "sparse" if base.startswith("keypoints") else "dense"
    embeddings = [p for t, p in prompts.items() if t in TASKS and TASKS[t].kind == kind] or list(prompts.values())
    arrays = []
    for spec in inputs:
        key = zlib.crc32(f"{base}.{spec.name}".encode())
        items = []
        for item in range(spec.shape[0]):
            if spec.name == "prompt":
                items.append(embeddings[item % len(embeddings)])
                continue
            rng = np.random.default_rng([seed, key, item])
            shape = spec.shape[1:]
            level = 2 * rng.random((*shape[:2], *(1,) * (len(shape) - 2))) - 1
            noise = 2 * rng.random(shape) - 1
            items.append((level + noise) * (0.5 if spec.name in ("video", IMAGE) else 1.5**0.5))
        arrays.append(np.stack(items).astype(np.float32))
    return arrays


def statistics(x: np.ndarray) -> Statistics:
    flat = np.asarray(x, np.float64).ravel()
    blocks = [float(b.mean()) for b in np.array_split(flat, min(BLOCKS, flat.size))]
    return Statistics(float(flat.mean()), float(flat.std()), tuple(blocks))


def difference(expected: Statistics, found: Statistics) -> float:
    """Largest difference of any statistic in units of the expected standard deviation; inf for NaN."""
    a = np.array([expected.mean, expected.std, *expected.blocks])
    b = np.array([found.mean, found.std, *found.blocks])
    if a.shape != b.shape or not np.isfinite(b).all():
        return float("inf")
    return float(np.abs(a - b).max() / max(expected.std, 1e-6))


def check_golden(manifest: Manifest, run: RunStage, precision: Callable[[Stage], str], again: str) -> float:
    """Runs every stage on its golden input; UserError where an output differs by more than the tolerance.

    precision: what a stage is really computed in on this machine. Returns the worst difference over its tolerance.
    """
    golden = manifest.golden
    if golden is None:
        raise UserError(f"{manifest.root}: expected a golden input in the manifest, found none; {again}")
    prompts = read_prompts(manifest)
    worst = 0.0
    for name, stage in manifest.stages.items():
        if name not in golden.stages:
            raise UserError(f"{manifest.root}: expected golden outputs of stage {name}, found none; {again}")
        outputs = run(name, golden_inputs(name, stage.inputs, prompts, golden.seeds[base_name(name)]))
        limit = golden.tolerance[precision(stage)]
        for spec, output in zip(stage.outputs, outputs, strict=True):
            if spec.name not in golden.stages[name]:
                continue
            found = difference(golden.stages[name][spec.name], statistics(output))
            if not found <= limit:
                raise UserError(
                    f"{manifest.root}: golden check of stage {name}, output {spec.name}: expected a difference of at "
                    f"most {limit:g} ({precision(stage)}), found {found:.3g}: this machine computes something else; "
                    f"{again}"
                )
            worst = max(worst, found / limit)
    return worst


# --- once per bundle and machine


def passed_before(manifest: Manifest, device: str) -> bool:
    return _record(manifest, device).is_file()


def remember_passed(manifest: Manifest, device: str, worst: float) -> None:
    """Leaves a note that this bundle passed on this device; a cache that cannot be written only costs time."""
    record = _record(manifest, device)
    temporary = record.with_suffix(f".{os.getpid()}.tmp")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"device": device, "worst_over_tolerance": worst}))
        os.replace(temporary, record)
    except OSError:
        return


def _record(manifest: Manifest, device: str) -> Path:
    key = hashlib.sha256(f"{sha256(manifest.root / 'manifest.json')} {device}".encode()).hexdigest()
    return cache_dir() / "golden" / f"{key[:32]}.json"
