"""`thfm run`, `thfm demo` and `thfm bench` show which backend was refused, and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from thfm_ros.engine.backends.openvino_backend import OpenVino
from thfm_ros.errors import UserError
from thfm_ros.video import VideoWriter


@pytest.fixture(autouse=True)
def broken_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, name: str) -> None:
        raise UserError(f"OpenVINO cannot compile {name}: no [such] layer")

    monkeypatch.setattr(OpenVino, "_compile", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "500")


def invoke(register: object, *arguments: object) -> str:
    app = typer.Typer()
    register(app)  # type: ignore[operator]
    app.command("other")(lambda: None)  # with one command alone typer would drop its name
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_run(bundle: Path, tmp_path: Path) -> None:
    from thfm_ros.offline.commands import register

    video, figures = tmp_path / "video.mp4", tmp_path / "figures.json"
    with VideoWriter(video, 12.0) as writer:
        for shade in range(8):
            writer.write(np.full((64, 96, 3), 20 * shade, np.uint8))
    output = invoke(register, "run", video, "-o", tmp_path / "film.mp4", "--bundle", bundle, "--json", figures)
    found = json.loads(figures.read_text())
    assert (found["backend"], found["precision"]) == ("onnxruntime", "fp32")
    (line,) = found["refused"]
    assert "OpenVINO cannot compile encode: no [such] layer; running ONNX Runtime in fp32 instead" in line
    assert line in " ".join(output.split())


def test_demo(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from thfm_ros.system.demo import measure_pass

    seconds, network = measure_pass(bundle, Console())
    assert network["backend"] == "onnxruntime"
    assert network["ms_per_clip"] == pytest.approx(1e3 * seconds, abs=0.1)
    (line,) = network["refused"]
    output = " ".join(capsys.readouterr().out.split())
    assert "on onnxruntime in fp32" in output
    assert line in output


def test_bench(bundle: Path, tmp_path: Path) -> None:
    from thfm_ros.engine.commands import register

    output = invoke(register, "bench", bundle, "--rounds", 1, "--threads", 1, "--json", tmp_path / "bench.json")
    assert "bundle on openvino: OpenVINO cannot compile encode: no [such] layer" in " ".join(output.split())
    result = json.loads((tmp_path / "bench.json").read_text())
    assert [run["info"]["backend"] for run in result["runs"]] == ["onnxruntime"]
    assert result["not_run"] == ["bundle on openvino: OpenVINO cannot compile encode: no [such] layer"]
