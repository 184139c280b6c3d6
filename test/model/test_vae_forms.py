"""Flat and stream forms of the VAE against the stock class, in both of its styles."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan

from thfm_ros.errors import UserError
from thfm_ros.model.info import PeakMemory
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.vae import (
    FlatDecoder,
    FlatEncoder,
    StreamDecoderInit,
    StreamDecoderStep,
    StreamEncoderInit,
    StreamEncoderStep,
    check_range,
    flat_decode,
    flat_encode,
    stream_decode,
    stream_encode,
)

TOLERANCE = {"atol": 1e-5, "rtol": 0}


def make(style: str) -> AutoencoderKLWan:
    torch.manual_seed(0)
    if style == "2.2":
        return build("tiny")[0]
    if style == "2.2 deep":  # three levels of residual shortcuts, two blocks each, unequal widths
        return AutoencoderKLWan(
            base_dim=8,
            decoder_base_dim=12,
            z_dim=4,
            dim_mult=[1, 2, 4, 4],
            latents_mean=[0.3, 0.0, -0.3, 0.1],
            latents_std=[0.5, 1.0, 2.0, 1.5],
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
            scale_factor_spatial=16,
        ).eval()
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, num_res_blocks=1, latents_mean=[0.3, 0.0, -0.3, 0.1], latents_std=[0.5, 1.0, 2.0, 1.5]
    ).eval()


@pytest.fixture(params=["2.1", "2.2", "2.2 deep"])
def vae(request: pytest.FixtureRequest) -> AutoencoderKLWan:
    return make(request.param)


def video(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def stock_encode(vae: AutoencoderKLWan, x: torch.Tensor) -> torch.Tensor:
    """As WanPipeline normalises."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return (vae.encode(x).latent_dist.mode() - mean) / std


def stock_decode(vae: AutoencoderKLWan, z: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return vae.decode(z * std + mean).sample


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 9])
def test_flat_form_equals_stock(vae: AutoencoderKLWan, frames: int) -> None:
    x = video(frames, batch=2)
    z = flat_encode(vae, x)
    assert z.shape == (2, 4, (frames - 1) // 4 + 1, 32 // vae.config.scale_factor_spatial, z.shape[4])
    torch.testing.assert_close(z, stock_encode(vae, x), **TOLERANCE)
    y = flat_decode(vae, z)
    assert y.shape == x.shape
    torch.testing.assert_close(y, stock_decode(vae, z), **TOLERANCE)


@torch.no_grad()
def test_output_is_clamped_as_stock(vae: AutoencoderKLWan) -> None:
    vae.decoder.conv_out.weight *= 20
    z = flat_encode(vae, video(5))
    y = flat_decode(vae, z)
    assert y.abs().max() == 1
    torch.testing.assert_close(y, stock_decode(vae, z), atol=1e-4, rtol=0)
    assert FlatDecoder(vae).unclamped(z).abs().max() > 1


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 5])
def test_stream_form_equals_stock_on_the_whole_history(vae: AutoencoderKLWan, start: int) -> None:
    x = video(13)
    latents, *caches = StreamEncoderInit(vae)(x[:, :, :start])
    parts, step = [latents], StreamEncoderStep(vae)
    for frame in range(start, 13, 4):
        shapes = [cache.shape for cache in caches]
        latents, *caches = step(x[:, :, frame : frame + 4], *caches)
        parts.append(latents)
        assert [cache.shape for cache in caches] == shapes  # one fixed graph serves for ever
    z = torch.cat(parts, 2)
    torch.testing.assert_close(z, stock_encode(vae, x), **TOLERANCE)

    first = (start - 1) // 4 + 1
    pixels, *caches = StreamDecoderInit(vae)(z[:, :, :first])
    parts, step = [pixels], StreamDecoderStep(vae)
    for latent in z[:, :, first:].split(1, 2):
        shapes = [cache.shape for cache in caches]
        pixels, *caches = step(latent, *caches)
        parts.append(pixels)
        assert [cache.shape for cache in caches] == shapes
    torch.testing.assert_close(torch.cat(parts, 2), stock_decode(vae, z), **TOLERANCE)


