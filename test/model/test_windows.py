"""Sliding windows over long videos, and how they become one sequence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.model.windows import merge_windows, window_frames, window_starts


@pytest.mark.parametrize("total", [1, 4, 17, 18, 29, 30, 100, 137])
@pytest.mark.parametrize("overlap", [1, 5, 16])
def test_windows_cover_every_frame_and_overlap(total: int, overlap: int) -> None:
    frames = window_frames(total, 17)
    starts = window_starts(total, frames, min(overlap, max(1, frames - 1)))
    assert frames % 4 == 1
    assert starts[0] == 0
    assert starts[-1] + frames >= total
    assert starts[-1] + frames - total < 4
    for a, b in pairwise(starts):
        assert 0 < b - a <= frames - overlap


def test_short_videos_get_the_smallest_clip_that_covers_them() -> None:
    assert [window_frames(n, 17) for n in (1, 2, 5, 6, 16, 17, 99)] == [1, 5, 5, 9, 17, 17, 17]


def cut(truth: np.ndarray, starts: list[int], frames: int) -> list[np.ndarray]:
    return [truth[s : s + frames] for s in starts]


def test_consistent_windows_come_back_unchanged() -> None:
    truth = np.random.default_rng(0).random((40, 3, 4, 3), dtype=np.float32)
    starts = window_starts(40, 17, 5)
    np.testing.assert_allclose(merge_windows(cut(truth, starts, 17), starts), truth, atol=1e-6)


def test_windows_with_their_own_scale_and_shift_are_aligned() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((40, 6, 8)).astype(np.float32)
    starts = window_starts(40, 17, 5)
    own = [(1.0, 0.0), (0.8, 0.1), (1.2, -0.1), (0.9, 0.05)][: len(starts)]
    parts = [(s * part + t).astype(np.float32) for (s, t), part in zip(own, cut(truth, starts, 17), strict=True)]
    np.testing.assert_allclose(merge_windows(parts, starts, affine=True), truth, atol=1e-5)
    assert np.abs(merge_windows(parts, starts) - truth).max() > 0.05


def test_background_of_human_tasks_stays_zero_and_does_not_pull_the_alignment() -> None:
    rng = np.random.default_rng(2)
    truth = (0.2 + 0.8 * rng.random((30, 6, 8))).astype(np.float32)
    truth[:, :, :5] = 0
    starts = window_starts(30, 17, 5)
    parts = cut(truth, starts, 17)
    parts[1] = np.where(parts[1] > 0, 0.8 * parts[1] + 0.1, 0).astype(np.float32)
    merged = merge_windows(parts, starts, affine=True, human=True)
    np.testing.assert_allclose(merged, truth, atol=1e-5)


def test_scale_between_windows_is_limited() -> None:
    ramp = np.linspace(0, 1, 48, dtype=np.float32).reshape(1, 6, 8).repeat(9, 0)
    merged = merge_windows([ramp, 0.1 * ramp], [0, 4], affine=True)
    assert np.ptp(merged[-1]) == pytest.approx(0.15, abs=1e-4)  # 0.1 * 1.5 and not 1
    assert merged[-1].mean() == pytest.approx(0.5, abs=1e-4)


def test_nobody_in_the_shared_frames_leaves_a_window_as_it_is() -> None:
    empty, later = np.zeros((9, 4, 4), np.float32), np.zeros((9, 4, 4), np.float32)
    later[6:] = 0.5
    np.testing.assert_array_equal(merge_windows([empty, later], [0, 4], affine=True, human=True)[10:], 0.5)


def test_bad_windows_are_refused() -> None:
    with pytest.raises(UserError, match=r"4k \+ 1 frames .* found 16"):
        window_frames(100, 16)
    for overlap in (0, 17):
        with pytest.raises(UserError, match=f"overlap of 1 to 16 frames for windows of 17, found {overlap}"):
            window_starts(100, 17, overlap)
    assert window_starts(3, 1, 0) == [0, 1, 2]
    with pytest.raises(UserError, match="overlap of 0 to 0 frames for windows of 1, found 1"):
        window_starts(3, 1, 1)
