"""Checkpoints: what is saved comes back, and everything wrong is refused in one line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import (
    Checkpoint,
    CheckpointConfig,
    load_checkpoint,
    load_config,
    preset_of,
    save_checkpoint,
)
from thfm_ros.model.presets import PRESETS, build, get_preset
from thfm_ros.model.prompts import embed_tasks, get_embedder
from thfm_ros.tasks import TASKS


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", tiny())


def tiny(**config: object) -> Checkpoint:
    preset = PRESETS["tiny"]
    prompts = embed_tasks(get_embedder("hash", dim=16), preset.text_length)
    return Checkpoint(*build(preset, seed=3), prompts, CheckpointConfig.of(preset, **config))


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def test_everything_comes_back(tmp_path: Path) -> None:
    checkpoint = tiny(trained=True, samples_seen=7, attentions=["full", "causal"], notes={"loss": 0.5})
    loaded = load_checkpoint(save_checkpoint(tmp_path / "a", checkpoint))
    assert loaded.config == checkpoint.config
    for module in ("vae", "transformer"):
        before, after = getattr(checkpoint, module).state_dict(), getattr(loaded, module).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert not getattr(loaded, module).training
    assert loaded.prompts.keys() == TASKS.keys()
    assert all(torch.equal(loaded.prompts[name], prompt) for name, prompt in checkpoint.prompts.items())


def test_saving_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for seen in (1, 2):
        save_checkpoint(tmp_path / "a", tiny(samples_seen=seen))
    assert load_config(tmp_path / "a").samples_seen == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "README.md",
        "prompts.safetensors",
        "thfm.json",
        "transformer",
        "vae",
    ]


def test_what_is_saved_does_not_say_where_it_was_loaded_from(saved: Path, tmp_path: Path) -> None:
    again = save_checkpoint(tmp_path / "again", load_checkpoint(saved))
    assert not [file for file in again.rglob("*.*") if str(saved).encode() in file.read_bytes()]
    assert load_checkpoint(again).transformer.config.num_layers == load_checkpoint(saved).transformer.config.num_layers


def test_card_says_that_weights_are_random(saved: Path) -> None:
    assert "RANDOM WEIGHTS" in (saved / "README.md").read_text()


def test_low_precision_keeps_what_must_stay_precise(saved: Path) -> None:
    loaded = load_checkpoint(saved, torch.bfloat16, vae_dtype=torch.float32)
    assert loaded.transformer.patch_embedding.weight.dtype == torch.bfloat16
    assert loaded.transformer.keypoint_tokens.position.dtype == torch.float32
    assert loaded.transformer.rope.freqs_cos.dtype == torch.float32
    assert next(loaded.vae.parameters()).dtype == torch.float32
    prompt = loaded.prompts["foreground"][:1]
    with torch.no_grad():
        out = loaded.transformer(torch.zeros(1, 4, 2, 2, 3, dtype=torch.bfloat16), prompt, keypoints=True)
    assert out.sample.dtype == torch.bfloat16
    assert out.keypoints.xyz.dtype == torch.float32


def test_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thfm\.json is missing .*thfm init"):
        load_checkpoint(tmp_path)


def test_pickles_are_refused(copy: Path) -> None:
    state = load_file(copy / "transformer" / "diffusion_pytorch_model.safetensors")
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, copy / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"expected weights as \.safetensors, found a pickle"):
        load_checkpoint(copy)


def test_another_architecture_is_refused(copy: Path) -> None:
    config = {key: value for key, value in PRESETS["tiny"].transformer.items() if key not in ("token_frames", "window")}
    shutil.rmtree(copy / "transformer")
    WanTransformer3DModel(**config).save_pretrained(copy / "transformer")
    with pytest.raises(UserError, match="expected a checkpoint of THFMTransformer3DModel, found WanTransformer3DModel"):
        load_checkpoint(copy)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_refused(copy: Path, change: str) -> None:
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    key = "blocks.0.attn1.to_q.weight"
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        state["blocks.9.attn1.to_q.weight"] = torch.zeros(48, 48)
    else:
        state[key] = torch.zeros(48, 24)
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"transformer.*to_q\.weight"):
        load_checkpoint(copy)


def test_damaged_files_are_refused(copy: Path) -> None:
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:1000])
    with pytest.raises(UserError, match="cannot load AutoencoderKLWan"):
        load_checkpoint(copy)
    weights.write_bytes(good)
    (copy / "prompts.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot read the prompt embeddings"):
        load_checkpoint(copy)
    (copy / "vae" / "config.json").unlink()
    with pytest.raises(UserError, match="not a diffusers model"):
        load_checkpoint(copy)
    (copy / "thfm.json").write_text("{")
    with pytest.raises(UserError, match=r"damaged .*thfm\.json"):
        load_checkpoint(copy)


def test_parts_that_do_not_belong_together_are_refused(copy: Path) -> None:
    save_file({"foreground": torch.zeros(1, 5, 16)}, copy / "prompts.safetensors")
    with pytest.raises(UserError, match=r"\(P, 4, 16\) for 'foreground'.* found \(1, 5, 16\)"):
        load_checkpoint(copy)
    config = json.loads((copy / "thfm.json").read_text())
    (copy / "thfm.json").write_text(json.dumps({**config, "joint_set": "coco17"}))
    with pytest.raises(UserError, match=r"expected 17 joints \(coco17\) in the transformer, found 32"):
        load_checkpoint(copy)
    (copy / "thfm.json").write_text(json.dumps({**config, "format_version": 2}))
    with pytest.raises(UserError, match="expected format_version 1, found 2"):
        load_checkpoint(copy)
    del config["height"]
    (copy / "thfm.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="height"):
        load_checkpoint(copy)


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refused(folder: Path) -> str:
    """What loading the folder says, in one line."""
    with pytest.raises(UserError) as error:
        load_checkpoint(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("part", ["vae", "transformer"])
@pytest.mark.parametrize("text", ["[]", "null", '"a"', "[" * 100_000])
def test_a_config_without_names_is_refused(copy: Path, part: str, text: str) -> None:
    (copy / part / "config.json").write_text(text)
    assert "damaged" in refused(copy)
    with pytest.raises(UserError, match="damaged"):
        preset_of(copy)


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("transformer", {"num_layers": "2"}, 'expected num_layers as int of 1 or more, found "2"'),
        ("transformer", {"num_attention_heads": 0}, "expected num_attention_heads as int of 1 or more, found 0"),
        ("transformer", {"eps": "a"}, 'expected eps as float, found "a"'),
        ("transformer", {"patch_size": None}, "expected patch_size as tuple[int, ...], found null"),
        ("transformer", {"attention_head_dim": 25}, "cannot load THFMTransformer3DModel"),
        ("vae", {"dim_mult": []}, "cannot load AutoencoderKLWan"),
        ("vae", {"latents_mean": None}, "expected latents_mean as list[float], found null"),
        ("vae", {"latents_std": [1.0]}, "expected 4 numbers above 0 as latents_std in vae/config.json, found [1.0]"),
        ("vae", {"latents_std": [0.0] * 4}, "expected 4 numbers above 0 as latents_std"),
        ("vae", {"scale_factor_spatial": 8}, "scale_factor_spatial and _temporal (16, 4) in vae/config.json, found (8"),
    ],
)
def test_wrong_values_of_a_config_are_refused(copy: Path, part: str, values: dict[str, object], words: str) -> None:
    edit(copy / part / "config.json", **values)
    assert words in refused(copy)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"height": "32"}, 'expected height as int of 0 or more, found "32"'),
        ({"height": None}, "found null"),
        ({"height": True}, "found true"),
        ({"height": 0}, "expected sizes above 0 and 4k + 1 frames, found 48x0, 5 frames at 12 fps"),
        ({"height": 33}, "expected width and height of thfm.json to be divisible by 16, found 48x33"),
        ({"frames": 6}, "expected sizes above 0 and 4k + 1 frames, found 48x32, 6 frames"),
        ({"fps": 0}, "at 0 fps"),
        ({"fps": float("nan")}, "at nan fps"),
        ({"joint_set": [1]}, "expected joint_set as str, found [1]"),
        ({"attentions": "full"}, 'expected attentions as list[str], found "full"'),
        ({"decodr": "narrow"}, "nothing is named decodr there: correct it, or take it out"),
    ],
)
def test_wrong_values_of_thfm_json_are_refused(copy: Path, values: dict[str, object], words: str) -> None:
    edit(copy / "thfm.json", **values)
    assert words in refused(copy)


def test_what_an_older_thfm_json_lacks_has_its_default(copy: Path) -> None:
    config = json.loads((copy / "thfm.json").read_text())
    for name in ("joint_set", "decoder", "trained", "samples_seen", "attentions", "notes"):
        del config[name]
    (copy / "thfm.json").write_text(json.dumps({**config, "fps": 12}))  # whole numbers are rates too
    assert load_checkpoint(copy).config.decoder == "vae"


def test_a_task_without_prompts_is_refused(copy: Path) -> None:
    save_file({"foreground": torch.zeros(0, 4, 16)}, copy / "prompts.safetensors")
    assert "for 'foreground', P of 1 or more, found (0, 4, 16)" in refused(copy)


def test_missing_weights_are_one_line_and_no_more(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)  # diffusers does not propagate
    try:
        file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
        save_file(dict(list(load_file(file).items())[27:]), file, metadata={"format": "pt"})
        assert "found 27 missing keys" in refused(copy)
        file.unlink()
        assert "no file named" in refused(copy)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_presets() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'huge': expected one of tiny, nano, wan-1\.3b"):
        get_preset("huge")
    assert PRESETS["wan-1.3b"].latent_shape == (16, 21, 60, 104)  # 480x832, 81 frames, 8x and 4x (paper section 2.1)
    assert PRESETS["nano"].latent_shape == (64, 2, 9, 15)
    for preset in PRESETS.values():
        assert preset.frames % 4 == 1
        assert preset.transformer["window"] == preset.latent_shape[1]
        assert preset.transformer.get("in_channels", 16) == preset.vae["z_dim"]


def test_build_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    (_, a), (_, b), (_, c) = build("tiny", 1), build("tiny", 1), build("tiny", 2)
    assert torch.equal(torch.get_rng_state(), state)
    same = [torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(a.patch_embedding.weight, c.patch_embedding.weight)


@pytest.mark.parametrize(
    ("part", "change", "found"),
    [
        ("vae", {"_class_name": "GuidedAutoencoderKLWan", "guide_dim": 24}, "GuidedAutoencoderKLWan .* 'token'"),
        ("transformer", {"readout": "heatmap"}, "AutoencoderKLWan with keypoints of 'heatmap'"),
        ("transformer", {"readout": "patches"}, "'patches'"),
    ],
)
def test_the_first_nano_is_refused_with_the_commit_that_reads_it(
    copy: Path, part: str, change: dict[str, object], found: str
) -> None:
    file = copy / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    reader = r"which version 0\.1\.0 at commit 6eb181e was the last to read: take weights/nano"
    with pytest.raises(UserError, match=f"found .*{found}.*, {reader}"):
        load_checkpoint(copy)
