"""Stage `decoder`: a narrow decoder learns what the autoencoder's own decoder paints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_fakes import Discs, tiny

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.vae import flat_decode, flat_encode
from thfm_ros.train.average import average
from thfm_ros.train.data import HELD_OUT
from thfm_ros.train.publish import publish
from thfm_ros.train.samples import ClipBatch
from thfm_ros.train.trainer import Trainer

NARROW: dict[str, Any] = {"widths": [16, 16, 8, 8], "blocks": 1}
STILLS: dict[str, Any] = {
    "batch": 8,
    "data": {"frames": 1, "clips": 64},
    "tasks": {"foreground": 1, "rgb": 1},
    "optim": {"lr": 4e-3, "ema": 0},
    "log_every": 1,
    "evaluate_clips": 4,
}


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint whose autoencoder knows discs: what random weights paint is no picture."""
    out = tmp_path_factory.mktemp("init")
    Trainer(tiny(stage="vae", steps=80, **STILLS), out, Discs(1)).fit()
    return str(out / "model")


@pytest.fixture(scope="module")
def trained(init: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that all tests look at."""
    out = tmp_path_factory.mktemp("trained")
    config = tiny(stage="decoder", init=init, decoder=NARROW, steps=100, evaluate_every=100, **STILLS)
    trainer = Trainer(config, out, Discs(1))
    (out / "before.json").write_text(json.dumps(trainer.heldout(trainer.stage)[0]))
    assert all(name.startswith("decode.") for name in trainer.parameters)
    trainer.fit()
    return out


@torch.no_grad()
def test_it_comes_to_paint_what_the_other_one_does(trained: Path) -> None:
    """The loss falls to a half, held-out stills decoded by either are nearer by 6 dB, and vary alike."""
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "loss"]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    before, after = json.loads((trained / "before.json").read_text()), lines[-1]
    assert after["psnr/rgb"] > before["psnr/rgb"] + 6
    assert after["score"] == pytest.approx(-(after["psnr/rgb"] + after["psnr/foreground"]) / 2)
    checkpoint = load_checkpoint(trained / "model")
    batch = ClipBatch.of([Discs(1)(HELD_OUT + index) for index in range(8)])
    latents = flat_encode(checkpoint.vae, batch.target("foreground"))
    painted = [x - x.mean(0) for x in (flat_decode(checkpoint.vae, latents), checkpoint.decoder(latents))]
    assert torch.nn.functional.cosine_similarity(*(x.flatten() for x in painted), 0) > 0.7


def test_the_rest_of_the_checkpoint_is_as_it_was(trained: Path, init: str) -> None:
    found, start = load_checkpoint(trained / "model"), load_checkpoint(init)
    assert (found.config.decoder, start.config.decoder) == ("narrow", "vae")
    assert found.config.attentions == start.config.attentions
    assert [row["stage"] for row in found.config.notes["stages"]] == ["vae", "decoder"]
    for name in ("vae", "transformer"):
        expected, after = start.networks[name].state_dict(), found.networks[name].state_dict()
        assert all(torch.equal(expected[key], after[key]) for key in expected)


def test_later_stages_carry_it_along(trained: Path, tmp_path: Path) -> None:
    model = str(trained / "model")
    Trainer(tiny(init=model, steps=1), tmp_path / "latent", Discs()).fit()
    publish(tmp_path / "latent" / "model", tmp_path / "shipped")
    average([trained / "model", tmp_path / "latent" / "model"], tmp_path / "mean")
    expected = load_checkpoint(model).decoder.state_dict()
    for folder in ("latent/model", "shipped", "mean"):
        found = load_checkpoint(tmp_path / folder).decoder.state_dict()
        exact = {key: value.half().float() for key, value in expected.items()} if folder == "shipped" else expected
        assert all(torch.equal(exact[key], found[key]) for key in exact)


def test_training_goes_on_from_a_checkpoint_that_has_one(trained: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny(stage="decoder", init=str(trained / "model"), steps=1), tmp_path, Discs())
    assert isinstance(trainer.stage.decode, NarrowDecoder)
    expected = load_checkpoint(trained / "model").decoder.state_dict()
    assert all(torch.equal(expected[key], value) for key, value in trainer.stage.decode.state_dict().items())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stage": "decoder", "decoder": {"width": 8}}, "decoder: unknown key 'width'"),
        ({"stage": "decoder", "decoder": {"widths": [8, 8, 8]}}, r"decoder\.widths: expected 16 pixels a latent"),
        ({"stage": "decoder", "decoder": {"widths": "wide"}}, "decoder: "),
        ({"stage": "decoder", "tasks": {"keypoints_2d": 1}}, "stage decoder knows dense tasks and 'rgb'"),
        ({"stage": "decoder", "init": "MODEL", "decoder": {"blocks": 2}}, r"decoder\.blocks: .* has 1, .* wants 2"),
        ({"stage": "vae", "init": "MODEL"}, "has a narrow decoder, which knows its autoencoder as it is"),
        ({"stage": "pixel", "train_decoder": True, "init": "MODEL"}, "has a narrow decoder"),
        ({"stage": "decoder", "init": "MODEL", "init_vae": "MODEL"}, "init_vae: .* of another autoencoder"),
    ],
)
def test_mistakes_are_one_line(own: dict[str, Any], message: str, trained: Path, tmp_path: Path) -> None:
    paths = {key: str(trained / "model") for key in ("init", "init_vae") if key in own}
    with pytest.raises(UserError, match=message) as caught:
        Trainer(tiny(**{**own, **paths}), tmp_path, Discs())
    assert "\n" not in str(caught.value)


def test_checkpoints_with_different_decoders_have_no_mean(trained: Path, init: str, tmp_path: Path) -> None:
    for models in ([Path(init), trained / "model"], [trained / "model", Path(init)]):
        with pytest.raises(UserError, match="decoder: expected weights like those of"):
            average(models, tmp_path / "mean")
