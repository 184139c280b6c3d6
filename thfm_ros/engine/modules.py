"""The stages of a checkpoint as torch modules with plain tensors in and out: what is exported, and what torch runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from thfm_ros.engine.manifest import FORMAT, Manifest, Stage
from thfm_ros.engine.stage_table import WINDOWS, Geometry, TensorSpec, base_name, batched
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.codecs import clip_decoder, clip_encoder
from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.stages import TransformStage


def geometry_of(
    checkpoint: Checkpoint,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    windows: Sequence[int] | None = None,
) -> Geometry:
    """The checkpoint's native clip, or another one that its architecture takes.

    windows: width and height of those around people, each rounded up to what the network takes.
    """
    config, codec, transformer = checkpoint.config, checkpoint.vae, checkpoint.transformer
    native, asked = (config.frames, config.height, config.width), (frames, height, width)
    t, h, w = (own if other is None else other for own, other in zip(native, asked, strict=True))
    spatial = codec.config.scale_factor_spatial
    unit = spatial * transformer.config.patch_size[1]
    if min(t, h, w) < 1 or t % 4 != 1 or h % unit or w % unit:
        raise UserError(f"expected 4k + 1 frames and a size divisible by {unit}, found {t} frames of {w}x{h}")
    nano = isinstance(codec, NanoCodec)
    return Geometry(
        *(t, h, w, (codec.config.z_dim, (t - 1) // 4 + 1, h // spatial, w // spatial), transformer.config.num_joints),
        prompt=(checkpoint.config.text_length, transformer.config.text_dim),
        features=tuple(zip((2, 4, 8, 16), codec.config.widths, strict=True)) if nano else (),
        seen=(4,) if transformer.keypoint_tokens.needs_features else (),
        windows=(-(-windows[0] // unit) * unit, -(-windows[1] // unit) * unit) if windows else None,
    )


@dataclass(frozen=True)
class StageModule:
    """A module that takes tensors in the order of its inputs and gives its outputs, on a device."""

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    device: str = "cpu"

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """numpy by name in and out; float32 whatever it computes in."""
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.ascontiguousarray(feeds[t.name])).to(self.device) for t in self.inputs]
            made = zip(self.outputs, self.module(*tensors), strict=True)
            return {t.name: y.float().cpu().numpy() for t, y in made}

    def gpu_ms(self, feeds: Mapping[str, np.ndarray]) -> float:
        """Time of one run by the GPU's clock, on inputs that were copied before. NEVER RUN on a GPU."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.inference_mode():
            tensors = [torch.from_numpy(feeds[t.name]).to(self.device) for t in self.inputs]
            begin.record()
            self.module(*tensors)
            end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def on(self, device: str) -> StageModule:
        """This stage on another device, where its module is moved to, to be run and not trained."""
        return replace(self, module=self.module.to(device).eval().requires_grad_(False), device=device)

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


def manifest_of(checkpoint: Checkpoint, clip: Geometry, /, **rest: Any) -> Manifest:
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


def checkpoint_manifest(root: Path, checkpoint: Checkpoint, clip: Geometry, backend: str) -> Manifest:
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


def network_stages(
    checkpoint: Checkpoint,
    geometry: Geometry,
    batch: Sequence[int] = (1,),
    windows: Sequence[int] = (1,),
    low_memory: bool = False,
) -> dict[str, StageModule]:
    """Every stage in the checkpoint's precision.

    batch: sizes of transform and decode for several tasks. windows: of the clips around people, where the geometry has
    such. low_memory: Wan's autoencoder works chunk by chunk, with the same numbers.
    """
    codec, transformer = checkpoint.vae, checkpoint.transformer
    codec_type, type_ = codec.dtype, transformer.patch_embedding.weight.dtype
    modules = {
        "encode": FromFrames(Boundary(clip_encoder(codec, low_memory), codec_type)),
        "keypoints": Boundary(TransformStage(transformer, keypoints=True), type_, keep=slice(1, None)),
        "transform": Boundary(TransformStage(transformer), type_),
        "decode": Boundary(clip_decoder(codec, low_memory, checkpoint.decoder), codec_type),
        WINDOWS: FromFrames(Boundary(WindowStage(checkpoint), type_)),
    }
    names = ["encode", "keypoints", *(batched(stage, n) for n in batch for stage in ("transform", "decode"))]
    names += [batched(WINDOWS, n) for n in windows] if geometry.windows else []
    return {n: StageModule(modules[base_name(n)], geometry.inputs(n), geometry.outputs(n)) for n in names}
