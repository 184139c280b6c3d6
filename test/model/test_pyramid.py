"""Features of single images: their sizes, and what each of them sees."""

from __future__ import annotations

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.pyramid import Pyramid


def pyramid(depth: int = 4) -> Pyramid:
    torch.manual_seed(0)
    return Pyramid(3, 8, depth).eval()


def deep(*blocks: int) -> Pyramid:
    """That one, with blocks that have learned something."""
    eyes = pyramid()
    eyes.deepen(blocks)
    torch.manual_seed(2)
    for block in eyes.blocks.parameters():
        torch.nn.init.normal_(block, std=0.1)
    return eyes


def test_every_map_has_half_the_size_and_twice_the_channels() -> None:
    for depth in (1, 3, 4):
        maps = pyramid(depth)(torch.randn(2, 3, 32, 48))
        assert [m.shape for m in maps] == [(2, 8 * 2**i, 32 // 2**i, 48 // 2**i) for i in range(depth)]
        assert pyramid(depth).widths == [m.shape[1] for m in maps]


@torch.no_grad()
def test_one_that_stops_before_the_finest_maps_makes_the_others_alike() -> None:
    torch.manual_seed(1)
    whole, part, images = deep(2, 1, 0, 1), Pyramid(3, 8, 4, finest=2, blocks=(2, 1)), torch.randn(1, 3, 32, 48)
    part.see_as(whole)
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())
    for ours, theirs in zip(part(images), whole(images)[2:], strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_fresh_blocks_change_nothing_and_trained_ones_stay() -> None:
    eyes, images = pyramid(), torch.randn(1, 3, 32, 48)
    before = eyes(images)
    eyes.deepen((2, 1))
    assert [len(of) for of in eyes.blocks] == [2, 1, 0, 0]
    assert all(torch.equal(ours, old) for ours, old in zip(eyes(images), before, strict=True))
    eyes = deep(1, 0, 2)
    before = eyes(images)
    assert not any(torch.equal(ours, other) for ours, other in zip(pyramid()(images), before, strict=True))
    eyes.deepen((2, 1, 2))
    assert all(torch.equal(ours, old) for ours, old in zip(eyes(images), before, strict=True))


@pytest.mark.parametrize("blocks", [(1, 1, 1, 1, 1), (0, 1)])
def test_blocks_without_a_map_and_fewer_than_there_are_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"a number for each of 4 maps, \[1, 0, 0, 0\] or more, found"):
        deep(1).deepen(blocks)


@torch.no_grad()
def test_images_do_not_hear_of_each_other() -> None:
    images = torch.randn(3, 3, 32, 48)
    for together, alone in zip(pyramid()(images), pyramid()(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_finest_map_knows_what_is_far_away() -> None:
    """One pixel of the image reaches every place of every map; convolutions alone would reach 14 of 48 columns."""
    eyes, image = pyramid(), torch.randn(1, 3, 32, 48)
    for norm in (m for m in eyes.modules() if isinstance(m, torch.nn.GroupNorm)):
        norm.forward = lambda x: x  # type: ignore[method-assign]  # statistics of the whole image would reach it too
    other = image.clone()
    other[0, :, 3, 3] += 1
    for before, after in zip(eyes(image), eyes(other), strict=True):
        assert ((before - after).abs().amax(1) > 0).float().mean() > 0.99


def test_every_weight_learns_from_the_finest_map() -> None:
    eyes = deep(1, 1)
    eyes(torch.randn(1, 3, 32, 48))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in eyes.parameters())
