"""The options of the benchmarks: defaults that read every data set, values that are checked before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate_layouts as layouts
import numpy as np
import pytest
from evaluate_fakes import GivenPredictor
from typer.testing import CliRunner

from thfm_ros.cli import build
from thfm_ros.errors import UserError
from thfm_ros.evaluate.benchmarks import BENCHMARKS, get_benchmark
from thfm_ros.evaluate.predictors import ConstantPredictor
from thfm_ros.evaluate.runner import evaluate

WRITERS: dict[str, Callable[[Path], Any]] = {
    "hi4d": layouts.hi4d,
    "goliath-face": lambda root: layouts.goliath(root, "Head"),
    "goliath-upper": lambda root: layouts.goliath(root, "ClothedBody"),
    "goliath-full": lambda root: layouts.goliath(root, "MinimalBody"),
    "videomatte": layouts.videomatte,
    "photomatte85": layouts.photomatte85,
    "ppm100": layouts.ppm100,
    "emdb": layouts.emdb,
    "rich": layouts.rich,
    "h36m": layouts.h36m,
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_default_options_read_the_published_layout(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    benchmark = get_benchmark(name)
    recordings = benchmark.read(tmp_path, benchmark.parse([]))
    assert recordings
    assert all(r.frames > 0 and r.image(0).ndim == 3 for r in recordings)
    # What a kept row depends on: present, and the same when it is read again.
    assert all(r.files and any(size for _, size, *_ in r.stamp()[-1]) for r in recordings)
    assert [r.stamp() for r in recordings] == [r.stamp() for r in benchmark.read(tmp_path, benchmark.parse([]))]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_constant_baseline_runs_on_every_benchmark(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    np.savez(tmp_path / "SMPL_MALE.npz", **layouts.body_model(24))
    np.savez(tmp_path / "SMPLX_MALE.npz", **layouts.body_model(55))
    benchmark = get_benchmark(name)
    options = benchmark.parse([])
    predictor = ConstantPredictor(benchmark.needs(options))
    report = evaluate(benchmark, benchmark.read(tmp_path, options, tmp_path), predictor, options, tmp_path / "out")
    assert np.isfinite(next(iter(report.results.values())))
    assert {"metric_resolution", "joint_set"} & report.protocol.keys()


@pytest.mark.parametrize("name", ["ppm100", "nobody"])
def test_the_report_is_shown_also_where_its_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Somebody makes a folder of that name while the work goes on."""
    layouts.ppm100(tmp_path / "data")
    root = tmp_path / "data" if name == "ppm100" else next((tmp_path / "data").rglob("*.jpg")).parent
    monkeypatch.setattr("thfm_ros.paths.writable_file", lambda file: file.mkdir())
    places = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "a.json")]
    command = ["evaluate", name, "--root", str(root), "--checkpoint", "constant", *places]
    result = CliRunner().invoke(build(), command)
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(f"cannot write {tmp_path / 'a.json'}: ")
    assert "constant" in result.output
    assert "|---|" in result.output


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_defaults_are_among_the_values_that_an_option_takes(benchmark: Any) -> None:
    given = [f"{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in benchmark.options.items()]
    assert benchmark.parse(given) == benchmark.options
    assert not (benchmark.choices.keys() | benchmark.limits.keys()) - benchmark.options.keys()


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("goliath-face", "space=foo", "option space of goliath-face is depth or disparity, found 'foo'"),
        ("goliath-face", "scope=foo", "is image or clip, found 'foo'"),
        ("goliath-upper", "task=foo", "is human_depth or scene_depth, found 'foo'"),
        ("goliath-full", "camera_count=0", "option camera_count of goliath-full is a number at least 1, found '0'"),
        ("goliath-full", "frames=-1", "at least 1, found '-1'"),
        ("goliath-full", "max_depth_m=-2", "at least 0, found '-2.0'"),
        ("goliath-full", "max_depth_m=nan", "at least 0, found 'nan'"),
        ("hi4d", "average=foo", "is pixels or images, found 'foo'"),
        ("hi4d", "task=foreground", "is human_normals or scene_normals"),
        ("hi4d", "pairs=28,x", "option pairs is a list of int, such as 1,2, found '28,x'"),
        ("hi4d", "camera=four", "option camera is a int, found 'four'"),
        ("hi4d", "cam=4", "hi4d has the options task, average, pairs, camera"),
        ("videomatte", "average=images", "is clips, found 'images'"),
        ("videomatte", "split=foo", "is static or motion, found 'foo'"),
        ("videomatte", "fps=0", "at least 1, found '0.0'"),
        ("videomatte", "fps=inf", "at least 1, found 'inf'"),
        ("videomatte", "normalise_grad=maybe", "is a bool, true or false, found 'maybe'"),
        ("videomatte", "resolution=512", "'truth' or WIDTHxHEIGHT in pixels, such as 512x288, found '512'"),
        ("photomatte85", "background=2", "is a number from 0 to 1, found '2.0'"),
        ("ppm100", "resolution=0x0", "'truth' or WIDTHxHEIGHT in pixels, such as 512x288, found '0x0'"),
        ("ppm100", "resolution=²x3", "'truth' or WIDTHxHEIGHT"),
        ("ppm100", "average=clips", "is images, found 'clips'"),
        ("emdb", "subset=emdb3", "is emdb1 or emdb2, found 'emdb3'"),
        ("rich", "split=foo", "is test or val or train, found 'foo'"),
        ("h36m", "protocol=3", "is 1 or 2, found '3'"),
        ("h36m", "step=0", "at least 1, found '0'"),
        ("h36m", "joints=16", "is 14 or 17, found '16'"),
    ],
)
def test_wrong_values_are_refused_before_the_data_is_read(name: str, option: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        get_benchmark(name).parse([option])
    assert message in str(error.value)


def test_right_values_are_typed() -> None:
    options = get_benchmark("hi4d").parse(["pairs=28,32", "camera=16"])
    assert (options["pairs"], options["camera"]) == ((28, 32), 16)
    assert get_benchmark("rich").parse(["cameras=0,3"])["cameras"] == (0, 3)
    assert get_benchmark("videomatte").parse(["fps=29.97", "resolution=1920x1080"])["fps"] == 29.97
    with pytest.raises(UserError, match="unknown benchmark 'coco'"):
        get_benchmark("coco")


def test_no_pairs_is_no_benchmark(tmp_path: Path) -> None:
    layouts.hi4d(tmp_path)
    benchmark = get_benchmark("hi4d")
    with pytest.raises(UserError, match=r"hi4d: nothing in .* belongs to \{'pairs': \(\)"):
        benchmark.read(tmp_path, benchmark.parse(["pairs="]))


def test_another_task_is_what_the_predictor_needs(tmp_path: Path) -> None:
    layouts.hi4d_prepared(tmp_path)
    benchmark = get_benchmark("hi4d")
    options = benchmark.parse(["task=scene_normals"])
    assert benchmark.needs(options) == ("scene_normals",)
    facing = np.broadcast_to(np.array([0.0, 0, -1]), (2, 16, 24, 3))
    predictor = GivenPredictor(lambda v: {"scene_normals": facing}, ["scene_normals"])
    report = evaluate(benchmark, benchmark.read(tmp_path, options), predictor, options, tmp_path / "out")
    assert report.results["mean_deg"] == pytest.approx(0, abs=0.1)
    with pytest.raises(UserError, match="hi4d needs human_normals"):
        evaluate(benchmark, [], predictor, benchmark.parse([]), tmp_path / "out")
