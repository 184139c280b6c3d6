"""Files are whole or not there, whoever dies; of several processes one makes what they share."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, clear_abandoned, clear_abandoned_in, files_below, locked, write_json, write_text


def process(code, *arguments):
    """A real process; its first line of output is awaited."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    return child


def test_files_behind_links_are_found_once(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    (folder / "sub").mkdir(parents=True)
    (other / "deep").mkdir(parents=True)
    for path in (folder / "b", folder / ".hidden", folder / "sub" / "a", other / "deep" / "c"):
        path.touch()
    (folder / "link").symlink_to(other)
    (folder / "second").symlink_to(other)
    (other / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to(tmp_path / "none")
    assert files_below(folder) == [folder / "b", folder / "link" / "deep" / "c", folder / "sub" / "a"]
    assert files_below(tmp_path / "none") == []


HALF = """
import sys
from thfm_ros.files import atomic
with atomic(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    sys.stdin.readline()
    temporary.write_text("whole")
"""


def test_a_file_is_there_when_its_block_ends_and_not_before(tmp_path):
    path = tmp_path / "deep" / "a.json"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert temporary.name == path.name  # for writers that look at the ending
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_what_gets_its_name_is_on_the_disk(tmp_path, monkeypatch):
    """A power cut after the renaming would otherwise leave empty files under the right names."""
    flushed = []

    def fsync(descriptor):
        there = tmp_path / "bundle"
        flushed.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), there.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic(tmp_path / "bundle") as temporary:
        (temporary / "weights").mkdir(parents=True)
        (temporary / "weights" / "x").write_text("x")
    assert flushed == [("bundle", False), ("weights", False), ("x", False), (tmp_path.name, True)]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failing_block_leaves_what_was_there(kind, tmp_path):
    path = tmp_path / "a"
    content = path if kind == "file" else path / "inside"

    def make(place, text):
        if kind == "folder":
            place.mkdir()
            place = place / "inside"
        place.write_text(text)

    make(path, "old")
    with pytest.raises(RuntimeError, match="no"), atomic(path) as temporary:  # noqa: PT012
        make(temporary, "new")
        raise RuntimeError("no")
    assert content.read_text() == "old"
    with atomic(path) as temporary:
        make(temporary, "new")
    assert content.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_may_not_be_replaced_is_kept(tmp_path):
    def make(text):
        with atomic(tmp_path / "a", replace=False) as folder:
            folder.mkdir()
            (folder / "inside").write_text(text)

    make("first")
    with pytest.raises(FileExistsError, match="a_2"):
        make("second")
    assert (tmp_path / "a" / "inside").read_text() == "first"
    assert (tmp_path / "a_2" / "inside").read_text() == "second"  # nobody's work is lost


def test_temporaries_of_a_killed_process_go_and_those_of_a_living_one_stay(tmp_path):
    path = tmp_path / "a[1].txt"  # means itself, not a pattern
    dead, living = (process(HALF, path) for _ in range(2))
    assert len(list(tmp_path.iterdir())) == 2
    dead.kill()
    dead.wait()
    clear_abandoned(path)
    assert len(list(tmp_path.iterdir())) == 1
    living.communicate("go on\n", timeout=60)
    assert living.returncode == 0
    assert [p.read_text() for p in tmp_path.iterdir()] == ["whole"]


def test_a_cache_is_cleared_of_abandoned_entries_of_any_name(tmp_path):
    dead, living = (process(HALF, tmp_path / name) for name in ("cpu-3-old", "cpu-4-new"))
    dead.kill()
    dead.wait()
    clear_abandoned_in(tmp_path)
    left = [path.name for path in tmp_path.iterdir()]
    living.kill()
    living.wait()
    assert len(left) == 1
    assert left[0].startswith(".cpu-4-new.")


def test_the_next_writer_clears_what_a_killed_one_left(tmp_path):
    dead = process(HALF, tmp_path / "a.txt")
    dead.kill()
    dead.wait()
    write_text(tmp_path / "a.txt", "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_pipes_and_links_stay_what_they_are(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    done = subprocess.run(
        [sys.executable, "-c", "from thfm_ros.files import write_json; write_json('/dev/stdout', [1], indent=None)"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"[1]\n"
    write_text("/dev/null", "nothing")
    assert not os.path.isfile("/dev/null")


def test_a_place_that_cannot_be_written_is_one_line():
    with pytest.raises(UserError, match=r"cannot write /proc/a\.json: .*: choose another place"):
        write_json("/proc/a.json", {})


HOLD = """
import sys
from thfm_ros.files import locked
with locked(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_the_lock_is_one_process_s_and_freed_when_it_is_killed(tmp_path):
    holder = process(HOLD, tmp_path / "a")
    waited = []

    def waiting():
        waited.append(time.monotonic())
        os.kill(holder.pid, signal.SIGKILL)

    with locked(tmp_path / "a", waiting=waiting) as ours:
        assert ours
        assert holder.wait(60) == -signal.SIGKILL
    assert len(waited) == 1


def test_waiting_for_a_lock_can_be_given_up(tmp_path):
    with locked(tmp_path / "a") as first, locked(tmp_path / "a", stop=lambda: True) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "a", stop=lambda: True) as free:
        assert free


@pytest.mark.parametrize("unknown", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_makes_nobody_wait(unknown, tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(unknown, os.strerror(unknown))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "a", stop=lambda: True) as ours:
        assert ours
