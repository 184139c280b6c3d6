"""Alignment and metric scale recover what was hidden, and say nothing where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from thfm_ros.geometry import Intrinsics, project
from thfm_ros.stream.align import SCALE_LIMITS, align_affine
from thfm_ros.stream.people import locate
from thfm_ros.stream.scale import MetricScale, from_depth_camera, from_people, metric_depth

CAMERA = Intrinsics(100.0, 100.0, 48.0, 32.0, 96, 64)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.7, 0.2), (3.0, -0.4)])
def test_alignment_recovers_scale_and_shift(scale: float, shift: float) -> None:
    reference = np.random.default_rng(0).random((3, 32, 48))
    current = (reference - shift) / scale
    assert align_affine(current, reference) == pytest.approx((scale, shift), abs=1e-9)


def test_alignment_ignores_unknown_and_unweighted_pixels() -> None:
    reference = np.random.default_rng(1).random((2, 32, 48))
    current = reference * 0.5
    reference[0, ::2] = np.nan
    wrong = np.zeros_like(current)
    wrong[1, :, 24:] = 7.0
    weights = (wrong == 0).astype(float)
    assert align_affine(current + wrong, reference, weights) == pytest.approx((2.0, 0.0), abs=1e-9)


def test_alignment_clips_a_wild_scale_and_keeps_the_mean() -> None:
    reference = np.random.default_rng(2).random((1, 32, 48))
    current = reference * 1e-3
    scale, shift = align_affine(current, reference, spacing=1)
    assert scale == SCALE_LIMITS[1]
    assert (scale * current + shift).mean() == pytest.approx(reference.mean())


def test_alignment_of_nothing_is_the_identity() -> None:
    assert align_affine(np.full((1, 8, 8), np.nan), np.ones((1, 8, 8))) == (1.0, 0.0)
    with pytest.raises(ValueError, match="shape"):
        align_affine(np.ones((1, 8, 8)), np.ones((1, 8, 9)))


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Depth in metres, its normalised disparity, and the (scale, shift) between them."""
    depth = np.random.default_rng(seed).uniform(1.0, 8.0, (64, 96))
    inverse = 1.0 / depth
    low, high = inverse.min(), inverse.max()
    return depth, (inverse - low) / (high - low), (high - low, low)


def test_a_depth_camera_gives_the_exact_scale_despite_holes_and_outliers() -> None:
    depth, disparity, truth = scene()
    measured = depth.copy()
    measured[:10] = np.nan
    measured[10:12] = 0.0
    measured[12:14] = 0.3  # flying pixels
    assert from_depth_camera(disparity, measured) == pytest.approx(truth, rel=1e-3)
    assert np.isnan(from_depth_camera(disparity, np.zeros_like(depth))).all()
    assert np.isnan(from_depth_camera(-disparity, measured)).all()


def test_a_skeleton_and_intrinsics_give_metres() -> None:
    """The whole chain: relative joints -> root -> joints' depth -> scale -> depth map, within a few percent."""
    rng = np.random.default_rng(4)
    body = rng.normal(0, 0.3, (32, 3)) * (1.0, 2.0, 1.0)
    root = np.array([0.2, -0.1, 3.0])
    xy = project(body + root, CAMERA)
    xyz = locate(xy, body, np.full(32, 0.9), CAMERA)
    np.testing.assert_allclose(xyz, body + root, atol=1e-6)
    depth = np.full((64, 96), 9.0)
    for (u, v), z in zip(xy, xyz[:, 2], strict=True):
        if 0 <= u < 96 and 0 <= v < 64:
            depth[int(v), int(u)] = z
    inverse = 1.0 / depth
    disparity = (inverse - inverse.min()) / np.ptp(inverse)
    scale, shift = from_people(disparity, [(xy, xyz, np.full(32, 0.9))])
    metres = metric_depth(disparity, scale, shift, 100.0)
    inside = ((xy >= 0) & (xy < (96, 64))).all(1)
    u, v = xy[inside].astype(int).T
    error = np.abs(metres[v, u] / depth[v, u] - 1)
    assert np.median(error) < 0.03
    assert np.isnan(from_people(disparity, [(xy, xyz, np.full(32, 0.1))])).all()  # nobody visible


@pytest.mark.parametrize("known", [slice(None), slice(14, 64)])  # depth of people alone misses joints off their mask
def test_a_child_among_grown_ups_does_not_change_the_scale(known: slice) -> None:
    """Four people at known distances; one of them is half as large as a body usually is, and so seems twice as far."""
    rng = np.random.default_rng(2)
    inverse = np.full((64, 96), 1 / 9.0)
    people = []
    for column, z in ((12, 2.0), (36, 3.0), (60, 4.0), (84, 6.0)):
        xy = np.stack([rng.uniform(column - 8, column + 8, 32), rng.uniform(10, 50, 32)], 1)
        inverse[10:51, column - 9 : column + 9] = 1 / z
        people.append((xy, np.stack([xy[:, 0], xy[:, 1], np.full(32, z)], 1), np.full(32, 0.9)))
    disparity = np.full((64, 96), np.nan)
    disparity[known] = (inverse[known] - 0.05) / 0.6
    expected = from_people(disparity, people)
    assert expected == pytest.approx((0.6, 0.05), rel=0.1)
    xy, xyz, seen = people[1]
    found = from_people(disparity, [people[0], (xy, xyz * 2, seen), *people[2:]])
    assert found == pytest.approx(expected, rel=0.1)


def test_locating_needs_intrinsics() -> None:
    assert np.isnan(locate(np.zeros((4, 2)), np.ones((4, 3)), np.ones(4), None)).all()


def test_the_scale_is_smoothed_ages_and_expires() -> None:
    scale = MetricScale(half_life_s=1.0, max_age_s=5.0)
    assert scale.at(0) is None
    scale.update(0, (1.0, 0.0))
    scale.update(0, (np.nan, np.nan))
    assert scale.at(0) == (1.0, 0.0)
    scale.update(1_000_000_000, (2.0, 1.0))
    assert scale.at(1_000_000_000) == pytest.approx((1.5, 0.5))
    assert scale.at(6_000_000_000) is not None
    assert scale.at(6_100_000_000) is None


def test_metric_depth_is_infinite_where_too_far_and_nan_where_unknown() -> None:
    """REP-117: a costmap clears what is too far, and leaves alone what is unknown."""
    disparity = np.array([[1.0, 0.0, -0.1, np.nan, 0.04, np.inf]], np.float32)
    depth = metric_depth(disparity, 0.5, 0.0, 20.0)
    np.testing.assert_array_equal(depth, np.array([[2.0, np.inf, np.inf, np.nan, np.inf, np.nan]], np.float32))
    assert np.isfinite(metric_depth(disparity, 0.5, 0.3, 20.0)[0, :3]).all()
    assert depth.dtype == np.float32
