"""Keypoints read from heatmaps: where `patches` were before, then to the cell, each frame in its own image."""

from __future__ import annotations

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model import readout as readout_module
from thfm_ros.model.keypoints import KeypointTokens
from thfm_ros.model.presets import PRESETS
from thfm_ros.model.readout import HEARD, Keypoints, expected, focused, one_person, own_places, repeat
from thfm_ros.model.stages import StreamTransformInit, StreamTransformStep
from thfm_ros.model.transformer import THFMTransformer3DModel

PROMPT = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(1))


def readout(trained: bool = True) -> KeypointTokens:
    torch.manual_seed(0)
    tokens = KeypointTokens(48, 24, token_frames=5, readout="heatmap")
    if trained:
        torch.nn.init.normal_(tokens.head.deep.weight, std=0.1)
        torch.nn.init.normal_(tokens.head.cell.weight)
        torch.nn.init.normal_(tokens.head.answer.weight)
        torch.nn.init.normal_(tokens.head.lift.net[-1].weight)
    return tokens


def inputs(latents: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, patches and images of 2 x 3 patches."""
    generator = torch.Generator().manual_seed(2)
    frames = 4 * latents - 3
    image = torch.rand(1, 3, frames, 32, 48, generator=generator) * 2 - 1
    sizes = (1, frames, 48), (1, latents, 2, 3, 48)
    return *(torch.randn(*size, generator=generator) for size in sizes), image


@torch.no_grad()
def test_it_goes_on_where_patches_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout_module, "HEARD", 0.0)  # who is meant is asked by heatmaps alone
    hidden, video, image = inputs()
    torch.manual_seed(0)
    tokens = KeypointTokens(48, 24, token_frames=5, readout="patches")
    torch.nn.init.normal_(tokens.head.answer.weight)
    before = tokens(hidden, video)
    assert not tokens.looks
    tokens.read_from("heatmap")
    assert tokens.looks
    heard: list[torch.Tensor] = []
    tokens.head.said.register_forward_hook(lambda *call: heard.append(call[-1]))
    after, said = tokens(hidden, video, image=image), heard[0]
    for ours, old in zip(after, focused(before, said, 4, one_person(said, 4)), strict=True):
        torch.testing.assert_close(ours, old, atol=1e-4, rtol=0)
    tokens.read_from("patches")
    assert all(torch.equal(a, b) for a, b in zip(tokens(hidden, video), before, strict=True))


def test_a_cell_that_is_sure_answers_with_its_patch() -> None:
    said = torch.zeros(1, 2, 3, 4, 32, 7)  # 3 x 4 patches
    said[0, 1, 2, 1, 5] = torch.tensor([0.0, 0.25, -0.5, 1.0, 2.0, 3.0, -4.0])
    places = torch.zeros(1, 2, 32, 12, 16)
    places[0, 1, 5, 9, 7] = 60.0  # in patch (2, 1)
    points = expected(said, places)
    torch.testing.assert_close(points.xy[0, 1, 5], torch.tensor([(7.5 / 4 + 0.25) / 4, (9.5 / 4 - 0.5) / 3]))
    torch.testing.assert_close(points.xyz[0, 1, 5], torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(points.visibility[0, 1, 5], torch.tensor(-4.0))


def heat(*spots: tuple[float, float, float]) -> torch.Tensor:
    """Logits (1, 1, 1, 24, 40) of Gaussian spots (row, column, weight), two cells wide."""
    row, column = torch.meshgrid(torch.arange(24.0), torch.arange(40.0), indexing="ij")
    spread = (w * torch.exp(-((row - y) ** 2 + (column - x) ** 2) / 8) for y, x, w in spots)
    return (sum(spread, torch.zeros(24, 40)) + 1e-6).log()[None, None, None]


def told(places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean, and where it is when focused, as (column, row) in cells."""
    mean = expected(torch.zeros(1, 1, 6, 10, 1, 7), places)
    return tuple(p.xy[0, 0, 0] * torch.tensor([40.0, 24.0]) - 0.5 for p in (mean, focused(mean, places, 4)))


def test_of_two_places_the_likelier_is_told_and_not_their_middle() -> None:
    mean, focus = told(heat((12, 8, 0.6), (12, 30, 0.4)))
    assert 15 < mean[0] < 20
    torch.testing.assert_close(focus, torch.tensor([8.0, 12.0]), atol=0.8, rtol=0)
    _, other = told(heat((12, 8, 0.4), (12, 30, 0.6)))
    torch.testing.assert_close(other, torch.tensor([30.0, 12.0]), atol=0.8, rtol=0)


def test_a_single_place_is_told_as_its_mean() -> None:
    mean, focus = told(heat((9.3, 21.6, 1.0)))
    torch.testing.assert_close(focus, mean, atol=0.05, rtol=0)
    torch.testing.assert_close(focus, torch.tensor([21.6, 9.3]), atol=0.05, rtol=0)


def crowd(shares: list[float]) -> torch.Tensor:
    """Logits (1, 1, K, 24, 40) of the joints of two people side by side; shares: of the left one, joint by joint."""
    rows = torch.linspace(4, 20, len(shares)).tolist()
    return torch.cat([heat((y, 9, share), (y, 29, 1 - share)) for y, share in zip(rows, shares, strict=True)], 2)


def columns(places: torch.Tensor, choose: bool) -> torch.Tensor:
    """(K,) where joints are told to be, in cells."""
    prior = one_person(places, 4) if choose else 0.0
    mean = expected(torch.zeros(1, 1, 6, 10, places.shape[2], 7), places)
    return focused(mean, places, 4, prior).xy[0, 0, :, 0] * 40 - 0.5


@pytest.mark.parametrize("left", [True, False])
def test_of_two_people_all_joints_are_the_same_ones(left: bool) -> None:
    shares = [0.56, 0.62, 0.45, 0.6, 0.57, 0.46, 0.6, 0.58]  # most of the joints are surer of the left one
    places = crowd(shares if left else [1 - share for share in shares])
    apart = columns(places, choose=False)
    assert apart.min() < 12
    assert apart.max() > 26
    torch.testing.assert_close(columns(places, choose=True), torch.full((8,), 9.0 if left else 29.0), atol=0.8, rtol=0)


def test_a_minority_that_is_sure_of_the_other_person_follows() -> None:
    """Nine joints to seven; the seven neither move the middle nor widen what counts as one person."""
    shares = [0.85 if k % 16 < 9 else 0.15 for k in range(0, 16 * 7, 7)]
    assert columns(crowd(shares), choose=False).max() > 26
    torch.testing.assert_close(columns(crowd(shares), choose=True), torch.full((16,), 9.0), atol=0.8, rtol=0)


def test_one_person_stays_where_they_are_with_an_arm_stretched_out() -> None:
    """Within a third of a cell, of hills of two cells."""
    spots = [(3, 20), (7, 20), (8, 16), (8, 24), (8, 31), (8, 37), (14, 19), (14, 22), (18, 19), (22, 18), (21, 23)]
    places = torch.cat([heat((y, x, 1.0)) for y, x in spots], 2)
    truth = torch.tensor([float(x) for _, x in spots])
    torch.testing.assert_close(columns(places, choose=True), truth, atol=0.33, rtol=0)


def test_joints_in_space_are_the_chosen_persons() -> None:
    """Who stands at the left says -1, who stands at the right +1."""
    places = crowd([0.56, 0.62, 0.48, 0.6, 0.57, 0.49, 0.6, 0.58])
    patches = torch.zeros(1, 1, 6, 10, 8, 7)
    patches[..., 3:6] = torch.linspace(-2, 2, 10).sign()[:, None, None]
    apart, together = (expected(patches, places + share * one_person(places, 4)).xyz for share in (0.0, HEARD))
    assert apart.max() > 0
    assert together.max() < -0.5


def test_choosing_a_person_is_not_learned() -> None:
    places = crowd([0.6, 0.4]).requires_grad_(True)
    assert not one_person(places, 4).requires_grad


def test_what_is_learned_is_the_mean() -> None:
    gradients = []
    for focus in (False, True):
        places = heat((12, 8, 0.55), (12, 30, 0.45)).requires_grad_(True)
        points = expected(torch.zeros(1, 1, 6, 10, 1, 7), places)
        (focused(points, places, 4) if focus else points).xy[..., 0].sum().backward()
        gradients.append(places.grad)
    torch.testing.assert_close(*gradients)


def test_patches_repeat_in_their_cells() -> None:
    x = torch.arange(12.0).reshape(1, 1, 1, 3, 4)
    torch.testing.assert_close(repeat(x, 2)[0, 0, 0], x[0, 0, 0].kron(torch.ones(2, 2)))
    said = torch.randn(2, 3, 3, 4, 32, 7)
    for ours, plain in zip(expected(said, repeat(own_places(said), 4)), expected(said), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=0)


@torch.no_grad()
def test_each_frame_looks_at_its_own_image() -> None:
    tokens, (hidden, video, image) = readout(), inputs(3)
    before = tokens(hidden, video, image=image)
    image[:, :, 6] *= -1
    after = tokens(hidden, video, image=image)
    for ours, old in zip(after, before, strict=True):
        assert [bool((ours - old)[:, t].abs().max() > 1e-4) for t in range(9)] == [t == 6 for t in range(9)]


@torch.no_grad()
def test_one_image_may_stand_for_all_frames() -> None:
    tokens, (hidden, video, image) = readout(), inputs()
    one = image[:, :, :1]
    alone, repeated = (tokens(hidden, video, image=i) for i in (one, one.expand(-1, -1, 5, -1, -1)))
    for a, b in zip(alone, repeated, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def test_the_third_dimension_follows_the_first_two_wherever_the_person_stands() -> None:
    """Shifted or smaller in the image, the same pose differs in what is told of place and size alone."""
    lift = readout().head.lift
    with torch.no_grad():
        lift.net[0].weight[:, -3:] = 0  # of which nothing is heard here
    xy = torch.rand(1, 2, 32, 2)
    points = [Keypoints(p, torch.zeros(1, 2, 32, 3), torch.zeros(1, 2, 32)) for p in (xy, 0.5 * xy + 0.3, xy.flip(2))]
    same, moved, other = (lift(p, 1.5).xyz for p in points)
    torch.testing.assert_close(moved, same, atol=1e-4, rtol=1e-4)
    assert (other - same).abs().max() > 1e-2
    wide = lift(points[0]._replace(xy=xy / torch.tensor([2.0, 1.0])), 3.0).xyz  # the same pixels of a wider image
    torch.testing.assert_close(wide, same, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [None, (1, 3, 4, 32, 48), (1, 3, 5, 32, 32), (1, 3, 5, 64, 96)])
def test_a_missing_or_wrong_image_is_named(size: tuple[int, ...] | None) -> None:
    tokens, (hidden, video, _) = readout(), inputs()
    with pytest.raises(UserError, match=r"expected an image \(B, 3, 5, 32, 48\), found"):
        tokens(hidden, video, image=None if size is None else torch.zeros(size))


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 2])
def test_streams_equal_the_causal_pass(window: int) -> None:
    torch.manual_seed(0)
    parts = {"readout": "heatmap", "agree_blocks": 1, "window": window}
    model = THFMTransformer3DModel(**{**PRESETS["tiny"].transformer, **parts}).eval()
    torch.nn.init.normal_(model.keypoint_tokens.head.cell.weight)
    torch.nn.init.normal_(model.keypoint_tokens.head.agreement.leave.weight, std=0.1)
    torch.nn.init.normal_(model.keypoint_tokens.head.answer.weight)
    latents, (_, _, image) = torch.randn(1, 4, 6, 2, 3), inputs(6)
    full = model(latents, PROMPT, keypoints=True, attention="causal", image=image)
    init, step = (kind(model, keypoints=True) for kind in (StreamTransformInit, StreamTransformStep))
    results = [init(latents[:, :, :window], PROMPT, image[:, :, : 4 * window - 3])]
    for i in range(window, 6):
        frames = image[:, :, 4 * i - 3 : 4 * i + 1]
        results.append(step(latents[:, :, i : i + 1], PROMPT, frames, *results[-1][4:]))
    torch.testing.assert_close(torch.cat([r[0] for r in results], 2), -full.sample, atol=1e-4, rtol=0)
    for place, whole in enumerate(full.keypoints, 1):
        torch.testing.assert_close(torch.cat([r[place] for r in results], 1), whole, atol=1e-4, rtol=0)


@torch.no_grad()
def test_of_rows_without_keypoints_nothing_is_read() -> None:
    model = THFMTransformer3DModel(**{**PRESETS["tiny"].transformer, "readout": "heatmap"}).eval()
    torch.nn.init.normal_(model.keypoint_tokens.head.cell.weight)
    latents, (_, _, image) = torch.randn(3, 4, 2, 2, 3), inputs()
    prompt, image = PROMPT.expand(3, -1, -1), torch.cat((image, image.flip(1), -image))
    some = model(latents, prompt, keypoints=torch.tensor([True, False, True]), image=image).keypoints
    alone = model(latents[2:], prompt[2:], keypoints=True, image=image[2:]).keypoints
    for rows, row in zip(some, alone, strict=True):
        torch.testing.assert_close(rows[2:], row, atol=1e-4, rtol=0)
        assert not rows[1].any()
