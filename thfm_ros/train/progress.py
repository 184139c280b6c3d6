"""What a run shows and records: a progress bar, log.jsonl, TensorBoard scalars and pictures. First process only."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor


class Progress:
    """Lines of log.jsonl: {"kind": "loss" | "metrics", "step", "samples", "seconds", ...}."""

    def __init__(self, out: Path, steps: int, start: int, active: bool) -> None:
        self.active, self.out = active, out
        self.seconds = 0.0
        self.since, self.since_step = time.monotonic(), start
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        out.mkdir(parents=True, exist_ok=True)
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns)
        self.task = self.bar.add_task("training", total=steps, completed=start)
        self.file = (out / "log.jsonl").open("a", buffering=1)

    def __enter__(self) -> Progress:
        if self.active:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.active:
            self.bar.stop()
            self.writer.close()
            self.file.close()

    def advance(self) -> None:
        if self.active:
            self.bar.advance(self.task)

    def log(self, step: int, samples: int, losses: dict[str, float], record: dict[str, Any]) -> None:
        if not self.active:
            return
        self.seconds = record["seconds"]
        now = time.monotonic()
        rate = (step - self.since_step) / max(1e-9, now - self.since)
        self.since, self.since_step = now, step
        self._write("loss", step, samples, losses, rate=round(rate, 4), dropped=record["dropped"])
        self.bar.update(self.task, description=f"loss {losses['loss']:.4f}  {rate:.2f} steps/s")
        if not self.bar.console.is_terminal:
            self.bar.console.print(f"step {step}  loss {losses['loss']:.4f}  {rate:.2f} steps/s")

    def metrics(self, step: int, samples: int, metrics: dict[str, float], pictures: dict[str, Tensor]) -> None:
        if not self.active:
            return
        self._write("metrics", step, samples, metrics)
        for name, picture in pictures.items():
            self.writer.add_image(name, picture, step)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.bar.console.print(f"step {step}  held out: {shown}", markup=False)

    def _write(self, kind: str, step: int, samples: int, values: dict[str, float], **more: Any) -> None:
        line = {"kind": kind, "step": step, "samples": samples, "seconds": round(self.seconds, 1), **more, **values}
        self.file.write(json.dumps(line) + "\n")
        for name, value in values.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)
