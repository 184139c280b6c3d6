"""The stages of a checkpoint as torch modules with plain tensors in and out: what is exported, and what torch runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from thfm_ros.engine.manifest import TensorSpec
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.stages import TransformStage
from thfm_ros.model.vae import (
    FlatDecoder,
    FlatEncoder,
    StreamDecoderInit,
    StreamDecoderStep,
    StreamEncoderInit,
    StreamEncoderStep,
)


@dataclass(frozen=True)
class Clip:
    """The geometry that a bundle is compiled for. latent_shape: (C, T', h, w)."""

    frames: int
    height: int
    width: int
    latent_shape: tuple[int, int, int, int]

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, frames: int | None = None, height: int | None = None, width: int | None = None
    ) -> Clip:
        """The checkpoint's native clip, or another one that its architecture takes."""
        config, vae = checkpoint.config, checkpoint.vae.config
        t, h, w = frames or config.frames, height or config.height, width or config.width
        patch = checkpoint.transformer.config.patch_size
        spatial = vae.scale_factor_spatial
        if t % 4 != 1 or h % (spatial * patch[1]) or w % (spatial * patch[2]):
            raise UserError(
                f"expected 4k + 1 frames and a size divisible by {spatial * patch[1]}, found {t} frames of {w}x{h}"
            )
        return cls(t, h, w, (vae.z_dim, (t - 1) // 4 + 1, h // spatial, w // spatial))


@dataclass(frozen=True)
class StageModule:
    """A module, and its inputs and outputs in order."""

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """numpy in and out; float32 whatever the module computes in."""
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in inputs]
            return [y.float().numpy() for y in self.module(*tensors)]


class Boundary(nn.Module):
    """float32 at the outside, `dtype` within; the caches of a stream (all but the first tensor) stay in `dtype`."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, results: int = 1, keep: slice = slice(None)) -> None:
        super().__init__()
        self.module, self.dtype, self.results, self.keep = module, dtype, results, keep

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        out = self.module(*(x.to(self.dtype) for x in inputs))
        out = (out,) if isinstance(out, Tensor) else tuple(out)[self.keep]
        return tuple(x.float() if i < self.results else x for i, x in enumerate(out))


def whole_clip_modules(checkpoint: Checkpoint, clip: Clip, batches: Sequence[int] = (1,)) -> dict[str, StageModule]:
    """encode, transform, keypoints, decode in the checkpoint's precision; `_xN` for batches of N tasks."""
    vae, transformer = checkpoint.vae, checkpoint.transformer
    vae_type, type_ = vae.dtype, transformer.patch_embedding.weight.dtype
    joints = transformer.config.num_joints
    prompt = (checkpoint.config.text_length, transformer.config.text_dim)
    dense = Boundary(TransformStage(transformer), type_)
    points = Boundary(TransformStage(transformer, keypoints=True), type_, results=3, keep=slice(1, None))
    decoder = Boundary(FlatDecoder(vae), vae_type)

    def video(n: int) -> TensorSpec:
        return TensorSpec("video", (n, 3, clip.frames, clip.height, clip.width))

    def latents(n: int, name: str = "latents") -> TensorSpec:
        return TensorSpec(name, (n, *clip.latent_shape))

    stages = {
        "encode": StageModule(Boundary(FlatEncoder(vae), vae_type), (video(1),), (latents(1),)),
        "keypoints": StageModule(
            points,
            (latents(1), TensorSpec("prompt", (1, *prompt))),
            (
                TensorSpec("xy", (1, clip.frames, joints, 2)),
                TensorSpec("xyz", (1, clip.frames, joints, 3)),
                TensorSpec("visibility", (1, clip.frames, joints)),
            ),
        ),
    }
    for n in batches:
        suffix = "" if n == 1 else f"_x{n}"
        inputs = (latents(n), TensorSpec("prompt", (n, *prompt)))
        stages[f"transform{suffix}"] = StageModule(dense, inputs, (latents(n, "target"),))
        stages[f"decode{suffix}"] = StageModule(decoder, (latents(n),), (video(n),))
    return stages


def stream_modules(checkpoint: Checkpoint, clip: Clip) -> dict[str, StageModule]:
    """The VAE's first call (one frame) and every later one (four frames, one latent), with explicit caches."""
    vae, dtype = checkpoint.vae, checkpoint.vae.dtype
    c, _, h, w = clip.latent_shape

    def video(frames: int) -> TensorSpec:
        return TensorSpec("video", (1, 3, frames, clip.height, clip.width))

    latent = TensorSpec("latents", (1, c, 1, h, w))
    stages = {}
    for part, init, step, first, later in (
        ("encode", StreamEncoderInit(vae), StreamEncoderStep(vae), (video(1), latent), (video(4), latent)),
        ("decode", StreamDecoderInit(vae), StreamDecoderStep(vae), (latent, video(1)), (latent, video(4))),
    ):
        start = Boundary(init, dtype)
        caches = _caches(start, first[0])
        stages[f"{part}_init"] = StageModule(start, (first[0],), (first[1], *_named("new_cache", caches)))
        stages[f"{part}_step"] = StageModule(
            Boundary(step, dtype), (later[0], *_named("cache", caches)), (later[1], *_named("new_cache", caches))
        )
    return stages


def _caches(module: nn.Module, first: TensorSpec) -> list[TensorSpec]:
    """Shapes and types of the caches that the first call leaves; nothing is computed."""
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        _, *caches = module(torch.zeros(first.shape))
    return [TensorSpec("", tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in caches]


def _named(prefix: str, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, name=f"{prefix}_{i}") for i, spec in enumerate(specs))
