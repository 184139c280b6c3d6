"""`thfm verify`: a bundle against torch on held-out clips, by stage and by task in physical units.

What is compared is the machine's result with the reference's, not with the truth: it says what compilation, precision
and quantisation cost, whatever the network has learned.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.engine.manifest import Manifest
from thfm_ros.engine.results import Keypoints, Prediction
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.stage_table import KEYPOINTS, WINDOWS
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS, get_task

NEAR_M, FAR_M = 1.0, 10.0  # depth where disparity is 1 and 0: makes disparity errors errors of depth

# Largest value by precision: three times the largest that was measured (docs/engine.md, benchmarks/precision.py); of
# fp32 more, for sums in another order. Stage errors are root mean squares (of joints means) over the reference's
# deviation.
LIMITS: dict[str, dict[str, float]] = {
    "stage": {"fp32": 1e-4, "tf32": 4e-3, "fp16": 6e-3, "bf16": 7e-2, "int8": 8e-2},
    "depth": {"fp32": 1e-4, "tf32": 4e-4, "fp16": 1e-3, "bf16": 1e-2, "int8": 7e-3},  # mean |z - z0| / z0
    "normals": {"fp32": 1e-2, "tf32": 0.1, "fp16": 0.2, "bf16": 1.6, "int8": 1.3},  # mean degrees
    "foreground": {"fp32": 1e-3, "tf32": 6e-3, "fp16": 6e-3, "bf16": 5e-2, "int8": 3e-2},  # 1 - IoU of the masks
    # Mean distance, the body being a unit cube.
    "dense_pose": {"fp32": 1e-4, "tf32": 5e-4, "fp16": 1e-3, "bf16": 8e-3, "int8": 6e-3},
    # Mean distance of the code, offsets and centre-ness, whose range is twice as wide; on paper, from dense pose.
    "instances": {"fp32": 2e-4, "tf32": 1e-3, "fp16": 2e-3, "bf16": 1.6e-2, "int8": 1.2e-2},
    "keypoints_2d": {"fp32": 1e-2, "tf32": 0.02, "fp16": 0.02, "bf16": 0.15, "int8": 0.65},  # mean pixels
    "keypoints_3d": {"fp32": 1e-2, "tf32": 0.12, "fp16": 0.15, "bf16": 1.0, "int8": 8.0},  # mean millimetres
}
# A twentieth of the range: joints that are all visible have hardly a deviation to compare with.
JOINT_SCALE = 0.05
UNITS = {
    "stage": "of std",
    "depth": "AbsRel",
    "normals": "deg",
    "foreground": "1 - IoU",
    "dense_pose": "canonical",
    "instances": "code",
    "keypoints_2d": "px",
    "keypoints_3d": "mm",
}


@dataclass(frozen=True)
class Row:
    """One comparison. value: mean over the clips; NaN where nothing could be compared (no pixel with a normal)."""

    name: str
    unit: str
    precision: str
    value: float
    limit: float

    @property
    def good(self) -> bool:
        return math.isnan(self.value) or self.value <= self.limit


def verify(runtime: StageRuntime, reference: StageRuntime, clips: Sequence[np.ndarray]) -> list[Row]:
    """Rows of every stage, fed with the reference's own inputs, then of every task from end to end.

    clips: (T, H, W, 3) uint8 RGB of the bundle's geometry.
    """
    m = runtime.manifest
    check_same_model(m, reference.manifest)
    if not clips:
        raise UserError("expected at least one clip to verify on, found none")
    tasks = [t for t in m.tasks if t in reference.manifest.tasks]
    values: dict[str, list[float]] = defaultdict(list)
    for clip in clips:
        for name, value in _stage_errors(runtime, reference, clip, tasks):
            values[f"stage {name}"].append(value)
        expected, found = reference.predict(clip, tasks), runtime.predict(clip, tasks)
        for task in tasks:
            values[task].append(task_error(task, expected, found, (m.width, m.height)))
    precisions = {name: runtime.precision(stage) for name, stage in m.stages.items()}
    rows = []
    for name, found_values in values.items():
        if name.startswith("stage "):
            kind, precision = "stage", precisions[name.removeprefix("stage ")]
        else:
            kind = _kind(name)
            stages = ("encode", "keypoints") if get_task(name).kind == "sparse" else ("encode", "transform", "decode")
            precision = max((precisions[s] for s in stages), key=LIMITS[kind].__getitem__)
        seen = [v for v in found_values if not math.isnan(v)]
        value = float(np.mean(seen)) if seen else math.nan
        rows.append(Row(name, UNITS[kind], precision, value, LIMITS[kind][precision]))
    return rows


def check_same_model(bundle: Manifest, reference: Manifest) -> None:
    """UserError unless the reference is the checkpoint that the bundle was made of, in the same geometry."""
    from thfm_ros.engine.export import weights_digest

    found = weights_digest(reference.root)
    if found != bundle.weights_sha256:
        raise UserError(
            f"{bundle.root}: expected the checkpoint it was exported from (weights {bundle.weights_sha256[:12]}), "
            f"found {reference.root} (weights {found[:12]}); rebuild: {bundle.rebuild}"
        )
    geometry = [(x.frames, x.height, x.width) for x in (bundle, reference)]
    if geometry[0] != geometry[1]:
        raise UserError(f"expected a bundle in the checkpoint's own geometry {geometry[1]}, found {geometry[0]}")
    if bundle.windows not in (None, reference.windows):
        raise UserError(f"expected a reference with windows of {bundle.windows}, found {reference.windows}")


def _stage_errors(
    runtime: StageRuntime, reference: StageRuntime, frames: np.ndarray, tasks: Sequence[str]
) -> Iterator[tuple[str, float]]:
    encoded = reference.encode(frames)
    latents = encoded.latents
    yield "encode", relative_error(latents, runtime.encode(frames).latents)
    expected, found = (r.transform(encoded, tasks) for r in (reference, runtime))
    if expected.latents:
        both = [np.concatenate(list(x.latents.values())) for x in (expected, found)]
        yield "transform", relative_error(*both)
        yield "decode", relative_error(reference.decode(both[0], encoded), runtime.decode(both[0], encoded))
    if expected.keypoints and found.keypoints:
        yield "keypoints", joints_error([expected.keypoints], [found.keypoints])
        if runtime.manifest.windows:
            yield WINDOWS, _windows_error(runtime, reference, frames, tasks)


def _windows_error(runtime: StageRuntime, reference: StageRuntime, frames: np.ndarray, tasks: Sequence[str]) -> float:
    """Of the worst batch size: each runs on as many windows, which differ."""
    m = runtime.manifest
    assert m.windows is not None
    sizes, half = m.variants(WINDOWS), m.width // 2
    lefts = np.roll(np.linspace(0, m.width - half, max(sizes)).astype(int), max(sizes) // 2)  # the middle first
    windows = np.stack([[cv2.resize(frame[:, x : x + half], m.windows) for frame in frames] for x in lefts])
    sparse = [task for task in tasks if get_task(task).kind == "sparse"]
    expected = reference.predict_windows(windows, sparse)
    return max(joints_error(expected[:size], runtime.predict_windows(windows[:size], sparse)) for size in sizes)


def joints_error(expected: Sequence[Keypoints], found: Sequence[Keypoints]) -> float:
    """Mean difference over the deviation, of the worst of xy, xyz and visibility.

    Of the mean, because rounding moves a joint far that could be at either of two places.
    """
    errors = []
    for name in KEYPOINTS:
        a, b = (np.stack([getattr(k, name) for k in items]).astype(np.float64) for items in (expected, found))
        errors.append(float(np.abs(a - b).mean() / max(a.std(), JOINT_SCALE)))
    return max(errors) if np.isfinite(errors).all() else math.inf


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """Root mean square of the difference over the standard deviation of what is expected."""
    scale = max(float(expected.std()), 1e-6)
    error = float(np.sqrt(np.mean((expected.astype(np.float64) - found) ** 2))) / scale
    return error if math.isfinite(error) else math.inf


def task_error(task: str, expected: Prediction, found: Prediction, size: tuple[int, int]) -> float:
    """In the units of the table above. size: width and height in pixels."""
    if get_task(task).kind == "sparse":
        assert expected.keypoints is not None
        assert found.keypoints is not None
        return _keypoint_error(task, expected.keypoints, found.keypoints, size)
    codec = TASKS[task].codec
    assert codec is not None
    a, b = expected.dense[task].astype(np.float64), found.dense[task].astype(np.float64)
    if not np.isfinite(b).all():
        return math.inf
    match _kind(task):
        case "depth":
            near, far = 1 / NEAR_M, 1 / FAR_M
            z0, z = (1 / (far + (near - far) * codec.from_rgb(x)) for x in (a, b))
            return float(np.mean(np.abs(z - z0) / z0))
        case "normals":
            n0, n = codec.from_rgb(a), codec.from_rgb(b)
            both = (n0**2).sum(-1) * (n**2).sum(-1) > 0.5
            cosine = (n0 * n).sum(-1)[both]
            return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean()) if both.any() else math.nan
        case "foreground":
            m0, m = codec.from_rgb(a) > 0.5, codec.from_rgb(b) > 0.5
            union = (m0 | m).sum()
            return 1.0 - float((m0 & m).sum() / union) if union else 0.0
        case _:
            return float(np.linalg.norm(codec.from_rgb(a) - codec.from_rgb(b), axis=-1).mean())


def _keypoint_error(task: str, expected: Keypoints, found: Keypoints, size: tuple[int, int]) -> float:
    if task == "keypoints_2d":
        error = np.linalg.norm((expected.xy - found.xy) * np.array(size), axis=-1).mean()
    else:
        error = 1e3 * np.linalg.norm(expected.xyz - found.xyz, axis=-1).mean()
    return float(error) if math.isfinite(error) else math.inf


def _kind(task: str) -> str:
    """The row of the tables above that a task belongs to."""
    return task if get_task(task).kind == "sparse" else get_task(task).quantity.name


# --- clips


def video_clips(path: str | Path, manifest: Manifest, count: int) -> list[np.ndarray]:
    """Consecutive clips of a video file at the bundle's frame rate and size."""
    from thfm_ros.letterbox import letterbox
    from thfm_ros.video import read_clip

    length = manifest.frames / manifest.fps
    clips = []
    for index in range(count):
        frames = read_clip(path, manifest.frames, manifest.fps, index * length)
        clips.append(np.stack([letterbox(f, manifest.width, manifest.height)[0] for f in frames]))
    return clips


def synthetic_clips(manifest: Manifest, count: int, seed: int = 7) -> list[np.ndarray]:
    """Clips of the generator's test split, which training never sees."""
    try:
        from thfm_ros.synth.assets import load_assets
        from thfm_ros.synth.clip import generate_clip
        from thfm_ros.synth.config import SynthConfig
    except ImportError as error:
        raise UserError(f"synthetic clips need the generator, found {error}: use --video FILE") from None
    config = SynthConfig(
        frames=manifest.frames, height=manifest.height, width=manifest.width, fps=manifest.fps, split="test", empty=0.0
    )
    assets = load_assets()
    return [generate_clip(config, seed, index, assets).rgb for index in range(count)]
