"""Muon: orthogonal updates for matrices, Adam's for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thfm_ros.train.muon import Muon, is_matrix, orthogonal


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 31)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = u @ torch.diag(torch.linspace(0.05, 3, min(shape))) @ v
    inside = torch.diagonal(u.T @ orthogonal(matrix) @ v.T)
    assert inside.min() > 0.6
    assert inside.max() < 1.25
    torch.testing.assert_close(orthogonal(matrix), u @ torch.diag(inside) @ v, atol=1e-3, rtol=0)


def test_columns_of_zeros_stay_zeros() -> None:
    matrix = torch.randn(4, 9)
    matrix[:, 3:6] = 0
    assert torch.equal(orthogonal(matrix)[:, 3:6], torch.zeros(4, 3))


def test_matrices_and_the_rest_are_told_apart() -> None:
    matrices = [nn.Linear(3, 4).weight, nn.Conv2d(3, 4, 3).weight, nn.Conv3d(3, 4, 3).weight]
    rest = [nn.Linear(3, 4).bias, nn.Linear(3, 1).weight, torch.zeros(1, 6, 8), torch.zeros(8, 1, 1, 1)]
    assert all(map(is_matrix, matrices))
    assert not any(map(is_matrix, rest))


def test_taps_without_a_gradient_do_not_move_and_do_not_count() -> None:
    torch.manual_seed(0)
    image, clip = nn.Conv2d(3, 8, 3), nn.Conv3d(3, 8, (3, 3, 3))
    with torch.no_grad():
        clip.weight[:, :, -1] = image.weight
    past = clip.weight[:, :, :-1].detach().clone()
    for step in range(3):
        gradient = torch.randn(image.weight.shape, generator=torch.Generator().manual_seed(step))
        image.weight.grad, clip.weight.grad = gradient, torch.zeros_like(clip.weight)
        clip.weight.grad[:, :, -1] = gradient
        if step == 0:
            optimizers = [Muon([m.weight], lr=0.1, betas=(0.9, 0.99)) for m in (image, clip)]
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(clip.weight[:, :, -1], image.weight)
    assert torch.equal(clip.weight[:, :, :-1], past)


def test_both_kinds_go_downhill_at_the_rate_of_their_groups() -> None:
    torch.manual_seed(0)
    layer, wanted = nn.Linear(6, 5), nn.Linear(6, 5)
    optimizer = Muon(layer.parameters(), lr=0.2, betas=(0.9, 0.99))
    x = torch.randn(64, 6)

    def loss() -> torch.Tensor:
        return (layer(x) - wanted(x)).square().mean()

    start = loss().item()
    for step in range(60):
        optimizer.zero_grad()
        loss().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.2 * (1 - step / 60)
        optimizer.step()
    assert loss().item() < 0.02 * start
    assert {len(optimizer.state[p]) for p in layer.parameters()} == {1, 3}  # a momentum; Adam's two moments and steps
