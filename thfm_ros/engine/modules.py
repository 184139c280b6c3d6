"""The stages of a checkpoint as torch modules with plain tensors in and out: what is exported, and what torch runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from thfm_ros.engine.manifest import FEATURES, FORMAT, WINDOWS, Manifest, Stage, TensorSpec
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.codecs import Codec, clip_decoder, clip_encoder
from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.stages import TransformStage


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
        spatial, unit = vae.scale_factor_spatial, size_unit(checkpoint)
        if t % 4 != 1 or h % unit or w % unit:
            raise UserError(f"expected 4k + 1 frames and a size divisible by {unit}, found {t} frames of {w}x{h}")
        return cls(t, h, w, (vae.z_dim, (t - 1) // 4 + 1, h // spatial, w // spatial))


def size_unit(checkpoint: Checkpoint) -> int:
    """Pixels that widths and heights are multiples of: a patch of latents."""
    return checkpoint.vae.config.scale_factor_spatial * checkpoint.transformer.config.patch_size[1]


def window_size(checkpoint: Checkpoint, size: Sequence[int]) -> tuple[int, int]:
    """`size` (width, height), each rounded up to what the network takes."""
    unit = size_unit(checkpoint)
    return -(-size[0] // unit) * unit, -(-size[1] // unit) * unit


@dataclass(frozen=True)
class StageModule:
    """A module, and its inputs and outputs in order."""

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """numpy in and out, on the module's device; float32 whatever it computes in."""
        parameter = next(self.module.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in inputs]
            return [y.float().cpu().numpy() for y in self.module(*tensors)]

    def gflop(self) -> float:
        """Counts one run's GFLOP, 2 FLOP a multiply-accumulate; nothing is computed."""
        counter = FlopCounterMode(display=False)
        # Attention in its parts, whose arithmetic the counter knows.
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), counter:
            self.module(*(torch.zeros(t.shape, dtype=getattr(torch, t.dtype)) for t in self.inputs))
        return counter.get_total_flops() / 1e9

    def described(self, precision: str, **rest: Any) -> Stage:
        """Its entry in a manifest."""
        return Stage(precision, self.inputs, self.outputs, **rest)


def manifest_of(checkpoint: Checkpoint, clip: Clip, /, **rest: Any) -> Manifest:
    """What a checkpoint says of itself, in a manifest's words; `rest` are the fields that it cannot know."""
    config = checkpoint.config
    return Manifest(
        format=FORMAT,
        preset=config.preset,
        trained=config.trained,
        frames=clip.frames,
        height=clip.height,
        width=clip.width,
        fps=float(config.fps),
        latent_shape=clip.latent_shape,
        tasks=tuple(checkpoint.prompts),
        joint_set=config.joint_set,
        **rest,
    )


def checkpoint_manifest(root: Path, checkpoint: Checkpoint, clip: Clip, backend: str) -> Manifest:
    """Describes a checkpoint folder that torch runs as it is: no files to check."""
    return manifest_of(
        checkpoint,
        clip,
        target="checkpoint",
        backends=("torch", "torch_tensorrt"),
        checkpoint=str(root),
        recipe="",
        stages={},
        weights=(),
        weights_sha256="",
        prompts=None,
        root=root,
        backend=backend,
    )


class Boundary(nn.Module):
    """float32 at the outside, `dtype` within. keep: those of the module's results that leave."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, keep: slice = slice(None)) -> None:
        super().__init__()
        self.module, self.dtype, self.keep = module, dtype, keep

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        out = self.module(*(x.to(self.dtype) for x in inputs))
        return tuple(x.float() for x in ((out,) if isinstance(out, Tensor) else tuple(out)[self.keep]))


class FromFrames(nn.Module):
    """An encoder of (N, T, H, W, 3) uint8 RGB: a quarter of the bytes cross to a GPU, and no host normalises them."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor, *others: Tensor) -> Any:
        return self.encoder((frames.float() / 127.5 - 1.0).permute(0, 4, 1, 2, 3), *others)


