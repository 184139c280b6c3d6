"""Learnable tokens: positions, interpolation in time, the head, masking."""

from __future__ import annotations

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.keypoints import KeypointTokens, rope_angles, spread
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.transformer import THFMTransformer3DModel


@pytest.mark.parametrize("head_dim", [24, 64, 128])
def test_angles_equal_the_stock_rope_at_integer_positions(head_dim: int) -> None:
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    stock = WanRotaryPosEmbed(head_dim, (1, 1, 1), 64)
    cos, sin = stock(torch.empty(1, 1, 5, 7, 9))
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (5, 7, 9)), indexing="ij"), -1).reshape(-1, 3)
    own_cos, own_sin = rope_angles(grid.float(), head_dim)
    torch.testing.assert_close(own_cos, cos, atol=2e-6, rtol=0)
    torch.testing.assert_close(own_sin, sin, atol=2e-6, rtol=0)


def test_temporal_positions_are_interpolated_into_the_latent_range() -> None:
    """17 frames, 5 latent frames: frame t sits at t / 4, the last one exactly on the last latent frame."""
    tokens = KeypointTokens(48, 24, token_frames=17)
    height, width = 6, 10
    cos, sin = tokens.rope(5, 0, (height, width))
    assert cos.shape == (1, 17, 1, 24)
    space = tokens.position[:, 0] * torch.tensor([height, width]) - 0.5
    expected = rope_angles(torch.cat((torch.linspace(0, 4, 17)[:, None], space), 1), 24)
    torch.testing.assert_close((cos, sin), expected)


