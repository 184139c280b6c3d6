"""Configs: strict keys, and a dry run of every shipped file with tiny networks of the same config."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from train_fakes import Discs, tiny
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint
from thfm_ros.model.nano.efficientnet import EfficientNetLite
from thfm_ros.model.nano.heads import HeatmapKeypoints
from thfm_ros.schema import parse
from thfm_ros.tasks import TASKS
from thfm_ros.train import networks
from thfm_ros.train.config import AugmentConfig, DataConfig, TrainConfig, WindowConfig, load_config, to_table
from thfm_ros.train.data import HELD_OUT, Folder, Generator, Grouped, draw, feed, open_source
from thfm_ros.train.nano.stage import NanoStage
from thfm_ros.train.publish import publish
from thfm_ros.train.recipe import read_recipe, remaining, run_recipe
from thfm_ros.train.samples import ClipBatch, TrainingClip
from thfm_ros.train.stages import Rows
from thfm_ros.train.trainer import Trainer

FOLDER = Path(__file__).parents[2] / "config" / "train"
WEIGHTS = Path(__file__).parents[2] / "weights" / "nano"
CONFIGS = sorted(file for file in FOLDER.glob("*.yaml") if not file.stem.endswith("recipe"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stage": "latent", "learning_rate": 1}, "unknown key 'learning_rate'"),
        ({"stage": "latent", "optim": {"lrr": 1}}, "optim: unknown key 'lrr': did you mean 'lr'"),
        ({"stage": "latent", "augment": {"zoom": 1.5}}, "zoom above 0 and at most 1"),
        ({"stage": "latent", "keypoints": [1, 1]}, "expected 3 or 4 weights"),
        ({"stage": "pixels"}, "expected one of vae, latent, pixel, nano, decoder, found 'pixels'"),
        ({"stage": "latent", "decoder": {"blocks": 1}}, "in stage decoder alone, found latent"),
        *(({"stage": s, "lora": 4}, f"lora: expected 0 in stage {s}, found 4") for s in ("vae", "nano", "decoder")),
        ({"stage": "latent", "steps": "many"}, "steps: expected int, found 'many'"),
        ({"stage": "latent", "batch": True}, "batch: expected int"),
        ({"stage": "latent", "optim": {"lr": "fast"}}, "lr: expected a finite number"),
        ({}, "expected stage, found none"),
        ({"stage": "latent", "tasks": ["foreground"]}, "expected a table"),
    ],
)
def test_mistakes_are_named(table: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(TrainConfig, table, "file.yaml")


OUT_OF_RANGE = {
    "0": "steps batch accumulate tasks_per_clip keep data.repeats data.oversample",
    "-1": "steps batch accumulate tasks_per_clip keep seed decode_latents lora freeze_blocks log_every evaluate_every "
    "evaluate_clips checkpoint_every encoder_rate overlap anchor background aligned latent_noise stream "
    "data.clips data.seed data.height data.width data.frames data.fps data.workers "
    "optim.lr optim.warmup optim.clip optim.drop optim.ema loss_weights.foreground tasks.foreground attention.full",
    "2": "stream optim.warmup optim.ema",
    "17": "freeze_blocks",
    ".nan": "stream overlap optim.lr optim.ema optim.drop data.fps tasks.foreground",
    ".inf": "overlap encoder_rate optim.lr optim.clip data.fps loss_weights.foreground",
    "{}": "attention",
    "{full: 0}": "attention",
    "{half: 1}": "attention",
    "{bogus: 3}": "loss_weights",
    "[0.9]": "optim.betas",
    "[0.9, 1.0]": "optim.betas",
    "[1, -1, 0.1]": "keypoints",
}


@pytest.mark.parametrize(("value", "keys"), OUT_OF_RANGE.items())
def test_values_out_of_range_are_one_line_that_names_the_key(tmp_path: Path, value: str, keys: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("stage: nano\n")
    for key in keys.split():
        with pytest.raises(UserError) as error:
            load_config(file, [f"{key}={value}"])
        message = str(error.value)
        assert all(word in message for word in (*key.split("."), "expected", "found")), message
        assert "\n" not in message


def test_numbers_that_only_mean_something_together() -> None:
    with pytest.raises(UserError, match="evaluate_clips: expected 1 or more"):
        tiny(evaluate_every=1, evaluate_clips=0)
    tiny(evaluate_every=0, evaluate_clips=0)
    blocks = len(EfficientNetLite().blocks)
    assert tiny(freeze_blocks=blocks).freeze_blocks == blocks


def test_held_out_clips_do_not_follow_the_settings_and_keys_of_data_are_not_settings() -> None:
    config = DataConfig(height=48, width=64, frames=2, fps=12.0, settings={"people": 3, "empty": 1.0, "identities": 2})
    made, plain = (Generator(c, "cpu")(HELD_OUT) for c in (config, replace(config, settings={})))
    assert all(np.array_equal(getattr(made, f.name), getattr(plain, f.name)) for f in fields(made))
    with pytest.raises(UserError, match=r"found height: set data\.height instead"):
        Generator(replace(config, settings={"height": 32}), "cpu")


def test_files_and_overrides(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("stage: vae\noptim: {lr: 1e-3}\n")
    config = load_config(file, ["optim.clip=0.5", "data.settings.identities=8", "steps=7"])
    assert (config.optim.lr, config.optim.clip, config.steps) == (1e-3, 0.5, 7)
    assert config.data.settings == {"identities": 8}
    assert parse(TrainConfig, to_table(config), "again") == config
    with pytest.raises(UserError, match="no training config at"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="key=value"):
        load_config(file, ["steps"])
    for value in ("{", "2020-13-45"):
        with pytest.raises(UserError, match=r"--set tasks=.*: expected a value in YAML"):
            load_config(file, [f"tasks={value}"])
    file.write_text("stage: [")
    with pytest.raises(UserError, match="expected YAML"):
        load_config(file)


def test_network_arguments_are_checked() -> None:
    with pytest.raises(UserError, match="transformer: unknown key 'layers'"):
        networks.preset_of(tiny(transformer={"layers": 3}))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_every_shipped_config_runs_with_tiny_networks(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stage, tasks, masks, adapters, checkpointing and accumulation; only sizes and paths are replaced."""
    config = load_config(file)
    nano, finer = config.stage == "nano", config.data.oversample
    discs = Discs(9, 32 * finer, 48 * finer)
    windows = config.augment.windows
    windows = replace(windows, width=16, height=32) if windows.share else windows
    config = replace(
        config,
        preset="nano" if nano else "tiny",
        vae={"widths": [8, 48, 16, 24]} if nano else {},
        transformer={"num_layers": 1} if nano else {},
        decoder={"widths": [8, 8, 8, 8]} if config.stage == "decoder" else {},
        augment=replace(config.augment, windows=windows),
        init="",
        init_vae="",
        prompts=str(WEIGHTS) if nano else "",
        latents=str(tmp_path / "latents") if config.latents else "",
        steps=2,
        batch=2 * config.accumulate if config.accumulate < 3 else config.accumulate,
        precision="fp32",
        evaluate_every=0,
        data=replace(
            config.data, source="generate", workers=0, height=32, width=48, frames=min(9, config.data.frames or 9)
        ),
    )
    if config.optim.name == "adam8bit":  # the one part that needs a GPU's library
        try:
            import bitsandbytes  # noqa: F401
        except ImportError:
            with pytest.raises(UserError, match="needs bitsandbytes"):
                Trainer(config, tmp_path / "run", discs)
            config = replace(config, optim=replace(config.optim, name="adam"))
    trainer = Trainer(config, tmp_path / "run", discs)
    before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    assert trainer.fit()
    assert any(not torch.equal(before[name], p) for name, p in trainer.parameters.items())
    if config.lora:
        assert all("lora" in name or "keypoint_tokens" in name for name in before)
        exported = load_checkpoint(tmp_path / "run" / "model").transformer  # an ordinary one again
        assert not any("lora" in name for name in exported.state_dict())


