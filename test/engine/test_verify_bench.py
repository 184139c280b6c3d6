"""`thfm verify` accepts a good bundle and rejects a bad one; `thfm bench` reports what it measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from thfm_ros.engine.bench import Run, clip_stages, measure, quantiles, summary, total_ms, warm_up
from thfm_ros.engine.commands import register
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.peak import peak_gflops, peak_kind, torch_peak_gflops
from thfm_ros.engine.results import Keypoints, Prediction
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.stage_table import base_name
from thfm_ros.engine.verify import LIMITS, check_same_model, relative_error, task_error, verify
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> StageRuntime:
    return load_runtime(tiny_checkpoint, "torch")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), np.uint8)


class Worse(StageRuntime):
    """The bundle's runtime with an error of some stages, such as bad engines would have."""

    def __init__(self, inner: StageRuntime, factor: float, *stages: str, output: str = "") -> None:
        """output: the only one that is wrong."""
        super().__init__(inner.manifest, inner.prompts, inner.info)
        self.inner, self.stages, self.factor, self.output = inner, stages, factor, output

    def precision(self, stage):
        return self.inner.precision(stage)

    def compute(self, stage, inputs):
        out = self.inner.compute(stage, inputs)
        wrong = {name for name in out if stage in self.stages and self.output in ("", name)}
        return {name: x * self.factor if name in wrong else x for name, x in out.items()}


def test_verify_passes_a_good_bundle_and_finds_a_bad_stage(
    exported: Path, reference: StageRuntime, clip: np.ndarray
) -> None:
    good = load_runtime(exported, "onnxruntime", check="never")
    rows = {row.name: row for row in verify(good, reference, [clip])}
    # Of a stage in several batch sizes, one row: the tasks go through all of them.
    assert set(rows) == {f"stage {base_name(s)}" for s in good.manifest.stages} | set(TASKS)
    assert all(row.good and row.precision == "fp32" for row in rows.values())
    assert all(rows[f"stage {s}"].value > 0 for s in ("encode", "transform", "decode"))  # two programs, not one
    bad = {r.name for r in verify(Worse(good, 1.1, "decode", "decode_x4"), reference, [clip]) if not r.good}
    assert "stage decode" in bad
    assert "dense_pose" in bad
    assert not bad & {"stage encode", "stage transform", "keypoints_3d"}


@pytest.mark.parametrize("output", ["xy", "xyz", "visibility"])
@pytest.mark.parametrize("stage", ["keypoints", "windows", "windows_x2", "windows_x4"])
def test_verify_compares_every_output_of_joints_in_every_batch(
    stage: str, output: str, exported: Path, reference: StageRuntime, clip: np.ndarray
) -> None:
    worse = Worse(load_runtime(exported, "onnxruntime", check="never"), -1.0, stage, output=output)
    assert f"stage {base_name(stage)}" in {row.name for row in verify(worse, reference, [clip]) if not row.good}


def test_verify_opens_the_reference_with_the_windows_of_the_bundle(
    exported: Path, reference: StageRuntime, tiny_checkpoint: Path, clip: np.ndarray
) -> None:
    other = load_runtime(tiny_checkpoint, "torch", windows=(64, 96))
    assert other.manifest.windows == (64, 96)
    bundle = load_runtime(exported, "onnxruntime", check="never").manifest
    check_same_model(bundle, reference.manifest)
    with pytest.raises(UserError, match=r"expected a reference with windows of \(112, 144\), found \(64, 96\)"):
        check_same_model(bundle, other.manifest)
    bundle = dataclasses.replace(other.manifest, weights_sha256=bundle.weights_sha256)
    again = load_runtime(tiny_checkpoint, "torch", windows=bundle.windows)
    again.manifest = bundle
    assert "stage windows" in {row.name for row in verify(again, other, [clip])}


def test_verify_wants_the_checkpoint_of_the_bundle(exported: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    good = load_runtime(exported, "onnxruntime", check="never")
    other = Path(shutil.copytree(tiny_checkpoint, tmp_path / "other"))
    file = next((other / "transformer").glob("*.safetensors"))
    weights = load_file(file)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="expected the checkpoint it was exported from"):
        check_same_model(good.manifest, load_runtime(other).manifest)


def prediction(dense: dict[str, np.ndarray], shift: float = 0.0) -> Prediction:
    points = Keypoints(np.full((2, 3, 2), 0.5 + shift), np.full((2, 3, 3), shift), np.ones((2, 3)))
    return Prediction(dense, points, {})


