"""Held-out metrics over samples seen, from the logs of one or more runs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.paths import PICTURES, writable_picture

KINDS = (*PICTURES, ".pdf", ".svg")


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The held-out lines of a run's log.jsonl; a repeated step (a resumed run) counts once, the last one."""
    file = run / "log.jsonl"
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"expected a run's log at {file}: {error}") from None
    found = {line["step"]: line for line in lines if isinstance(line, dict) and line.get("kind") == "metrics"}
    if not found:
        raise UserError(f"{file} has no held-out metrics yet: train longer or lower evaluate_every")
    return [found[step] for step in sorted(found)]


def labels(runs: Sequence[Path]) -> dict[str, Path]:
    """Names every run by the shortest end of its path that no other run has; a run that is given twice counts once."""
    paths = {Path(os.path.abspath(run)): run for run in runs}  # also "." has a name then
    found = {}
    for path, run in paths.items():
        others = [other.parts for other in paths if other != path]
        ends = (path.parts[-length:] for length in range(1, len(path.parts) + 1))
        end = next((end for end in ends if not any(o[-len(end) :] == end for o in others)), path.parts)
        found[str(Path(*end))] = run
    return found


def plot_runs(runs: Sequence[Path], out: Path, metrics: Sequence[str] = ()) -> None:
    """Draws a small panel for every metric, a curve for every run."""
    writable_picture(out, kinds=KINDS)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    logs = {label: read_metrics(run) for label, run in labels(runs).items()}
    skip = {"kind", "step", "samples", "seconds", "score"}
    known = list(dict.fromkeys(key for log in logs.values() for line in log for key in line if key not in skip))
    for name in metrics:
        if name not in known:
            raise UserError(f"unknown metric '{name}': the logs have {', '.join(known)}")
    names = list(metrics) or known
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.8 * rows), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        for label, log in logs.items():
            points = [(line["samples"], line[name]) for line in log if name in line]
            axis.plot(*zip(*points, strict=True), marker=".", label=label) if points else None
        axis.set(title=name, xlabel="samples seen", xscale="log")
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_visible(False)
    axes.flat[0].legend()
    figure.tight_layout()
    with atomic(out) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
