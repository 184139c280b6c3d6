"""The loop with real (tiny) networks: learning, resuming, accidents, several processes."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from train_fakes import Discs, tiny

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint
from thfm_ros.train import state as state_module
from thfm_ros.train.config import load_config, to_table
from thfm_ros.train.data import Draw
from thfm_ros.train.recipe import RecipeStage, run_recipe
from thfm_ros.train.samples import ClipBatch, TrainingClip
from thfm_ros.train.state import checkpoints
from thfm_ros.train.trainer import Trainer, cooldown_start, learning_rate

STREAMING: dict[str, Any] = {"stream": 0.5, "attention": {"full": 1, "causal": 1}, "tasks_per_clip": 2}


def log(out: Path, kind: str = "loss") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def losses(out: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in log(out)}


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(out / "state")[-1] / "state.safetensors")


class Killed(Exception):
    pass


class Fragile(Discs):
    """Fails at its `life`-th clip, as a machine does."""

    def __init__(self, life: int) -> None:
        super().__init__()
        self.life = life

    def __call__(self, index: int) -> TrainingClip:
        self.life -= 1
        if self.life < 0:
            raise Killed
        return super().__call__(index)


NANO: dict[str, Any] = {
    "stage": "nano",
    "preset": "nano",
    "prompts": str(Path(__file__).parents[2] / "weights" / "nano"),
    "vae": {"widths": [8, 48, 16, 24]},
    "transformer": {"num_layers": 1},
    "keypoints": [4.0, 4.0, 0.1, 0.1],
    "data": {"frames": 5, "height": 32, "width": 48},
}
NARROW: dict[str, Any] = {"widths": [8, 8, 8, 8], "blocks": 1}
WINDOWS = {"share": 0.5, "width": 16, "height": 32}
OWN: dict[str, dict[str, Any]] = {
    "vae": {},
    "latent": STREAMING,
    "pixel": {**STREAMING, "augment": {"windows": WINDOWS}, "data": {"height": 32, "width": 48}},
    "nano": {**NANO, "tasks_per_clip": 2, "optim": {"name": "muon"}},
    "decoder": {"decoder": NARROW},
}


@pytest.mark.parametrize("stage", OWN)
def test_resuming_equals_an_uninterrupted_run(tmp_path: Path, stage: str) -> None:
    kwargs = {"stage": stage, **OWN[stage]}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert Trainer(tiny(**kwargs), whole, Discs()).fit()
    drawing = Trainer(tiny(**kwargs), tmp_path / "draws", Discs())
    shown = sum(len(drawing._draw(step).clips) for step in range(4))
    with pytest.raises(Killed):
        Trainer(tiny(**kwargs), broken, Fragile(shown + 1)).fit()
    assert [p.name for p in checkpoints(broken / "state")] == ["step-00000003"]
    assert Trainer(tiny(**kwargs), broken, Discs()).fit()
    assert losses(whole) == losses(broken)
    assert len(losses(whole)) == 6
    first, second = weights(whole), weights(broken)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_was_before_the_cooldown_goes_on_as_if_the_rate_had_never_fallen(tmp_path: Path) -> None:
    optim = {"schedule": "cooldown", "cooldown": 0.5, "warmup": 0.0}
    short, longer, whole = (tmp_path / name for name in ("short", "longer", "whole"))
    assert Trainer(tiny(steps=4, optim=optim), short, Discs()).fit()
    longer.mkdir()
    (short / "before_cooldown").rename(longer / "state")
    optim = {**optim, "cooldown": 0.75}  # both may change: how many steps, and how many of them fall
    assert Trainer(tiny(steps=8, optim=optim), longer, Discs()).fit()
    assert Trainer(tiny(steps=8, optim=optim), whole, Discs()).fit()
    assert losses(longer) == {step: loss for step, loss in losses(whole).items() if step > 2}
    assert [*losses(longer)] == [3, 4, 5, 6, 7, 8]
    first, second = weights(longer), weights(whole)
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_fall_that_the_time_began_goes_on_after_an_interrupt(tmp_path: Path) -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    class Falling(Discs):
        """A second a clip; the 14th ends the run, after the rate has begun to fall."""

        clips = 0

        def __call__(self, index: int) -> TrainingClip:
            clock.now += 1
            self.clips += 1
            if self.clips == 14:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__call__(index)

    clock, out = Clock(), tmp_path / "run"
    optim = {"schedule": "cooldown", "cooldown": 0.5, "warmup": 0.0}
    own: dict[str, Any] = {"batch": 1, "checkpoint_every": 0, "log_every": 0, "data": {"clips": 0, "frames": 1}}
    config = tiny(steps=1000, optim=optim, **own)
    with pytest.raises(SystemExit):
        Trainer(config, out, Falling(1), clock).fit(20 / 60, cool_down=True)
    again = Trainer(config, out, Discs(1), clock)
    assert 10 <= cooldown_start(again.config) < again.step < again.config.steps < 25
    fallen = learning_rate(again.config, again.step)
    assert fallen < again.config.optim.lr
    longer = Trainer(tiny(steps=2000, optim=optim, **own), out, Discs(1))
    assert (longer.step, longer.config.steps) == (again.step, 2000)
    assert learning_rate(longer.config, longer.step) == longer.config.optim.lr
    end = again.config.steps
    assert again.fit(20 / 60, cool_down=True)
    assert again.step == end
    assert again.optimizer.param_groups[0]["lr"] < fallen


def test_time_limit_ends_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    assert not Trainer(tiny(), tmp_path, Discs()).fit(max_minutes=0)
    assert checkpoints(tmp_path / "state")[-1].name == "step-00000001"
    assert load_checkpoint(tmp_path / "model").config.samples_seen == 4
    assert Trainer(tiny(), tmp_path, Discs()).fit()
    assert load_checkpoint(tmp_path / "model").config.samples_seen == 24


def test_a_signal_ends_after_the_step_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Discs):
        calls = 0

        def __call__(self, index: int) -> TrainingClip:
            self.calls += 1
            if self.calls == 4:  # in the third step
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__call__(index)

    config = tiny(batch=2, tasks_per_clip=1, checkpoint_every=0, evaluate_every=0)
    stages = [RecipeStage(name, tmp_path / name, config, 0.5) for name in ("one", "two")]
    with pytest.raises(SystemExit, match="143"):
        run_recipe(stages, math.inf, Interrupted())
    (state,) = checkpoints(tmp_path / "one" / "state")
    assert "the same command goes on from there" in capsys.readouterr().out
    assert not stages[0].finished
    assert not stages[1].out.exists()
    assert Trainer(config, tmp_path / "one", Discs()).step == int(state.name[5:]) > 0


def test_accumulation_equals_one_large_batch(tmp_path: Path) -> None:
    for name, accumulate in (("one", 1), ("four", 4)):
        Trainer(tiny(accumulate=accumulate, steps=2, **STREAMING), tmp_path / name, Discs()).fit()
    assert losses(tmp_path / "one")[2] == pytest.approx(losses(tmp_path / "four")[2], rel=1e-4)


EVALUATED: dict[str, Any] = {"steps": 3, "evaluate_every": 2, "evaluate_clips": 2}
# Clips; still images with one task each, where a process may find no use for part of the network; and nano.
SPLIT: list[dict[str, Any]] = [
    {"stream": 0.5, "tasks_per_clip": 2},
    {"stage": "pixel", "train_encoder": True, "train_decoder": True, "data": {"frames": 1}, "batch": 2},
    {**NANO, "batch": 2, "optim": {"name": "muon"}, "augment": {"windows": WINDOWS}},
]


@pytest.mark.parametrize("own", SPLIT, ids=["clips", "stills", "nano"])
def test_two_processes_equal_one(tmp_path: Path, own: dict[str, Any]) -> None:
    code = (
        "import json, sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1])\n"
        "from train_fakes import Discs, tiny\n"
        "from thfm_ros.train.trainer import Trainer\n"
        "t = Trainer(tiny(**json.loads(sys.argv[3])), sys.argv[2], Discs())\n"
        "assert t.accelerator.num_processes == 2, t.accelerator.num_processes\n"
        "t.fit()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(here), str(tmp_path / "two"), json.dumps({**EVALUATED, **own})],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            cwd=root,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr[-2000:]
    Trainer(tiny(**EVALUATED, **own), tmp_path / "one", Discs()).fit()
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[step] == pytest.approx(two[step], rel=1e-4) for step in one)
    scores = [[line["score"] for line in log(tmp_path / name, "metrics")] for name in ("one", "two")]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


class Poisoned(Discs):
    """Clip 3 has an infinite target."""

    def __call__(self, index: int) -> TrainingClip:
        clip = super().__call__(index)
        if index == 3:
            clip.xyz[:] = np.nan
        return clip


def test_a_loss_that_is_not_finite_is_named_and_the_state_kept(tmp_path: Path) -> None:
    config = tiny(steps=40, tasks={"keypoints_3d": 1, "foreground": 1}, checkpoint_every=100)
    with pytest.raises(UserError, match=r"step \d+: the loss of keypoints_3d is not finite \(clips .*3.*\)"):
        Trainer(config, tmp_path, Poisoned()).fit()
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path).values())


def test_batches_above_the_threshold_are_dropped_and_counted(tmp_path: Path) -> None:
    before = Trainer(tiny(), tmp_path / "start", Discs()).parameters
    trainer = Trainer(tiny(optim={"drop": 1e-9}), tmp_path / "run", Discs())
    trainer.fit()
    assert trainer.record["dropped"] == 6
    assert all(torch.equal(before[name], value) for name, value in trainer.parameters.items())


def test_a_kill_while_saving_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(tiny(steps=3), tmp_path, Discs()).fit()

    def die(tensors: dict[str, torch.Tensor], file: Path) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(state_module, "save_file", die)
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny(steps=6), tmp_path, Discs()).fit()
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000003"]
    assert Trainer(tiny(steps=6), tmp_path, Discs()).step == 3


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: dict[str, torch.Tensor], file: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "save_file", full)
    with pytest.raises(UserError, match="disk is full; earlier checkpoints are kept"):
        Trainer(tiny(steps=3), tmp_path, Discs()).fit()


def test_another_config_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    Trainer(tiny(steps=1), tmp_path, Discs()).fit()
    with pytest.raises(UserError, match="another 'batch'"):
        Trainer(tiny(steps=2, batch=2), tmp_path, Discs())


def test_keys_that_are_newer_than_a_run_do_not_keep_it_from_going_on(tmp_path: Path) -> None:
    Trainer(tiny(steps=1), tmp_path, Discs()).fit()
    path = checkpoints(tmp_path / "state")[-1] / "state.json"
    record = json.loads(path.read_text())
    del record["config"]["aligned"], record["config"]["optim"]["cooldown"]
    path.write_text(json.dumps(record))
    assert Trainer(tiny(steps=2), tmp_path, Discs()).fit()
    with pytest.raises(UserError, match="another 'optim'"):
        Trainer(tiny(steps=2, optim={"ema": 0.5}), tmp_path, Discs())


def test_runs_of_every_shipped_config_go_on(tmp_path: Path) -> None:
    """Whatever their free tables (`attention`, `tasks`, `transformer`) name, and lack of the defaults."""
    trainer = Trainer(tiny(), tmp_path, Discs())
    trainer.save()
    path = checkpoints(tmp_path / "state")[-1] / "state.json"
    record = json.loads(path.read_text())
    folder = Path(__file__).parents[2] / "config" / "train"
    files = [file for file in folder.glob("*.yaml") if not file.stem.endswith("recipe")]
    assert files
    for step, file in enumerate(files, 1):
        trainer.config = load_config(file)
        path.write_text(json.dumps(record | {"config": to_table(trainer.config), "step": step}))
        trainer._resume()
        assert trainer.step == step


def test_a_run_with_one_mask_goes_on_and_keys_that_are_gone_do_not_keep_it(tmp_path: Path) -> None:
    Trainer(tiny(steps=1, attention={"causal": 1.0}), tmp_path, Discs()).fit()
    path = checkpoints(tmp_path / "state")[-1] / "state.json"
    record = json.loads(path.read_text())
    record["config"]["guide"] = 8
    path.write_text(json.dumps(record))
    assert Trainer(tiny(steps=2, attention={"causal": 1.0}), tmp_path, Discs()).fit()
    with pytest.raises(UserError, match="another 'attention'"):
        Trainer(tiny(steps=2, attention={"causal": 1.0, "full": 1.0}), tmp_path, Discs())


def test_learning_rate_warms_up_over_the_first_tenth() -> None:
    config = tiny(steps=100, optim={"lr": 1.0})
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert set(rates[10:]) == {1.0}
    cosine = tiny(steps=100, optim={"lr": 1.0, "schedule": "cosine"})
    assert learning_rate(cosine, 99) < 0.03 < learning_rate(cosine, 50)
    cooling = tiny(steps=100, optim={"lr": 1.0, "schedule": "cooldown", "cooldown": 0.25})
    rates = [learning_rate(cooling, step) for step in range(100)]
    assert set(rates[10:76]) == {1.0}
    assert rates[75:] == sorted(rates[75:], reverse=True)
    assert rates[76] == pytest.approx(0.8)
    assert 0 < rates[99] < 0.03
    with pytest.raises(UserError, match="cooldown"):
        tiny(optim={"cooldown": 0.0})


def test_the_average_is_what_is_exported(tmp_path: Path) -> None:
    trainer = Trainer(tiny(), tmp_path, Discs())
    trainer.fit()
    exported = load_checkpoint(tmp_path / "model").transformer.state_dict()
    name = "proj_out.weight"
    assert torch.equal(exported[name], trainer.ema.shadow[f"transformer.{name}"])
    assert not torch.equal(exported[name], trainer.parameters[f"transformer.{name}"])


def test_a_tiny_autoencoder_learns(tmp_path: Path) -> None:
    """Held-out PSNR gains 3 dB and the loss falls to below 60 % in 120 steps."""
    config = tiny(
        stage="vae",
        steps=120,
        batch=8,
        evaluate_every=119,
        evaluate_clips=4,
        data={"frames": 1, "clips": 64},
        tasks={"foreground": 1, "dense_pose": 1, "rgb": 1},
        optim={"lr": 4e-3, "ema": 0},
    )
    trainer = Trainer(config, tmp_path, Discs(1))
    before = trainer.heldout(trainer.stage)[0]
    trainer.fit()
    after, values = log(tmp_path, "metrics")[-1], losses(tmp_path)
    assert np.mean([values[s] for s in range(111, 121)]) < 0.6 * np.mean([values[s] for s in range(1, 11)])
    assert after["score"] < before["score"] - 3


DISCS: dict[str, Any] = {  # what a tiny network can learn of still discs in a minute
    "batch": 8,
    "tasks": {"foreground": 1, "keypoints_2d": 1},
    "tasks_per_clip": 2,
    "data": {"frames": 1, "clips": 64},
    "optim": {"lr": 4e-3, "ema": 0},
}


def finds_the_person(trainer: Trainer) -> None:
    """IoU from below 0.3 to above 0.6, keypoint loss to 60 %."""
    before = trainer.heldout(trainer.stage)[0]["iou/foreground"]
    trainer.fit()
    lines = log(trainer.out)
    first, last = (np.mean([line["keypoints_2d"] for line in part]) for part in (lines[:5], lines[-10:]))
    after = log(trainer.out, "metrics")[-1]["iou/foreground"]
    assert (before < 0.3, after > 0.6, last < 0.6 * first) == (True, True, True), (before, after, first, last)


@pytest.mark.parametrize("stage", ["vae", "latent", "pixel"])
def test_clips_without_a_scene_teach_the_tasks_of_people_alone(tmp_path: Path, stage: str) -> None:
    """Behind whose people a photograph stands."""
    clips = [Discs()(index) for index in range(4)]
    clips = [replace(clip, scene=np.full(clip.frames, n % 2 == 0)) for n, clip in enumerate(clips)]

    def losses(task: str) -> list[bool]:
        trainer = Trainer(tiny(stage=stage, tasks={task: 1.0}), tmp_path / task, Discs())
        values, _ = trainer._step(trainer._batches(clips))
        return (values > 0).tolist()

    assert losses("scene_normals") == [True, False, True, False]
    assert losses("foreground") == [True] * 4


def test_windows_around_one_person_train(tmp_path: Path) -> None:
    windows = {"share": 1.0, "width": 16, "height": 32}
    config = tiny(stage="pixel", steps=2, augment={"windows": windows, "appearance": {"share": 1.0}})
    config = replace(config, data=replace(config.data, width=48, height=32))
    trainer = Trainer(config, tmp_path, Discs())
    part = trainer._draw(0)
    ((batch, _),) = trainer._batches([Discs()(c) for c in part.clips])
    assert batch.rgb.shape == (12, 3, 5, 32, 16)
    assert trainer.fit()


def test_a_tiny_network_learns_where_the_person_is(tmp_path: Path) -> None:
    """Through the decoder, all of it trained: IoU from below 0.3 to above 0.6, keypoint loss to 60 %."""
    config = tiny(
        stage="pixel",
        steps=150,
        evaluate_clips=8,
        evaluate_every=150,
        train_encoder=True,
        train_decoder=True,
        **DISCS,
    )
    trainer = Trainer(config, tmp_path, Discs(1))
    finds_the_person(trainer)


@torch.no_grad()
def test_overlap_weighs_on_masks_alone(tmp_path: Path) -> None:
    batch = ClipBatch.of([Discs()(i) for i in range(2)])
    tasks = ("foreground", "dense_pose", "human_normals")
    draw = Draw(0, (0, 1), (tasks, tasks), ((0, 0, 0), (0, 0, 0)), "full", False, 0.0)
    losses = {}
    for overlap in (0.0, 0.5, 1.0):
        stage = Trainer(tiny(stage="pixel", overlap=overlap), tmp_path / str(overlap), Discs()).stage
        losses[overlap], rows = stage(batch, draw)
    mask = torch.tensor([task == "foreground" for task in rows.tasks])
    half, whole = losses[0.5] - losses[0.0], losses[1.0] - losses[0.0]
    assert not half[~mask].any()
    assert (half[mask] > 0.1).all()  # untrained masks overlap little
    torch.testing.assert_close(whole[mask], 2 * half[mask])


def test_stills_have_no_middle_of_a_stream(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="still images have no middle of a stream"):
        Trainer(tiny(stream=0.5, data={"frames": 1}), tmp_path, Discs())


def test_windows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"windows\.height: expected a multiple of 16 pixels, .* found 24"):
        Trainer(tiny(augment={"windows": {**WINDOWS, "height": 24}}), tmp_path, Discs())


def test_heatmaps_have_a_weight_in_stage_nano_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a fourth weight is of heatmaps"):
        Trainer(tiny(keypoints=[1.0, 1.0, 0.1, 0.1]), tmp_path, Discs())
