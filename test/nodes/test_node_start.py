"""The first start, while the shipped weights are exported: what happens to it, and what is tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node_harness import System, new_domain, wait_for
from rclpy.parameter import Parameter
from stream_fakes import FakeRuntime

from thfm_ros.engine import shipped
from thfm_ros.errors import ParameterError, UserError
from thfm_ros.nodes.perception_node import default_loader

ENDLESS_EXPORT = """
import os, pathlib
pathlib.Path(__file__).with_name("export").write_text(str(os.getpid()))
while True:
    pass
"""
FULL_DISK = "raise OSError(28, 'No space left on device')\n"


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose module `torch` stands for an export that never ends; it notes its process id in `export`."""
    (tmp_path / "torch.py").write_text(ENDLESS_EXPORT)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def starting(export: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A real node amid its first export, and the export's process id."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(new_domain())}
    node = subprocess.Popen([sys.executable, "-m", "thfm_ros.nodes.perception_node"], env=environment)
    try:
        note = export / "export"
        yield node, int(wait_for(lambda: note.is_file() and note.read_text(), what="the export"))
    finally:
        node.kill()
        node.wait()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_first_start_ends_with_its_export(
    number: int, starting: tuple[subprocess.Popen[bytes], int], export: Path
) -> None:
    node, child = starting
    node.send_signal(number)
    assert node.wait(timeout=60) == 0
    assert gone(child)
    assert [p.suffix for p in (export / "cache" / "thfm_ros" / "bundles").iterdir()] == [".lock"]


def test_what_cannot_be_interrupted_does_not_hold_up_the_end(export: Path) -> None:
    """A backend that loads for ever: here `torch`, which a checkpoint wants."""
    (export / "thfm.json").write_text("{}")
    environment = {**os.environ, "ROS_DOMAIN_ID": str(new_domain())}
    parameters = ["-p", f"bundle:={export}", "-p", "backend:=torch"]
    node = subprocess.Popen(
        [sys.executable, "-m", "thfm_ros.nodes.perception_node", "--ros-args", *parameters], env=environment
    )
    try:
        wait_for((export / "export").is_file, what="the import")
        node.send_signal(signal.SIGINT)
        assert node.wait(timeout=60) == 0
    finally:
        node.kill()
        node.wait()


def test_an_export_does_not_outlive_a_killed_node(starting: tuple[subprocess.Popen[bytes], int]) -> None:
    node, child = starting
    node.kill()
    node.wait()
    wait_for(lambda: gone(child), what="the end of the export")


def test_an_export_that_failed_is_tried_again(ros: System, export: Path) -> None:
    """The disk is full at first: the node waits for room, as for anything that may pass."""
    (export / "torch.py").write_text(FULL_DISK)
    made: list[Path] = []

    def load(bundle: str, backend: str, threads: int, stop: Any) -> FakeRuntime:
        made.append(shipped.cpu_bundle(export / "weights", stop))
        return FakeRuntime()

    node = ros.perception(load=load, retry_s=0.1)
    wait_for(lambda: "No space left on device" in node.reason, what="the reason")
    (export / "torch.py").write_text(
        "import pathlib, sys\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        "out.mkdir()\n"
        "(out / 'manifest.json').touch()\n"
        "sys.exit(0)\n"
    )
    wait_for(lambda: node.state == "active", what="another try")
    assert len(made) == 1
    assert node.reason == ""


def test_what_is_set_while_the_model_is_loaded_again_counts(ros: System) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(*_: Any) -> FakeRuntime:
        loading.set()
        assert go_on.wait(90.0)
        return FakeRuntime()

    go_on.set()
    node = ros.perception(load=load, autostart=False)
    node.trigger_configure()
    node.trigger_cleanup()
    loading.clear()
    go_on.clear()
    configuring = threading.Thread(target=node.trigger_configure)
    configuring.start()
    assert loading.wait(90.0)
    node.set_parameters([Parameter("stride", value=3), Parameter("gap_s", value=2.5)])
    go_on.set()
    configuring.join()
    assert node.state == "inactive"
    assert (node.buffer.stride, node.buffer.gap_s) == (3, 2.5)


def test_a_bundle_that_is_being_copied_is_waited_for(ros: System, tmp_path: Path) -> None:
    def load(bundle: str, *rest: Any) -> FakeRuntime:
        if not (tmp_path / "late").exists():
            return default_loader(str(tmp_path / "late"), *rest)
        return FakeRuntime()

    node = ros.perception(load=load, retry_s=0.1)
    wait_for(lambda: "no bundle at" in node.reason)
    (tmp_path / "late").mkdir()
    wait_for(lambda: node.state == "active", what="another try")


@pytest.mark.parametrize("error", [UserError("the file is busy"), OSError(16, "Device or resource busy")])
def test_what_may_pass_is_tried_again(ros: System, error: Exception) -> None:
    errors = [error, error]

    def load(*_: Any) -> FakeRuntime:
        if errors:
            raise errors.pop()
        return FakeRuntime()

    node = ros.perception(load=load, retry_s=0.05)
    wait_for(lambda: node.state == "active")


def test_a_wrong_parameter_is_final_until_somebody_configures(ros: System) -> None:
    """A backend that the bundle has not; before it a failure that passes, whose retries end with it too."""
    errors = [ParameterError("expected one of its backends"), UserError("the file is busy")]
    loads: list[float] = []

    def load(*_: Any) -> FakeRuntime:
        loads.append(time.monotonic())
        if errors:
            raise errors.pop()
        return FakeRuntime()

    node = ros.perception(load=load, retry_s=0.05)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    wait_for(lambda: any("one of its backends; not tried again" in s.message for d in diagnostics for s in d.status))
    seen = len(diagnostics)
    wait_for(lambda: len(diagnostics) > seen + 5)
    assert len(loads) == 2
    node.trigger_configure()
    assert node.state == "inactive"