def test_physical_units() -> None:
    size = (200, 100)
    columns = np.arange(4)[None].repeat(4, 0)
    angle = np.radians(10 * np.ones((2, 4, 4)))
    straight = np.stack([angle * 0, angle * 0, -np.ones_like(angle)], -1)
    tilted = np.stack([np.sin(angle), angle * 0, -np.cos(angle)], -1)
    turned = task_error(
        "scene_normals", prediction({"scene_normals": straight}), prediction({"scene_normals": tilted}), size
    )
    assert turned == pytest.approx(10.0)
    background = prediction({"scene_normals": straight * 0})
    assert np.isnan(task_error("scene_normals", background, background, size))
    left, both = (TASKS["foreground"].codec.to_rgb(m.astype(float)) for m in (columns < 2, columns < 4))
    assert task_error("foreground", prediction({"foreground": left}), prediction({"foreground": both}), size) == 0.5
    near, far = (TASKS["scene_depth"].codec.to_rgb(np.full((1, 2, 2), d)) for d in (1.0, 0.0))  # 1 m and 10 m
    wrong = task_error("scene_depth", prediction({"scene_depth": near}), prediction({"scene_depth": far}), size)
    assert wrong == pytest.approx(9.0)
    assert task_error("keypoints_2d", prediction({}), prediction({}, 0.01), size) == pytest.approx(np.hypot(2.0, 1.0))
    assert task_error("keypoints_3d", prediction({}), prediction({}, 0.01), size) == pytest.approx(1e1 * 3**0.5)
    broken = prediction({"dense_pose": np.full((1, 2, 2, 3), np.nan)})
    assert task_error("dense_pose", prediction({"dense_pose": np.zeros((1, 2, 2, 3))}), broken, size) == np.inf
    assert relative_error(np.array([0.0, 2.0]), np.array([0.1, 2.1])) == pytest.approx(0.1)
    for limits in LIMITS.values():  # lower precision, wider limit; int8 leaves the VAE alone
        assert limits["fp32"] < limits["tf32"] <= limits["fp16"] < limits["bf16"]
        assert limits["fp32"] < limits["int8"]


def test_bench_measures_every_stage_in_turns(exported: Path, tiny_checkpoint: Path) -> None:
    from thfm_ros.engine.eager import EagerDiffusers

    runs = [
        warm_up("eager diffusers", lambda: EagerDiffusers(tiny_checkpoint, 1)),
        warm_up("cpu", lambda: load_runtime(exported, "onnxruntime", 1, "never")),
    ]
    peaks = measure(runs, 3)
    result = summary(runs, peaks)
    cpu = result["runs"][1]
    assert {n: s["samples"] for n, s in cpu["stages"].items()} == dict.fromkeys(runs[1].runtime.manifest.stages, 3)
    encode = cpu["stages"]["encode"]
    assert encode["median_ms"] > 0
    assert encode["p95_ms"] is encode["p99_ms"] is None  # of three samples
    gflop = runs[1].runtime.manifest.stages["encode"].gflop
    peak = result["machine"]["peak_gflops"]
    assert peak == {"cpu fp32": np.median([p["cpu fp32"] for p in peaks])}
    assert encode["of_peak"] == pytest.approx(1e3 * gflop / encode["median_ms"] / peak["cpu fp32"])
    assert all(stage["gflop"] > 0 for stage in cpu["stages"].values())
    assert encode["times_eager"] == pytest.approx(runs[0].median("encode") / runs[1].median("encode"))
    every = encode["median_ms"] + cpu["stages"]["keypoints"]["median_ms"]
    every += cpu["stages"]["transform_x4"]["median_ms"] + cpu["stages"]["decode_x4"]["median_ms"]
    assert cpu["clip_ms"]["all"] == pytest.approx(every)
    assert cpu["frames_per_s"]["all"] == pytest.approx(5e3 / every)
    assert cpu["pass_ms"]["median_ms"] == np.median(runs[1].passes) > 0
    assert cpu["pass_ms"]["p99_ms"] is None  # of three passes
    assert isinstance(runs[0], Run)
    keypoints = runs[0].median("encode") + runs[0].median("keypoints")
    assert total_ms(runs[0], clip_stages(runs[0], 0, True)) == pytest.approx(keypoints)
    ideal = sum(cpu["stages"][name]["gflop"] for name in ("encode", "keypoints")) / peak["cpu fp32"] * 1e3
    assert cpu["times_eager_at_peak"]["keypoints"] == pytest.approx(keypoints / ideal)


def test_percentiles_need_samples() -> None:
    ramp = [float(n) for n in range(100)]
    assert quantiles(ramp) == {"median_ms": 49.5, "p95_ms": pytest.approx(94.05), "p99_ms": pytest.approx(98.01)}
    assert quantiles(ramp[:99])["p99_ms"] is None
    assert quantiles(ramp[:20])["p95_ms"] == pytest.approx(18.05)
    assert quantiles(ramp[:19]) == {"median_ms": 9.0, "p95_ms": None, "p99_ms": None}