def whole_clip_modules(checkpoint: Checkpoint, clip: Clip, batches: Sequence[int] = (1,)) -> dict[str, StageModule]:
    """encode, transform, keypoints, decode in the checkpoint's precision; `_xN` for batches of N tasks."""
    codec, transformer = checkpoint.vae, checkpoint.transformer
    codec_type, type_ = codec.dtype, transformer.patch_embedding.weight.dtype
    joints, features = transformer.config.num_joints, feature_specs(codec, clip)

    def video(n: int) -> TensorSpec:
        return TensorSpec("video", (n, 3, clip.frames, clip.height, clip.width))

    def latents(n: int, name: str = "latents") -> TensorSpec:
        return TensorSpec(name, (n, *clip.latent_shape))

    def prompt(n: int) -> TensorSpec:
        return TensorSpec("prompt", (n, checkpoint.config.text_length, transformer.config.text_dim))

    encoder = FromFrames(Boundary(clip_encoder(codec), codec_type))
    points = Boundary(TransformStage(transformer, keypoints=True), type_, keep=slice(1, None))
    dense, decoder = Boundary(TransformStage(transformer), type_), Boundary(clip_decoder(codec), codec_type)
    fine = features[1:2] if transformer.keypoint_tokens.needs_features else ()
    frames = TensorSpec("frames", (1, clip.frames, clip.height, clip.width, 3), "uint8")
    stages = {
        "encode": StageModule(encoder, (frames,), (latents(1), *features)),
        "keypoints": StageModule(
            points,
            (latents(1), prompt(1), *fine),
            (
                TensorSpec("xy", (1, clip.frames, joints, 2)),
                TensorSpec("xyz", (1, clip.frames, joints, 3)),
                TensorSpec("visibility", (1, clip.frames, joints)),
            ),
        ),
    }
    for n in batches:
        suffix = "" if n == 1 else f"_x{n}"
        stages[f"transform{suffix}"] = StageModule(dense, (latents(n), prompt(n)), (latents(n, "target"),))
        stages[f"decode{suffix}"] = StageModule(decoder, (latents(n), *features), (video(n),))
    return stages


class WindowStage(nn.Module):
    """Encodes clips (N, 3, T, h, w) around one person each and reads their keypoints, prompts (N, L, D).

    One stage, because nothing else needs what lies in between: xy, xyz and visibility logits come out.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder = clip_encoder(checkpoint.vae)
        self.keypoints = TransformStage(checkpoint.transformer, keypoints=True)

    def forward(self, video: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
        encoded = self.encoder(video)
        if isinstance(encoded, tuple):  # nano: latents, and features of which the keypoints take those at stride 4
            return self.keypoints(encoded[0], prompt, encoded[2])[1:]
        return self.keypoints(encoded, prompt)[1:]


def window_modules(
    checkpoint: Checkpoint, frames: int, size: Sequence[int] = (112, 144), batches: Sequence[int] = (1, 2, 4)
) -> dict[str, StageModule]:
    """`windows` and its batches, for windows of `window_size`."""
    width, height = window_size(checkpoint, size)
    config = checkpoint.transformer.config
    dtype = checkpoint.transformer.patch_embedding.weight.dtype
    stage = FromFrames(Boundary(WindowStage(checkpoint), dtype))
    prompt = (checkpoint.config.text_length, config.text_dim)
    return {
        WINDOWS if n == 1 else f"{WINDOWS}_x{n}": StageModule(
            stage,
            (TensorSpec("frames", (n, frames, height, width, 3), "uint8"), TensorSpec("prompt", (n, *prompt))),
            (
                TensorSpec("xy", (n, frames, config.num_joints, 2)),
                TensorSpec("xyz", (n, frames, config.num_joints, 3)),
                TensorSpec("visibility", (n, frames, config.num_joints)),
            ),
        )
        for n in batches
    }


def feature_specs(codec: Codec, clip: Clip) -> tuple[TensorSpec, ...]:
    """What `encode` gives beside latents, and `decode` takes for all tasks: nano's features, the finest first."""
    if not isinstance(codec, NanoCodec):
        return ()
    return tuple(
        TensorSpec(f"{FEATURES}{stride}", (1, width, clip.frames, clip.height // stride, clip.width // stride))
        for stride, width in zip((2, 4, 8, 16), codec.config.widths, strict=True)
    )
