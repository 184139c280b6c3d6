"""`thfm info` against the measured table of the Wan model, and `thfm init`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint
from thfm_ros.model.commands import parse_size, register
from thfm_ros.model.info import PeakMemory, measure
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.transformer import THFMTransformer3DModel
from thfm_ros.tasks import TASKS

# height, width, frames -> tokens; TFLOP of encode, DiT, decode, all (FlopCounterMode on the stock classes).
TABLE = {
    (480, 832, 81): (32760, 163.8, 283.0, 275.4, 722),
    (480, 832, 17): (7800, 34.9, 31.6, 58.6, 125),
    (256, 448, 17): (2240, 9.97, 6.89, 16.75, 33.6),
    (256, 256, 9): (768, 3.06, 2.26, 5.14, 10.5),
}


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


@pytest.mark.parametrize("clip", [(256, 256, 9), (480, 832, 81)])
def test_flops_equal_the_table_of_the_paper_model(clip: tuple[int, int, int]) -> None:
    cost = measure(PRESETS["wan-1.3b"], *clip)
    tokens, *expected = TABLE[clip]
    assert cost.tokens == tokens
    found = [*(stage.flops / 1e12 for stage in cost.stages), cost.total_flops() / 1e12]
    assert found == pytest.approx(expected, rel=6e-3)
    # The closed form leaves out the embeddings and the output projection only.
    assert cost.transform_closed_form == pytest.approx(cost.stages[1].flops, rel=6e-3)
    assert cost.total_flops(dense=2, sparse=1) == pytest.approx(
        sum(n * stage.flops for n, stage in zip((1, 3, 2), cost.stages, strict=True))
    )
    encode, transform, decode = (stage.parameters / 1e6 for stage in cost.stages)
    assert (encode, decode) == pytest.approx((53.6, 73.3), abs=0.05)
    assert transform == pytest.approx(1419 + 2.8, abs=1)  # Wan2.1-1.3B and the keypoint tokens


def test_counting_equals_real_execution() -> None:
    """The same numbers for the tiny model on the meta device and on real tensors of the CPU."""
    from torch.utils.flop_counter import FlopCounterMode

    from thfm_ros.model.presets import build
    from thfm_ros.model.vae import FlatDecoder, FlatEncoder

    preset = PRESETS["tiny"]
    cost = measure(preset, 32, 48, 5)
    vae, _ = build(preset)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        latents = FlatEncoder(vae)(torch.zeros(1, 3, 5, 32, 48))
    assert counter.get_total_flops() == pytest.approx(cost.stages[0].flops, rel=0.02)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        FlatDecoder(vae)(latents)
    assert counter.get_total_flops() == pytest.approx(cost.stages[2].flops, rel=0.02)


def test_memory_follows_the_type() -> None:
    single, half = (measure(PRESETS["tiny"], 32, 48, 5, dtype) for dtype in ("float32", "bfloat16"))
    for a, b in zip(single.stages, half.stages, strict=True):
        assert a.weight_bytes == 2 * b.weight_bytes == 4 * b.parameters
        assert b.peak_activation_bytes < a.peak_activation_bytes


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    with torch.inference_mode(), PeakMemory() as memory:
        a = torch.empty(1000, device="meta")
        b = a + 1
        view = b[:10]
        del a, b  # the view keeps the second one
        c = torch.empty(500, device="meta")
        del view, c
        d = torch.empty(1500, device="meta")
    assert memory.peak == 8000
    assert memory.live == d.nbytes


def test_info_prints_and_writes_json(app: typer.Typer, tmp_path: Path) -> None:
    out = CliRunner().invoke(app, ["info", "tiny", "--tasks", "6", "--json", str(tmp_path / "a" / "info.json")])
    assert out.exit_code == 0, out.output
    for word in ("encode", "transform", "decode", "parameters", "TFLOP", "48x32", "closed form"):
        assert word in out.output
    written = json.loads((tmp_path / "a" / "info.json").read_text())
    encode, transform, decode = (stage["flops"] for stage in written["stages"])
    assert written["total_flops"] == encode + 6 * (transform + decode)
    assert CliRunner().invoke(app, ["info", "tiny", "--size", "96x64x9"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "huge"], "unknown preset 'huge'"),
        (["info", "tiny", "--size", "48x32"], "WIDTHxHEIGHTxFRAMES"),
        (["info", "tiny", "--size=-48x32x5"], "WIDTHxHEIGHTxFRAMES (832x480x81), found '-48x32x5'"),
        (["info", "tiny", "--size", "48x0x5"], "WIDTHxHEIGHTxFRAMES (832x480x81), found '48x0x5'"),
        (["info", "tiny", "--size", "48x32x6"], "4k + 1 frames"),
        (["info", "tiny", "--size", "40x32x5"], "divisible by 16, found 40x32"),
        (["info", "tiny", "--dtype", "int8"], "unknown dtype 'int8'"),
    ],
)
def test_bad_arguments_of_info(app: typer.Typer, arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, UserError)
    assert message in str(error)


def test_parse_size() -> None:
    assert parse_size("832X480x81") == (832, 480, 81)


def test_init_writes_an_untrained_checkpoint_that_loads(app: typer.Typer, tmp_path: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        out = CliRunner().invoke(app, ["init", "tiny", "--out", str(tmp_path / name), "--seed", seed])
        assert out.exit_code == 0, out.output
        assert "untrained" in out.output
    a, b, c = (load_checkpoint(tmp_path / name) for name in "abc")
    assert not a.config.trained
    assert set(a.prompts) == set(TASKS)
    assert torch.equal(a.transformer.patch_embedding.weight, b.transformer.patch_embedding.weight)
    assert not torch.equal(a.transformer.patch_embedding.weight, c.transformer.patch_embedding.weight)
    (tmp_path / "other").mkdir()
    error = CliRunner().invoke(app, ["init", "tiny", "--out", str(tmp_path / "other")]).exception
    assert isinstance(error, UserError)
    assert "is not a checkpoint" in str(error)


def test_init_leaves_trained_weights_alone(app: typer.Typer, tmp_path: Path) -> None:
    command = ["init", "tiny", "--out", str(tmp_path / "model")]
    for _ in range(2):  # random weights are made anew
        assert CliRunner().invoke(app, command).exit_code == 0
    config = tmp_path / "model" / "thfm.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "trained": True}))
    before = config.stat().st_ino
    assert "is a trained checkpoint" in str(CliRunner().invoke(app, command).exception)
    assert config.stat().st_ino == before


def test_init_from_wan_weights(app: typer.Typer, tmp_path: Path) -> None:
    """A small stock pipeline folder; the tiny preset's text encoder needs no files."""
    preset = PRESETS["tiny"]
    own = ("token_frames", "window")
    stock = WanTransformer3DModel(**{k: v for k, v in preset.transformer.items() if k not in own})
    stock.save_pretrained(tmp_path / "wan" / "transformer")
    AutoencoderKLWan(**preset.vae).save_pretrained(tmp_path / "wan" / "vae")
    arguments = ["init", "tiny", "--out", str(tmp_path / "a"), "--from-wan", str(tmp_path / "wan")]
    out = CliRunner().invoke(app, arguments)
    assert out.exit_code == 0, out.output
    loaded = load_checkpoint(tmp_path / "a").transformer
    assert torch.equal(loaded.proj_out.weight, stock.proj_out.weight)
    assert loaded.config.token_frames == 5


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_how_wide_its_prompts_are(name: str) -> None:
    with torch.device("meta"):
        transformer = THFMTransformer3DModel(**PRESETS[name].transformer)
    assert transformer.config.text_dim == PRESETS[name].transformer["text_dim"]


