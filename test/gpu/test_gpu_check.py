"""`make gpu-check` as far as it goes without a GPU: its program, and its first checks on the stand-in for a driver."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cuda_driver import Driver

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


def test_the_drivers_calls_are_checked(tool: ModuleType, driver: Driver) -> None:
    assert tool.one_check("machine", None).found.startswith("Fake, SM89, ")
    row = tool.one_check("driver", None)
    assert (row.state, row.found.split(";")[0]) == ("ok", "memory, copies, marks and a graph work")
    assert set(row.figures) == {"upload_gb_s", "copy_gb_s", "download_gb_s"}
    driver.idle()
    broken = tool.one_check("driver", None)
    assert (broken.state, broken.found) == ("failed", "AssertionError: what came back differs from what was sent")
    driver.refuse("cuStreamBeginCapture_v2", 900)
    assert tool.one_check("driver", None).state == "failed"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thfm_ros.engine.device.CUDA_DRIVER", "libcuda-of-nobody.so")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_every_check_says_so(tool: ModuleType) -> None:
    for name in tool.CHECKS:
        row = tool.one_check(name, None)
        assert (row.check, row.state, row.found) == (name, "skipped", "no NVIDIA GPU or no driver")


def test_a_check_that_hangs_or_for_which_there_is_no_time_is_said(tool: ModuleType) -> None:
    assert tool._in_process("machine", None, 0.01).found == "not done after 0 s"
    rows = list(tool.run_checks([], None, 0.0))
    assert [row.check for row in rows] == list(tool.CHECKS)
    assert {(row.state, row.found) for row in rows} == {("skipped", "no time left of 0 minutes")}


def test_the_program_leaves_a_table_and_json(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=200)

    done = run("--only", "machine", "--json", str(out))
    (row,) = json.loads(out.read_text())["checks"]
    assert done.returncode == (row["state"] == "failed")
    assert row["found"] in done.stdout
    table = run("--markdown", str(out)).stdout
    assert f"| machine | {row['state']} | {row['seconds']:.0f} | {row['found']} |" in table
