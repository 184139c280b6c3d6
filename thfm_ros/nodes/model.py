"""Loads what the node runs, and tries it once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rclpy.logging import get_logger

from thfm_ros.errors import ParameterError

if TYPE_CHECKING:
    from thfm_ros.engine.runtime import Runtime


def default_loader(
    bundle: str, backend: str, threads: int, stop: Callable[[], bool], tasks: Sequence[str] | None = None
) -> Runtime:
    """The engine's runtime for these tasks (None: all). Imported here, so that the node starts (and explains itself)
    without it."""
    from thfm_ros.engine.load import load_runtime
    from thfm_ros.engine.shipped import shipped_bundle

    path = bundle or shipped_bundle(stop, get_logger("perception").info)
    return load_runtime(path, backend=backend, threads=threads or None, tasks=tasks)


def no_task(found: Iterable[str]) -> str:
    """What is wrong with tasks of which the bundle has none."""
    return f"the bundle has none of the tasks asked for: it has {', '.join(found)}"


def lacking(found: Collection[str], asked: Iterable[str]) -> list[str]:
    """Names the tasks asked for that the bundle lacks: a line, or none."""
    missing = [t for t in asked if t not in found]
    if not missing:
        return []
    return [f"tasks: expected tasks of the bundle, which has {', '.join(found)}; ignored: {', '.join(missing)}"]


def first_pass(runtime: Runtime, tasks: Sequence[str]) -> None:
    """One pass on black frames: what is compiled or allocated at first use is paid for here, not on a robot's first
    frame; and a bundle that cannot run fails at configure. ParameterError where it has none of the tasks."""
    m = runtime.manifest
    offered = [t for t in tasks if t in m.tasks]
    if not offered:
        raise ParameterError(no_task(m.tasks))
    runtime.predict(np.zeros((m.frames, m.height, m.width, 3), np.uint8), offered)
