"""The baseline of `thfm bench`: stock diffusers, eager, float32. Nothing of this project's forms of the VAE."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from thfm_ros.engine.device import cpu_name
from thfm_ros.engine.modules import checkpoint_manifest, geometry_of, network_stages
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.model.checkpoint import load_checkpoint


class EagerDiffusers(StageRuntime):
    """Whole-clip stages by `AutoencoderKLWan` and `WanTransformer3DModel` as diffusers has them.

    The keypoint pass and nano's codec do not exist there, so they run as this project's modules.
    """

    def __init__(self, root: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        checkpoint = load_checkpoint(root)
        clip = geometry_of(checkpoint)
        modules = network_stages(checkpoint, clip)
        stages = {name: m.described("fp32") for name, m in modules.items()}
        manifest = dataclasses.replace(checkpoint_manifest(root, checkpoint, clip, "eager diffusers"), stages=stages)
        info = {
            "backend": "eager diffusers",
            "version": torch.__version__,
            "threads": str(threads),
            "device": cpu_name(),
        }
        super().__init__(manifest, {t: p[0].numpy() for t, p in checkpoint.prompts.items()}, info)
        self._vae = checkpoint.vae
        stock = isinstance(self._vae, AutoencoderKLWan)
        self._own = (
            {"keypoints": modules["keypoints"]} if stock else {n: m for n, m in modules.items() if n != "transform"}
        )
        self._end = float(checkpoint.transformer.config.end_timestep)
        self._transformer = _stock(checkpoint.transformer)
        if stock:
            config = self._vae.config
            self._mean, self._std = (
                torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std)
            )

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if stage in self._own:
            return self._own[stage](inputs)
        with torch.inference_mode():
            given = {name: torch.from_numpy(x) for name, x in inputs.items()}
            match stage:
                case "encode":
                    video = (given["frames"].float() / 127.5 - 1.0).permute(0, 4, 1, 2, 3)
                    out = (self._vae.encode(video).latent_dist.mode() - self._mean) / self._std
                case "transform":
                    time = torch.full((1,), self._end)
                    out = -self._transformer(given["latents"], time, given["prompt"]).sample
                case _:
                    out = self._vae.decode(given["latents"] * self._std + self._mean).sample.clamp(-1, 1)
            return {self.manifest.stages[stage].outputs[0].name: out.numpy()}


def _stock(transformer: Any) -> WanTransformer3DModel:
    """The same weights in the stock class, with its own attention processors."""
    import inspect

    names = [n for n in inspect.signature(WanTransformer3DModel.__init__).parameters if n != "self"]
    stock = WanTransformer3DModel(**{n: transformer.config[n] for n in names if n in transformer.config})
    weights = {k: v for k, v in transformer.state_dict().items() if not k.startswith("keypoint_tokens")}
    stock.load_state_dict(weights)
    return stock.eval()
