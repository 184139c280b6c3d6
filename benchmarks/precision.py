"""What low precision costs: every stage in emulated TF32, float16, bfloat16 and int8, against float32.

    python benchmarks/precision.py --checkpoint weights/nano --json precision.json

A CPU without the types has to emulate them: all arithmetic is float32, but after every operation its result is rounded
to float16 or bfloat16 (weights and inputs too), as storing it in that type would; TF32 rounds what goes into a matrix
product or convolution to 10 bits of mantissa, as tensor cores do; int8 rounds the weights of linear layers by output
channel and what goes into them by tensor, symmetrically, as dynamic quantisation does. Engines keep more (norms and
sums in float32), so these are upper bounds. Two things are reported, and the limits of `golden.TOLERANCE` and
`verify.LIMITS` come from them: the golden statistics of every stage, and the rows of `thfm verify`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from thfm_ros.engine.backends.torch_backend import TorchRuntime
from thfm_ros.engine.golden import difference, golden_inputs, statistics
from thfm_ros.engine.manifest import Stage
from thfm_ros.engine.modules import Clip, checkpoint_manifest
from thfm_ros.engine.verify import Row, synthetic_clips, verify
from thfm_ros.model.checkpoint import load_checkpoint

aten = torch.ops.aten
LINEAR = {aten.addmm, aten.mm}
PRODUCTS = LINEAR | {aten.bmm, aten.convolution, aten._scaled_dot_product_flash_attention_for_cpu}
PRECISIONS = ("tf32", "fp16", "bf16", "int8")


def to_tf32(x: Tensor) -> Tensor:
    """Round to nearest, 10 bits of mantissa."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def to_int8(x: Tensor, axis: int | None) -> Tensor:
    """Symmetric, one scale a tensor, or for each index of `axis`."""
    others = [i for i in range(x.ndim) if i != axis]
    scale = (x.abs().amax(others, keepdim=True) if axis is not None else x.abs().max()) / 127
    scale = scale.clamp_min(1e-12)
    return (x / scale).round().clamp(-127, 127) * scale


class Rounding(TorchDispatchMode):
    """Rounds around every operation as `precision` would."""

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.type = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = function.overloadpacket
        if self.type is not None:
            args = tree_map(self.stored, args)
        elif self.precision == "tf32" and packet in PRODUCTS:
            args = tree_map(lambda x: to_tf32(x) if _floating(x) else x, args)
        elif self.precision == "int8" and packet in LINEAR:
            x, weight = args[-2:]  # (tokens, in) and (in, out), also of addmm
            args = (*args[:-2], to_int8(x, None), to_int8(weight, 1))
        out = function(*args, **(kwargs or {}))
        return tree_map(self.stored, out) if self.type is not None and not function.is_view else out

    def stored(self, x: Any) -> Any:
        return x.to(self.type).to(torch.float32) if _floating(x) else x


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.float32


class Emulated(TorchRuntime):
    """The torch runtime with its stages in a lower precision; int8 leaves the VAE alone, as the recipe does."""

    rounding: str = "fp32"

    def precision(self, stage: Stage) -> str:
        return self.rounding

    def run(self, stage: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self.rounding == "fp32" or (self.rounding == "int8" and stage.split("_")[0] in ("encode", "decode")):
            return super().run(stage, inputs)
        # Not inference_mode, under which the rounding would see whole layers instead of their products.
        with torch.no_grad(), Rounding(self.rounding):
            return [y.float().numpy() for y in self._stages[stage](*(torch.from_numpy(x) for x in inputs))]


def measure(root: Path, precisions: Sequence[str], clips: int) -> dict[str, dict[str, Any]]:
    """precision -> {"golden": {stage: difference}, "rows": rows of `verify`}."""
    checkpoint = load_checkpoint(root)
    clip = Clip.of(checkpoint)
    manifest = checkpoint_manifest(root, checkpoint, clip, "torch")
    reference, emulated = (kind(manifest, checkpoint, clip) for kind in (TorchRuntime, Emulated))
    # `verify` compares with the checkpoint that a bundle was made of, which here is the very same.
    from thfm_ros.engine.export import weights_digest

    emulated.manifest = type(manifest)(**{**vars(emulated.manifest), "weights_sha256": weights_digest(root)})
    videos = synthetic_clips(manifest, clips)
    expected = {n: reference.run(n, _golden(reference, n)) for n in reference.manifest.stages}
    out: dict[str, dict[str, Any]] = {}
    for precision in precisions:
        emulated.rounding = precision
        golden = {}
        for name, outputs in expected.items():
            found = emulated.run(name, _golden(reference, name))
            golden[name] = max(difference(statistics(a), statistics(b)) for a, b in zip(outputs, found, strict=True))
        rows = verify(emulated, reference, videos)
        out[precision] = {"golden": golden, "rows": {r.name: (r.value, r.unit) for r in rows}}
        _print(precision, golden, rows)
    return out


def _golden(runtime: TorchRuntime, name: str) -> list[np.ndarray]:
    return golden_inputs(name, runtime.manifest.stages[name].inputs, runtime.prompts)


def _print(precision: str, golden: dict[str, float], rows: Sequence[Row]) -> None:
    for name, value in golden.items():
        print(f"{precision:5s} golden {name:16s} {value:9.2e}", flush=True)
    for row in rows:
        print(f"{precision:5s} {row.name:24s} {row.value:9.2e} {row.unit}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("weights/nano"))
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    result = measure(options.checkpoint, options.precisions, options.clips)
    if options.json:
        options.json.write_text(json.dumps({"checkpoint": str(options.checkpoint), **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
