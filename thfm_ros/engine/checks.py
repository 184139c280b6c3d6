"""What `bundle.open_bundle` checks after the JSON was read: files, values, stages, golden outputs, prompts.

Every refusal is one line: what was expected, what was found, and the command that rebuilds. numpy and the standard
library only.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any, NoReturn

from thfm_ros.engine.digests import digest
from thfm_ros.engine.manifest import BACKENDS, PRECISIONS, Manifest, read_prompts
from thfm_ros.engine.stage_table import FEATURES, STAGES, WINDOWS, Geometry, TensorSpec, base_name, batch_of
from thfm_ros.errors import UserError
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.tasks import TASKS

SUFFIXES = (".onnx", ".data", ".engine", ".safetensors", ".json", ".md")  # nothing that can hold a pickle


def check_bundle(manifest: Manifest) -> None:
    """UserError with the first check that fails."""
    check_files(manifest)
    check_values(manifest)
    check_stages(manifest, check_prompts(manifest))
    check_golden_entries(manifest)


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
        if (found := digest(path)) != entry.sha256:
            raise UserError(f"{path} was changed: expected sha256 {entry.sha256}, found {found}; {again}")


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


def check_stages(m: Manifest, prompt: tuple[int, ...]) -> None:
    """Every stage that the tasks and backends need is there; inputs and outputs of all follow from the clip.

    prompt: (L, D) of every task.
    """
    for name in m.stages:
        if base_name(name) not in STAGES or batch_of(name) < 1:
            _refuse(m, "stages", ", ".join(STAGES), name)
    for name in required_stages(m):
        if name not in m.stages:
            _refuse(m, "stages", f"{name}, which its tasks need", ", ".join(m.stages) or "none")
    geometry = _geometry(m, prompt)
    for name, stage in m.stages.items():
        _one_of(m, f"precision of {name}", PRECISIONS, stage.precision)
        if {"openvino", "onnxruntime"} & set(m.backends) and stage.onnx is None:
            _refuse(m, f"stage {name}", "an ONNX file", "none")
        for side in ("inputs", "outputs"):
            specs: tuple[TensorSpec, ...] = getattr(geometry, side)(name)
            given: tuple[TensorSpec, ...] = getattr(stage, side)
            _expect(m, f"{side} of stage {name}", *(", ".join(t.name for t in of) for of in (specs, given)))
            for t, found in zip(specs, given, strict=True):
                what = f"'{t.name}' of stage {name}"
                if min(t.shape) < 1:
                    _refuse(m, what, "positive sizes", found.shape)
                _expect(m, what, f"{t.shape} of {t.dtype}", f"{found.shape} of {found.dtype}")


def _geometry(m: Manifest, prompt: tuple[int, ...]) -> Geometry:
    """Of the clip, the prompts, what `encode` gives and the windows: one place each, which the rest must fit."""
    features = [(re.fullmatch(rf"{FEATURES}_([1-9]\d*)", t.name), t.shape) for t in m.stages["encode"].outputs]
    channels = {int(found[1]): shape[1] for found, shape in features if found and len(shape) == 5}
    taken = {t.name for t in m.stages["keypoints"].inputs} if "keypoints" in m.stages else set()
    return Geometry(
        *(m.frames, m.height, m.width, m.latent_shape, len(JOINT_SETS[m.joint_set].joints)),
        prompt=prompt,
        features=tuple(channels.items()),
        seen=tuple(stride for stride in channels if f"{FEATURES}_{stride}" in taken),
        windows=m.windows,
    )


def required_stages(m: Manifest) -> list[str]:
    """Lists the stages of every task, one at a time; one window where there are several at once."""
    kinds = {TASKS[task].kind for task in m.tasks}
    names = ["encode", *(["transform", "decode"] if "dense" in kinds else [])]
    names += ["keypoints"] if "sparse" in kinds else []
    names += [WINDOWS] if any(base_name(name) == WINDOWS for name in m.stages) else []
    return names


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


def check_prompts(m: Manifest) -> tuple[int, ...]:
    """An embedding (tokens, channels) for every task, all of one shape, which comes back."""
    if m.prompts is None:
        _refuse(m, "prompts", "a file with an embedding for every task", "none")
    prompts = read_prompts(m)
    missing = [task for task in m.tasks if task not in prompts]
    if missing:
        _refuse(m, "prompts", f"an embedding of {', '.join(missing)}", "none")
    expected = prompts[m.tasks[0]].shape
    if len(expected) != 2:
        _refuse(m, f"prompt of {m.tasks[0]}", "(tokens, channels)", expected)
    for task in m.tasks:
        _expect(m, f"prompt of {task}", expected, prompts[task].shape)
    return expected
