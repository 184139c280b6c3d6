"""The golden check of a runtime's stages, each at most once on a machine: what was found is remembered in the user's
cache, passes and refusals alike.

One file for every bundle, device and version of the software. A cache that cannot be written only costs time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from thfm_ros.engine.golden import CHECK, RunStage, check_stage
from thfm_ros.engine.manifest import MANIFEST, Manifest, Stage, read_prompts, sha256
from thfm_ros.errors import UserError
from thfm_ros.paths import cache_entry, optional_cache_folder

FOLDER = "golden"
RECHECK = "thfm doctor --recheck"


@dataclass
class Verdicts:
    """Holds what one bundle does on one device. passed: stages. refused: stage -> what differs. threads: of a CPU."""

    bundle: str
    manifest: str
    backend: str
    device: str
    threads: int | None
    passed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class StageChecks:
    """Checks stages when they are first needed.

    again: check also what is remembered. precision: what a stage is really computed in on this machine.
    """

    def __init__(
        self, manifest: Manifest, device: str, threads: int | None, precision: Callable[[Stage], str], again: bool
    ) -> None:
        self._manifest, self._precision = manifest, precision
        self._verdicts = recall(manifest, device, threads)
        if again:
            self._verdicts = replace(self._verdicts, passed=[], refused={})
        self._before = set(self._verdicts.refused)

    def require(self, names: Iterable[str], run: RunStage) -> None:
        """UserError unless every stage computes here what it should."""
        verdicts, known = self._verdicts, {*self._verdicts.passed, *self._verdicts.refused}
        names = list(names)
        unknown = [name for name in names if name not in known]
        if unknown and not verdicts.refused.keys() & set(names):
            prompts = read_prompts(self._manifest)
            for name in unknown:
                if problem := check_stage(self._manifest, name, run, self._precision, prompts):
                    verdicts.refused[name] = problem
                    break
                verdicts.passed.append(name)
            remember(verdicts)
        for name in names:
            if name in verdicts.refused:
                when = f" (found before: {RECHECK} checks again)" if name in self._before else ""
                raise UserError(
                    f"{self._manifest.root}: {verdicts.refused[name]}{when}; rebuild: {self._manifest.rebuild}"
                )


def recall(manifest: Manifest, device: str, threads: int | None) -> Verdicts:
    """What is remembered of this very bundle on this very device; empty where nothing is."""
    digest = sha256(manifest.root / MANIFEST)
    empty = Verdicts(str(manifest.root.absolute()), digest, manifest.backend, device, threads)
    try:
        found = _read(cache_entry(FOLDER, _name(digest, device)))
    except UserError:
        found = None
    if found is None or (found.manifest, found.device) != (digest, device):
        return empty
    return replace(empty, passed=found.passed, refused=found.refused)


def remember(verdicts: Verdicts) -> None:
    """Keeps `verdicts` for the next start, complete or not at all."""
    folder = optional_cache_folder(FOLDER)
    if folder is None:
        return
    record = folder / _name(verdicts.manifest, verdicts.device)
    temporary = record.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError):
        temporary.write_text(json.dumps(asdict(verdicts), indent=1) + "\n")
        os.replace(temporary, record)


def remembered() -> list[Verdicts]:
    """All that still hold: of this very check, and their bundles are there, unchanged."""
    try:
        records = sorted(cache_entry(FOLDER, "").glob("*.json"))
    except (UserError, OSError):
        return []
    found = [v for record in records if (v := _read(record)) is not None and record.name == _name(v.manifest, v.device)]
    return [v for v in found if _digest(Path(v.bundle) / MANIFEST) == v.manifest]


def _read(record: Path) -> Verdicts | None:
    try:
        data = json.loads(record.read_text())
        verdicts = Verdicts(**data)
    except (OSError, ValueError, TypeError):
        return None  # none, damaged, or of another release
    sound = isinstance(verdicts.passed, list) and isinstance(verdicts.refused, dict)
    return verdicts if sound else None


def _digest(manifest: Path) -> str:
    try:
        return sha256(manifest)
    except OSError:
        return ""


def _name(digest: str, device: str) -> str:
    key = hashlib.sha256(f"{CHECK} {digest} {device}".encode()).hexdigest()
    return f"{key[:32]}.json"
