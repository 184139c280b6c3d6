"""A bar with rate and time left on stderr, for work that takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str, total: int | None, unit: str, kept: str = "") -> Iterator[Callable[[int], None]]:
    """Yields a function that tells how much more was done.

    total: None where nobody knows. kept: words for an early end, about what was done by then.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + ", {task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            state = bar.tasks[0]
            rate = state.completed / state.elapsed if state.elapsed else 0.0
            bar.update(task, rate=f"{rate:.2g} {unit}/s")

        try:
            yield advance
        except BaseException:
            if kept and (done := int(bar.tasks[0].completed)):
                bar.console.print(f"ended early, after {done} of {total or '?'} {unit}: {kept}", markup=False)
            raise
