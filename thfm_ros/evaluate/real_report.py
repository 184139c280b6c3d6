"""Figures of real pictures as Markdown and JSON: one column of figures for each network or file of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thfm_ros.evaluate.report import UNITS, number, plain, table, write_json
from thfm_ros.files import write_text

Figures = dict[str, dict[str, float]]  # group (of people, pictures, joints) -> metric -> value


@dataclass
class RealReport:
    """figures: predictor -> group -> metric -> value. identities: predictor -> what the numbers depend on."""

    benchmark: str
    title: str
    command: str
    protocol: Mapping[str, Any]
    figures: dict[str, Figures] = field(default_factory=dict)
    identities: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return plain(self.__dict__)

    def markdown(self) -> str:
        """Groups that have the same metrics share a table; a row for each group and predictor."""
        lines = [f"# {self.title}", "", f"`{self.command}`"]
        for metrics, groups in self._tables().items():
            header = ["", *(["answered by"] if len(self.figures) > 1 else []), *(UNITS.get(m, m) for m in metrics)]
            rows = []
            for group in groups:
                for name, figures in self.figures.items():
                    if group in figures:
                        values = [number(figures[group].get(m)) for m in metrics]
                        rows.append([group, *([name] if len(self.figures) > 1 else []), *values])
            lines += ["", table(header, rows)]
        protocol = [[k, str(v)] for k, v in self.protocol.items()]
        identities = [[n, ", ".join(f"{k} {v}" for k, v in i.items())] for n, i in self.identities.items()]
        lines += ["", "Protocol:", "", table(["choice", "value"], protocol + identities)]
        return "\n".join(lines) + "\n"

    def _tables(self) -> dict[tuple[str, ...], list[str]]:
        """Metrics -> the groups that have them, in the order in which they come."""
        tables: dict[tuple[str, ...], list[str]] = {}
        for figures in self.figures.values():
            for group, values in figures.items():
                groups = tables.setdefault(tuple(values), [])
                if group not in groups:
                    groups.append(group)
        return tables

    def write(self, folder: Path) -> None:
        """report.md and report.json."""
        write_text(folder / "report.md", self.markdown())
        write_json(folder / "report.json", self.as_dict())
