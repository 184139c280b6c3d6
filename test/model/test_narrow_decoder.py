"""The narrow decoder: shapes, causality, cost; and that a checkpoint says which decoder it has."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.model.commands import register
from thfm_ros.model.info import measure
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.pipeline import THFMPipeline
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.prompts import embed_tasks, get_embedder
from thfm_ros.model.vae import flat_decode, flat_encode
from thfm_ros.tasks import TASKS

SMALL = {"widths": (16, 8, 8, 8), "blocks": 1}


def narrow(**own: object) -> NarrowDecoder:
    torch.manual_seed(0)
    return NarrowDecoder(**{"z_dim": 4, **SMALL, **own}).eval()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    preset = PRESETS["tiny"]
    prompts = embed_tasks(get_embedder("hash", dim=16), preset.text_length)
    plain = Checkpoint(*build(preset, seed=3), prompts, CheckpointConfig.of(preset))
    return plain.with_decoder(NarrowDecoder.of(plain.vae, **SMALL).eval())


@pytest.fixture(scope="module")
def saved(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("narrow") / "tiny", checkpoint)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["tiny", "wan-1.3b"])
def test_frames_and_size_are_those_of_the_autoencoder(preset: str) -> None:
    arguments = {**PRESETS[preset].vae, "base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    vae = type(build("tiny")[0])(**arguments)
    decoder = NarrowDecoder.of(vae, **SMALL)
    for frames in (1, 5, 9):
        latents = flat_encode(vae, torch.zeros(1, 3, frames, 32, 48))
        assert decoder(latents).shape == flat_decode(vae, latents).shape == (1, 3, frames, 32, 48)


@torch.no_grad()
def test_a_frame_depends_on_latents_up_to_its_own_and_on_those_before() -> None:
    decoder = narrow()
    latents = torch.randn(2, 4, 4, 2, 3)
    before = decoder.unclamped(latents)
    for changed in range(4):
        other = latents.clone()
        other[:, :, changed] += 1
        differs = (decoder.unclamped(other) != before).any(1).flatten(2).any(2).all(0)  # (T,)
        first = 0 if changed == 0 else 4 * changed - 3
        assert not differs[:first].any()
        assert differs[first : first + 5].all()  # into the latent frame that follows: a block remembers
    torch.testing.assert_close(decoder.unclamped(latents[:, :, :2]), before[:, :, :5])
    torch.testing.assert_close(decoder.unclamped(latents[1:]), before[1:])


def test_pictures_are_clamped_and_losses_are_not() -> None:
    decoder = narrow()
    latents = 100 * torch.randn(1, 4, 2, 2, 3)
    assert decoder.unclamped(latents).abs().max() > 1
    assert decoder(latents).abs().max() == 1
    decoder.unclamped(latents).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"widths": (8, 8)}, "expected 3 widths or more"),
        ({"blocks": 0}, "1 block or more"),
        ({"widths": (8, 8, 8)}, r"expected 16 pixels a latent, as the autoencoder has, found 8"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_wrong_arguments_are_one_line(own: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NarrowDecoder.of(build("tiny")[0], **{**SMALL, **own})


def test_what_it_does_not_fit_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected Wan's autoencoder .* found NanoCodec"):
        NarrowDecoder.of(build("nano")[0])
    with pytest.raises(UserError, match=r"expected latents \(B, 4, T', h, w\), found \(1, 3, 2, 2, 3\)"):
        narrow()(torch.zeros(1, 3, 2, 2, 3))
    with pytest.raises(UserError, match=r"4 latent channels, 16 pixels a latent.*, found one of 8 and 8"):
        save_checkpoint(tmp_path / "a", checkpoint.with_decoder(narrow(z_dim=8)))
    with pytest.raises(UserError, match=r"thfm\.json has decoder 'vae', found a narrow decoder"):
        save_checkpoint(tmp_path / "a", replace(checkpoint, config=replace(checkpoint.config, decoder="vae")))


def test_a_checkpoint_says_which_decoder_it_has(checkpoint: Checkpoint, saved: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.config.decoder == "narrow"
    assert loaded.decoder is not None
    expected, found = checkpoint.decoder.state_dict(), loaded.decoder.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert "| narrow decoder, in the place of the VAE's |" in (saved / "README.md").read_text()
    half = load_checkpoint(saved, torch.bfloat16, vae_dtype=torch.float32)
    assert half.decoder.dtype == torch.float32

    lost = Path(shutil.copytree(saved, tmp_path / "lost"))
    shutil.rmtree(lost / "decoder")
    with pytest.raises(UserError, match=r"thfm\.json has decoder 'narrow', found no folder decoder/: copy"):
        load_checkpoint(lost)
    strange = Path(shutil.copytree(saved, tmp_path / "strange"))
    config = json.loads((strange / "thfm.json").read_text())
    (strange / "thfm.json").write_text(json.dumps({**config, "decoder": "vae"}))
    with pytest.raises(UserError, match=r"thfm\.json has decoder 'vae', found a narrow decoder"):
        load_checkpoint(strange)
    (strange / "thfm.json").write_text(json.dumps({**config, "decoder": "fast"}))
    with pytest.raises(UserError, match=r"expected decoder 'vae' or 'narrow' in thfm\.json, found 'fast'"):
        load_checkpoint(strange)


@torch.no_grad()
def test_the_pipeline_decodes_with_it(saved: Path, tmp_path: Path) -> None:
    pipe = THFMPipeline.from_pretrained(saved)
    pipe.set_progress_bar_config(disable=True)
    video = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    latents = flat_encode(pipe.vae, torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1)
    out = pipe.transformer(latents, pipe.prompts["dense_pose"][:1])
    rgb = pipe.decoder(-out.sample)[0].permute(1, 2, 3, 0).numpy()
    for low_memory in (False, True):
        maps = pipe(video, ["dense_pose"], low_memory=low_memory).maps
        np.testing.assert_allclose(maps["dense_pose"], TASKS["dense_pose"].codec.from_rgb(rgb), atol=1e-4)
    pipe.save_pretrained(tmp_path / "again")
    assert load_checkpoint(tmp_path / "again").decoder is not None


def test_it_costs_a_twentieth_of_wans() -> None:
    cost = measure(replace(PRESETS["wan-1.3b"], decoder={}), 240, 416, 17)
    assert cost.decoder == "narrow"
    assert cost.vae_decode_flops / 1e12 == pytest.approx(14.58, rel=1e-3)
    assert cost.vae_decode_flops / cost.stages[-1].flops == pytest.approx(19.5, abs=0.05)


def test_info_says_which_decoder_a_checkpoint_has(saved: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    for arguments, expected in (
        ([str(saved)], "narrow, 1/"),
        (["tiny"], "decoder: the autoencoder's own"),
        (["tiny", "--narrow"], "narrow, 1/"),
    ):
        out = CliRunner().invoke(app, ["info", *arguments, "--json", str(tmp_path / "info.json")])
        assert out.exit_code == 0, out.output
        assert expected in out.output
        written = json.loads((tmp_path / "info.json").read_text())
        assert written["decoder"] == ("narrow" if "narrow" in expected else "vae")
        encode, transform, decode = (stage["flops"] for stage in written["stages"])
        assert written["total_flops"] == encode + transform + decode
    parameters = written["stages"][2]["parameters"]
    assert parameters == sum(p.numel() for p in NarrowDecoder.of(build("tiny")[0]).parameters())
