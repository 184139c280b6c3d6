"""Muon (K. Jordan et al., 2024): momentum made orthogonal for matrices and convolutions, Adam for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic, which brings singular values near 1 in 5 rounds
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Updates have the size of Adam's (0.2 RMS before the rate; J. Liu et al., 2025), so that one rate serves both.

    torch.optim.Muon takes no convolutions, and multiplies in bfloat16, which is slow on CPUs without it.

    Args:
        parameters: or groups of them, which may have a `scale` on the rate.
        betas: of Adam. momentum: of the matrices, Nesterov's.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
    ) -> None:
        matrices, rest = [], []
        groups = list(parameters)
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
            for parameter in group["params"]:
                kinds[is_matrix(parameter)].append(parameter)
            matrices.append({"params": kinds[True], "scale": group.get("scale", 1.0)})
            rest.append({"params": kinds[False], "scale": group.get("scale", 1.0)})
        super().__init__(matrices, {"lr": lr, "momentum": momentum})
        self.orthogonal_groups = list(self.param_groups)
        self.adam = torch.optim.Adam(rest, lr=lr, betas=betas)
        self.adam.state = self.state  # one table, which checkpoints keep
        self.param_groups += self.adam.param_groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        assert closure is None, "no second evaluation of the loss"
        gradients, weights, rates = [], [], []
        for group in self.orthogonal_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                used = _used(parameter.grad)
                gradient, average, weight = (x[used] for x in (parameter.grad, state["momentum"], parameter))
                average.lerp_(gradient, 1 - group["momentum"])
                gradients.append(gradient.lerp(average, group["momentum"]).flatten(1))
                weights.append(weight)
                rates.append(group["lr"])
        for weight, rate, update in zip(weights, rates, orthogonal_shared(gradients), strict=True):
            weight.add_(update.view_as(weight), alpha=-rate * 0.2 * max(update.shape) ** 0.5)
        self.adam.step()


def is_matrix(parameter: Tensor) -> bool:
    """Linear layers and convolutions of more than one channel; not norms, biases, or tables of tokens."""
    return parameter.ndim in (2, 4, 5) and min(parameter.flatten(1).shape) > 1


def _used(gradient: Tensor) -> tuple[slice, ...]:
    """Without the taps on past frames of a convolution that sees none: most of the work on still images."""
    if gradient.ndim == 5 and not gradient[:, :, :-1].any():
        return (slice(None), slice(None), slice(-1, None))
    return ()


def orthogonal_shared(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of each. Processes that train together hold the same matrices: each takes its share of the work."""
    count = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if count == 1:
        return [orthogonal(matrix) for matrix in matrices]
    mine = dist.get_rank()
    parts = [orthogonal(m) if i % count == mine else torch.zeros_like(m) for i, m in enumerate(matrices)]
    together = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(together)
    return [x.view_as(m) for x, m in zip(together.split([m.numel() for m in matrices]), matrices, strict=True)]


def orthogonal(matrix: Tensor) -> Tensor:
    """(m, n) with about the same singular vectors, and singular values between about 0.7 and 1.2; zeros stay zeros.

    Newton-Schulz: X <- (a + b XX' + c (XX')^2) X. All rounds work on the smaller of the two Gram matrices, because the
    factors commute with it.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x = matrix.float() / (matrix.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    gram = x @ x.T
    one = torch.eye(len(gram), device=gram.device)
    total = one
    for left in reversed(range(ROUNDS)):
        factor = a * one + b * gram + c * gram @ gram
        total = factor if total is one else factor @ total
        if left:
            gram = factor @ gram @ factor
    return (total @ x).to(matrix.dtype)