@pytest.mark.parametrize("name", ["wan-1.3b", "wan-5b"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-wan", "missing"], "no Wan checkpoint 'missing': expected a folder or a hub id in the local cache"),
        ([], "needs the folder or hub id of a Wan checkpoint, found none: name it (thfm init: --text-encoder"),
    ],
)
def test_init_of_a_wan_preset_without_wan_is_one_line(
    app: typer.Typer, tmp_path: Path, name: str, arguments: list[str], message: str
) -> None:
    error = CliRunner().invoke(app, ["init", name, "--out", str(tmp_path / "a"), *arguments]).exception
    assert isinstance(error, UserError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert not list(tmp_path.iterdir())


def test_nano_is_what_ships() -> None:
    """The preset's arguments are those of weights/nano, but for the window, which training chooses."""
    weights, preset = Path(__file__).parents[2] / "weights" / "nano", PRESETS["nano"]
    for part, arguments in (("vae", preset.vae), ("transformer", preset.transformer)):
        config = json.loads((weights / part / "config.json").read_text())
        expected = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items() if k != "window"}
        assert {k: config[k] for k in expected} == expected
    shipped = json.loads((weights / "thfm.json").read_text())
    assert shipped["preset"] == preset.name
    assert [shipped[k] for k in ("width", "height", "frames")] == [preset.width, preset.height, preset.frames]


def test_nano_is_counted_with_its_features() -> None:
    preset = PRESETS["nano"]
    cost = measure(preset, preset.height, preset.width, preset.frames)
    assert [stage.stage for stage in cost.stages] == ["encode", "transform", "decode"]
    assert all(stage.flops > 0 for stage in cost.stages)
    assert cost.total_flops(dense=4, sparse=1) < 30e9
    codec, transformer = build(preset)
    encode, transform, decode = (stage.parameters for stage in cost.stages)
    assert encode + decode == sum(p.numel() for p in codec.parameters())
    assert transform == sum(p.numel() for p in transformer.parameters())
