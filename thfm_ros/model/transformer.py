"""The THFM transformer: Wan's diffusion transformer with learnable keypoint tokens (paper section 1.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from diffusers import WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor

from thfm_ros.errors import UserError
from thfm_ros.model.attention import AttentionPlan, LayerCache, THFMAttnProcessor
from thfm_ros.model.keypoints import KeypointTokens, frames_of
from thfm_ros.model.readout import Keypoints

ATTENTIONS = ("full", "causal")


@dataclass
class THFMOutput(BaseOutput):
    """sample (B, C, T', h, w): what the rectified flow model predicts, v = eps - x0; `-sample` is the target latent."""

    sample: Tensor
    keypoints: Keypoints | None = None


class Modulation(NamedTuple):
    """What the fixed timestep becomes: temb (B, D), blocks (B, 6, D)."""

    temb: Tensor
    blocks: Tensor


class StreamState(NamedTuple):
    """What `step` remembers: latent frames seen so far, and a cache for each layer."""

    seen: int
    layers: tuple[LayerCache, ...]


class THFMTransformer3DModel(WanTransformer3DModel):
    """`WanTransformer3DModel` for single-step perception.

    Without keypoints and with `full` attention its output is bit-identical to the stock class, and the weights of a
    stock checkpoint load unchanged: only `keypoint_tokens.*` is new (`from_wan`).

    Args:
        num_joints: K, the joints of the checkpoint's joint set.
        tokens_per_frame: keypoint tokens a frame; 1 is the paper's (see `KeypointTokens`).
        token_frames: distinct tokens along time; the clip length T is the paper's, 5 suits streams of any length.
        readout: what keypoints are read from: `token` (the paper) or `features` (nano; see `KeypointTokens`).
        attention: `full` (the paper) or `causal` over latent frames; the default of `forward`.
        window: latent frames that a causal query sees, its own included; None: all earlier ones.
        end_timestep: of the multi-step process, where its input is free of noise (rectified flow runs from 1000 to 0).
    """

    _keep_in_fp32_modules = [*WanTransformer3DModel._keep_in_fp32_modules, "keypoint_tokens"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        num_joints: int = 32,
        tokens_per_frame: int = 1,
        token_frames: int = 81,
        readout: str = "token",
        attention: str = "full",
        window: int | None = None,
        end_timestep: float = 0.0,
    ) -> None:
        if image_dim is not None or added_kv_proj_dim is not None or in_channels != (out_channels or in_channels):
            raise UserError(
                "expected a text-to-video Wan transformer (in_channels = out_channels, no image conditioning), found "
                f"in_channels={in_channels}, out_channels={out_channels}, image_dim={image_dim}: use a T2V checkpoint"
            )
        if next(iter(patch_size)) != 1:
            raise UserError(f"expected patches of one latent frame, found patch_size={tuple(patch_size)}")
        _check_attention(attention, window)
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            rope_max_seq_len=rope_max_seq_len,
        )
        for block in self.blocks:
            block.attn1.set_processor(THFMAttnProcessor())
            block.attn2.set_processor(THFMAttnProcessor())
        self.keypoint_tokens = KeypointTokens.of(self.config)

    @classmethod
    def from_wan(cls, source: str, **kwargs: Any) -> THFMTransformer3DModel:
        """A stock Wan checkpoint's weights plus fresh keypoint tokens; see `wan.transformer_from_wan`."""
        from thfm_ros.model.wan import transformer_from_wan

        return transformer_from_wan(cls, source, **kwargs)

    def modulation(self, timestep: Tensor, like: Tensor) -> Modulation:
        """Embeds a timestep (B,), in the type of `like`. A constant where the timestep is fixed."""
        embedder = self.condition_embedder
        sinusoid = embedder.timesteps_proj(timestep).to(embedder.time_embedder.linear_1.weight.dtype)
        temb = embedder.time_embedder(sinusoid).type_as(like)
        return Modulation(temb, embedder.time_proj(embedder.act_fn(temb)).unflatten(1, (6, -1)))

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor | None = None,
        keypoints: bool | Tensor = False,
        frames: int | None = None,
        attention: str | None = None,
        window: int | None = None,
        modulation: Modulation | None = None,
        return_dict: bool = True,
        features: Tensor | None = None,
    ) -> THFMOutput | tuple:
        """One pass over a clip.

        Args:
            hidden_states: (B, C, T', h, w) normalised clean latents.
            encoder_hidden_states: (B, L, D) prompt embeddings, padded to the checkpoint's length.
            timestep: (B,); None: the end timestep.
            keypoints: True: the tokens take part; False: they are absent (the paper's token masking for dense
                prompts); (B,) bool: they take part where True and nothing attends to them where False.
            frames: T, the video frames behind the latents: 4 T' - 3 for a clip whose first latent is one frame (the
                default), 4 T' for latents from the middle of a stream.
            attention, window: instead of the configuration's.
            modulation: of the timestep, where it was computed beforehand.
            features: (B, C, T, 4 h, 4 w) of the frames behind the latents, for the readout `features`.
        """
        self._check_latents(hidden_states)
        latents = hidden_states.shape[2]
        first = 0 if frames is None or frames == frames_of(latents) else 1
        if frames is not None and frames != frames_of(latents, first):
            raise UserError(
                f"{latents} latent frames stand for {frames_of(latents)} frames (a clip) or {frames_of(latents, 1)} "
                f"(the middle of a stream), found frames={frames}"
            )
        attention = attention or self.config.attention
        window = window if window is not None else self.config.window
        _check_attention(attention, window)
        plan = self._plan(hidden_states, keypoints, first=first, causal=attention == "causal", window=window)
        sample, points, _ = self._run(
            hidden_states, encoder_hidden_states, timestep, modulation, plan, first, None, features
        )
        return THFMOutput(sample, points) if return_dict else (sample, points)

    def step(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        state: StreamState | None = None,
        timestep: Tensor | None = None,
        keypoints: bool = False,
        window: int | None = None,
        modulation: Modulation | None = None,
    ) -> tuple[THFMOutput, StreamState]:
        """The next latent frames of a stream under the causal mask, with the keys and values of earlier ones cached.

        Keys are cached before RoPE, so positions stay relative to the window and never leave the trained range. The
        outputs equal those of one full causal pass over the whole stream with the same window.

        Args:
            hidden_states: (B, C, n, h, w) the stream's next latents; n is usually 1.
            state: of the previous call; None starts a stream, whose first latent stands for one frame.
            window: latent frames seen by each, its own included; None: the configuration's.
        Returns:
            The output for these latents (keypoints for 4 n frames, 4 n - 3 at the start) and the next state.
        """
        self._check_latents(hidden_states)
        window = window if window is not None else self.config.window
        if window is None:
            raise UserError("a stream needs a window (latent frames to remember): set `window` in the config or call")
        _check_attention("causal", window)
        past = 0 if state is None else min(state.seen, window - 1)
        first = 0 if state is None else state.seen - past
        plan = self._plan(hidden_states, keypoints, first=first, causal=True, window=window, past=past)
        caches = None if state is None else state.layers
        if caches is not None and (held := (caches[0].key.shape[1], caches[0].token_key.shape[1])) != (
            expected := (past * plan.patches, sum(plan.tokens[:past]))
        ):
            raise UserError(
                f"expected a stream state with {expected[0]} video and {expected[1]} keypoint tokens, found {held[0]} "
                f"and {held[1]}: keep size, window and keypoints the same, or start the stream anew"
            )
        plan = replace(plan, kept=[])
        sample, points, kept = self._run(
            hidden_states, encoder_hidden_states, timestep, modulation, plan, first + past, caches, None
        )
        seen = first + past + hidden_states.shape[2]
        return THFMOutput(sample, points), StreamState(seen, tuple(kept))

    def _plan(
        self, x: Tensor, keypoints: bool | Tensor, first: int, causal: bool, window: int | None, past: int = 0
    ) -> AttentionPlan:
        """`first`: the stream's index of the oldest latent frame in sight, of which `past` are cached."""
        total, (height, width) = past + x.shape[2], self._grid(x)
        cos, sin = self.rope(x[:1, :1, :1].expand(-1, -1, total, -1, -1))  # only its shape counts
        tokens, active = (0,) * total, None
        if keypoints is not False:
            per_frame = self.keypoint_tokens.tokens_per_frame
            tokens = tuple(per_frame * frames_of(1, first + i) for i in range(total))
            token_cos, token_sin = self.keypoint_tokens.rope(total, first, (height, width))
            cos, sin = torch.cat((cos, token_cos), 1), torch.cat((sin, token_sin), 1)
            active = keypoints if isinstance(keypoints, Tensor) else None
        return AttentionPlan((cos, sin), past, x.shape[2], height * width, tokens, causal, window, active)

    def _run(
        self,
        x: Tensor,
        prompt: Tensor,
        timestep: Tensor | None,
        modulation: Modulation | None,
        plan: AttentionPlan,
        first: int,
        caches: tuple[LayerCache, ...] | None,
        features: Tensor | None,
    ) -> tuple[Tensor, Keypoints | None, list[LayerCache]]:
        """`first`: the stream's index of the first new latent frame. Follows WanTransformer3DModel.forward."""
        hidden = self.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()
        if any(plan.tokens):
            tokens = self.keypoint_tokens.tokens(plan.new, first).to(hidden.dtype)
            hidden = torch.cat((hidden, tokens.expand(len(hidden), -1, -1)), 1)
        if modulation is None:
            timestep = x.new_full((len(x),), self.config.end_timestep) if timestep is None else timestep
            if timestep.ndim != 1:
                raise UserError(f"expected one timestep a sample, (B,), found {tuple(timestep.shape)}")
            modulation = self.modulation(timestep, prompt)
        prompt = self.condition_embedder.text_embedder(prompt)
        checkpointing = torch.is_grad_enabled() and self.gradient_checkpointing
        for index, block in enumerate(self.blocks):
            layer = plan if caches is None else replace(plan, cache=caches[index])
            if checkpointing:
                hidden = self._gradient_checkpointing_func(block, hidden, prompt, modulation.blocks, layer)
            else:
                hidden = block(hidden, prompt, modulation.blocks, layer)
        hidden, tokens = hidden[:, : plan.new_video], hidden[:, plan.new_video :]
        points = None
        if any(plan.tokens):
            points = self._read(tokens, hidden.unflatten(1, (plan.new, *self._grid(x))), plan.active, first, features)
        shift, scale = (self.scale_shift_table + modulation.temb.unsqueeze(1)).chunk(2, dim=1)
        hidden = (self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        return self._unpatchify(self.proj_out(hidden), x), points, plan.kept or []

    def _read(
        self, tokens: Tensor, video: Tensor, active: Tensor | None, first: int, features: Tensor | None
    ) -> Keypoints:
        """Zeros where tokens took no part."""
        if active is None:
            return self.keypoint_tokens(tokens, video, first, features)
        rows = active.nonzero()[:, 0]
        points = self.keypoint_tokens(tokens[rows], video[rows], first, None if features is None else features[rows])
        return type(points)(*(p.new_zeros(len(tokens), *p.shape[1:]).index_copy(0, rows, p) for p in points))

    def _unpatchify(self, hidden: Tensor, x: Tensor) -> Tensor:
        height, width = self._grid(x)
        hidden = hidden.reshape(len(x), x.shape[2], height, width, *self.config.patch_size, -1)
        return hidden.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _grid(self, x: Tensor) -> tuple[int, int]:
        return x.shape[3] // self.config.patch_size[1], x.shape[4] // self.config.patch_size[2]

    def _check_latents(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.config.in_channels:
            raise UserError(f"expected latents (B, {self.config.in_channels}, T', h, w), found {tuple(x.shape)}")
        patch = self.config.patch_size
        if x.shape[3] % patch[1] or x.shape[4] % patch[2]:
            raise UserError(
                f"expected latents whose height and width are divisible by {patch[1]} and {patch[2]}, "
                f"found {x.shape[3]}x{x.shape[4]}: pad or resize the video"
            )


def _check_attention(attention: str, window: int | None) -> None:
    if attention not in ATTENTIONS:
        raise UserError(f"attention must be one of {', '.join(ATTENTIONS)}, found '{attention}'")
    if window is not None and window < 1:
        raise UserError(f"window must be at least 1 latent frame, found {window}")
