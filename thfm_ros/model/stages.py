"""The transform stage as plain modules with tensors in and out: what the engine exports."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thfm_ros.model.transformer import Modulation, THFMOutput, THFMTransformer3DModel


class TransformStage(nn.Module):
    """Single-step perception: clean latents in, the end timestep, the output negated (paper section 1.1).

    The negated output x0 - eps goes straight into the decoder. The timestep's embedding is a constant and is folded.

    Args:
        prompt_embeds: (1, L, D) or (B, L, D) used where `forward` gets no prompt; None: a prompt is an input.
        keypoints: whether the keypoint tokens take part.
        attention: `full` or `causal` over latent frames; None: the transformer's own.
    """

    def __init__(
        self,
        transformer: THFMTransformer3DModel,
        prompt_embeds: Tensor | None = None,
        keypoints: bool = False,
        attention: str | None = None,
    ) -> None:
        super().__init__()
        self.transformer, self.keypoints, self.attention = transformer, keypoints, attention
        weight = transformer.patch_embedding.weight
        with torch.no_grad():
            timestep = torch.full((1,), transformer.config.end_timestep, device=weight.device)
            temb, blocks = transformer.modulation(timestep, weight)
        self.register_buffer("temb", temb, persistent=False)
        self.register_buffer("blocks", blocks, persistent=False)
        self.register_buffer("prompt", prompt_embeds, persistent=False)

    def forward(
        self, latents: Tensor, prompt: Tensor | None = None, features: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """latents (B, C, T', h, w), prompt (B, L, D) -> (latents,), and with keypoints also
        xy (B, T, K, 2), xyz (B, T, K, 3), visibility logits (B, T, K).

        features: (B, C, T, 4 h, 4 w) of the frames, where the keypoint head takes them.
        """
        prompt = self.prompt if prompt is None else prompt
        latents = latents.to(self.temb.dtype)
        return _flatten(
            self.transformer(
                latents,
                prompt.expand(len(latents), -1, -1),
                keypoints=self.keypoints,
                attention=self.attention,
                modulation=Modulation(self.temb, self.blocks),
                features=features,
            )
        )


def _flatten(out: THFMOutput) -> tuple[Tensor, ...]:
    """With the paper's negation."""
    return (-out.sample,) if out.keypoints is None else (-out.sample, *out.keypoints[:3])