def test_middle_of_a_stream_has_four_frames_for_every_latent() -> None:
    tokens = KeypointTokens(48, 24, token_frames=5)
    assert tokens.tokens(3, first=7).shape == (12, 48)
    rows = tokens.embedding[:, 0]
    torch.testing.assert_close(tokens.tokens(2, first=0), rows[[0, 1, 2, 3, 4]])
    torch.testing.assert_close(tokens.tokens(2, first=1), rows[[1, 2, 3, 4, 1, 2, 3, 4]])
    # Relative to latent frame `first`, whatever it is: invariant to shifts in time.
    for a, b in zip(tokens.rope(3, 1, (2, 3)), tokens.rope(3, 1000, (2, 3)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_paper_option_has_t_tokens_of_its_own() -> None:
    tokens = KeypointTokens(48, 24, token_frames=17)
    assert torch.equal(tokens.tokens(5), tokens.embedding[:, 0])
    assert tokens.embedding.shape == (17, 1, 48)
    assert tokens.position.shape == (17, 1, 2)


@pytest.mark.parametrize("count", [1, 2, 4, 7, 32])
def test_positions_start_spread_over_the_image_around_its_centre(count: int) -> None:
    points = spread(count)
    assert points.shape == (count, 2)
    assert ((points > 0) & (points < 1)).all()
    torch.testing.assert_close(points[:, 1].mean(), torch.tensor(0.5))
    if count > 1:
        assert torch.cdist(points, points).fill_diagonal_(9).min() > 0.1
    else:
        torch.testing.assert_close(points[0], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("readout", ["token", "features"])
def test_gradients_reach_tokens_positions_and_head(readout: str) -> None:
    model = THFMTransformer3DModel(**{**PRESETS["tiny"].transformer, "readout": readout})
    if readout == "features":  # whose last layer begins at zero
        torch.nn.init.normal_(model.keypoint_tokens.head.out.weight)
    features = torch.rand(1, 48, 5, 8, 12)
    out = model(torch.randn(1, 4, 2, 2, 3), torch.randn(1, 4, 16), keypoints=True, features=features).keypoints
    (out.xy.square().sum() + out.xyz.square().sum() + out.visibility.square().sum()).backward()
    for name, parameter in model.keypoint_tokens.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("per_frame", [1, 4, 32])
def test_each_frame_gets_k_joints_at_any_size(per_frame: int) -> None:
    torch.manual_seed(0)
    model = THFMTransformer3DModel(**{**PRESETS["tiny"].transformer, "tokens_per_frame": per_frame}).eval()
    prompt = torch.randn(2, 4, 16)
    for latents, height, width in ((1, 2, 3), (2, 3, 2), (3, 2, 3)):
        x = torch.randn(2, 4, latents, height, width)
        points = model(x, prompt, keypoints=True).keypoints
        frames = 4 * latents - 3
        assert points.xy.shape == (2, frames, 32, 2)
        assert points.xyz.shape == (2, frames, 32, 3)
        assert points.visibility.shape == (2, frames, 32)
        assert model(x, prompt, keypoints=True, frames=4 * latents).keypoints.xy.shape == (2, 4 * latents, 32, 2)


@torch.no_grad()
def test_untrained_predictions_are_near_the_image_centre_and_differ_between_frames() -> None:
    _, model = build("tiny")
    points = model(torch.randn(1, 4, 2, 2, 3), torch.randn(1, 4, 16), keypoints=True).keypoints
    assert (points.xy - 0.5).abs().max() < 0.5
    assert (points.xy[:, 1:] - points.xy[:, :-1]).abs().amax((-1, -2)).min() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("attention", ["full", "causal"])
def test_masked_tokens_leave_dense_outputs_as_if_they_were_absent(attention: str) -> None:
    _, model = build("tiny")
    x, prompt = torch.randn(3, 4, 3, 2, 3), torch.randn(3, 4, 16)
    absent = model(x, prompt, attention=attention).sample
    present = model(x, prompt, keypoints=True, attention=attention)
    mixed = model(x, prompt, keypoints=torch.tensor([False, True, False]), attention=attention)
    torch.testing.assert_close(mixed.sample[[0, 2]], absent[[0, 2]], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed.sample[1], present.sample[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed.keypoints.xy[1], present.keypoints.xy[1], atol=1e-5, rtol=0)
    # The joint pass is another function: video tokens do see the keypoint tokens.
    assert (present.sample - absent).abs().max() > 1e-4


@pytest.mark.parametrize("readout", ["token", "features"])
def test_coordinates_are_not_rounded_by_autocast(readout: str) -> None:
    """Hidden layers may be rounded; the coordinates themselves are as fine as in float32."""
    torch.manual_seed(0)
    tokens = KeypointTokens(48, 24, readout=readout)
    if readout == "features":
        torch.nn.init.normal_(tokens.head.out.weight, std=0.01)
    hidden, video, features = torch.randn(1, 5, 48), torch.randn(1, 2, 2, 3, 48), torch.rand(1, 48, 5, 8, 12)
    exact = tokens(hidden, video, features=features)
    with torch.autocast("cpu", torch.bfloat16):
        under = tokens(hidden, video, features=features)
    for ours, whole in zip(under[:3], exact[:3], strict=True):
        # Heatmaps of random weights may have two peaks alike, between which rounding decides: few joints.
        assert torch.isclose(ours, whole, atol=0.02, rtol=0.02).float().mean() > 0.95
        assert (ours != ours.bfloat16()).float().mean() > 0.9


@torch.no_grad()
def test_each_frame_reads_the_patches_of_its_own_latent() -> None:
    tokens = KeypointTokens(48, 24, token_frames=5, readout="features")
    hidden, video, features = torch.randn(1, 9, 48), torch.randn(1, 3, 2, 3, 48), torch.rand(1, 48, 9, 8, 12)
    before = tokens(hidden, video, features=features).heatmaps
    video[:, 1] += torch.randn(48)
    now = tokens(hidden, video, features=features).heatmaps
    moved = (now - before).abs().amax((0, 2, 3, 4)) > 0
    assert moved.tolist() == [t in (1, 2, 3, 4) for t in range(9)]
    later = tokens(hidden[:, 1:], video[:, 1:], first=1, features=features[:, :, 1:]).heatmaps
    torch.testing.assert_close(later, now[:, 1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_without_keypoints_read_nothing() -> None:
    model = THFMTransformer3DModel(**{**PRESETS["tiny"].transformer, "readout": "features"}).eval()
    latents, prompt, features = torch.randn(3, 4, 2, 2, 3), torch.randn(3, 4, 16), torch.rand(3, 48, 5, 8, 12)
    some = model(latents, prompt, keypoints=torch.tensor([True, False, True]), features=features).keypoints
    alone = model(latents[2:], prompt[2:], keypoints=True, features=features[2:]).keypoints
    for rows, row in zip(some, alone, strict=True):
        torch.testing.assert_close(rows[2:], row, atol=1e-4, rtol=0)
        assert not rows[1].any()


def test_bad_token_options_are_refused() -> None:
    with pytest.raises(UserError, match=r"divide the number of joints \(32\), found 3"):
        KeypointTokens(48, 24, tokens_per_frame=3)
    with pytest.raises(UserError, match=r"4k \+ 1 with k >= 1 .* found 16"):
        KeypointTokens(48, 24, token_frames=16)
    with pytest.raises(UserError, match=r"token, or features with tokens_per_frame 1; found 'features' with .* 4"):
        KeypointTokens(48, 24, tokens_per_frame=4, readout="features")
    with pytest.raises(UserError, match="found 'hands'"):
        KeypointTokens(48, 24, readout="hands")
