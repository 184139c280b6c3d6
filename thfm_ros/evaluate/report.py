"""A benchmark's outcome as Markdown and JSON: our row, the published rows, and every choice of the protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros import files
from thfm_ros.evaluate.published import TABLES

UNITS = {
    "mean_deg": "mean (°) ↓", "median_deg": "median (°) ↓", "rmse_deg": "RMSE (°) ↓", "within_5": "< 5° (%) ↑",
    "within_11.25": "< 11.25° (%) ↑", "within_22.5": "< 22.5° (%) ↑", "within_30": "< 30° (%) ↑",
    "rmse": "RMSE (m) ↓", "abs_rel": "AbsRel ↓", "delta1": "δ < 1.25 ↑", "mad": "MAD ↓", "mse": "MSE ↓",
    "grad": "Grad ↓", "conn": "Conn ↓", "sad": "SAD ↓", "dtssd": "dtSSD ↓", "iou": "IoU ↑", "epe": "EPE ↓",
    "pck_0.05": "PCK@0.05 ↑", "mpjpe": "MPJPE (mm) ↓", "pa_mpjpe": "PA-MPJPE (mm) ↓", "accel": "Accel (m/s²) ↓",
    "jitter": "jitter (10 m/s³)", "jitter_truth": "jitter of the truth", "change_at_borders": "change error at borders",
    "mota": "MOTA ↑", "idf1": "IDF1 ↑", "hota": "HOTA ↑", "deta": "DetA ↑", "assa": "AssA ↑",
    "switches": "id switches ↓", "switches_minute": "switches a person and minute ↓", "ms_frame": "ms a frame",
    "pck_found": "PCK@0.05 of those found ↑", "false_frame": "false people a frame ↓",
    "change_inside": "change error elsewhere", "seam_ratio": "seam ratio (1: none)",
    "pck_0.1": "PCK@0.1 ↑", "oks": "OKS ↑", "oks_0.5": "OKS > 0.5 ↑", "missed": "missed ↓", "reported": "reported ↓",
    "mask": "in the mask ↓", "masked": "with a mask ↓", "ap": "AP ↑", "ap_0.5": "AP@0.5", "ap_0.75": "AP@0.75",
    "ap_small": "AP small", "ap_medium": "AP medium", "ap_large": "AP large", "ar": "AR ↑", "ar_0.5": "AR@0.5",
    "ar_0.75": "AR@0.75", "ar_medium": "AR medium", "ar_large": "AR large", "ar_1": "AR of 1", "ar_10": "AR of 10",
}  # fmt: skip


def plain(value: Any) -> Any:
    """numpy to JSON values; NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """Writes a whole JSON file or none, numpy's values as plain ones. UserError where it cannot be written."""
    files.write_json(path, plain(value), indent=1)


def number(value: float | None) -> str:
    """Four significant digits; an en dash where nothing is known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left-aligned and the others right-aligned."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


@dataclass
class Report:
    """results: metric -> value over all recordings; details: recording -> its own summary."""

    benchmark: str
    title: str
    command: str
    predictor: str
    identity: Mapping[str, Any]
    protocol: Mapping[str, Any]
    results: Mapping[str, float]
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds_per_frame: float = float("nan")
    table: str | None = None

    def as_dict(self) -> dict[str, Any]:
        published = TABLES.get(self.table or "")
        return {
            "benchmark": self.benchmark,
            "command": self.command,
            "predictor": {"name": self.predictor, **self.identity},
            "protocol": dict(self.protocol),
            "results": dict(self.results),
            "seconds_per_frame": self.seconds_per_frame,
            "recordings": dict(self.details),
            "published": None
            if published is None
            else {
                "source": published.source,
                "rows": {m: dict(zip(published.columns, v, strict=True)) for m, v in published.rows.items()},
            },
        }

    def markdown(self) -> str:
        published = TABLES.get(self.table or "")
        first = [c for c in (published.columns if published else ()) if c in self.results]
        columns = [*first, *(c for c in self.results if c not in first)]
        rows = [[f"**{self.predictor}** (this run)", *(f"**{number(self.results[c])}**" for c in columns)]]
        if published:
            for method, values in published.rows.items():
                known = dict(zip(published.columns, values, strict=True))
                rows.append([method, *(number(known.get(c)) for c in columns)])
        lines = [f"# {self.title}", "", f"`{self.command}`", "", table(["", *(UNITS.get(c, c) for c in columns)], rows)]
        if published:
            lines += ["", f"Rows other than this run's: {published.source}."]
        lines += ["", "## Protocol", "", table(["choice", "value"], [[k, str(v)] for k, v in self.protocol.items()])]
        identity = [[k, str(v)] for k, v in self.identity.items()]
        speed = [["seconds a frame, all tasks, here", number(self.seconds_per_frame)]]
        lines += ["", "## Predictor", "", table(["", ""], identity + speed)]
        if self.details:
            body = [[name, *(number(d.get(c)) for c in columns)] for name, d in self.details.items()]
            lines += ["", "## Recordings", "", table(["recording", *(UNITS.get(c, c) for c in columns)], body)]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """report.md and report.json."""
        files.write_text(folder / "report.md", self.markdown())
        write_json(folder / "report.json", self.as_dict())
