"""What a model costs: parameters, FLOPs and memory for a clip, without weights or data (the meta device)."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from thfm_ros.model.codecs import clip_decoder, clip_encoder
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.presets import Preset, vae_class
from thfm_ros.model.stages import TransformStage
from thfm_ros.model.transformer import THFMTransformer3DModel

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class StageCost:
    """One forward of one stage. flops counts 2 for each multiply-accumulate; bytes are of the given type."""

    stage: str
    parameters: int
    flops: int
    weight_bytes: int
    peak_activation_bytes: int


@dataclass
class Cost:
    """A clip through the three stages. transform is one task's pass; `transform_closed_form` checks its FLOPs.

    decoder: what decodes: `vae` (its own decoder) or `narrow`. vae_decode_flops: of the VAE's own in either case.
    """

    preset: str
    height: int
    width: int
    frames: int
    dtype: str
    tokens: int
    transform_closed_form: int
    decoder: str
    vae_decode_flops: int
    stages: list[StageCost]

    def total_flops(self, dense: int = 1, sparse: int = 0) -> int:
        """Adds up one clip: one encode, a transform for each task, a decode for each dense one."""
        encode, transform, decode = (stage.flops for stage in self.stages)
        return encode + (dense + sparse) * transform + dense * decode

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "total_flops": self.total_flops()}


def measure(preset: Preset, height: int, width: int, frames: int, dtype: str = "float32") -> Cost:
    """Cost of a preset on a clip; UserError where the clip does not fit the model."""
    kind = DTYPES[dtype]
    with torch.device("meta"):
        # nn.Module.to, because diffusers' own warns about numbers, and there are none here.
        vae = nn.Module.to(vae_class(preset.vae)(**preset.vae), kind).eval()
        transformer = nn.Module.to(THFMTransformer3DModel(**preset.transformer), kind).eval()
        video = torch.empty(1, 3, frames, height, width, dtype=kind)
        prompt = torch.empty(1, preset.text_length, transformer.config.text_dim, dtype=kind)
        encode, decode = clip_encoder(vae).to("meta"), clip_decoder(vae).to("meta")
        narrow = None
        if preset.decoder is not None:
            narrow = nn.Module.to(NarrowDecoder.of(vae, **preset.decoder), kind).eval()
        stages = []
        with torch.inference_mode():
            (latents, *features), cost = _run("encode", encode, lambda: encode(video))
            stages.append(cost)
            transform = TransformStage(transformer)
            _, cost = _run("transform", transform, lambda: transform(latents, prompt))
            stages.append(cost)
            _, cost = _run("decode", decode, lambda: decode(latents, *features))
            own = cost.flops
            if narrow is not None:
                _, cost = _run("decode", narrow, lambda: narrow(latents))
            stages.append(cost)
    patch = transformer.config.patch_size
    tokens = latents.shape[2] * (latents.shape[3] // patch[1]) * (latents.shape[4] // patch[2])
    closed = dit_flops(transformer, tokens, preset.text_length)
    which = "vae" if narrow is None else "narrow"
    return Cost(preset.name, height, width, frames, dtype, tokens, closed, which, own, stages)


def dit_flops(transformer: THFMTransformer3DModel, tokens: int, text: int) -> int:
    """FLOPs of the blocks in closed form: linear layers, self-attention, cross-attention over `text` tokens."""
    config = transformer.config
    d = config.num_attention_heads * config.attention_head_dim
    linear = tokens * (12 * d * d + 4 * d * config.ffn_dim)
    return config.num_layers * (linear + 4 * tokens**2 * d + 4 * text * tokens * d + 4 * text * d * d)


def _run(name: str, module: nn.Module, call: Callable[[], Any]) -> tuple[tuple[Tensor, ...], StageCost]:
    flops, memory = FlopCounterMode(display=False), PeakMemory()
    with _FlashAttention(), flops, memory:
        out = call()
    weights = {id(p): p for p in module.parameters()}.values()
    cost = StageCost(
        name,
        sum(p.numel() for p in weights),
        flops.get_total_flops(),
        sum(p.numel() * p.element_size() for p in weights),
        memory.peak,
    )
    return (out if isinstance(out, tuple) else (out,)), cost


class _FlashAttention(TorchFunctionMode):
    """Attention as the fused kernel it is on a GPU; the meta device would spell out its N x N scores."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            return _flash(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _flash(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]


class PeakMemory(TorchDispatchMode):
    """Bytes of the tensors alive at once that operations made: an upper bound of what an allocator needs."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._track(tensor, known)
        return out

    def _track(self, tensor: Tensor, known: set[int]) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if self._users[key] == 0:
            if key in known:  # a view of something made outside, such as a weight
                return
            self.live += size
            self.peak = max(self.peak, self.live)
        self._users[key] += 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if self._users[key] == 0:
            self.live -= size
