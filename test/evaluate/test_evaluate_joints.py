"""Properties of the joint and temporal metrics."""

import numpy as np
import pytest

from thfm_ros.evaluate import joints
from thfm_ros.evaluate.temporal import change_error, seams

RNG = np.random.default_rng(0)


def pose(frames: int = 10, count: int = 24) -> np.ndarray:
    return RNG.normal(0, 0.4, (frames, count, 3))


def turn(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_similarities_vanish_under_procrustes_and_mirrors_do_not() -> None:
    true = pose()
    pred = 0.7 * true @ turn(0.8).T + np.array([1.0, -2.0, 3.0])
    assert joints.pa_mpjpe(pred, true) == pytest.approx(np.zeros(10), abs=1e-9)
    assert joints.mpjpe(pred, true).min() > 10
    assert joints.pa_mpjpe(true * np.array([-1, 1, 1]), true).min() > 50


def test_procrustes_never_loses_to_centring() -> None:
    pred, true = pose(), pose()
    aligned = joints.similarity_align(pred, true)
    centred = joints.centre(pred, range(24)) + true.mean(1, keepdims=True)
    squares = [np.square(x - true).sum((1, 2)) for x in (aligned, centred)]
    assert (squares[0] <= squares[1] + 1e-12).all()


def test_degenerate_predictions() -> None:
    true = pose(3)
    collapsed = np.zeros_like(true)
    assert np.isnan(joints.pa_mpjpe(collapsed, true)).all()
    flat = true * np.array([1, 1, 0])
    assert joints.pa_mpjpe(flat, flat) == pytest.approx(np.zeros(3), abs=1e-9)
    missing = true.copy()
    missing[1] = np.nan
    assert np.isnan(joints.pa_mpjpe(missing, true)).tolist() == [False, True, False]


def test_translation_vanishes_under_the_root() -> None:
    true = pose()
    assert joints.mpjpe(true + RNG.normal(size=(10, 1, 3)), true) == pytest.approx(np.zeros(10), abs=1e-9)
    shifted = true.copy()
    shifted[:, 5] += np.array([0.0, 0.024, 0.0])
    assert joints.mpjpe(shifted, true) == pytest.approx(np.ones(10))


@pytest.mark.parametrize(("frames", "plain", "trimmed"), [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 2, 0), (10, 8, 6)])
def test_accel_lengths(frames: int, plain: int, trimmed: int) -> None:
    a, b = pose(frames), pose(frames)
    assert len(joints.accel(a, b, 30)) == plain
    assert len(joints.accel(a, b, 30, trim=True)) == trimmed
    assert len(joints.jitter(a, 30)) == max(frames - 3, 0)


def test_accel_ignores_constant_velocity_and_scales_with_frame_rate() -> None:
    true = pose()
    drift = np.arange(10)[:, None, None] * RNG.normal(size=(1, 24, 3))
    assert joints.accel(true + drift, true, 30, None) == pytest.approx(np.zeros(8), abs=1e-9)
    noisy = true + RNG.normal(0, 0.01, true.shape)
    assert joints.accel(noisy, true, 60) == pytest.approx(4 * joints.accel(noisy, true, 30))


def test_accel_visibility_drops_all_three_frames() -> None:
    true = pose(8)
    visible = np.ones(8, bool)
    visible[3] = False
    kept = joints.accel(true + RNG.normal(0, 0.1, true.shape), true, 30, visible=visible)
    assert len(kept) == 6 - 3


def test_masked_sequence_and_empty_pool() -> None:
    true = pose(6)
    got = joints.sequence_metrics(true, true, 30, np.zeros(6, bool))
    assert [len(v) for v in got.values()] == [0, 0, 0]
    assert all(np.isnan(v) for v in joints.pool([got]).values())


def test_pck_counts_misses_and_ignores_the_invisible() -> None:
    true = np.zeros((1, 4, 2))
    pred = np.array([[[0, 0.5], [0, 2.0], [np.nan, np.nan], [0, 9.0]]])
    visible = np.array([[True, True, True, False]])
    assert joints.pck(pred, true, 10.0, 0.1, visible) == pytest.approx(1 / 3)
    assert np.isnan(joints.pck(pred, true, 10.0, 0.1, np.zeros((1, 4), bool)))


def test_both_h36m_orders_give_the_same_fourteen_joints() -> None:
    raw = RNG.normal(size=(5, 32, 3)) * 300
    raw[:, 11], raw[:, 24] = raw[:, 0], raw[:, 13]  # the raw skeleton repeats the root and the neck
    left, right = (joints.h36m14(joints.h36m17(raw, order), order) for order in (True, False))
    assert np.array_equal(left, right)


def test_to_camera_is_rigid() -> None:
    poses = np.tile(np.eye(4), (10, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = turn(0.3), [1, 2, 3]
    world = pose()
    assert joints.to_camera(world, poses) == pytest.approx(world @ turn(0.3).T + [1, 2, 3])


def test_seams_find_jumps_at_borders_only() -> None:
    true = np.cumsum(RNG.normal(size=(12, 6, 8)), 0)
    pred = true + RNG.normal(0, 0.01, true.shape)
    pred[6:] += 1.0  # a new window, a new offset
    change = change_error(pred, true, np.ones(true.shape, bool))
    assert seams(change, [6])["ratio"] > 20
    assert seams(change, [4])["ratio"] < 1.2
    assert np.isnan(seams(change, [])["at_borders"])


def test_change_error_counts_pixels_valid_in_both_frames() -> None:
    pred = np.zeros((3, 2, 2))
    pred[1] = 1.0
    mask = np.ones((3, 2, 2), bool)
    mask[2] = False
    assert change_error(pred, np.zeros_like(pred), mask) == pytest.approx([1.0, np.nan], nan_ok=True)
