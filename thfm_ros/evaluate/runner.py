"""Runs a predictor over recordings; rows are kept on disk, so that an interrupted run continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.evaluate.benchmarks import Benchmark
from thfm_ros.evaluate.predictors import Predictor
from thfm_ros.evaluate.readers.base import Recording
from thfm_ros.evaluate.report import Report, plain, write_json
from thfm_ros.evaluate.scores import Options, Row

Step = Callable[[str, int], None]  # name of the recording, its frames; called when it is done


def key_of(*parts: Any) -> str:
    """Short hash of everything that a row depends on."""
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True).encode()).hexdigest()[:16]


class RowStore:
    """Rows by name in a folder of JSON files, each with the key of what it depends on."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def path(self, name: str) -> Path:
        """Unique even where two names differ only in characters that file systems dislike."""
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80]
        return self.folder / f"{safe}.{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"

    def load(self, name: str) -> Row | None:
        """The row, or None where there is none, it is damaged, or it was made under other conditions."""
        try:
            stored = json.loads(self.path(name).read_text())
            return stored["row"] if stored["key"] == self.key and stored["name"] == name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, name: str, row: Row) -> None:
        write_json(self.path(name), {"name": name, "key": self.key, "row": row})


def evaluate(
    benchmark: Benchmark,
    recordings: Sequence[Recording],
    predictor: Predictor,
    options: Options,
    folder: Path,
    command: str = "",
    resume: bool = True,
    step: Step = lambda name, frames: None,
) -> Report:
    """Scores every recording (or takes its row from `folder`), summarises, and writes the report into `folder`."""
    missing = [t for t in benchmark.needs(options) if t not in predictor.tasks]
    if missing:
        raise UserError(f"{benchmark.name} needs {', '.join(missing)}, {predictor.name} gives {list(predictor.tasks)}")
    names = [r.name for r in recordings]
    if len(set(names)) != len(names):
        raise UserError(f"{benchmark.name}: two recordings share one name: {sorted(names)}")
    if recordings and recordings[0].joints is not None:
        recordings[0].joints()  # a missing body model is an error before the work, not after the first sequence
    options = {**options, "predicted_joint_set": predictor.joint_set}
    rows: dict[str, Row] = {}
    for recording in recordings:
        store = RowStore(folder / "rows", key_of(benchmark.name, options, predictor.identity, recording.stamp()))
        row = store.load(recording.name) if resume else None
        if row is None:
            row = _score(benchmark, recording, predictor, options)
            store.save(recording.name, row)
            row = store.load(recording.name)  # what a resumed run would see
            assert row is not None
        rows[recording.name] = row
        step(recording.name, recording.frames)
    protocol = {
        **options,
        **_facts(rows.values()),
        "recordings": len(rows),
        "frames_evaluated": sum(r.frames for r in recordings),
        "frame_rate": ", ".join(sorted({f"{r.fps:g} Hz" for r in recordings})),
        "network_input": "x".join(map(str, predictor.size)) if predictor.size else "as recorded",
    }
    frames = sum(row["frames"] for row in rows.values())
    report = Report(
        benchmark.name,
        benchmark.title,
        command,
        predictor.name,
        predictor.identity,
        protocol,
        benchmark.summarise(list(rows.values()), options),
        {name: benchmark.summarise([row], options) for name, row in rows.items()},
        sum(row["seconds"] for row in rows.values()) / frames if frames else float("nan"),
        benchmark.table,
    )
    report.write(folder)
    return report


def _facts(rows: Iterable[Row]) -> dict[str, str]:
    """What the rows tell about the protocol, each value once; many (sizes of photos) shortened to how many."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in row["facts"].items():
            found.setdefault(name, {})[value] = None
    return {
        name: ", ".join(values) if len(values) <= 8 else f"{len(values)} different: {', '.join([*values][:3])} .."
        for name, values in found.items()
    }


def _score(benchmark: Benchmark, recording: Recording, predictor: Predictor, options: Options) -> Row:
    begin = time.perf_counter()
    video = recording.still() if getattr(predictor, "blind", False) else recording.video(predictor.size)
    read = time.perf_counter()
    intrinsics = recording.intrinsics
    if intrinsics is not None:
        intrinsics = intrinsics.resized(video.shape[2], video.shape[1])
    prediction = predictor.predict(video, intrinsics)
    predicted = time.perf_counter()
    row = benchmark.score(recording, prediction, options)
    scored = time.perf_counter()
    times = {"read": read - begin, "predict": predicted - read, "score": scored - predicted}
    return {**row, "frames": recording.frames, "seconds": float(prediction["seconds"]), "times_s": times}
