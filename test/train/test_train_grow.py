"""A checkpoint gains parts and keeps its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model import readout
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.pyramid import Pyramid
from thfm_ros.model.readout import Keypoints, focused, one_person
from thfm_ros.model.stages import TransformStage
from thfm_ros.model.vae import FlatDecoder, FlatEncoder
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.grow import eyes_alike, widen
from thfm_ros.train.networks import inflate, open_networks


@pytest.fixture
def checkpoint() -> Checkpoint:
    vae, transformer = build("tiny")
    inflate(vae)  # as nano's, it does not look back
    prompts = {"foreground": torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(2))}
    return Checkpoint(vae, transformer, prompts, CheckpointConfig.of(PRESETS["tiny"]))


@torch.no_grad()
def answers(checkpoint: Checkpoint) -> list[torch.Tensor]:
    """Of a random clip: its first 4 latent channels, the decoded task, xy, xyz, visibility. The same weights elsewhere
    in memory may round otherwise: compare within 1e-5."""
    video = torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = FlatEncoder(checkpoint.vae)(video)
    stage = TransformStage(checkpoint.transformer, checkpoint.prompts["foreground"], keypoints=True)
    target, *points = stage(latents, image=video)
    return [latents[:, :4], FlatDecoder(checkpoint.vae)(target), *points]


def test_wider_latents_change_no_answer_and_learn(checkpoint: Checkpoint) -> None:
    before = answers(checkpoint)
    torch.manual_seed(0)
    widen(checkpoint, 6)
    assert checkpoint.vae.config.z_dim == checkpoint.transformer.config.in_channels == 6
    for ours, old in zip(answers(checkpoint), before, strict=True):
        torch.testing.assert_close(ours, old, atol=1e-5, rtol=0)
    # Every fresh weight is one step away from mattering: those at zero have a gradient.
    video = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    target, *_ = TransformStage(checkpoint.transformer, checkpoint.prompts["foreground"])(
        FlatEncoder(checkpoint.vae, look_back=False)(video)
    )
    FlatDecoder(checkpoint.vae, look_back=False)(target).square().sum().backward()
    assert checkpoint.transformer.patch_embedding.weight.grad[:, 4:].abs().min() > 0
    assert checkpoint.vae.decoder.conv_in.weight.grad[:, 4:, -1].abs().max() > 0


def test_wider_latents_do_not_begin_to_look_back(checkpoint: Checkpoint) -> None:
    widen(checkpoint, 6)
    FlatEncoder(checkpoint.vae, look_back=False)  # refuses taps on past frames
    FlatDecoder(checkpoint.vae, look_back=False)


def test_a_config_grows_what_it_starts_from_the_same_way_every_time(checkpoint: Checkpoint, tmp_path: Path) -> None:
    init = save_checkpoint(tmp_path / "init", checkpoint)
    config = TrainConfig("pixel", "tiny", {"z_dim": 6, "guide_dim": 4}, {"readout": "patches"}, init=str(init), seed=3)
    torch.manual_seed(0)
    first = open_networks(config)
    torch.manual_seed(1)
    second = open_networks(config)
    for network in ("vae", "transformer"):
        mine, other = (getattr(c, network).state_dict() for c in (first, second))
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    again = load_checkpoint(save_checkpoint(tmp_path / "grown", first))
    for ours, theirs in zip(answers(first), answers(again), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, old in zip(answers(first)[:2], answers(checkpoint)[:2], strict=True):
        torch.testing.assert_close(ours, old, atol=1e-5, rtol=0)


def test_heatmaps_go_on_where_patches_were_with_the_guides_eyes(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readout, "HEARD", 0.0)  # who is meant is asked by heatmaps alone
    init = save_checkpoint(tmp_path / "init", checkpoint)
    config = TrainConfig("pixel", "tiny", {"guide_dim": 24}, {"readout": "patches"}, init=str(init))
    patches = open_networks(config)
    torch.nn.init.normal_(patches.transformer.keypoint_tokens.head.answer.weight)
    init = save_checkpoint(tmp_path / "patches", patches)
    heatmap = open_networks(TrainConfig("pixel", "tiny", {}, {"readout": "heatmap"}, init=str(init)))
    head, guide = heatmap.transformer.keypoint_tokens.head, patches.vae.guide
    heard: list[torch.Tensor] = []
    head.said.register_forward_hook(lambda *call: heard.append(call[-1]))
    after, before = answers(heatmap), answers(patches)
    before[2:] = focused(Keypoints(*before[2:]), heard[0], head.CELLS, one_person(heard[0], head.CELLS))
    for ours, old in zip(after, before, strict=True):
        torch.testing.assert_close(ours, old, atol=1e-5, rtol=0)
    theirs = guide.pyramid.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in head.look.state_dict().items())


def test_eyes_of_a_heatmap_are_as_deep_as_its_guides(checkpoint: Checkpoint, tmp_path: Path) -> None:
    init = save_checkpoint(tmp_path / "init", checkpoint)
    guide = {"guide_dim": 24, "guide_blocks": [2, 1]}
    grown = open_networks(TrainConfig("pixel", "tiny", guide, {"readout": "heatmap"}, init=str(init)))
    assert grown.transformer.config.look_blocks == [2, 1]
    ours, theirs = grown.transformer.keypoint_tokens.head.look.state_dict(), grown.vae.guide.pyramid.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    init = save_checkpoint(tmp_path / "grown", grown)
    deeper = open_networks(TrainConfig("guide", "tiny", {}, {"look_blocks": [2, 2]}, init=str(init)))
    with pytest.raises(UserError, match=r"expected those of vae.guide_blocks, \[2, 1, 0.*found \[2, 2, 0\]"):
        eyes_alike(deeper.transformer.keypoint_tokens.head, deeper.vae.guide)


def test_eyes_gain_blocks_and_stay_alike(checkpoint: Checkpoint, tmp_path: Path) -> None:
    init = save_checkpoint(tmp_path / "init", checkpoint)
    config = TrainConfig("pixel", "tiny", {"guide_dim": 24}, {"readout": "heatmap"}, init=str(init))
    init = save_checkpoint(tmp_path / "heatmap", before := open_networks(config))
    config = TrainConfig("pixel", "tiny", {"guide_blocks": [2, 1]}, {"look_blocks": [2, 1]}, init=str(init))
    deeper = open_networks(config)
    for ours, old in zip(answers(deeper), answers(before), strict=True):
        torch.testing.assert_close(ours, old, atol=1e-5, rtol=0)
    assert eyes_alike(deeper.transformer.keypoint_tokens.head, deeper.vae.guide)
    for blocks in (eyes.blocks for eyes in deeper.vae.modules() if isinstance(eyes, Pyramid)):
        torch.nn.init.normal_(blocks[0][1].change[-1].weight)
    again = load_checkpoint(save_checkpoint(tmp_path / "deeper", deeper))
    for ours, theirs in zip(answers(again), answers(deeper), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_joints_agree_from_now_on_and_stay_where_they_were(checkpoint: Checkpoint, tmp_path: Path) -> None:
    init = save_checkpoint(tmp_path / "init", checkpoint)
    config = TrainConfig("pixel", "tiny", {"guide_dim": 24}, {"readout": "heatmap"}, init=str(init))
    init = save_checkpoint(tmp_path / "heatmap", before := open_networks(config))
    older = json.loads((config_file := Path(init) / "transformer" / "config.json").read_text())
    del older["agree_blocks"]  # as checkpoints were before there was such a thing
    config_file.write_text(json.dumps(older))
    agreeing = open_networks(TrainConfig("pixel", "tiny", {}, {"agree_blocks": 1}, init=str(init)))
    assert agreeing.transformer.config.agree_blocks == 1
    for ours, old in zip(answers(agreeing), answers(before), strict=True):
        torch.testing.assert_close(ours, old, atol=1e-5, rtol=0)
    leave = agreeing.transformer.keypoint_tokens.head.agreement.leave
    torch.nn.init.normal_(leave.weight, std=0.1, generator=torch.Generator().manual_seed(4))
    init = save_checkpoint(tmp_path / "agreeing", agreeing)
    deeper = open_networks(TrainConfig("pixel", "tiny", {}, {"agree_blocks": 2}, init=str(init)))
    for ours, theirs, old in zip(answers(deeper), answers(agreeing), answers(before), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        assert ours.shape == old.shape
    assert not torch.allclose(answers(deeper)[2], answers(before)[2], atol=1e-4)
    with pytest.raises(UserError, match=r"transformer.agree_blocks: .* has 1, the config wants 0"):
        open_networks(TrainConfig("pixel", "tiny", {}, {"agree_blocks": 0}, init=str(init)))
    patches = open_networks(TrainConfig("pixel", "tiny", {}, {"readout": "patches"}, init=str(init)))
    assert patches.transformer.config.agree_blocks == 0
    init = save_checkpoint(tmp_path / "patches", patches)
    both = open_networks(TrainConfig("pixel", "tiny", {}, {"agree_blocks": 1, "readout": "heatmap"}, init=str(init)))
    again = load_checkpoint(save_checkpoint(tmp_path / "both", both))
    assert len(again.transformer.keypoint_tokens.head.agreement.blocks) == 1


@pytest.mark.parametrize(
    ("vae", "transformer", "message"),
    [
        ({"z_dim": 2}, {}, "vae.z_dim: .* has 4, the config wants 2"),
        ({}, {"num_layers": 3}, "transformer.num_layers: .* has 2, the config wants 3"),
        ({"guide_blocks": [1]}, {}, "vae.guide_blocks: .* has None, the config wants"),
        ({}, {"look_blocks": [1]}, "transformer.look_blocks: .* the config wants"),
        ({}, {"agree_blocks": 1}, "transformer.agree_blocks: .* the config wants 1"),
        ({}, {"agree_blocks": [1], "readout": "heatmap"}, r"transformer.agree_blocks: .* the config wants \[1\]"),
        ({}, {"agree_blocks": 1, "readout": "patches"}, "transformer.agree_blocks: .* the config wants 1"),
        ({}, {"readout": "hands"}, "readout must be token, .* or heatmap .* found 'hands'"),
    ],
)
def test_what_cannot_grow_is_named(
    checkpoint: Checkpoint, tmp_path: Path, vae: dict, transformer: dict, message: str
) -> None:
    init = save_checkpoint(tmp_path / "init", checkpoint)
    with pytest.raises(UserError, match=message):
        open_networks(TrainConfig("pixel", "tiny", vae, transformer, init=str(init)))


def test_larger_patches_are_refused(checkpoint: Checkpoint) -> None:
    checkpoint.transformer.register_to_config(patch_size=(1, 2, 2))
    with pytest.raises(UserError, match=r"patches of one latent cell only, found patch_size \(1, 2, 2\)"):
        widen(checkpoint, 6)
