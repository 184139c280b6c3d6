"""Causal attention over latent frames, and the step with cached keys and values against the full pass."""

from __future__ import annotations

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.transformer import THFMOutput, THFMTransformer3DModel

PROMPT = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(3))


def clip(latents: int) -> torch.Tensor:
    return torch.randn(2, 4, latents, 2, 3, generator=torch.Generator().manual_seed(4))


def stream(model: THFMTransformer3DModel, x: torch.Tensor, sizes: list[int], **kwargs: object) -> list[THFMOutput]:
    outputs, state = [], None
    for chunk in x.split(sizes, 2):
        out, state = model.step(chunk, PROMPT, state, **kwargs)
        outputs.append(out)
    return outputs


def assert_equal(outputs: list[THFMOutput], full: THFMOutput) -> None:
    torch.testing.assert_close(torch.cat([o.sample for o in outputs], 2), full.sample, atol=1e-4, rtol=0)
    if full.keypoints is not None:
        for i, expected in enumerate(full.keypoints):
            torch.testing.assert_close(torch.cat([o.keypoints[i] for o in outputs], 1), expected, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("keypoints", [False, True])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("sizes", [[1] * 14, [5] + [1] * 9, [3, 2, 4, 1, 4], [14]])
def test_step_equals_the_full_pass_under_the_mask(keypoints: bool, window: int, sizes: list[int]) -> None:
    _, model = build("tiny")
    full = model(clip(14), PROMPT, keypoints=keypoints, attention="causal", window=window)
    assert_equal(stream(model, clip(14), sizes, keypoints=keypoints, window=window), full)


@torch.no_grad()
def test_positions_stay_relative_to_the_window_for_ever() -> None:
    """A stream much longer than the RoPE table: the full pass needs a long table, the stream does not."""
    torch.manual_seed(0)
    config = {**PRESETS["tiny"].transformer, "window": 3}
    long = THFMTransformer3DModel(**config, rope_max_seq_len=16).eval()
    short = THFMTransformer3DModel(**config, rope_max_seq_len=3).eval()
    short.load_state_dict(long.state_dict())
    full = long(clip(16), PROMPT, keypoints=True, attention="causal")
    assert_equal(stream(short, clip(16), [1] * 16, keypoints=True), full)


@torch.no_grad()
def test_paper_tokens_also_stream() -> None:
    torch.manual_seed(0)
    model = THFMTransformer3DModel(**{**PRESETS["tiny"].transformer, "token_frames": 17, "tokens_per_frame": 4}).eval()
    full = model(clip(9), PROMPT, keypoints=True, attention="causal", window=4)
    assert_equal(stream(model, clip(9), [1] * 9, keypoints=True, window=4), full)


@torch.no_grad()
@pytest.mark.parametrize("keypoints", [False, True])
def test_causal_pass_equals_masked_scores_written_out(keypoints: bool) -> None:
    """The loop over frames against one attention with the mask as a matrix, and `full` against no mask."""
    from thfm_ros.model import attention as module

    _, model = build("tiny")
    x = clip(4)
    plan = model._plan(x, keypoints, first=0, causal=True, window=2)
    frame_of = [i // plan.patches for i in range(plan.new_video)]
    frame_of += [i for i, count in enumerate(plan.tokens) for _ in range(count)]
    frame = torch.tensor(frame_of)
    mask = (frame[None] <= frame[:, None]) & (frame[None] > frame[:, None] - 2)
    processor, attn = module.THFMAttnProcessor(), model.blocks[0].attn1
    hidden = torch.randn(2, len(frame), 48)
    query, key = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(hidden))
    query, key, value = (t.unflatten(2, (2, -1)) for t in (query, key, attn.to_v(hidden)))
    query, key = module.rotate(query, plan.rope), module.rotate(key, plan.rope)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 24**0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    expected = attn.to_out[0](torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2))
    torch.testing.assert_close(processor(attn, hidden, rotary_emb=plan), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_past_does_not_see_the_future_and_forgets_beyond_the_window() -> None:
    _, model = build("tiny")
    x = clip(6)
    changed = x.clone()
    changed[:, :, 3] += 1
    a = model(x, PROMPT, keypoints=True, attention="causal", window=2)
    b = model(changed, PROMPT, keypoints=True, attention="causal", window=2)
    difference = (a.sample - b.sample).abs().amax((0, 1, 3, 4))
    assert difference[:3].max() == 0
    assert difference[3:].min() > 1e-4  # two layers with a window of 2 reach 2 frames on
    points = (a.keypoints.xyz - b.keypoints.xyz).abs().amax((0, 2, 3))
    assert points[:9].max() == 0  # frames 0 to 8 lie in latent frames 0 to 2
    assert points[9:13].min() > 1e-6
    full = model(changed, PROMPT).sample - model(x, PROMPT).sample
    assert full.abs().amax((0, 1, 3, 4)).min() > 1e-4


@torch.no_grad()
def test_one_latent_frame_is_the_same_for_both_masks() -> None:
    _, model = build("tiny")
    a, b = (model(clip(1), PROMPT, keypoints=True, attention=name) for name in ("full", "causal"))
    torch.testing.assert_close(a.sample, b.sample, atol=1e-6, rtol=0)
    torch.testing.assert_close(a.keypoints.xy, b.keypoints.xy, atol=1e-6, rtol=0)


def test_a_stream_that_cannot_be_continued_is_refused() -> None:
    _, model = build("tiny")
    _, state = model.step(clip(3), PROMPT, window=2)
    with pytest.raises(UserError, match="expected a stream state with 6 video and 4 keypoint tokens, found 6 and 0"):
        model.step(clip(1), PROMPT, state, keypoints=True, window=2)
    with pytest.raises(UserError, match=r"expected a stream state with 18 video .* found 6"):
        model.step(clip(1), PROMPT, state, window=4)
    model.register_to_config(window=None)
    with pytest.raises(UserError, match="needs a window"):
        model.step(clip(1), PROMPT)
