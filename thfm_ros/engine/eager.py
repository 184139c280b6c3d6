"""The baseline of `thfm bench`: stock diffusers, eager, float32. Nothing of this project's forms of the VAE."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanTransformer3DModel

from thfm_ros.engine.device import cpu_name
from thfm_ros.engine.modules import Clip, checkpoint_manifest, whole_clip_modules
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.model.checkpoint import load_checkpoint
from thfm_ros.model.vae import is_guided


class EagerDiffusers(StageRuntime):
    """Whole-clip stages by `AutoencoderKLWan` and `WanTransformer3DModel` as diffusers has them.

    The keypoint pass does not exist there, so it runs as this project's module; a guide is added to what enters the
    stock decoder's blocks.
    """

    def __init__(self, root: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        checkpoint = load_checkpoint(root)
        clip = Clip.of(checkpoint)
        modules = whole_clip_modules(checkpoint, clip)
        stages = {name: m.described("fp32") for name, m in modules.items()}
        manifest = dataclasses.replace(checkpoint_manifest(root, checkpoint, clip, "eager diffusers"), stages=stages)
        info = {
            "backend": "eager diffusers",
            "version": torch.__version__,
            "threads": str(threads),
            "device": cpu_name(),
        }
        super().__init__(manifest, {t: p[0].numpy() for t, p in checkpoint.prompts.items()}, info)
        self._vae, self._keypoints = checkpoint.vae, modules["keypoints"]
        if is_guided(self._vae):
            for depth, block in enumerate(self._vae.decoder.up_blocks):
                block.register_forward_pre_hook(partial(self._guide, depth))
        self._end = float(checkpoint.transformer.config.end_timestep)
        self._transformer = _stock(checkpoint.transformer)
        config = self._vae.config
        self._mean, self._std = (
            torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std)
        )

    def run(self, stage: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if stage == "keypoints":
            return self._keypoints(inputs)
        with torch.inference_mode():
            x = torch.from_numpy(inputs[0])
            match stage:
                case "encode":
                    x = (x.float() / 127.5 - 1.0).permute(0, 4, 1, 2, 3)
                    out = (self._vae.encode(x).latent_dist.mode() - self._mean) / self._std
                case "transform":
                    time = torch.full((len(x),), self._end)
                    out = -self._transformer(x, time, torch.from_numpy(inputs[1])).sample
                case _:
                    if is_guided(self._vae):
                        self._guides = self._vae.guide(torch.from_numpy(inputs[1]))
                        self._calls = [0] * len(self._guides)
                    out = self._vae.decode(x * self._std + self._mean).sample.clamp(-1, 1)
            return [out.numpy()]

    def _guide(self, depth: int, block: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Stock decodes one latent frame after the other: this call's frames of the guide."""
        x, *rest = inputs
        call, guide = self._calls[depth], self._guides[depth]
        self._calls[depth] += 1
        start = 0 if call == 0 else 1 + (call - 1) * x.shape[2]
        return (x + guide[:, :, start : start + x.shape[2]], *rest)


def _stock(transformer: Any) -> WanTransformer3DModel:
    """The same weights in the stock class, with its own attention processors."""
    import inspect

    names = [n for n in inspect.signature(WanTransformer3DModel.__init__).parameters if n != "self"]
    stock = WanTransformer3DModel(**{n: transformer.config[n] for n in names if n in transformer.config})
    weights = {k: v for k, v in transformer.state_dict().items() if not k.startswith("keypoint_tokens")}
    stock.load_state_dict(weights)
    return stock.eval()
