"""The cache saves time and is no must: where it cannot be written, one warning says so and the work goes on."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from thfm_ros import paths
from thfm_ros.errors import UserError

ROOT = Path(__file__).parents[2]
UNKNOWN_UID = 54321


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has said nothing yet, with temporary files of its own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    paths._warned.clear()
    paths._private_root.cache_clear()


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))


def test_the_users_cache_is_taken_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    assert paths.cache_folder("bundles") == tmp_path / "a" / "b" / "thfm_ros" / "bundles"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.cache_folder("x/y") == tmp_path / "home" / ".cache" / "thfm_ros" / "x" / "y"
    assert caplog.records == []


def test_without_it_temporary_files_are_used_and_one_warning_names_the_fix(
    unwritable: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [paths.cache_folder("bundles"), paths.optional_cache_folder("golden"), paths.cache_folder("bundles")]
    root = tmp_path / "tmp" / f"thfm_ros-{os.getuid()}"
    assert folders == [root / "bundles", root / "golden", root / "bundles"]  # the same for the next process
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "XDG_CACHE_HOME" in record.message
    assert "\n" not in record.message


def test_a_user_without_a_home_has_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert paths.cache_folder("bundles").is_relative_to(tmp_path / "tmp")
    assert str(paths.video_path("~/film.mp4")).endswith("film.mp4")


def test_a_part_of_the_cache_that_belongs_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "thfm_ros").mkdir()
    (tmp_path / "thfm_ros" / "golden").write_text("in the way")
    assert paths.cache_folder("golden").is_relative_to(tmp_path / "tmp")
    assert paths.cache_folder("bundles") == tmp_path / "thfm_ros" / "bundles"


@pytest.mark.parametrize("kind", ["link", "open to all"])
def test_a_name_that_somebody_took_is_not_trusted(kind: str, unwritable: None, tmp_path: Path) -> None:
    taken = tmp_path / "tmp" / f"thfm_ros-{os.getuid()}"
    if kind == "link":
        (tmp_path / "theirs").mkdir()
        taken.symlink_to(tmp_path / "theirs")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    folder = paths.cache_folder("bundles")
    assert not folder.resolve().is_relative_to(taken.resolve())
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_where_nothing_can_be_written_it_is_one_line(
    unwritable: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(UserError, match="set XDG_CACHE_HOME"):
        paths.cache_folder("bundles")
    assert paths.optional_cache_folder("golden") is None
    assert len(caplog.records) == 1


def test_what_is_in_a_cache_that_can_only_be_read_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "thfm_ros" / "bundles" / "ready").mkdir(parents=True)
    monkeypatch.setattr(paths, "why_not_writable", lambda folder: "read-only")
    assert paths.cache_entry("bundles", "ready") == tmp_path / "thfm_ros" / "bundles" / "ready"
    assert paths.cache_entry("bundles", "new").is_relative_to(tmp_path / "tmp")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody whom the system does not know")
def test_a_process_of_an_unknown_user_without_home() -> None:
    """As in a container that was started with --user: the real thing, in a process of its own."""
    code = (
        "import os\n"
        "from thfm_ros import paths\n"
        f"os.setgid({UNKNOWN_UID}); os.setuid({UNKNOWN_UID})\n"
        "print(paths.cache_folder('golden')); paths.cache_folder('openvino')"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own is closed to others
        Path(folder).chmod(0o1777)
        environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": folder}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"thfm_ros-{UNKNOWN_UID}" in done.stdout
    assert done.stderr.count("XDG_CACHE_HOME") == 1