def test_adapters_are_merged_into_the_exported_weights(tmp_path: Path) -> None:
    trainer = Trainer(tiny(lora=2, optim={"lr": 0.05}, tasks={"foreground": 1}), tmp_path, Discs())
    trainer.fit()
    latents = torch.randn(1, 4, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    checkpoint = load_checkpoint(tmp_path / "model")
    prompt = checkpoint.prompts["foreground"][:1]
    with torch.no_grad(), trainer.ema.applied():
        expected = trainer.checkpoint.transformer.eval()(latents, prompt).sample
        assert torch.allclose(checkpoint.transformer(latents, prompt).sample, expected, atol=1e-5)


def test_batches_are_a_function_of_seed_and_step() -> None:
    config = tiny(batch=64, tasks={"foreground": 3, "dense_pose": 1, "keypoints_2d": 0})
    assert draw(config, 5) == draw(config, 5) != draw(config, 6)
    assert draw(config, 5) != draw(replace(config, seed=1), 5)
    whole, parts = draw(config, 5), [draw(config, 5).part(i, 4) for i in range(4)]
    assert whole.clips == sum((p.clips for p in parts), ())
    chosen = [task for step in range(40) for tasks in draw(config, step).tasks for task in tasks]
    assert 0.7 < chosen.count("foreground") / len(chosen) < 0.8
    assert set(chosen) == {"foreground", "dense_pose"}


def test_a_fourth_weight_of_keypoints_is_0_where_three_are_given() -> None:
    noise = torch.Generator().manual_seed(0)
    shapes = ((1, 1, 32, 2), (1, 1, 32, 3), (1, 1, 32), (1, 1, 32, 8, 12))
    points = HeatmapKeypoints(*(torch.randn(shape, generator=noise) for shape in shapes))
    batch, rows = ClipBatch.of([Discs(1)(0)], torch.device("cpu")), Rows([0], ["keypoints_2d"], [0])

    def loss(*weights: float) -> float:
        stage = SimpleNamespace(config=tiny(stage="nano", keypoints=weights))
        return NanoStage._keypoint_rows(stage, points, batch, rows).item()

    assert loss(1, 1, 0.1) == loss(1, 1, 0.1, 0) < loss(1, 1, 0.1, 1)


def test_unknown_tasks_are_named() -> None:
    with pytest.raises(UserError, match="unknown task 'mask'.*" + next(iter(TASKS))):
        draw(tiny(tasks={"mask": 1}), 0)


def test_the_cache_gives_back_what_was_made_and_names_what_is_missing(tmp_path: Path) -> None:
    made = Discs()(7)
    cached = Folder(tmp_path, Discs())(7)
    again = Folder(tmp_path)(7)
    assert all((getattr(made, k) == getattr(again, k)).all() for k in vars(made))
    assert all((getattr(made, k) == getattr(cached, k)).all() for k in vars(made))
    with pytest.raises(UserError, match=r"clip 8 is missing: no .*0000000008\.npz"):
        Folder(tmp_path)(8)
    file = next(tmp_path.rglob("*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged clip"):
        Folder(tmp_path)(7)


def test_worker_processes_make_the_same_clips_in_order(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Discs())
    data = DataConfig(source="folder", path=str(tmp_path), workers=2)
    requests = [[3, 1], [2], [0, 1, 4], [3]]
    expected = [[folder(i).xy for i in request] for request in requests]
    found = [[clip.xy for clip in clips] for clips in feed(open_source(data), requests, data, "cpu")]
    assert len(found) == len(requests)
    for a, b in zip(found, expected, strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))


def test_clips_that_come_again_are_made_once_and_come_some_steps_apart() -> None:
    table = {"source": "generate", "repeats": 3}
    config = TrainConfig("latent", batch=6, data=DataConfig(**table))
    steps = [draw(config, step).clips for step in range(24)]
    assert steps == [draw(config, step).clips for step in range(24)]
    assert all(len(set(clips)) == 6 for clips in steps)
    seen = Counter(clip for clips in steps for clip in clips)
    assert {seen[clip] for clip in steps[10]} == {3}  # by then nobody is at the beginning or the end
    assert not set(steps[10]) & set(steps[11])
    made: list[int] = []

    def source(index: int) -> TrainingClip:
        made.append(index)
        return Discs()(index)

    clips = list(feed(source, steps, config.data, "cpu"))
    assert len(made) == len(set(made)) == len(seen)
    for step, found in zip(steps, clips, strict=True):
        assert all((clip.xy == Discs()(index).xy).all() for clip, index in zip(found, step, strict=True))


def test_workers_are_asked_once_for_clips_that_are_made_together() -> None:
    asked: list[range] = []

    def submit(indices: range) -> Future[list[int]]:
        asked.append(indices)
        done: Future[list[int]] = Future()
        done.set_result([10 * index for index in indices])
        return done

    grouped = Grouped(submit, 4)
    assert [grouped(index).result() for index in (5, 4, 9, 7, 2)] == [50, 40, 90, 70, 20]
    assert asked == [range(4, 8), range(8, 12), range(4)]


def test_a_folder_keeps_as_many_clips_as_its_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thfm_ros.train.data.IN_MEMORY", 2 * Discs()(0).nbytes)
    folder = Folder(tmp_path, Discs())
    for index in range(4):
        folder(index)
    assert list(folder.memory) == [2, 3]
    assert folder.bytes == 2 * Discs()(0).nbytes


def test_clips_that_come_again_come_to_the_process_that_has_rendered_them() -> None:
    windows = {"share": 0.8, "joints": 0.6}
    data = {"source": "generate", "repeats": 16, "width": 240, "height": 144, "settings": {"identities": 4}}
    augment = AugmentConfig(windows=WindowConfig(**windows))
    config = TrainConfig("nano", batch=16, data=DataConfig(**data), augment=augment)
    draws = [draw(config, step) for step in range(200)]
    parts = [[d.for_process(i, 2) for d in draws] for i in range(2)]
    for whole, one, two in zip(draws, *parts, strict=True):
        assert sorted(one.clips + two.clips) == sorted(whole.clips)
        assert len(one.clips) == len(one.tasks) == len(two.clips)
    made = [{clip for part in mine for clip in part.clips} for mine in parts]
    assert len(made[0]) + len(made[1]) < 1.1 * len(made[0] | made[1])


def test_an_autoencoder_learns_from_a_folder_that_holds_its_clips_alone(tmp_path: Path) -> None:
    """What calibrates its latents at the end are these, too."""
    clips = tmp_path / "clips"
    for index in range(6):
        Folder(clips, Discs())(index)
    config = tiny(stage="vae", steps=1, data={"source": "folder", "path": str(clips)})
    assert Trainer(config, tmp_path / "run").fit()
    assert load_checkpoint(tmp_path / "run" / "model").vae.config.latents_std != [1.0] * 4


def test_worker_processes_report_what_is_missing(tmp_path: Path) -> None:
    data = DataConfig(source="folder", path=str(tmp_path), workers=1)
    with pytest.raises(UserError, match="clip 5 is missing"):
        list(feed(open_source(data), [[5]], data, "cpu"))


def test_workers_end_with_a_trainer_that_was_killed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Discs())
    for index in (0, 1):
        folder(index)
    code = (
        "import multiprocessing, sys, time\n"
        "from thfm_ros.train.config import DataConfig\n"
        "from thfm_ros.train.data import feed, open_source\n"
        "if __name__ == '__main__':\n"
        "    data = DataConfig(source='folder', path=sys.argv[1], workers=1)\n"
        "    clips = feed(open_source(data), [[0], [1], [0], [1]], data, 'cpu')\n"
        "    next(clips)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "trainer.py"
    script.write_text(code)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    trainer = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert trainer.stdout is not None
    workers = [Path("/proc") / pid for pid in trainer.stdout.readline().split()]
    assert len(workers) == 1
    assert workers[0].exists()
    trainer.kill()
    trainer.wait()
    end = time.monotonic() + 60
    while any(worker.exists() and "(zombie)" not in (worker / "status").read_text() for worker in workers):
        assert time.monotonic() < end, "a worker outlives its trainer"
        time.sleep(0.02)


def test_the_real_generator_feeds_all_tasks(tmp_path: Path) -> None:
    config = tiny(stage="pixel", steps=1, batch=2, tasks_per_clip=8, data={"clips": 0, "frames": 5})
    trainer = Trainer(config, tmp_path)
    trainer.fit()
    line = (tmp_path / "log.jsonl").read_text()
    assert all(f'"{task}":' in line for task in TASKS)
    a, b = trainer.source(5), trainer.source(HELD_OUT + 5)
    assert (a.rgb == trainer.source(5).rgb).all()
    assert (a.rgb != b.rgb).any()
    cache = replace(trainer.config.data, source="cache", path=str(tmp_path / "cache"))
    assert (open_source(cache)(5).rgb == a.rgb).all()
    with pytest.raises(UserError, match="holds clips with frames 5, the config wants 9"):
        open_source(replace(cache, frames=9))
    motions = tmp_path / "bvh"
    motions.mkdir()
    (motions / "a.bvh").write_text("one motion")
    mixed = replace(cache, path=str(tmp_path / "motions"), settings={**cache.settings, "bvh": str(motions)})
    open_source(mixed)
    open_source(mixed)  # the same files are the same clips
    (motions / "b.bvh").write_text("another")
    with pytest.raises(UserError, match="holds clips with settings"):
        open_source(mixed)


def test_a_cache_of_larger_clips_is_refused_and_one_that_does_not_say_is_of_plain_ones(tmp_path: Path) -> None:
    plain = DataConfig(source="cache", path=str(tmp_path / "plain"), height=48, width=64, frames=1, fps=12.0)
    larger = replace(plain, path=str(tmp_path / "larger"), oversample=2)
    open_source(larger)
    open_source(larger)
    with pytest.raises(UserError, match="holds clips with oversample 2, the config wants 1: another path"):
        open_source(replace(larger, oversample=1))
    open_source(plain)
    file = tmp_path / "plain" / "clips.json"
    table = json.loads(file.read_text())
    del table["oversample"]  # as it was first written
    file.write_text(json.dumps(table))
    open_source(plain)
    with pytest.raises(UserError, match="holds clips with oversample 1, the config wants 2"):
        open_source(replace(plain, oversample=2))


def test_kept_latents_are_those_of_the_same_clips_alone(tmp_path: Path) -> None:
    class Others(Discs):
        def __call__(self, index: int) -> TrainingClip:
            return super().__call__(index + 1000)

    def far(out: str, clips: Discs, **data: Any) -> float:
        """Largest difference of a run's latents from those of its own clips, which it encodes (or finds)."""
        trainer = Trainer(tiny(latents=str(tmp_path / "latents"), data=data), tmp_path / out, clips)
        part = trainer._draw(0)
        batch, part = trainer._batch([clips(i) for i in part.clips], part)
        found = trainer.stage._encoded(batch, part, [(i, "rgb") for i in range(len(part.clips))])
        return float((found - trainer.stage.encode(batch.rgb)).abs().max())

    assert far("one", Discs()) < 1e-2
    assert far("other-seed", Others(), seed=7) < 1e-2
    assert far("other-settings", Others(), settings={"people": 3, "crowd": 1.0}) < 1e-2
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert far(name, Others() if name == "b" else Discs(), source="folder", path=str(tmp_path / name)) < 1e-2
    assert far("again", Others()) > 0.1, "of the first run: kept"


def test_clips_of_another_size_are_refused(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    for index in range(6):
        Folder(clips, Discs())(index)
    config = tiny(data={"source": "folder", "path": str(clips), "height": 16, "width": 48})
    with pytest.raises(UserError, match=r"clip \d: expected 48x16 pixels, found 48x32: set data\.width"):
        Trainer(config, tmp_path / "run").fit()


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`thfm train` with --set, and `thfm plot-training` on what it logs."""
    import typer

    from thfm_ros.train import trainer as trainer_module
    from thfm_ros.train.commands import register

    monkeypatch.setattr(trainer_module, "open_source", lambda data, device: Discs())
    app = typer.Typer()
    register(app)
    file = tmp_path / "a.yaml"
    file.write_text("stage: pixel\npreset: tiny\nprecision: fp32\nevaluate_clips: 2\nbatch: 2\ndata: {clips: 4}\n")
    command = ["train", str(file), "--out", str(tmp_path / "run"), "--set", "steps=2", "--set", "evaluate_every=1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "finished at step 2 of 2" in result.output
    assert load_checkpoint(tmp_path / "run" / "best").config.trained
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    picture, report, shipped = tmp_path / "curves.png", tmp_path / "report", tmp_path / "shipped"
    result = CliRunner().invoke(app, ["plot-training", str(tmp_path / "run"), "--out", str(picture)])
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    report.mkdir()
    (report / "report.md").write_text("# Held-out synthetic clips\n\n| task | iou |\n")
    model = tmp_path / "run" / "model"
    command = ["publish", str(model), "--out", str(shipped), "--report", str(report), "--curves", str(picture)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    card = (shipped / "README.md").read_text()
    assert "| pixel | 48x32, 5 frames | 2 | 2 x 1 | 4 |" in card
    assert "## Held-out synthetic clips" in card
    assert "](training.png)" in card
    stored = load_file(shipped / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    expected, found = (load_checkpoint(path).transformer.state_dict() for path in (model, shipped))
    assert all(torch.equal(value.half().float(), found[name]) for name, value in expected.items())


def test_a_recipe_runs_its_stages_one_from_the_other_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    """Nano's own recipe with a narrow network."""
    small = [f"prompts={WEIGHTS}", "precision=fp32", "evaluate_every=1", "evaluate_clips=2", "steps=1", "batch=2"]
    small += ["vae.widths=[8, 48, 16, 24]", "transformer.num_layers=1", "augment.windows.share=0", "optim.ema=0"]
    small += ["data.height=32", "data.width=48", "data.workers=0", "data.frames=5", "data.oversample=1"]
    stages = read_recipe(FOLDER / "nano-recipe.yaml", tmp_path, tuple(small))
    shares = [s.share for s in stages]
    path = run_recipe(stages, 1.0, Discs())
    checkpoint = load_checkpoint(path)
    assert [row["stage"] for row in checkpoint.config.notes["stages"]] == ["nano"] * 3
    assert checkpoint.config.trained
    assert list(remaining(stages, 10)) == []
    (stages[2].out / "finished").unlink()
    assert [(stage.name, minutes) for stage, minutes in remaining(stages, 10)] == [("nano-clips", 10 * shares[2])]


def test_a_stage_whose_time_is_short_ends_with_a_rate_that_has_fallen(tmp_path: Path) -> None:
    optim = {"schedule": "cooldown", "cooldown": 0.5, "warmup": 0.0, "lr": 1e-3}
    config = tiny(stage="latent", steps=1_000_000, data={"frames": 1}, optim=optim)
    ticks = count()
    trainer = Trainer(config, tmp_path, Discs(1), clock=lambda: float(next(ticks)))
    assert trainer.fit(1.0, cool_down=True)
    assert next(ticks) < 65  # seconds
    assert trainer.config.steps == trainer.step < 1_000_000
    assert trainer.optimizer.param_groups[0]["lr"] < 0.5 * 1e-3
    assert (tmp_path / "before_cooldown").exists()


def test_recipes_are_checked_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    (tmp_path / "a.yaml").write_text("stage: vae\nstpes: 3\n")
    (tmp_path / "b.yaml").write_text("stage: vae\n")
    for text, message in (
        ("stages: [{config: a.yaml}]", "unknown key 'stpes'"),
        ("stages: [{config: a.yaml, time: 3}]", "unknown key 'time'"),
        ("stages: 3", "stages: expected a list, found 3"),
        ("stages: [{config: b.yaml}, {config: b.yaml}]", "two stages are called b"),
        ("{stages: []}", "at least one"),
        ("stages: [{config: b.yaml, share: 0}]", "share: expected 0 or more, and one above 0, found 0"),
        ("stages: [{config: b.yaml, share: -1}, {config: b.yaml, name: c, share: 2}]", "share: .* found -1, 2"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            read_recipe(file, tmp_path)


def test_a_network_of_stills_ships_for_clips_and_answers_every_latent_frame_as_the_still_one(tmp_path: Path) -> None:
    config = tiny(stage="pixel", steps=2, data={"frames": 1})
    Trainer(config, tmp_path / "run", Discs(1)).fit()
    publish(tmp_path / "run" / "model", tmp_path / "shipped", None, None, frames=5)
    shipped = load_checkpoint(tmp_path / "shipped")
    assert (shipped.config.frames, shipped.config.attentions) == (5, ["causal"])
    latents = torch.randn(1, 4, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    prompt = shipped.prompts["keypoints_2d"][:1]
    with torch.no_grad():
        clip, still, later = (
            shipped.transformer(z, prompt).sample for z in (latents, latents[:, :, :1], latents[:, :, 1:])
        )
        tokens = [shipped.transformer(z, prompt, keypoints=True).keypoints.xy for z in (latents, latents[:, :, :1])]
    assert torch.allclose(clip, torch.cat((still, later), 2), atol=1e-5)
    assert torch.allclose(tokens[0][:, :1], tokens[1], atol=1e-5)
    with pytest.raises(UserError, match="trained on 1 frame"):
        publish(tmp_path / "shipped", tmp_path / "again", None, None, frames=9)


def test_a_start_from_a_checkpoint_keeps_its_architecture_and_may_change_its_masks(tmp_path: Path) -> None:
    Trainer(tiny(steps=1), tmp_path / "run", Discs()).fit()
    init = str(tmp_path / "run" / "model")
    found = networks.open_networks(tiny(init=init, transformer={"attention": "causal", "window": 3, "num_layers": 2}))
    assert (found.transformer.config.attention, found.transformer.config.window) == ("causal", 3)
    with pytest.raises(UserError, match=r"transformer.num_layers: .* has 2, the config wants 3"):
        networks.open_networks(tiny(init=init, transformer={"num_layers": 3}))


def test_tokens_of_later_frames_start_from_those_that_stills_have_trained(tmp_path: Path) -> None:
    run = tiny(stage="pixel", steps=1, transformer={"token_frames": 9}, data={"frames": 1})
    Trainer(run, tmp_path / "run", Discs(1)).fit()
    before = load_checkpoint(tmp_path / "run" / "model").transformer.keypoint_tokens.embedding
    config = tiny(stage="pixel", init=str(tmp_path / "run" / "model"), inflate=True)
    after = networks.open_networks(config).transformer.keypoint_tokens.embedding
    assert torch.equal(after, before[[0] * 9])


def test_a_run_from_before_a_key_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    trainer = Trainer(tiny(steps=1), tmp_path, Discs())
    trainer.fit()
    del trainer.record["config"]["augment"]["windows"]["joints"]
    trainer.step += 1
    trainer.save()
    assert Trainer(tiny(steps=3), tmp_path, Discs()).step == 2
    with pytest.raises(UserError, match="started with another 'augment'"):
        Trainer(tiny(steps=3, augment={"mirror": 0.5}), tmp_path, Discs())