@torch.no_grad()
def test_chunk_by_chunk_calls_give_the_same_numbers(vae: AutoencoderKLWan) -> None:
    z = flat_encode(vae, video(9))
    torch.testing.assert_close(stream_encode(vae, video(9)), z, **TOLERANCE)
    torch.testing.assert_close(stream_decode(vae, z), flat_decode(vae, z), **TOLERANCE)


@torch.inference_mode()
def test_chunks_need_a_fraction_of_the_memory() -> None:
    """The paper's VAE on 65 frames, counted on the meta device."""
    with torch.device("meta"):
        vae = AutoencoderKLWan(**PRESETS["wan-1.3b"].vae)
        x, z = torch.empty(1, 3, 65, 64, 64), torch.empty(1, 16, 17, 8, 8)
        for flat, stream, value in ((flat_encode, stream_encode, x), (flat_decode, stream_decode, z)):
            with PeakMemory() as whole:
                flat(vae, value)
            with PeakMemory() as chunks:
                stream(vae, value)
            assert chunks.peak < 0.35 * whole.peak


@torch.no_grad()
def test_moments_are_those_of_the_stock_posterior(vae: AutoencoderKLWan) -> None:
    mean, logvar = FlatEncoder(vae).moments(video(5))
    posterior = vae.encode(video(5)).latent_dist
    torch.testing.assert_close(mean, posterior.mean, **TOLERANCE)
    torch.testing.assert_close(logvar.clamp(-30, 20), posterior.logvar, **TOLERANCE)


def test_gradients_flow_and_checkpointing_does_not_change_them() -> None:
    vae = make("2.2")

    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        vae.zero_grad()
        z = FlatEncoder(vae, checkpointing)(video(5))
        FlatDecoder(vae, checkpointing).unclamped(z).square().mean().backward()
        return [p.grad.clone() for p in vae.parameters() if p.grad is not None]

    plain = gradients(checkpointing=False)
    assert len(plain) == len(list(vae.parameters()))
    torch.testing.assert_close(gradients(checkpointing=True), plain)


def test_bfloat16_stays_bfloat16() -> None:
    vae = make("2.2").to(torch.bfloat16)
    with torch.no_grad():
        z = flat_encode(vae, video(1).bfloat16())
        assert z.dtype == torch.bfloat16
        assert flat_decode(vae, z).dtype == torch.bfloat16


def test_bad_video_is_refused_with_expected_and_found() -> None:
    vae = make("2.2")
    with pytest.raises(UserError, match=r"4k \+ 1 frames .* found 6"):
        flat_encode(vae, torch.zeros(1, 3, 6, 32, 48))
    with pytest.raises(UserError, match="divisible by 16, found 50x32"):
        flat_encode(vae, torch.zeros(1, 3, 5, 32, 50))
    with pytest.raises(UserError, match=r"expected floating point video .* found torch.uint8"):
        flat_encode(vae, torch.zeros(1, 3, 5, 32, 48, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"\(B, 3, T, H, W\), found \(1, 5, 3, 32, 48\)"):
        flat_encode(vae, torch.zeros(1, 5, 3, 32, 48))
    with pytest.raises(UserError, match=r"expected latents \(B, 4, T', h, w\), found \(1, 3, 2, 2, 3\)"):
        flat_decode(vae, torch.zeros(1, 3, 2, 2, 3))
    _, *caches = StreamEncoderInit(vae)(torch.zeros(1, 3, 1, 32, 48))
    with pytest.raises(UserError, match="4k frames in the middle of a stream, found 5"):
        StreamEncoderStep(vae)(torch.zeros(1, 3, 5, 32, 48), *caches)
    for values in (torch.full((2,), 255.0), torch.tensor([0.0, torch.nan])):
        with pytest.raises(UserError, match=r"expected video in \[-1, 1\]"):
            check_range(values)
    check_range(torch.tensor([-1.0, 1.0]))


def test_latent_statistics_must_fit() -> None:
    vae = AutoencoderKLWan(base_dim=8, z_dim=4, num_res_blocks=1)  # keeps Wan's 16 values
    with pytest.raises(UserError, match="expected 4 values of latents_mean and latents_std, found 16"):
        FlatEncoder(vae)
