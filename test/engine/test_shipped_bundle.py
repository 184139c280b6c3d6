"""The bundle of the shipped weights: made once, by one process, and what is said where it cannot be made."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from thfm_ros.engine import shipped
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.errors import UserError
from thfm_ros.processes import Stopped


def wait_until_gone(pid: int) -> None:
    """Until a process has ended; a zombie that nobody waits for counts."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} did not end")


def test_a_robot_without_torch_is_told_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export runs in a real process of its own, in which torch cannot be found."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"No module named 'torch'; pip install 'torch.* or export elsewhere .*bundle"):
        shipped.shipped_bundle()


def test_a_checkpoint_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=f"cannot export {tmp_path / 'none'} to a bundle: .*none"):
        shipped.cpu_bundle(tmp_path / "none")


def test_a_bundle_is_made_anew_when_the_weights_or_the_networks_code_change(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("cpu.yaml", "weights/w.safetensors", "thfm_ros/model/readout.py")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("before")

    def place() -> Path:
        return shipped._place(tmp_path / "weights", files[0], tmp_path / "thfm_ros")

    first = place()
    assert place() == first
    (tmp_path / "thfm_ros" / "nodes.py").write_text("nothing of the network's")
    (tmp_path / "weights" / "README.md").write_text("a card in other words")
    assert place() == first
    places = {first}
    for file in files:
        file.write_text("after")
        places.add(place())
    assert len(places) == 4


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os.kill(os.getpid(), 9)", "ended by SIGKILL, as the system does where memory runs out"),
        ("os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("os._exit(3)", "ended with exit code 3"),
    ],
)
def test_an_export_that_ends_without_a_word_is_named_by_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, words: str
) -> None:
    """And not by the progress that it had printed by then."""
    (tmp_path / "torch.py").write_text(f"import os\nprint('golden outputs 0:05:03', flush=True)\n{end}\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=words) as raised:
        shipped.cpu_bundle(tmp_path / "weights")
    assert "golden outputs" not in str(raised.value)


SLOW_EXPORT = """
import os, pathlib, sys, time
folder, out = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
with (folder / "exports").open("a") as exports:
    exports.write(f"{os.getpid()}\\n")
while not (folder / "go").exists():
    time.sleep(0.01)
from toy_network import toy_bundle
(toy_bundle(out, "tensorrt", "", "SM89") / "made_by").write_text(str(os.getpid()))
sys.exit(0)
"""
WANTS_IT = "import pathlib, sys\nfrom thfm_ros.engine import shipped\n" + (
    "print(shipped.cpu_bundle(pathlib.Path(sys.argv[1]), report=lambda what: print(what, flush=True)))\n"
)


@pytest.fixture
def slow_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a module `torch` stands for a slow export: it notes its process id in `exports`, waits for the
    file `go`, and makes the bundle. The processes around it are real."""
    (tmp_path / "torch.py").write_text(SLOW_EXPORT)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}:{root / 'test' / 'gpu'}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def wanting(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WANTS_IT, str(folder / "weights")], stdout=subprocess.PIPE, text=True
    )


def exports(folder: Path) -> list[int]:
    """Process ids of the exports that have begun, once there is one."""
    deadline = time.monotonic() + 60
    while not ((folder / "exports").is_file() and (folder / "exports").read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(line) for line in (folder / "exports").read_text().split()]


def test_of_two_processes_one_exports_and_the_other_waits_for_it(slow_export: Path) -> None:
    first, second = wanting(slow_export), wanting(slow_export)
    words = {process.stdout.readline().split()[0] for process in (first, second)}  # both are at it
    assert words == {"exporting", "waiting"}
    (slow_export / "go").touch()
    found = {process.communicate(timeout=60)[0].strip() for process in (first, second)}
    assert len(found) == 1
    assert (Path(found.pop()) / "made_by").read_text() == str(exports(slow_export)[0])
    assert len(exports(slow_export)) == 1


def test_who_waited_for_a_killed_process_exports_itself(slow_export: Path) -> None:
    killed = wanting(slow_export)
    assert killed.stdout.readline().startswith("exporting")
    (abandoned,) = exports(slow_export)
    waiting = wanting(slow_export)
    assert waiting.stdout.readline().startswith("waiting")
    killed.kill()
    killed.wait()
    assert waiting.stdout.readline().startswith("exporting")
    (slow_export / "go").touch()
    bundle = Path(waiting.communicate(timeout=60)[0].strip())
    assert (bundle / "made_by").read_text() != str(abandoned)
    wait_until_gone(abandoned)


@pytest.mark.parametrize("lost", ["manifest.json", "encode.engine"])
def test_a_damaged_bundle_is_made_anew(lost: str, slow_export: Path) -> None:
    """A power cut, or whatever clears temporary files, may take some of it."""
    (slow_export / "go").touch()
    bundle = shipped.cpu_bundle(slow_export / "weights")
    assert shipped.cpu_bundle(slow_export / "weights") == bundle
    assert len(exports(slow_export)) == 1
    (bundle / lost).unlink()
    assert shipped.cpu_bundle(slow_export / "weights") == bundle
    assert len(exports(slow_export)) == 2
    open_bundle(bundle)


def test_an_export_can_be_given_up(slow_export: Path) -> None:
    with pytest.raises(Stopped):
        shipped.cpu_bundle(slow_export / "weights", stop=(slow_export / "exports").is_file)
    (child,) = exports(slow_export)
    wait_until_gone(child)
    bundles = list((slow_export / "cache" / "thfm_ros" / "bundles").iterdir())
    assert [b.suffix for b in bundles] == [".lock"]  # no bundle, and no temporary of one
