"""The baseline of `thfm bench`: stock diffusers, eager. Nothing of this project's forms of the VAE."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from thfm_ros.engine.backends.torch_backend import TorchRuntime
from thfm_ros.engine.manifest import Stage
from thfm_ros.engine.modules import Boundary, FromFrames, checkpoint_manifest, geometry_of
from thfm_ros.model.checkpoint import load_checkpoint


class EagerDiffusers(TorchRuntime):
    """Whole-clip stages by `AutoencoderKLWan` and `WanTransformer3DModel` as diffusers has them.

    In float32 on a CPU, in bfloat16 on a GPU.
    The keypoint pass, nano's codec and a narrow decoder do not exist there: they run as this project's modules.
    """

    def __init__(self, root: Path, threads: int) -> None:
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        checkpoint = load_checkpoint(root, dtype)
        geometry = geometry_of(checkpoint)
        manifest = checkpoint_manifest(root, checkpoint, geometry, "eager diffusers")
        super().__init__(manifest, checkpoint, geometry, threads)
        stock: dict[str, nn.Module] = {"transform": Boundary(_Transform(checkpoint.transformer, dtype), dtype)}
        if isinstance(checkpoint.vae, AutoencoderKLWan):
            stock["encode"] = FromFrames(Boundary(_Encode(checkpoint.vae), dtype))
            if checkpoint.decoder is None:
                stock["decode"] = Boundary(_Decode(checkpoint.vae), dtype)
        for name, module in stock.items():
            self._stages[name] = dataclasses.replace(self._stages[name], module=module).on(self._device)

    def precision(self, stage: Stage) -> str:
        return "fp32" if self._device == "cpu" else "bf16"


class _Normalised(nn.Module):
    """The VAE, and mean and deviation of its latents (1, C, 1, 1, 1)."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.vae = vae
        for name in ("mean", "std"):
            values = torch.tensor(vae.config[f"latents_{name}"]).view(1, -1, 1, 1, 1)
            self.register_buffer(name, values, persistent=False)


class _Encode(_Normalised):
    def forward(self, video: Tensor) -> Tensor:
        return (self.vae.encode(video).latent_dist.mode() - self.mean) / self.std


class _Decode(_Normalised):
    def forward(self, latents: Tensor) -> Tensor:
        return self.vae.decode((latents * self.std + self.mean).to(latents.dtype)).sample.clamp(-1, 1)


class _Transform(nn.Module):
    def __init__(self, transformer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.stock, self.end = _stock(transformer).to(dtype), float(transformer.config.end_timestep)

    def forward(self, latents: Tensor, prompt: Tensor) -> Tensor:
        time = torch.full((1,), self.end, device=latents.device)
        return -self.stock(latents, time, prompt).sample


def _stock(transformer: Any) -> WanTransformer3DModel:
    """The same weights in the stock class, with its own attention processors."""
    import inspect

    names = [n for n in inspect.signature(WanTransformer3DModel.__init__).parameters if n != "self"]
    stock = WanTransformer3DModel(**{n: transformer.config[n] for n in names if n in transformer.config})
    weights = {k: v for k, v in transformer.state_dict().items() if not k.startswith("keypoint_tokens")}
    stock.load_state_dict(weights)
    return stock.eval()
