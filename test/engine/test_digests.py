"""A file is hashed once, and again as soon as anything about it may have changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from thfm_ros.engine.digests import FOLDER, digest
from thfm_ros.paths import cache_folder

REMEMBERED = "what was remembered"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whose remembered digest is not its own, so that it shows where nothing was hashed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "decode.engine"
    path.write_bytes(b"weights")
    assert digest(path, settled_ns=0) == hashlib.sha256(b"weights").hexdigest()
    record = only_record()
    state, _ = json.loads(record.read_text())
    record.write_text(json.dumps([state, REMEMBERED]))
    return path


def only_record() -> Path:
    (record,) = cache_folder(FOLDER).glob("*.json")
    return record


def test_an_unchanged_file_is_not_hashed_again(file: Path) -> None:
    assert digest(file) == REMEMBERED


def in_place(file: Path) -> None:
    """Same size, and its time is put back, as copying tools do."""
    before = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_another(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"WEIGHTS")
    before = file.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)


def longer(file: Path) -> None:
    file.write_bytes(b"weights and more")


@pytest.mark.parametrize("change", [in_place, by_another, longer])
def test_a_changed_file_is_hashed_again(change: Callable[[Path], None], file: Path) -> None:
    change(file)
    assert digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("text", ["", "{", "3", "[1, 2]", '[[1, 2, 3], "x"]', "[null, null, null]"])
def test_a_damaged_record_only_costs_time(text: str, file: Path) -> None:
    only_record().write_text(text)
    assert digest(file) == hashlib.sha256(b"weights").hexdigest()


def test_what_changed_a_moment_ago_is_not_remembered(file: Path) -> None:
    """Its time may stand still while its bytes change."""
    file.write_bytes(b"new")
    record = only_record()
    before = record.read_text()
    assert digest(file, settled_ns=3600 * 10**9) == hashlib.sha256(b"new").hexdigest()
    assert record.read_text() == before
