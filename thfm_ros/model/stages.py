"""The transform stage as a plain module with tensors in and out: what the engine exports."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thfm_ros.model.transformer import Modulation, THFMTransformer3DModel


class TransformStage(nn.Module):
    """Single-step perception: clean latents in, the end timestep, the output negated (paper section 1.1).

    The negated output x0 - eps goes straight into the decoder. The timestep's embedding is a constant and is folded.

    Args:
        prompt_embeds: (1, L, D) or (B, L, D) used where `forward` gets no prompt; None: a prompt is an input.
        keypoints: whether the keypoint tokens take part.
    """

    def __init__(
        self, transformer: THFMTransformer3DModel, prompt_embeds: Tensor | None = None, keypoints: bool = False
    ) -> None:
        super().__init__()
        self.transformer, self.keypoints = transformer, keypoints
        weight = transformer.patch_embedding.weight
        with torch.no_grad():
            timestep = torch.full((1,), transformer.config.end_timestep, device=weight.device)
            temb, blocks = transformer.modulation(timestep, weight)
        self.register_buffer("temb", temb, persistent=False)
        self.register_buffer("blocks", blocks, persistent=False)
        self.register_buffer("prompt", prompt_embeds, persistent=False)

    def forward(self, latents: Tensor, prompt: Tensor | None = None) -> tuple[Tensor, ...]:
        """latents (B, C, T', h, w), prompt (B, L, D) -> (latents,), and with keypoints also
        xy (B, T, K, 2), xyz (B, T, K, 3), visibility logits (B, T, K)."""
        prompt = self.prompt if prompt is None else prompt
        modulation = Modulation(self.temb, self.blocks)
        latents = latents.to(self.temb.dtype)
        out = self.transformer(
            latents, prompt.expand(len(latents), -1, -1), keypoints=self.keypoints, modulation=modulation
        )
        return (-out.sample,) if out.keypoints is None else (-out.sample, *out.keypoints)
