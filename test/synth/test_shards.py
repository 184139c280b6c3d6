"""Shards: round trip, determinism whatever the workers, resume, checksums, the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.progress import Progress
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.synth import commands, generate, shards
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.generate import clips_a_shard, run
from thfm_ros.synth.preview import COLUMNS, panel

CONFIG = SynthConfig(frames=2, height=32, width=48, empty=0.2)


def digests(manifest: dict) -> dict:
    return {k: v["sha256"] for k, v in manifest["shards"].items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return folder, run(CONFIG, 3, 5, folder, per_shard=2)


def test_clips_survive_the_round_trip(made, assets):
    folder, manifest = made
    clips = list(shards.read_clips(folder))
    assert len(clips) == 5
    assert len(manifest["shards"]) == 3
    for i, found in enumerate(clips):
        truth = generate_clip(CONFIG, 3, i, assets)
        assert np.abs(found.rgb.astype(int) - truth.rgb).mean() < 4
        solid = np.isfinite(truth.depth)
        assert (np.isfinite(found.depth) == solid).all()
        assert np.allclose(1 / found.depth[solid], 1 / truth.depth[solid], atol=1e-4)
        assert (found.normals * truth.normals).sum(-1)[solid].min() > math.cos(math.radians(1))
        assert np.abs(found.alpha - truth.alpha).max() < 0.003
        assert np.array_equal(found.human_mask, truth.human_mask)
        assert np.abs(found.dense_pose - truth.dense_pose).max() < 1e-4
        assert np.array_equal(found.parts, truth.parts)
        assert np.allclose(found.keypoints_2d, truth.keypoints_2d, atol=1e-3, equal_nan=True)
        assert np.allclose(found.world_to_camera, truth.world_to_camera)
        assert found.meta["index"] == i
    assert any((clip.alpha == 127 / 255).any() for clip in clips)  # pixels of which half is a person: no person


def test_shares_of_workers_cover_everything_once(made):
    folder, _ = made
    indices = [c.meta["index"] for k in range(2) for c in shards.read_clips(folder, k, 2)]
    assert sorted(indices) == list(range(5))


def test_two_processes_make_the_same_shards(made, tmp_path):
    _, manifest = made
    assert digests(run(CONFIG, 3, 5, tmp_path, per_shard=2, workers=2)) == digests(manifest)


def test_by_default_every_worker_has_shards_whatever_the_number_of_clips(tmp_path):
    for clips in (2, 24, 48, 1000, 100_000):
        shards_made = -(-clips // clips_a_shard(clips))
        assert shards_made >= min(clips, 32)
        assert clips_a_shard(clips) <= 32
    first = run(CONFIG, 3, 2, tmp_path)
    assert len(first["shards"]) == 2
    assert first == run(CONFIG, 3, 2, tmp_path, workers=2)


def test_a_plan_on_disk_decides_the_shards_of_its_resumption(made, tmp_path):
    folder, manifest = made
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "shard-000001.tar").unlink()
    assert digests(run(CONFIG, 3, 5, tmp_path)) == digests(manifest)


@pytest.mark.slow
def test_two_ray_workers_make_the_same_shards(made, tmp_path):
    pytest.importorskip("ray")
    _, manifest = made
    assert digests(run(CONFIG, 3, 5, tmp_path, per_shard=2, workers=2, ray="local")) == digests(manifest)


def test_an_interrupted_run_resumes(made, tmp_path):
    folder, manifest = made
    for name in ("plan.json", "shard-000000.tar", "shard-000000.json", "shard-000001.tar", "shard-000001.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    cut = tmp_path / "shard-000001.tar"
    cut.write_bytes(cut.read_bytes()[:-100])  # killed while copying
    kept = (tmp_path / "shard-000000.tar").stat().st_mtime_ns
    progress, resumed = [], []
    again = run(CONFIG, 3, 5, tmp_path, per_shard=2, progress=progress.append, resumed=resumed.append)
    assert digests(again) == digests(manifest)
    assert (tmp_path / "shard-000000.tar").stat().st_mtime_ns == kept
    assert resumed == [2]
    assert progress == [2, 1]


def test_another_plan_does_not_mix_in(made):
    folder, _ = made
    with pytest.raises(UserError, match="another plan"):
        run(CONFIG, 4, 5, folder, per_shard=2)


def test_the_plan_is_whole_or_absent_whenever_the_run_is_killed(made, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, 3, 5, tmp_path, per_shard=2)
    assert not (tmp_path / "plan.json").exists()
    folder, manifest = made
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    written = (tmp_path / "plan.json").stat()
    assert run(CONFIG, 3, 5, tmp_path) == manifest
    after = (tmp_path / "plan.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (written.st_mtime_ns, written.st_ino)
    for content in (b"", b"{", b"[]", b'{"per_shard": "2"}', b"\xff\xfe"):
        (tmp_path / "plan.json").write_bytes(content)
        with pytest.raises(UserError, match=r"plan\.json is damaged: delete it"):
            run(CONFIG, 3, 5, tmp_path)
    (tmp_path / "plan.json").unlink()  # the fix that the message names
    assert run(CONFIG, 3, 5, tmp_path, per_shard=2) == manifest


def test_resumed_clips_do_not_count_in_the_rate():
    now = [100.0]
    bar = Progress(get_time=lambda: now[0])
    number = bar.add_task("generating", total=1000, resumed=0)
    task = bar.tasks[0]
    bar.update(number, completed=900, resumed=900)
    now[0] += 5
    assert commands.pace(task) == "- clips/s"
    bar.update(number, advance=20)
    now[0] += 5
    assert commands.pace(task) == "2.00 clips/s, 0:00:40 left"
    bar.update(number, advance=80)
    assert commands.pace(task) == "10.00 clips/s, 0:00:00 left"


def test_a_panel_has_all_modalities_side_by_side(assets):
    clip = next(c for i in range(9) if (c := generate_clip(CONFIG, 3, i, assets)).human_mask[0].any())
    image = panel(clip, 0)
    width = clip.rgb.shape[2]
    assert image.shape == (clip.rgb.shape[1], len(COLUMNS) * width, 3)
    scene, human = (image[:, COLUMNS.index(n) * width :][:, :width] for n in ("normals", "human normals"))
    mask = clip.human_mask[0]
    assert np.array_equal(human[mask], scene[mask])
    assert human[mask].any()
    assert not human[~mask].any()


def test_a_broken_shard_is_named(made, tmp_path):
    folder, _ = made
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert shards.check(tmp_path) == 3
    content = bytearray((tmp_path / "shard-000002.tar").read_bytes())
    content[700] ^= 1
    (tmp_path / "shard-000002.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"shard-000002\.tar is broken"):
        shards.check(tmp_path)
    with pytest.raises(UserError, match=r"shard-000002\.tar is broken"):
        list(shards.read_clips(tmp_path))
    (tmp_path / "shard-000002.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000002\.tar is missing"):
        shards.check(tmp_path)
    with pytest.raises(UserError, match="thfm generate"):
        shards.check(tmp_path / "nowhere")


def test_the_fixture_is_readable_without_generating():
    """Two clips for tests of other parts: test/synth/fixture, made by thfm generate (see its plan.json)."""
    folder = Path(__file__).parent / "fixture"
    clips = list(shards.read_clips(folder))
    assert len(clips) == 2
    for clip in clips:
        assert clip.rgb.shape == (5, 64, 96, 3)
        assert clip.human_mask.any()
        assert np.isfinite(clip.keypoints_3d).all()


def invoke(*arguments: str):
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_writes_shards_previews_and_measurements(tmp_path):
    small = ["--clips", "2", "--frames", "2", "--size", "32x48"]
    result = invoke(*small, "--out", str(tmp_path / "a"), "--json", str(tmp_path / "a.json"))
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "a.json").read_text())
    assert manifest["clips"] == 2
    assert "CC0" in manifest["sources"]
    assert invoke("--check", "--out", str(tmp_path / "a")).exit_code == 0
    result = invoke(*small, "--preview", "--out", str(tmp_path / "b"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b" / "preview.png").stat().st_size > 1000
    result = invoke(*small, "--measure", "--json", str(tmp_path / "m.json"))
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "m.json").read_text())["clips_per_s"] > 0


def test_an_interrupted_command_says_what_is_kept_and_goes_on(tmp_path, monkeypatch):
    def interrupted(*job):
        if job[1] == 2:
            raise KeyboardInterrupt
        return shards.write_shard(*job)

    command = ["--clips", "4", "--frames", "2", "--size", "32x48", "--per-shard", "1", "--out", str(tmp_path / "a")]
    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_shard", interrupted)
        result = invoke(*command)
    assert result.exit_code == 130
    assert "ended early: 2 of 4 clips are in" in result.output
    kept = (tmp_path / "a" / "shard-000001.tar").stat().st_ino
    assert invoke(*command).exit_code == 0
    assert (tmp_path / "a" / "shard-000001.tar").stat().st_ino == kept


def test_the_command_names_bad_input(tmp_path):
    for arguments, message in (
        (["--size", "12"], "HxW"),
        (["--bvh", str(tmp_path / "none")], "does not exist"),
        (["--device", "cuda:7"], "no device 'cuda:7'"),
    ):
        error = invoke(*arguments, "--out", str(tmp_path / "o")).exception
        assert isinstance(error, UserError)
        assert message in str(error)
