"""Seeds of the golden inputs, chosen at export: on those inputs rounding decides nothing, and a mistake shows.

The same runs tell whether a stage may be computed in float16, which ends at 65504.

A joint is read from the likeliest of several places (`model/nano/soft_argmax.py`). Where two are about as likely,
rounding decides, and an engine that computes as it should would be refused for it. And where all items of a batch come
out black, an engine that mixes them up would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from thfm_ros.engine.golden import DISTINCT, SEED, TOLERANCE, Arrays, allowed, difference, golden_inputs, statistics
from thfm_ros.engine.manifest import Golden, Statistics
from thfm_ros.engine.modules import StageModule
from thfm_ros.engine.stage_table import TensorSpec, base_name, batch_of, gives_joints
from thfm_ros.errors import UserError

# Bits of a result that are kept where a stage runs in its precision; of "auto" in the coarsest that it may mean. int8
# rounds to steps of a range, not of a value: as bf16, which moves the statistics about as much (docs/engine.md).
MANTISSA = {"tf32": 10, "fp16": 10, "bf16": 7, "auto": 7, "int8": 7}
STEADY = 0.5  # of the tolerance: the most that emulated rounding may move
PLACES = 10.0  # times as much may places move: a check forgives more, but the steadier they are, the more it tells
TELLING = 2.0  # times the tolerance: the least that swapping two items of a batch moves
FP16_LIMIT = 3e4  # of what a stage computes on its golden input: half of what float16 holds, for other inputs
SEEDS = 12  # that are tried where joints are read from places
FEW_SEEDS = 4  # and elsewhere, where nearly every seed will do


class Rounding(TorchDispatchMode):
    """Rounds what every operation takes and returns to `bits` of mantissa, as engines keep it between their layers."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.is_view or function._schema.is_mutable:
            return function(*args, **(kwargs or {}))
        return tree_map(
            self._rounded, function(*tree_map(self._rounded, args), **tree_map(self._rounded, kwargs or {}))
        )

    def _rounded(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dtype != torch.float32:
            return x
        drop = 23 - self.bits
        bits = x.contiguous().view(torch.int32)
        return ((bits + (1 << (drop - 1))) & ~((1 << drop) - 1)).view(torch.float32)


class Range(TorchDispatchMode):
    """Keeps the largest absolute value of whatever is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel() and not function.is_view:
                self.largest = max(self.largest, float(x.abs().max()))
        return made


@dataclass(frozen=True)
class Trial:
    """What torch makes of one seed's inputs. cost: 1 or less where the seed will do."""

    seed: int
    outputs: Mapping[str, dict[str, Statistics]]
    cost: float


def choose_golden(
    modules: Mapping[str, StageModule],
    prompts: dict[str, np.ndarray],
    precision_of: Callable[[str], str],
    jumps: bool = True,
) -> Golden:
    """Seeds and golden outputs of every stage; a stage and its batches share a seed: the first that will do, else the
    best of those tried.

    precision_of: of a stage, as the recipe has it. jumps: whether joints are read from the likeliest of several places,
    as nano's are. Its encode depends on the seed, too: bfloat16 moves it by 0.87 of the tolerance on the first. Of
    other networks rounding decides nothing, and a stage runs once for every item that differs.
    Raises:
        UserError: a stage in float16 comes near to what float16 holds.
    """
    seeds: dict[str, int] = {}
    stages: dict[str, dict[str, Statistics]] = {}
    for base in dict.fromkeys(base_name(name) for name in modules):
        several = {name: m for name, m in modules.items() if base_name(name) == base}
        best: Trial | None = None
        for seed in range(SEED, SEED + (SEEDS if gives_joints(base) else FEW_SEEDS)):
            trial = _try(several, base, prompts, precision_of(base), seed, jumps)
            if best is None or trial.cost < best.cost:
                best = trial
            if best.cost <= 1:
                break
        assert best is not None
        seeds[base] = best.seed
        stages |= best.outputs
    return Golden(seeds, TOLERANCE, {name: stages[name] for name in modules})


def _try(
    modules: Mapping[str, StageModule], base: str, prompts: Arrays, precision: str, seed: int, jumps: bool
) -> Trial:
    """Runs a stage once for each item that differs; outputs of its batches (`modules`) repeat them."""
    single, limit = modules[base], TOLERANCE["bf16" if precision == "auto" else precision]
    largest = max(modules, key=batch_of)
    inputs = golden_inputs(largest, modules[largest].inputs, prompts, seed)
    items, range_ = [], Range() if precision == "fp16" else None
    with range_ or nullcontext():
        for i in range(min(batch_of(largest), DISTINCT)):
            items.append(single({name: x[i : i + 1] if len(x) > 1 else x for name, x in inputs.items()}))
    if range_ is not None and not range_.largest < FP16_LIMIT:
        raise UserError(
            f"{base} in fp16: expected values below {FP16_LIMIT:g}, found {range_.largest:.3g}, where float16 ends at "
            "65504: give it bf16 or tf32 in the recipe"
        )
    outputs, cost = {}, 0.0
    for name in modules:
        made = [items[n % len(items)] for n in range(batch_of(name))]
        arrays = {output: np.concatenate([item[output] for item in made]) for output in items[0]}
        outputs[name] = {output: statistics(x) for output, x in arrays.items()}
        if name != base:
            spec = modules[name].outputs[0]
            cost = max(cost, TELLING * limit / max(told_apart(spec, arrays[spec.name]), 1e-9))
        elif jumps:  # a batch is rounded as its items are
            first = {name: x[:1] for name, x in inputs.items()}
            cost = max(cost, shakiness(single, first, arrays, precision, STEADY * limit) / (STEADY * limit))
    return Trial(seed, outputs, cost)


def told_apart(output: TensorSpec, batch: np.ndarray) -> float:
    """Difference of the statistics when the first two items of a batch, which differ, are swapped."""
    swapped = batch[[1, 0, *range(2, len(batch))]]
    return difference(output, statistics(batch), statistics(swapped))


def shakiness(module: StageModule, inputs: Arrays, outputs: Arrays, precision: str, enough: float) -> float:
    """Largest difference of the outputs' statistics, of places a part (`allowed`), when a stage's inputs, then also all
    it computes, are rounded as `precision` rounds. Ends where it is more than `enough`."""
    bits, worst = MANTISSA.get(precision), 0.0
    if bits is None:
        return worst
    rng = np.random.default_rng(SEED)
    for rounding in (nullcontext(), Rounding(bits), Rounding(bits)):
        nudged = {
            n: x if x.dtype == np.uint8 else (x * (1 + 2.0**-bits * (rng.random(x.shape) - 0.5))).astype(np.float32)
            for n, x in inputs.items()
        }
        with rounding:
            found = module(nudged)
        moved = [
            difference(t, statistics(outputs[t.name]), statistics(found[t.name]))
            / allowed(1.0, t.name, precision, PLACES)
            for t in module.outputs
        ]
        worst = max(worst, *moved)
        if not worst <= enough:
            break
    return worst
