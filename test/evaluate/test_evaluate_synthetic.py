"""The synthetic benchmark on real generated clips: the truth scores perfectly, and everything is on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from evaluate_fakes import BrightnessRuntime
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.evaluate import synthetic
from thfm_ros.evaluate.predictors import MEASURED, ConstantPredictor, THFMPredictor
from thfm_ros.synth.config import SynthConfig

CONFIG = SynthConfig(frames=5, height=48, width=64, samples=1, empty=0.0, split="test")


@pytest.fixture(scope="module")
def clip():
    return synthetic.GeneratedClips(CONFIG, 3).clip(0)


def truth(clip) -> dict[str, np.ndarray]:
    with np.errstate(divide="ignore"):
        disparity = np.where(np.isfinite(clip.depth), 1 / clip.depth, 0)
    return {
        "scene_depth": 4 * disparity - 0.3,
        "human_depth": 2 * disparity + 0.1,
        "scene_normals": clip.normals,
        "human_normals": clip.human_normals,
        "foreground": clip.alpha,
        "dense_pose": clip.dense_pose,
        "keypoints_2d": clip.keypoints_2d,
        "keypoints_3d": clip.keypoints_3d - clip.keypoints_3d[:, :1],
    }


def test_truth_is_perfect(clip) -> None:
    metrics, change = synthetic.score_clip(clip, truth(clip), "thfm32", synthetic.SyntheticProtocol())
    assert {name.split("/")[0] for name in metrics} == set(MEASURED)
    for name, value in metrics.items():
        best = {"delta1": 1, "iou": 1, "detected": 1, "pck_0.05": 1}.get(name.split("/")[1])
        best = 100 if "within" in name else best
        if "jitter" not in name:
            assert value == pytest.approx(best or 0, abs=0.02), name
    assert max(max(np.nan_to_num(c)) for c in change.values()) < 1e-5


def test_constant_baseline_is_far_from_perfect(clip) -> None:
    predicted = ConstantPredictor().predict(clip.rgb)
    metrics, _ = synthetic.score_clip(clip, predicted, "thfm32", synthetic.SyntheticProtocol())
    assert metrics["human_normals/mean_deg"] > 15
    assert metrics["foreground/iou"] == 0
    assert metrics["keypoints_3d/pa_mpjpe"] > 20


def test_missed_people_count_against_pck_and_not_against_3d(clip) -> None:
    prediction = truth(clip)
    for name in ("keypoints_2d", "keypoints_3d"):
        prediction[name] = prediction[name].astype(float).copy()
        prediction[name][:2] = np.nan
    metrics, _ = synthetic.score_clip(clip, prediction, "thfm32", synthetic.SyntheticProtocol())
    assert metrics["keypoints_2d/detected"] == pytest.approx(0.6)
    assert metrics["keypoints_2d/pck_0.05"] < 0.75
    assert metrics["keypoints_3d/mpjpe"] == pytest.approx(0, abs=1e-3)


def test_empty_scene_has_no_human_metrics() -> None:
    config = SynthConfig(frames=2, height=48, width=64, samples=1, empty=1.0, split="test")
    clip = synthetic.GeneratedClips(config, 0).clip(0)
    prediction = ConstantPredictor().predict(clip.rgb)
    metrics, _ = synthetic.score_clip(clip, prediction, "thfm32", synthetic.SyntheticProtocol())
    for name in ("human_normals/mean_deg", "human_depth/abs_rel", "dense_pose/epe", "keypoints_2d/pck_0.05"):
        assert np.isnan(metrics[name]), name
    assert np.isnan(metrics["keypoints_3d/mpjpe"])
    assert metrics["foreground/mad"] == 0


def test_predictors_stand_side_by_side_and_rows_are_reused(tmp_path: Path) -> None:
    runtime = BrightnessRuntime(frames=3, width=64, height=48)
    predictors = [THFMPredictor(runtime, MEASURED, stride=2), ConstantPredictor()]
    first = synthetic.evaluate(
        predictors, synthetic.GeneratedClips(CONFIG, 3), 2, tmp_path, "thfm evaluate synthetic ..."
    )
    passes = len(runtime.windows)
    assert passes == 4  # two windows for each of two clips
    assert set(first.results) == {"THFM fake", "constant"}
    assert first.seam_ratios["THFM fake"].keys() == set(MEASURED) - {"keypoints_2d"}
    again = synthetic.evaluate(predictors, synthetic.GeneratedClips(CONFIG, 3), 2, tmp_path)
    assert len(runtime.windows) == passes
    assert json.dumps(again.results, sort_keys=True) == json.dumps(first.results, sort_keys=True)
    synthetic.evaluate(predictors, synthetic.GeneratedClips(CONFIG, 4), 1, tmp_path)
    assert len(runtime.windows) == passes + 2  # other clips, other rows
    text = (tmp_path / "report.md").read_text()
    assert "| foreground | IoU ↑ |" in text
    assert "window borders" in text


def test_rows_of_another_generator_are_not_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictors = [ConstantPredictor()]
    synthetic.evaluate(predictors, synthetic.GeneratedClips(CONFIG, 3), 1, tmp_path)
    before = set((tmp_path / "rows").iterdir())
    synthetic.evaluate(predictors, synthetic.GeneratedClips(CONFIG, 3), 1, tmp_path)
    assert set((tmp_path / "rows").iterdir()) == before
    monkeypatch.setattr("thfm_ros.synth.shards.GENERATOR_VERSION", -1)
    synthetic.evaluate(predictors, synthetic.GeneratedClips(CONFIG, 3), 1, tmp_path)
    assert len(set((tmp_path / "rows").iterdir()) - before) == 1


def test_command_writes_markdown_and_json(tmp_path: Path) -> None:
    from thfm_ros.evaluate import commands

    app = typer.Typer()
    app.command("other")(lambda: None)  # a lone group would be the application itself
    commands.register(app)
    arguments = [
        "evaluate",
        "synthetic",
        "--checkpoint",
        "constant",
        "--clips",
        "1",
        "--frames",
        "2",
        "--size",
        "48x64",
    ]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path), "--json", str(tmp_path / "x.json")])
    assert result.exit_code == 0, result.output
    assert "| human_normals | mean (°) ↓ |" in result.output
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["config"]["split"] == "test"
    assert stored["results"]["constant"]["foreground/iou"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emdb", "--checkpoint", "constant", "--data", "/nowhere"], "folder does not exist"),
        (["synthetic", "--checkpoint", "/nowhere"], "no checkpoint or bundle at /nowhere"),
        (["synthetic", "--checkpoint", "constant", "--data", "/nowhere"], "no shards at /nowhere"),
        (["hi4d", "--checkpoint", "constant", "--data", "/nowhere", "--option", "a=b"], "hi4d has the options task"),
    ],
)
def test_command_names_the_mistake(arguments: list[str], message: str) -> None:
    from thfm_ros.evaluate import commands

    app = typer.Typer()
    app.command("other")(lambda: None)  # a lone group would be the application itself
    commands.register(app)
    assert message in str(CliRunner().invoke(app, ["evaluate", *arguments]).exception)


def test_every_published_data_set_has_a_command() -> None:
    from thfm_ros.evaluate import commands
    from thfm_ros.evaluate.benchmarks import BENCHMARKS

    assert {name: benchmark.title for name, benchmark in BENCHMARKS.items()} == commands.PUBLISHED


def test_shards_are_read_by_clip_and_refused_if_not_held_out(tmp_path: Path) -> None:
    from dataclasses import replace

    from thfm_ros.evaluate.readers import read
    from thfm_ros.evaluate.readers.shards import ShardedClips
    from thfm_ros.synth.generate import run

    config = replace(CONFIG, frames=2)
    for split in ("test", "train"):
        run(replace(config, split=split), 3, 3, tmp_path / split, 2, 1, False, None, "cpu")
    made, stored = synthetic.GeneratedClips(config, 3), ShardedClips(tmp_path / "test")
    assert len(stored) == 3
    for index in (2, 0):
        assert np.abs(stored.clip(index).alpha - made.clip(index).alpha).max() < 0.01
        assert stored.clip(index).keypoints_3d == pytest.approx(made.clip(index).keypoints_3d, abs=1e-4)
    report = synthetic.evaluate([ConstantPredictor()], stored, 3, tmp_path / "out")
    assert report.config["seed"] == 3
    with pytest.raises(UserError, match="expected held-out clips, found split 'train'"):
        synthetic.evaluate([ConstantPredictor()], ShardedClips(tmp_path / "train"), 3, tmp_path / "out")
    recordings = read("shards", tmp_path / "test")
    assert [r.frames for r in recordings] == [2, 2, 2]
    assert set(recordings[1].truth(1)) == {"alpha", "depth", "normals", "mask"}
    assert recordings[1].joints().xyz.shape == (2, 24, 3)
    shard = min((tmp_path / "test").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(UserError, match="is broken"):
        ShardedClips(tmp_path / "test").clip(0)


@pytest.mark.parametrize("other", [{"generator": 7}, {"shards": {"a.tar": {"sha256": "1" * 64, "clips": 1}}}])
def test_rows_of_other_shards_are_not_used_again(tmp_path: Path, other: dict) -> None:
    """Their key holds the settings: those of a generator or a device that made other clips differ."""
    from thfm_ros.evaluate.readers.shards import ShardedClips
    from thfm_ros.synth.shards import plan

    shards = {"a.tar": {"sha256": "0" * 64, "clips": 1}}
    manifest = {**plan(CONFIG, 3, 1, 1, "assets"), "generator": 8, "shards": shards}
    found = []
    for content in (manifest, {**manifest, **other}):
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        found.append(ShardedClips(tmp_path).settings)
    assert found[0] != found[1]
