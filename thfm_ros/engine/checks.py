"""What `bundle.open_bundle` checks after the JSON was read: files, values, stages, golden outputs, prompts.

Every refusal is one line: what was expected, what was found, and the command that rebuilds. numpy and the standard
library only.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any, NoReturn

from thfm_ros.engine.manifest import (
    BACKENDS,
    PRECISIONS,
    WHOLE_CLIP,
    WINDOWS,
    Manifest,
    Stage,
    TensorSpec,
    base_name,
    read_prompts,
    sha256,
)
from thfm_ros.errors import UserError
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.tasks import TASKS

SUFFIXES = (".onnx", ".data", ".engine", ".safetensors", ".json", ".md")  # nothing that can hold a pickle


def check_bundle(manifest: Manifest) -> None:
    """UserError with the first check that fails."""
    check_files(manifest)
    check_values(manifest)
    check_stages(manifest)
    check_golden_entries(manifest)
    check_prompts(manifest)


def _refuse(m: Manifest, what: str, expected: Any, found: Any) -> NoReturn:
    raise UserError(f"{m.root}: {what}: expected {expected}, found {found}; rebuild: {m.rebuild}")


def _expect(m: Manifest, what: str, expected: Any, found: Any) -> None:
    if expected != found:
        _refuse(m, what, expected, found)


def _one_of(m: Manifest, what: str, allowed: Collection[str], found: str) -> None:
    if found not in allowed:
        _refuse(m, what, f"one of {', '.join(allowed)}", found)


def check_files(manifest: Manifest) -> None:
    """Paths inside the folder, of harmless kinds; every file there, whole and unchanged."""
    root, again = manifest.root, f"rebuild: {manifest.rebuild}"
    for entry in manifest.files():
        relative, path = PurePosixPath(entry.path), manifest.path(entry)
        inside = path.resolve().is_relative_to(root.resolve())
        if relative.is_absolute() or ".." in relative.parts or "\\" in entry.path or not inside:
            raise UserError(f"{root}: expected paths inside the bundle, found '{entry.path}'; {again}")
        if relative.suffix not in SUFFIXES:
            raise UserError(
                f"{root}: expected files of kind {', '.join(SUFFIXES)}, found '{entry.path}' (refused); {again}"
            )
        if not path.is_file():
            raise UserError(f"{root}: expected the file {entry.path}, found none; {again}")
        size = path.stat().st_size
        if size != entry.size:
            kind = "truncated" if size < entry.size else "longer than written"
            raise UserError(f"{path} is {kind}: expected {entry.size} bytes, found {size}; {again}")
        digest = sha256(path)
        if digest != entry.sha256:
            raise UserError(f"{path} was changed: expected sha256 {entry.sha256}, found {digest}; {again}")


def check_values(m: Manifest) -> None:
    """The clip's geometry is possible; tasks, backends, joints and the window are ones that exist."""
    if m.frames < 1 or m.frames % 4 != 1:
        _refuse(m, "frames of a clip", "4k + 1", m.frames)
    if m.fps <= 0:
        _refuse(m, "fps", "a positive number", m.fps)
    for what, sizes in (("height and width", (m.height, m.width)), ("latent_shape", m.latent_shape)):
        if min(sizes) < 1:
            _refuse(m, what, "positive sizes", sizes)
    _expect(m, "latent frames of a clip", 1 + (m.frames - 1) // 4, m.latent_shape[1])
    for what, allowed, found in (("tasks", tuple(TASKS), m.tasks), ("backends", BACKENDS, m.backends)):
        unknown = [name for name in found if name not in allowed]
        if unknown or not found:
            _refuse(m, what, f"some of {', '.join(allowed)}", unknown or "none")
        if twice := sorted({name for name in found if found.count(name) > 1}):
            _refuse(m, what, "each once", f"{', '.join(twice)} more than once")
    _one_of(m, "joint set", JOINT_SETS, m.joint_set)


def check_stages(m: Manifest) -> None:
    """Every stage that the tasks and backends need is there; inputs and outputs of all follow from the clip."""
    known = (*WHOLE_CLIP, WINDOWS)
    for name in m.stages:
        if base_name(name) not in known:
            _refuse(m, "stages", ", ".join(known), name)
    for name in required_stages(m):
        if name not in m.stages:
            _refuse(m, "stages", f"{name}, which its tasks need", ", ".join(m.stages) or "none")
    joints = len(JOINT_SETS[m.joint_set].joints)
    for name, stage in m.stages.items():
        kind = base_name(name)
        _one_of(m, f"precision of {name}", PRECISIONS, stage.precision)
        if {"openvino", "onnxruntime"} & set(m.backends) and stage.onnx is None:
            _refuse(m, f"stage {name}", "an ONNX file", "none")
        if not stage.inputs or not stage.inputs[0].shape:
            _refuse(m, f"stage {name}", "inputs with shapes", "none")
        # The name says how many tasks a stage takes, and `StageRuntime.plan` counts down by it.
        batch = stage.inputs[0].shape[0]
        suffix = name.removeprefix(kind)
        _expect(m, f"batch of stage {name}", max(1, int(suffix[2:])) if suffix else 1, batch)
        given = _tensors(stage)
        expected = _expected_shapes(m, kind, batch, joints)
        for spec in m.features(name):
            made = next((t for t in m.stages["encode"].outputs if t.name == spec.name), None)
            if made is None:
                _refuse(m, f"input '{spec.name}' of stage {name}", "an output of encode", "none")
            expected["input", spec.name] = made.shape
        for key, shape in expected.items():
            found = given.get(key)
            _expect(m, f"{key[0]} '{key[1]}' of stage {name}", shape, found and found.shape)
        for (direction, tensor), spec in given.items():
            what = f"{direction} '{tensor}' of stage {name}"
            if any(n < 1 for n in spec.shape):
                _refuse(m, what, "positive sizes", spec.shape)
            usual = ("uint8",) if tensor == "frames" else ("float32",)
            _one_of(m, f"dtype of {what}", usual, spec.dtype)


def required_stages(m: Manifest) -> list[str]:
    """Lists the stages of every task, one at a time; one window where there are several at once."""
    kinds = {TASKS[task].kind for task in m.tasks}
    names = ["encode", *(["transform", "decode"] if "dense" in kinds else [])]
    names += ["keypoints"] if "sparse" in kinds else []
    names += [WINDOWS] if any(base_name(name) == WINDOWS for name in m.stages) else []
    return names


def _tensors(stage: Stage) -> dict[tuple[str, str], TensorSpec]:
    return {("input", t.name): t for t in stage.inputs} | {("output", t.name): t for t in stage.outputs}


def _expected_shapes(m: Manifest, kind: str, batch: int, joints: int) -> dict[tuple[str, str], tuple[int, ...]]:
    c, _, h, w = m.latent_shape
    rgb = (batch, m.frames, m.height, m.width, 3)
    video, latents = (batch, 3, m.frames, m.height, m.width), (batch, *m.latent_shape)
    start = kind.endswith("_init")
    # Frames of a VAE stream's call, of one latent frame; a transform stream starts with its window full.
    few, latent = (batch, 3, 1 if start else 4, m.height, m.width), (batch, c, 1, h, w)
    window = (m.window or 1) if start else 1
    seen, frames = (batch, c, window, h, w), 4 * window - (3 if start else 0)
    points = {
        ("output", "xy"): (batch, m.frames, joints, 2),
        ("output", "xyz"): (batch, m.frames, joints, 3),
        ("output", "visibility"): (batch, m.frames, joints),
    }
    window_width, window_height = m.windows or (0, 0)
    tables: dict[str, dict[tuple[str, str], tuple[int, ...]]] = {
        "encode": {("input", "frames"): rgb, ("output", "latents"): latents},
        "transform": {("input", "latents"): latents, ("output", "target"): latents},
        "keypoints": {("input", "latents"): latents, **points},
        WINDOWS: {("input", "frames"): (batch, m.frames, window_height, window_width, 3), **points},
        "decode": {("input", "latents"): latents, ("output", "video"): video},
        "encode_init": {("input", "video"): few, ("output", "latents"): latent},
        "decode_init": {("input", "latents"): latent, ("output", "video"): few},
        "transform_init": {("input", "latents"): seen, ("output", "target"): seen},
        "keypoints_init": {
            ("input", "latents"): seen,
            ("output", "xy"): (batch, frames, joints, 2),
            ("output", "xyz"): (batch, frames, joints, 3),
            ("output", "visibility"): (batch, frames, joints),
        },
    }
    return tables.get(kind) or tables[kind.replace("_step", "_init")]


def check_golden_entries(m: Manifest) -> None:
    """Where there are golden outputs, they are of every stage, with a limit for all that one may be computed in."""
    if m.golden is None:
        return
    for base in sorted({base_name(name) for name in m.stages}):
        seed = m.golden.seeds.get(base, -1)
        if seed < 0:
            _refuse(
                m, f"seed of the golden input of {base}", "0 or more", "none" if base not in m.golden.seeds else seed
            )
    # What a stage runs in is known on the machine: "auto" may be bf16, and some backends compute all in float32.
    used = {"fp32"} | {"bf16" if s.precision == "auto" else s.precision for s in m.stages.values()}
    for precision in (p for p in PRECISIONS if p in used):
        limit = m.golden.tolerance.get(precision)
        if limit is None or limit <= 0:
            _refuse(m, f"golden tolerance of {precision}", "a positive number", "none" if limit is None else limit)
    for name, stage in m.stages.items():
        missing = [t.name for t in stage.outputs if t.name not in m.golden.stages.get(name, {})]
        if missing:
            _refuse(m, f"golden outputs of stage {name}", ", ".join(missing), "none")


def check_prompts(m: Manifest) -> None:
    """An embedding for every task, of the shape that all stages with a prompt take."""
    if m.prompts is None:
        _refuse(m, "prompts", "a file with an embedding for every task", "none")
    shapes = {}
    for name, stage in m.stages.items():
        if base_name(name).startswith(("transform", "keypoints", WINDOWS)):
            shape = next((t.shape for t in stage.inputs if t.name == "prompt"), ())
            if len(shape) != 3 or shape[0] != stage.inputs[0].shape[0]:
                _refuse(m, f"input 'prompt' of stage {name}", "(batch, tokens, channels)", shape or None)
            shapes[name] = shape[1:]
    expected = shapes.get("transform") or shapes["keypoints"]  # one of them is required
    for name, shape in shapes.items():
        _expect(m, f"tokens and channels of input 'prompt' of stage {name}", expected, shape)
    prompts = read_prompts(m)
    for task in m.tasks:
        _expect(m, f"prompt of {task}", expected, prompts[task].shape if task in prompts else None)
