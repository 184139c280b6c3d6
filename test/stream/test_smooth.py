"""Smoothing joints: what it keeps, what it takes away, and that it is the model's best guess."""

import numpy as np
import pytest

from thfm_ros.stream.smooth import SPEED, SWAY, JointSmoother

MS = 1_000_000


def stamps(count: int, start: int = 0) -> list[int]:
    return [(start + i) * 83 * MS for i in range(count)]


def most_likely(stamps_ns: list[int], places: np.ndarray, noise: float) -> np.ndarray:
    """The same model solved at once: positions and velocities of all frames by weighted least squares."""
    n = len(places)
    rows, wanted = [], []
    for i in range(n):
        row = np.zeros(2 * n)
        row[2 * i] = 1 / noise
        rows.append(row)
        wanted.append(places[i] / noise)
    first = np.zeros(2 * n)
    first[1] = 1 / SPEED
    rows.append(first)
    wanted.append(0 * places[0])
    for i in range(1, n):
        step = (stamps_ns[i] - stamps_ns[i - 1]) / 1e9
        root = np.linalg.cholesky(np.linalg.inv(SWAY * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]]))).T
        moved = np.zeros((2, 2 * n))
        moved[:, 2 * i : 2 * i + 2] = np.eye(2)
        moved[:, 2 * i - 2 : 2 * i] = -np.array([[1, step], [0, 1]])
        rows += list(root @ moved)
        wanted += [0 * places[0]] * 2
    return np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0][::2]


def test_frames_of_one_pass_are_the_most_likely_ones() -> None:
    places = np.random.default_rng(0).normal(size=(6, 5))
    times = [0, 83 * MS, 166 * MS, 300 * MS, 333 * MS, 500 * MS]
    assert np.allclose(JointSmoother(0.05).advance(times, places), most_likely(times, places, 0.05))


def test_frames_of_later_passes_know_all_before_them_too() -> None:
    places = np.random.default_rng(1).normal(size=(13, 3))
    smoother = JointSmoother(0.05)
    for start, end in ((0, 1), (1, 5), (5, 9), (9, 13)):
        out = smoother.advance(stamps(13)[start:end], places[start:end])
        expected = most_likely(stamps(13)[:end], places[:end], 0.05)[start:]
        assert np.allclose(out, expected)


def test_trembling_goes_and_a_gesture_stays() -> None:
    rng = np.random.default_rng(2)
    t = np.arange(120) / 12
    wave = np.stack([0.4 * np.sin(2 * np.pi * t), 0 * t], 1)  # a metre and a half a second, up and down each second
    seen = wave + rng.normal(0, 0.03, wave.shape)
    smoother = JointSmoother()
    out = np.concatenate([smoother.advance(stamps(4, i), seen[i : i + 4]) for i in range(0, 120, 4)])
    error = lambda x: np.sqrt(((x - wave)[8:] ** 2).mean(0))  # noqa: E731
    assert (error(out) < 0.85 * error(seen)).all()
    jerk = lambda x: np.abs(np.diff(x, 3, axis=0)).mean()  # noqa: E731
    assert jerk(out) < 0.55 * jerk(seen)


def test_an_even_movement_has_no_lag() -> None:
    t = np.arange(40)[:, None] / 12
    smoother = JointSmoother()
    out = np.concatenate([smoother.advance(stamps(4, i), 0.8 * t[i : i + 4]) for i in range(0, 40, 4)])
    assert np.abs(out - 0.8 * t)[12:].max() < 1e-3


def test_after_a_reset_a_frame_stands_for_itself() -> None:
    smoother = JointSmoother()
    smoother.advance(stamps(4), np.zeros((4, 2)))
    smoother.reset()
    far = np.full((1, 2), 9.0)
    assert np.array_equal(smoother.advance(stamps(1, 4), far), far)


def test_the_past_is_forgotten_within_seconds() -> None:
    smoother = JointSmoother()
    smoother.advance(stamps(4), np.zeros((4, 1)))
    assert smoother.advance(stamps(1, 40), np.ones((1, 1))) > 0.999


def test_without_noise_nothing_changes() -> None:
    places = np.random.default_rng(3).normal(size=(5, 4))
    assert np.array_equal(JointSmoother(0.0).advance(stamps(5), places), places)


@pytest.mark.parametrize("unit", [1.0, 250.0])
def test_units_do_not_matter(unit: float) -> None:
    places = np.random.default_rng(4).normal(size=(5, 4))
    once = JointSmoother().advance(stamps(5), places)
    assert np.allclose(JointSmoother().advance(stamps(5), unit * places), unit * once)
