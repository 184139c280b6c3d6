"""A guided decoder: the stock one until its guide has learned, in flat and stream form alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.model.guide import GuidedAutoencoderKLWan
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.vae import FlatDecoder, StreamDecoderStep, flat_decode, flat_encode, is_guided, stream_decode

TOLERANCE = {"atol": 1e-5, "rtol": 0}


def clip(frames: int = 9) -> torch.Tensor:
    return torch.rand(1, 3, frames, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def stock(style: str) -> AutoencoderKLWan:
    torch.manual_seed(0)
    if style == "2.2":
        return build("tiny")[0]
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, num_res_blocks=1, latents_mean=[0.3, 0.0, -0.3, 0.1], latents_std=[0.5, 1.0, 2.0, 1.5]
    ).eval()


@pytest.fixture(params=["2.1", "2.2"])
def plain(request: pytest.FixtureRequest) -> AutoencoderKLWan:
    return stock(request.param)


def taught(plain: AutoencoderKLWan) -> GuidedAutoencoderKLWan:
    """With a guide that has something to say."""
    vae = GuidedAutoencoderKLWan.grown(plain, 4)
    with torch.no_grad():
        for last in vae.guide.answers:
            torch.nn.init.normal_(last.weight, std=0.3)
    return vae


@torch.no_grad()
def test_a_fresh_guide_changes_nothing(plain: AutoencoderKLWan) -> None:
    vae, video = GuidedAutoencoderKLWan.grown(plain, 4), clip()
    latents = flat_encode(plain, video)
    assert torch.equal(flat_encode(vae, video), latents)
    assert torch.equal(flat_decode(vae, latents, video), flat_decode(plain, latents))
    assert torch.equal(vae.decode(latents).sample, plain.decode(latents).sample)  # stock calls know of no guide
    assert is_guided(vae)
    assert not is_guided(plain)


@torch.no_grad()
def test_streams_equal_the_whole_clip(plain: AutoencoderKLWan) -> None:
    vae, video = taught(plain), clip()
    latents = flat_encode(plain, video)
    whole = flat_decode(vae, latents, video)
    assert (whole - flat_decode(plain, latents)).abs().max() > 0.01
    torch.testing.assert_close(stream_decode(vae, latents, video), whole, **TOLERANCE)


@torch.no_grad()
def test_every_frame_is_guided_by_itself(plain: AutoencoderKLWan) -> None:
    look, video = FlatDecoder(taught(plain)).look, clip()
    for all_frames, one in zip(look(video), look(video[:, :, 4:5]), strict=True):
        rate = (all_frames.shape[2] - 1) // 2  # frames for each latent frame after the first
        torch.testing.assert_close(all_frames[:, :, rate : rate + 1], one, **TOLERANCE)


@torch.no_grad()
def test_one_image_serves_all_tasks(plain: AutoencoderKLWan) -> None:
    vae, video = taught(plain), clip(5)
    latents = torch.randn(3, *flat_encode(plain, video).shape[1:], generator=torch.Generator().manual_seed(2))
    together = flat_decode(vae, latents, video)
    one_by_one = torch.cat([flat_decode(vae, z[None], video) for z in latents])
    torch.testing.assert_close(together, one_by_one, **TOLERANCE)


@torch.no_grad()
def test_a_guided_stream_without_its_images_is_refused(plain: AutoencoderKLWan) -> None:
    latents = flat_encode(plain, clip())
    with pytest.raises(UserError, match="expected the video that the latents were made of"):
        stream_decode(taught(plain), latents)
    with pytest.raises(UserError, match="for a guided decoder, and for no other"):
        stream_decode(plain, latents, clip())
    assert StreamDecoderStep(plain).guide is None


def test_checkpoints_know_whether_they_are_guided(tmp_path: Path) -> None:
    plain, transformer = build("tiny")
    config, prompts = CheckpointConfig.of(PRESETS["tiny"]), {"dense_pose": torch.zeros(1, 4, 16)}
    for name, vae in (("plain", plain), ("guided", taught(plain))):
        save_checkpoint(tmp_path / name, Checkpoint(vae, transformer, prompts, config))
        loaded = load_checkpoint(tmp_path / name).vae
        assert type(loaded) is type(vae)
        assert all(torch.equal(loaded.state_dict()[k], v) for k, v in vae.state_dict().items())


def test_nano_is_guided_and_wan_is_not() -> None:
    assert is_guided(build("nano")[0])
    with torch.device("meta"):
        assert not is_guided(build("wan-1.3b")[0])
