"""Opens what runs a model: a bundle by the best backend that works here, or a checkpoint folder by torch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.manifest import MANIFEST, Manifest, check_backend
from thfm_ros.engine.refusals import Refusal, one_line
from thfm_ros.engine.runtime import Check, StageRuntime, default_threads, task_stages
from thfm_ros.engine.stage_table import WINDOWS
from thfm_ros.errors import ParameterError, UserError
from thfm_ros.tasks import get_task


def load_runtime(
    path: str | Path,
    backend: str = "auto",
    threads: int | None = None,
    check: Check = "first",
    tasks: Sequence[str] | None = None,
    windows: tuple[int, int] | None = None,
) -> StageRuntime:
    """Opens a bundle, or a checkpoint folder with a torch backend, ready to run.

    Args:
        threads: of CPU backends; None: all.
        check: when golden inputs are compared on this machine: "first" time that a stage is needed here with this
            backend, "always" or "never".
        tasks: that will run; None: all of the bundle. Stages that only others need are loaded and checked when they
            are first used, and refuse no backend now.
        windows: width and height of a checkpoint's windows around people; None: those of the recipes. A bundle has
            its own.
    Raises:
        UserError: nothing works here, and why.
    """
    root = Path(path)
    check_backend(backend)
    if (root / "thfm.json").is_file() and not (root / MANIFEST).is_file():
        return _load_checkpoint(root, backend, threads, windows)
    manifest = open_bundle(root)
    offered = list(manifest.backends)  # the recipe's order, best first
    if backend != "auto" and backend not in offered:
        raise ParameterError(f"{root}: expected one of its backends ({', '.join(offered)}), found '{backend}'")
    asked = [t for t in manifest.tasks if tasks is None or t in tasks]
    stages = task_stages(manifest, asked)
    if any(get_task(task).kind == "sparse" for task in asked):
        stages += manifest.variants(WINDOWS).values()
    if backend != "auto":
        runtime = _open(backend, manifest, threads)
        runtime.guard(check)
        runtime.require(stages)
        return runtime
    refused: list[Refusal] = []
    for index, name in enumerate(offered):
        opened: StageRuntime | None = None
        try:
            opened = _open(name, manifest, threads)
            for stage in stages:
                opened.prepare(stage)
            opened.guard(check)
            opened.require(stages)
        except Exception as error:  # whatever a driver or library comes up with: the next one may work
            refused.append(Refusal(name, opened.computed_in if opened else "", one_line(error)))
            if opened is not None:
                opened.close()
            continue
        opened.refused = refused
        opened.notes = [f"{r.backend}: {r.reason}" for r in refused]
        opened.notes += [f"{other}: not tried, {name} works" for other in offered[index + 1 :]]
        return opened
    raise UserError(f"{root}: no backend works here: {'; '.join(f'{r.backend}: {r.reason}' for r in refused)}")


def _load_checkpoint(root: Path, backend: str, threads: int | None, windows: tuple[int, int] | None) -> StageRuntime:
    if backend not in ("auto", "torch", "torch_tensorrt"):
        raise ParameterError(
            f"{root} is a checkpoint, which only torch runs: expected backend torch, found '{backend}'; "
            f"export it first: thfm export {root} --recipe engines/cpu.yaml --out BUNDLE"
        )
    module = importlib.import_module("thfm_ros.engine.backends.torch_backend")
    return module.open_checkpoint(root, "torch" if backend == "auto" else backend, threads, windows)


def _open(name: str, manifest: Manifest, threads: int | None) -> StageRuntime:
    module = "torch_backend" if name == "torch_tensorrt" else f"{name}_backend"
    opened = importlib.import_module(f"thfm_ros.engine.backends.{module}")
    return opened.open_runtime(dataclasses.replace(manifest, backend=name), threads or default_threads())
