"""A backend that computes something else is refused, one that only rounds is not; a refusal is said and remembered."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thfm_ros.engine.backends.onnxruntime_backend import OnnxRuntime
from thfm_ros.engine.backends.openvino_backend import OpenVino
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.golden import TOLERANCE, Arrays, check_stage, difference, statistics
from thfm_ros.engine.golden_seeds import MANTISSA, Rounding
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.manifest import Statistics, read_prompts, write_manifest
from thfm_ros.engine.modules import geometry_of, network_stages
from thfm_ros.engine.stage_table import KEYPOINTS, TensorSpec
from thfm_ros.engine.verdicts import remembered
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint
from thfm_ros.tasks import TASKS


@pytest.fixture(autouse=True)
def new_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has not loaded any bundle before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def wrong(monkeypatch: pytest.MonkeyPatch, backend: Any, change: Callable[[str, np.ndarray], np.ndarray]) -> list[str]:
    """From now on, what a backend computes is changed; the growing list of stages that it ran."""
    ran: list[str] = []
    compute = backend.compute

    def worse(self: Any, stage: str, inputs: Arrays) -> Arrays:
        ran.append(stage)
        return {name: change(stage, x) for name, x in compute(self, stage, inputs).items()}

    monkeypatch.setattr(backend, "compute", worse)
    return ran


def falsify(bundle: Path, *stages: str) -> None:
    """The bundle expects something else of these stages than they compute."""
    manifest = open_bundle(bundle)
    golden = manifest.golden
    assert golden is not None
    shift = lambda s: Statistics(s.mean + 5 * s.std + 1, s.std, tuple(b + 5 * s.std + 1 for b in s.blocks))  # noqa: E731
    changed = {n: {k: shift(s) if n in stages else s for k, s in of.items()} for n, of in golden.stages.items()}
    write_manifest(dataclasses.replace(manifest, golden=dataclasses.replace(golden, stages=changed)))


# --- what is refused, and what is not


@pytest.mark.parametrize("name", ["video", "latents", "target", *KEYPOINTS, "features_2"])
@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 40.0])
def test_what_hardly_varies_is_held_against_its_range(name: str, level: float) -> None:
    """bf16 keeps 8 bits of a value, however little values differ; a factor, a shift and NaN still show."""
    output, x = TensorSpec(name, (1, 640)), np.full(640, level) + np.linspace(-1e-4, 1e-4, 640)
    expected = statistics(x)
    rounded = torch.from_numpy(x).bfloat16().double().numpy()
    assert difference(output, expected, statistics(rounded)) < TOLERANCE["bf16"] / 4
    assert difference(output, expected, statistics(x + 1e-3)) < TOLERANCE["bf16"]
    if level:
        assert difference(output, expected, statistics(1.1 * x)) > TOLERANCE["bf16"]
    assert difference(output, expected, statistics(x + 0.5)) > TOLERANCE["bf16"] / (40 if level > 1 else 1)
    assert difference(output, expected, statistics(np.where(x == x[7], np.nan, x))) == np.inf


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_rounding_passes_in_every_stage_and_a_wrong_engine_does_not(
    precision: str, exported: Path, tiny_checkpoint: Path
) -> None:
    """Emulated, so that it says the same on machines without the type."""
    manifest, loaded = open_bundle(exported), load_checkpoint(tiny_checkpoint)
    modules = network_stages(loaded, geometry_of(loaded, windows=manifest.windows), (1, 4), (1, 2, 4))
    prompts = read_prompts(manifest)

    def check(stage: str, change: Callable[[np.ndarray], np.ndarray]) -> str:
        def run(name: str, inputs: Arrays) -> Arrays:
            with Rounding(MANTISSA[precision]):
                return {output: change(y) for output, y in modules[name](inputs).items()}

        return check_stage(manifest, stage, run, lambda _: precision, prompts)

    def not_a_number(x: np.ndarray) -> np.ndarray:
        return np.where(x == x.max(), np.nan, x)

    for name in manifest.stages:
        assert check(name, lambda x: x) == ""
        assert f"golden check of stage {name}" in check(name, lambda x: 1.1 * x)
        assert f"golden check of stage {name}" in check(name, not_a_number)


def test_stages_of_other_tasks_refuse_nothing_until_they_are_used(bundle: Path) -> None:
    falsify(bundle, "keypoints", "decode_x4")
    clip = np.zeros((5, 32, 48, 3), np.uint8)
    runtime = load_runtime(bundle, "auto", tasks=["scene_depth", "foreground"])
    assert (runtime.manifest.backend, runtime.refused) == ("openvino", [])
    assert set(runtime.predict(clip, ["foreground"]).dense) == {"foreground"}
    with pytest.raises(UserError, match="golden check of stage keypoints"):
        runtime.predict(clip, ["keypoints_2d"])
    with pytest.raises(UserError, match="golden check of stage decode_x4"):
        runtime.predict(clip, ["scene_depth", "human_normals", "foreground", "dense_pose"])
    with pytest.raises(UserError, match=r"no backend works here: openvino: .*; onnxruntime: "):
        load_runtime(bundle)


# --- what is said


def cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "openvino", None)
    return "expected the package openvino"


def misses_a_library(monkeypatch: pytest.MonkeyPatch) -> str:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "openvino", Broken())
    return "libtbb.so.12"


def cannot_compile(monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(self: Any, name: str) -> None:
        raise UserError(f"OpenVINO cannot compile {name}: no such layer")

    monkeypatch.setattr(OpenVino, "_compile", refuse)
    return "OpenVINO cannot compile encode"


def fails_with_its_own_error(monkeypatch: pytest.MonkeyPatch) -> str:
    def fail(self: Any, name: str) -> None:
        raise RuntimeError("Check 'memory' failed\nat src/plugin.cpp:3")

    monkeypatch.setattr(OpenVino, "_compile", fail)
    return "RuntimeError: Check 'memory' failed at src/plugin.cpp:3"


def is_wrong(monkeypatch: pytest.MonkeyPatch) -> str:
    wrong(monkeypatch, OpenVino, lambda stage, x: 1.2 * x)
    return "golden check of stage encode, output latents"


FAULTS = [cannot_be_imported, misses_a_library, cannot_compile, fails_with_its_own_error, is_wrong]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("loaded_before", [False, True])
def test_a_better_backend_that_does_not_work_is_named(
    fault: Callable[..., str], loaded_before: bool, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loaded_before:
        load_runtime(bundle)
        if fault is is_wrong:
            pytest.skip("what passed once is not checked again")
    reason = fault(monkeypatch)
    runtime = load_runtime(bundle)
    assert runtime.manifest.backend == "onnxruntime"
    (refusal,) = runtime.refused
    assert refusal.backend == "openvino"
    assert reason in refusal.reason
    (line,) = runtime.warnings
    assert line.startswith("OpenVINO")
    assert reason in line
    assert "running ONNX Runtime in fp32 instead" in line
    assert "\n" not in line
    with pytest.raises((UserError, RuntimeError)):  # asked for by name, nothing else is taken
        load_runtime(bundle, "openvino").predict(np.zeros((5, 32, 48, 3), np.uint8), ["foreground"])


def test_nothing_is_said_where_the_best_backend_runs(bundle: Path) -> None:
    for backend in ("auto", "openvino", "onnxruntime"):
        assert load_runtime(bundle, backend).warnings == []


# --- what is remembered


def test_a_refusal_is_remembered_and_checked_again_when_something_changes(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]
    ran = wrong(monkeypatch, OpenVino, lambda stage, x: 2 * x if broken[0] else x)

    def load(check: str = "first") -> tuple[str, bool, str]:
        ran.clear()
        runtime = load_runtime(bundle, check=check)  # type: ignore[arg-type]
        return runtime.manifest.backend, bool(ran), " ".join(runtime.warnings)

    backend, checked, why = load()
    assert (backend, checked) == ("onnxruntime", True)
    assert "found before" not in why
    backend, checked, why = load()
    assert (backend, checked) == ("onnxruntime", False)
    assert "golden check of stage encode" in why
    assert "found before: thfm doctor --recheck checks again" in why
    broken[0] = False
    assert load("always")[:2] == ("openvino", True)
    assert load() == ("openvino", False, "")
    broken[0] = True  # another version of the software
    init = OpenVino.__init__

    def newer(self: Any, *args: Any) -> None:
        init(self, *args)
        self.info["version"] = "9999.1"

    monkeypatch.setattr(OpenVino, "__init__", newer)
    assert load()[:2] == ("onnxruntime", True)
    assert load()[:2] == ("onnxruntime", False)
    broken[0] = False  # another bundle
    write_manifest(dataclasses.replace(open_bundle(bundle), fps=11.0))
    assert load()[:2] == ("openvino", True)


def test_a_damaged_memory_only_costs_the_check(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = wrong(monkeypatch, OnnxRuntime, lambda stage, x: x)
    load_runtime(bundle, "onnxruntime")
    (record,) = (tmp_path / "cache/thfm_ros/golden").iterdir()
    good = record.read_text()
    for text in ("", "{", "[]", '{"passed": 3}', json.dumps({**json.loads(good), "passed": "encode"}), good[:-40]):
        record.write_text(text)
        ran.clear()
        load_runtime(bundle, "onnxruntime")
        assert ran
        assert record.read_text() == good


def test_doctor_lists_refusals_and_checks_again(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thfm_ros.system import doctor

    broken = [True]
    wrong(monkeypatch, OpenVino, lambda stage, x: np.full_like(x, np.nan) if broken[0] else x)
    assert remembered() == []
    load_runtime(bundle)
    (finding,) = [f for f in doctor.examine() if "refused" in f.what]
    assert (finding.state, finding.what, finding.fix) == ("warn", "OpenVINO refused", "thfm doctor --recheck")
    assert "golden check of stage encode, output latents" in finding.found
    assert any("OpenVINO: refused" in line for line in doctor.recheck())
    broken[0] = False
    assert all("passes" in line for line in doctor.recheck())
    assert not [f for f in doctor.examine() if "refused" in f.what]


def test_doctor_finds_a_runtime_that_is_installed_and_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from thfm_ros.system import doctor

    monkeypatch.setitem(sys.modules, "openvino", None)
    (finding,) = [f for f in doctor.examine() if f.what == "openvino"]
    assert finding.state == "warn"
    assert "cannot be loaded" in finding.found


def test_all_tasks_are_stages(exported: Path) -> None:
    runtime = load_runtime(exported, "onnxruntime", check="always")
    runtime.predict(np.zeros((5, 32, 48, 3), np.uint8), tuple(TASKS))