class Slow(StageRuntime):
    """A stage that takes a second by its own clock; Ctrl-C comes after `patience` of them."""

    def __init__(self, inner: StageRuntime, patience: int = 10**6) -> None:
        stages = {"encode": inner.manifest.stages["encode"]}
        super().__init__(dataclasses.replace(inner.manifest, stages=stages), inner.prompts, inner.info)
        self.now, self.patience = 0.0, patience

    def compute(self, stage, inputs):
        raise NotImplementedError

    def stage_ms(self, stage, feeds):
        if self.now >= self.patience:
            raise KeyboardInterrupt
        self.now += 1
        return 1000.0


@pytest.mark.parametrize(
    ("rounds", "max_s", "patience", "expected"),
    [
        (100, 1e9, 10**6, 100),
        (100, 7.5, 10**6, 7),  # whole rounds that fit
        (100, 0.0, 10**6, 3),  # a median needs them
        (2, 0.0, 10**6, 2),
        (100, 1e9, 5, 5),
    ],
)
def test_bench_ends_in_time(
    rounds: int, max_s: float, patience: int, expected: int, reference: StageRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thfm_ros.engine.bench.peak_gflops", lambda kind: 1.0)
    slow, told = Slow(reference, patience), []
    run = Run("slow", slow, samples={"encode": []})
    peaks = measure([run], rounds, lambda *turns: told.append(turns), max_s, lambda: slow.now)
    assert run.samples["encode"] == [1000.0] * expected
    assert len(peaks) == expected
    assert told[-1] == (expected, expected)
    assert told[0] == (1, rounds)
    if max_s == 7.5:
        assert told[1] == (2, 7)  # the time left is of what fits, not of what was asked for


def test_every_precision_has_its_own_peak() -> None:
    import torch

    assert peak_kind("tf32", gpu=True) == "gpu tf32"
    assert peak_kind("fp16", gpu=True) == "gpu fp16"
    assert peak_kind("fp32", gpu=True) == "gpu fp32"
    assert peak_kind("bf16", gpu=False) == "cpu bf16"
    assert peak_kind("tf32", gpu=False) == peak_kind("int8", gpu=False) == "cpu fp32"
    before = torch.backends.cuda.matmul.allow_tf32
    for precision in ("fp32", "tf32"):  # the GPU's code on the CPU
        assert 0 < torch_peak_gflops("cpu", precision, 64, 2) < 1e6
        assert torch.backends.cuda.matmul.allow_tf32 == before
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):  # never the CPU's peak in its stead
            peak_gflops("gpu fp16")


def test_a_run_on_a_gpu_is_compared_with_the_gpu(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("thfm_ros.engine.bench.peak_gflops", lambda kind: asked.append(kind) or 1e3)
    run = warm_up("cpu", lambda: load_runtime(exported, "onnxruntime", 1, "never"))
    run.runtime.info["device"] = "A GPU"
    result = summary([run], measure([run], 1))
    assert asked == ["gpu fp32"]
    decode = result["runs"][0]["stages"]["decode"]
    assert decode["of_peak"] == pytest.approx(decode["gflop"] / decode["median_ms"])


def test_the_baseline_is_the_same_network(reference: StageRuntime, tiny_checkpoint: Path, clip: np.ndarray) -> None:
    from thfm_ros.engine.eager import EagerDiffusers

    tasks = ["scene_depth", "human_normals", "keypoints_3d"]
    expected, found = reference.predict(clip, tasks), EagerDiffusers(tiny_checkpoint, 1).predict(clip, tasks)
    for task, rgb in found.dense.items():
        np.testing.assert_allclose(rgb, expected.dense[task], atol=2e-5)


def test_commands(exported: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    out = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["bench", str(exported), "--rounds", "1", "--json", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert {r["name"].split(", ")[1] for r in result["runs"]} == {"openvino", "onnxruntime"}
    assert (result["rounds"], result["rounds_asked"], result["max_minutes"]) == (1, 1, 5.0)
    assert {s["p99_ms"] for r in result["runs"] for s in r["stages"].values()} == {None}
    assert "samples" in done.output
    assert "1 of 1 rounds" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["build", str(exported)])
    assert isinstance(done.exception, UserError)
    done = CliRunner().invoke(app, ["export", str(tiny_checkpoint), "--recipe", "engines/none.yaml", "--out", str(out)])
    assert "no recipe at" in str(done.exception)
