"""Joints that agree on where they are: nothing at first, then what all of them say together."""

from __future__ import annotations

import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.agreement import Agreement

CELLS, ROWS, COLUMNS = 2, 3, 4  # patches of 2x2 cells


def heatmaps(peaks: torch.Tensor, height: float = 4.0) -> torch.Tensor:
    """Logits (N, 1, K, n h, n w) with peaks (N, K, n h, n w), 0 or 1."""
    return height * peaks[:, None].float()


def legs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Peaks of two joints, and where the second is: beside the first, though it seems to be at a second place too."""
    generator = torch.Generator().manual_seed(seed)
    size = (CELLS * ROWS, CELLS * COLUMNS)
    rows = torch.randint(size[0], (count,), generator=generator)
    left = torch.randint(1, 3, (count,), generator=generator)
    right = torch.randint(5, 7, (count,), generator=generator)
    first = torch.where(torch.rand(count, generator=generator) < 0.5, left, right)
    n, peaks = torch.arange(count), torch.zeros(count, 2, *size)
    peaks[n, 0, rows, first] = 1
    for place in (left, right):
        peaks[n, 1, rows, place] = 1
    return peaks, rows * size[1] + first


def test_a_fresh_one_changes_nothing_and_keeps_what_it_has_learned_when_deeper() -> None:
    torch.manual_seed(0)
    fresh, places, told = Agreement(8, 5, CELLS, 1), torch.randn(2, 3, 5, 6, 8), torch.randn(2, 3, ROWS, COLUMNS, 8)
    assert not fresh(places, told).any()
    torch.nn.init.normal_(fresh.leave.weight)
    before = fresh(places, told)
    assert before.shape == places.shape
    assert before.std() > 0.1
    fresh.deepen(3)
    assert len(fresh.blocks) == 3
    assert torch.equal(fresh(places, told), before)
    with pytest.raises(UserError, match="agree_blocks: expected 3 or more, found 2"):
        fresh.deepen(2)


def test_what_is_added_to_a_whole_map_changes_nothing_and_beliefs_take_no_gradient() -> None:
    torch.manual_seed(0)
    agreement = Agreement(8, 5, CELLS, 1)
    torch.nn.init.normal_(agreement.leave.weight)
    places = torch.randn(1, 2, 5, 6, 8, requires_grad=True)
    told = torch.randn(1, 2, ROWS, COLUMNS, 8, requires_grad=True)
    change = agreement(places, told)
    torch.testing.assert_close(agreement(places + torch.randn(5, 1, 1), told), change, atol=1e-4, rtol=0)
    change.square().sum().backward()
    assert places.grad is None
    assert told.grad is not None
    assert told.grad.any()


def test_frames_and_clips_are_answered_each_for_itself() -> None:
    torch.manual_seed(0)
    agreement = Agreement(8, 5, CELLS, 1).eval()
    torch.nn.init.normal_(agreement.leave.weight)
    places, told = torch.randn(2, 3, 5, 6, 8), torch.randn(2, 3, ROWS, COLUMNS, 8)
    with torch.no_grad():
        alone = agreement(places[1:, 2:], told[1:, 2:])
        torch.testing.assert_close(agreement(places, told)[1:, 2:], alone, atol=1e-5, rtol=0)


def test_a_joint_learns_to_be_where_its_neighbour_is() -> None:
    torch.manual_seed(0)
    agreement, told = Agreement(1, 2, CELLS, 1, width=16), torch.zeros(256, 1, ROWS, COLUMNS, 1)
    optimiser = torch.optim.Adam(agreement.parameters(), 1e-2)

    def told_right(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        peaks, answer = legs(256, seed)
        places = heatmaps(peaks)
        said = (places + agreement(places, told))[:, 0, 1].flatten(1)
        return torch.nn.functional.cross_entropy(said, answer), (said.argmax(1) == answer).float().mean()

    assert told_right(1000)[1] < 0.7  # by chance
    for step in range(60):
        optimiser.zero_grad()
        told_right(step)[0].backward()
        optimiser.step()
    assert told_right(1000)[1] > 0.9
