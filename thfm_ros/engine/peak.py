"""The machine's measured peak: a large matrix product in the type that a stage computes in.

On CPUs float32 by numpy's BLAS (bf16 by torch where a stage runs in it); on GPUs by torch. The GPU path has NEVER RUN
on a GPU; its code is tested on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

CPU_SIZE, GPU_SIZE = 1536, 8192


def peak_kind(precision: str, gpu: bool) -> str:
    """The product that a stage's arithmetic is compared with, such as "cpu fp32" or "gpu tf32"."""
    if gpu:
        return f"gpu {precision if precision in ('tf32', 'fp16', 'bf16') else 'fp32'}"
    return f"cpu {'bf16' if precision == 'bf16' else 'fp32'}"


def peak_gflops(kind: str) -> float:
    """GFLOP/s of one product, 2 FLOP a multiply-accumulate, on as many threads as the library takes."""
    device, precision = kind.split()
    if kind == "cpu fp32":
        a = np.ones((CPU_SIZE, CPU_SIZE), np.float32)
        return _timed(lambda: a @ a, lambda: None, CPU_SIZE, 1)
    return torch_peak_gflops("cuda", precision) if device == "gpu" else torch_peak_gflops("cpu", precision, CPU_SIZE, 1)


def torch_peak_gflops(device: str, precision: str, size: int = GPU_SIZE, repeats: int = 10) -> float:
    """By torch on `device`: "cuda", or "cpu"."""
    import torch

    types = {"fp16": torch.float16, "bf16": torch.bfloat16}
    a = torch.ones((size, size), dtype=types.get(precision, torch.float32), device=device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        return _timed(lambda: a @ a, torch.cuda.synchronize if device == "cuda" else lambda: None, size, repeats)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _timed(product: Callable[[], object], wait: Callable[[], None], size: int, repeats: int) -> float:
    product()  # the first one wakes threads and chooses kernels
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        product()
    wait()
    return 2 * size**3 * repeats / (time.perf_counter() - start) / 1e9
