"""What low precision costs: every stage in emulated TF32, float16, bfloat16 and int8, against float32.

    python benchmarks/precision.py --checkpoint weights/nano --json precision.json

A CPU without the types has to emulate them. float16 and bfloat16: the very modules that are exported, weights cast and
norms in float32 where the export has them so; every operation is computed in float32 and its result rounded, as an
engine stores it between its layers (which it fuses: it rounds less often). TF32: what goes into a matrix product or
convolution is rounded to 10 bits of mantissa, as tensor cores do. int8: the weights of linear layers by output channel,
what goes into them by tensor, both symmetrically, as dynamic quantisation does. `golden.TOLERANCE` and `verify.LIMITS`
come from what is printed: the golden statistics of every stage, and the rows of `thfm verify`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from thfm_ros.engine.backends.torch_backend import TorchRuntime
from thfm_ros.engine.export import DTYPES, weights_digest
from thfm_ros.engine.golden import Arrays, difference, golden_inputs, statistics
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.manifest import Stage
from thfm_ros.engine.modules import checkpoint_manifest, geometry_of
from thfm_ros.engine.recipes import WindowOptions
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.verify import Row, synthetic_clips, verify
from thfm_ros.files import write_json
from thfm_ros.model.checkpoint import load_checkpoint

aten = torch.ops.aten
LINEAR = {aten.addmm, aten.mm}
PRODUCTS = LINEAR | {aten.bmm, aten.convolution, aten._scaled_dot_product_flash_attention_for_cpu}
CASTS = {aten._to_copy, aten.copy_, aten.clone, aten.cat, aten.stack}
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

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, kwargs = function.overloadpacket, kwargs or {}
        if self.precision == "tf32" and packet in PRODUCTS:
            args = tree_map(lambda x: to_tf32(x) if _is(x, torch.float32) else x, args)
        elif self.precision == "int8" and packet in LINEAR:
            x, weight = args[-2:]  # (tokens, in) and (in, out), also of addmm
            args = (*args[:-2], to_int8(x, None), to_int8(weight, 1))
        low = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.precision)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if low is None or function.is_view or packet in CASTS or not any(_is(x, low) for x in tensors):
            return function(*args, **kwargs)
        wide = any(_is(x, torch.float32) and x.ndim for x in tensors)  # torch promotes: the result is float32
        args, kwargs = tree_map(lambda x: x.float() if _is(x, low) else x, (args, kwargs))
        out = function(*args, **kwargs)
        return out if wide else tree_map(lambda x: x.to(low) if _is(x, torch.float32) else x, out)


def _is(x: Any, dtype: torch.dtype) -> bool:
    return isinstance(x, Tensor) and x.dtype == dtype


class Emulated(TorchRuntime):
    """The torch runtime with its stages in a lower precision; int8 leaves the VAE alone, as the recipe does."""

    def __init__(self, root: Path, rounding: str) -> None:
        checkpoint = load_checkpoint(root, DTYPES[rounding])
        clip = geometry_of(checkpoint, windows=WindowOptions.size)
        manifest = checkpoint_manifest(root, checkpoint, clip, "torch")
        # `verify` compares with the checkpoint that a bundle was made of, which here is the very same.
        super().__init__(dataclasses.replace(manifest, weights_sha256=weights_digest(root)), checkpoint, clip)
        self.rounding = rounding

    def precision(self, stage: Stage) -> str:
        return self.rounding

    def compute(self, stage: str, inputs: Arrays) -> Arrays:
        if self.rounding == "fp32" or (self.rounding == "int8" and stage.split("_")[0] in ("encode", "decode")):
            return super().compute(stage, inputs)
        # Not inference_mode, under which the rounding would see whole layers instead of their products.
        with torch.no_grad(), Rounding(self.rounding):
            made = self._stages[stage].module(*(torch.from_numpy(x) for x in inputs.values()))
        return {t.name: y.float().numpy() for t, y in zip(self._stages[stage].outputs, made, strict=True)}


def measure(root: Path, precisions: Sequence[str], clips: int) -> dict[str, dict[str, Any]]:
    """precision -> {"golden": {stage: difference}, "rows": rows of `verify`}."""
    reference = load_runtime(root, "torch")
    videos = synthetic_clips(reference.manifest, clips)
    expected = {n: reference.run(n, _golden(reference, n)) for n in reference.manifest.stages}
    out: dict[str, dict[str, Any]] = {}
    for precision in precisions:
        emulated, golden = Emulated(root, precision), {}
        for name, outputs in expected.items():
            found = emulated.run(name, _golden(reference, name))
            specs = reference.manifest.stages[name].outputs
            golden[name] = max(difference(t, *(statistics(x[t.name]) for x in (outputs, found))) for t in specs)
        rows = verify(emulated, reference, videos)
        out[precision] = {"golden": golden, "rows": {r.name: (r.value, r.unit) for r in rows}}
        _print(precision, golden, rows)
    return out


def _golden(runtime: StageRuntime, name: str) -> Arrays:
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
        write_json(options.json, {"checkpoint": str(options.checkpoint), **result}, indent=1)


if __name__ == "__main__":
    main()
