"""Self-attention of THFM: Wan's, with keypoint tokens, a causal mode over latent frames and a key/value cache.

`WanTransformerBlock` hands its `rotary_emb` argument untouched to the attention processor, so an `AttentionPlan` in
that place carries everything that differs from the stock model, and the blocks stay stock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, _get_qkv_projections
from torch import Tensor

Rope = tuple[Tensor, Tensor]  # cos, sin, each (1, S, 1, head_dim)


class LayerCache(NamedTuple):
    """One layer's keys (before RoPE) and values of past latent frames, (B, S, heads, head_dim) each."""

    key: Tensor
    value: Tensor
    token_key: Tensor
    token_value: Tensor

    def followed_by(self, new: LayerCache) -> LayerCache:
        return LayerCache(*(torch.cat(pair, 1) for pair in zip(self, new, strict=True)))

    def part(self, video: slice, tokens: slice) -> LayerCache:
        return LayerCache(
            self.key[:, video], self.value[:, video], self.token_key[:, tokens], self.token_value[:, tokens]
        )


@dataclass(frozen=True)
class AttentionPlan:
    """How the sequence [video tokens of the new latent frames, their keypoint tokens] attends.

    rope: of all keys: video tokens of the past and new latent frames, then their keypoint tokens.
    past, new: latent frames in the cache and in this call.
    patches: video tokens of a latent frame.
    tokens: keypoint tokens of each past and new latent frame; all 0 without keypoints.
    causal: a latent frame sees itself and earlier ones; `window` of them at most (None: all).
    active: (B,) bool; where False, nothing attends to the keypoint tokens (token masking within a batch).
    cache: of this layer. kept: where the layer leaves what it would cache; None: nothing is kept.
    """

    rope: Rope
    past: int
    new: int
    patches: int
    tokens: tuple[int, ...]
    causal: bool = False
    window: int | None = None
    active: Tensor | None = None
    cache: LayerCache | None = None
    kept: list[LayerCache] | None = field(default=None, compare=False)

    @property
    def new_video(self) -> int:
        return self.new * self.patches

    def video_of(self, low: int, high: int) -> slice:
        """Video tokens of latent frames low, ..., high - 1 in sight."""
        return slice(low * self.patches, high * self.patches)

    def tokens_of(self, low: int, high: int) -> slice:
        """Their keypoint tokens."""
        return slice(sum(self.tokens[:low]), sum(self.tokens[:high]))


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """RoPE (equation 2) of x (B, S, heads, head_dim); same numbers as WanAttnProcessor without in-place writes."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rope[0][..., 0::2], rope[1][..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).type_as(x)


class THFMAttnProcessor(WanAttnProcessor):
    """Cross-attention as stock; self-attention by an `AttentionPlan` in place of `rotary_emb`."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: AttentionPlan | None = None,
    ) -> Tensor:
        query, key, value = _get_qkv_projections(attn, hidden_states, encoder_hidden_states)
        query, key = attn.norm_q(query), attn.norm_k(key)
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (query, key, value))
        if rotary_emb is None:
            out = self._attend(query, key, value, attention_mask)
        elif rotary_emb.causal:
            out = self._causal(query, key, value, rotary_emb)
        else:
            plan = rotary_emb
            mask = _key_mask(plan, plan.new_video, sum(plan.tokens))
            out = self._attend(rotate(query, plan.rope), rotate(key, plan.rope), value, mask)
        out = out.flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](out))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return dispatch_attention_fn(
            query, key, value, attn_mask=mask, dropout_p=0.0, is_causal=False, backend=self._attention_backend
        )

    def _causal(self, query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan) -> Tensor:
        """One attention a new latent frame over the keys that it may see: no mask, and half the work of a full pass."""
        n, total = plan.new_video, plan.past + plan.new
        seen = LayerCache(key[:, :n], value[:, :n], key[:, n:], value[:, n:])
        if plan.cache is not None:
            seen = plan.cache.followed_by(seen)
        if plan.kept is not None:
            oldest = 0 if plan.window is None else max(0, total - plan.window + 1)
            plan.kept.append(seen.part(plan.video_of(oldest, total), plan.tokens_of(oldest, total)))
        split = seen.key.shape[1]
        video_rope = tuple(table[:, :split] for table in plan.rope)
        token_rope = tuple(table[:, split:] for table in plan.rope)
        new_tokens = plan.tokens_of(plan.past, total)
        video_query = rotate(query[:, :n], tuple(table[:, split - n :] for table in video_rope))
        token_query = rotate(query[:, n:], tuple(table[:, new_tokens] for table in token_rope))
        seen = seen._replace(key=rotate(seen.key, video_rope), token_key=rotate(seen.token_key, token_rope))
        video_out, token_out = [], []
        for frame_query, frame_tokens, frame in zip(
            video_query.split(plan.patches, 1),
            token_query.split(plan.tokens[plan.past :], 1),
            range(plan.past, total),
            strict=True,
        ):
            low = 0 if plan.window is None else max(0, frame + 1 - plan.window)
            part = seen.part(plan.video_of(low, frame + 1), plan.tokens_of(low, frame + 1))
            out = self._attend(
                torch.cat((frame_query, frame_tokens), 1),
                torch.cat((part.key, part.token_key), 1),
                torch.cat((part.value, part.token_value), 1),
                _key_mask(plan, part.key.shape[1], part.token_key.shape[1]),
            )
            video_out.append(out[:, : plan.patches])
            token_out.append(out[:, plan.patches :])
        return torch.cat(video_out + token_out, 1)


def _key_mask(plan: AttentionPlan, video: int, tokens: int) -> Tensor | None:
    """(B, 1, 1, S) bool over keys, False at the keypoint tokens of samples whose tokens are masked."""
    if plan.active is None or tokens == 0:
        return None
    seen = torch.ones(len(plan.active), video, dtype=torch.bool, device=plan.active.device)
    return torch.cat((seen, plan.active[:, None].expand(-1, tokens)), 1)[:, None, None]
