"""Backends that were refused, in words that a person can act on: which, why, what runs instead and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thfm_ros.errors import UserError

NAMES = {
    "tensorrt": "TensorRT",
    "torch_tensorrt": "Torch-TensorRT",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "torch": "torch",
}
# (refused, its precision, what runs instead) -> how many times slower a clip of all kinds was (docs/results.md, Speed).
SLOWER = {("openvino", "bf16", "onnxruntime"): 2.1, ("openvino", "fp32", "onnxruntime"): 1.3}


@dataclass(frozen=True)
class Refusal:
    """precision: what it would have computed in; "" where it could not even be opened. reason: one line."""

    backend: str
    precision: str
    reason: str


def named(backend: str, precision: str) -> str:
    """Such as "OpenVINO in bf16"."""
    name = NAMES.get(backend, backend)
    return f"{name} in {precision}" if precision else name


def one_line(error: Exception) -> str:
    """What a backend failed with."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def warnings(refused: Sequence[Refusal], backend: str, precision: str) -> list[str]:
    """A line for each refusal. backend, precision: what runs instead."""
    lines = []
    for r in refused:
        times = SLOWER.get((r.backend, r.precision, backend))
        cost = f", {times:g} times slower where both were measured" if times else ""
        lines.append(
            f"{named(r.backend, r.precision)} refused: {r.reason}; running {named(backend, precision)} instead{cost}"
        )
    return lines
