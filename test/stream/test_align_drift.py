"""Chains of alignments over minutes: errors of single windows must not add up to a drift."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from thfm_ros.geometry import fit_affine, match_affine, metric_disparity
from thfm_ros.model.windows import merge_windows
from thfm_ros.stream.estimator import StreamEstimator
from thfm_ros.tasks import TASKS

H, W, T, STRIDE = 48, 80, 5, 4
SIZE = SimpleNamespace(frames=T, fps=12.0, width=W, height=H, joint_set="thfm32", tasks=("scene_depth",))


def still() -> np.ndarray:
    """(H, W) disparity of a scene that does not move: a floor and a box."""
    disparity = 0.1 + 0.7 * np.mgrid[0:H, 0:W][0] / H
    disparity[15:40, 30:50] = 0.85
    return disparity


def noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """(H, W) an error as a network makes it: smooth, and another one in every window."""
    return sigma * cv2.resize(rng.normal(size=(6, 10)), (W, H), interpolation=cv2.INTER_CUBIC)


class Network:
    """A runtime that answers each window with what `answer(number of the window)` says, (T, H, W) in [0, 1]."""

    manifest = SIZE

    def __init__(self, answer: Callable[[int], np.ndarray]) -> None:
        self.answer, self.passes = answer, 0

    def predict(self, frames: np.ndarray, tasks: list[str], first: dict[str, int]) -> SimpleNamespace:
        assert first == {}  # windows are aligned over all frames that two of them share
        self.passes += 1
        rgb = TASKS["scene_depth"].codec.to_rgb(self.answer(self.passes - 1))
        return SimpleNamespace(dense={"scene_depth": rgb}, keypoints=None, timings_ms={})


def stream(answer: Callable[[int], np.ndarray], windows: int) -> list[np.ndarray]:
    """The newest frame's disparity after every window."""
    estimator, image, out = StreamEstimator(Network(answer)), np.zeros((H, W, 3), np.uint8), []
    for window in range(windows):
        for frame in range(STRIDE):
            estimator.push(round((window * STRIDE + frame) * 1e9 / 12), image)
        (*_, result) = estimator.step(["scene_depth"])
        assert result.disparity is not None
        out.append(result.disparity)
    return out


def contrasts(maps: list[np.ndarray]) -> np.ndarray:
    values = np.array([m.std() for m in maps])
    return values / values[0]


@pytest.mark.parametrize("sigma", [0.02, 0.05])
def test_noise_neither_shrinks_nor_grows_the_contrast(sigma: float) -> None:
    """500 windows are almost three minutes; chained least squares keeps less than a tenth after them."""
    rng, scene = np.random.default_rng(0), still()
    maps = stream(lambda _: np.repeat((scene + noise(rng, sigma))[None], T, 0), 500)
    assert np.abs(contrasts(maps) - 1).max() < 0.12
    assert abs(np.mean([m.mean() for m in maps[-50:]]) - maps[0].mean()) < 0.03


@pytest.mark.parametrize("bias", [0.01, -0.01])
def test_a_network_that_answers_a_windows_first_frame_differently_does_not_drift(bias: float) -> None:
    """The shipped nano gives a frame 1 % more contrast at the end of a window than at the start of the next: over
    500 windows alone that would be a factor of 150."""
    rng, scene = np.random.default_rng(1), still()
    gain = 1.0 - bias * (np.arange(T) == 0)[:, None, None]
    maps = stream(lambda _: 0.3 + gain * (scene + noise(rng, 0.005) - 0.3), 500)
    assert np.abs(contrasts(maps) - 1).max() < 0.15
    assert abs(contrasts(maps)[-1] - 1) < 0.05


def test_a_changed_range_is_followed_and_its_units_are_kept() -> None:
    """Something near comes into view: the network's own values shrink at once, the stream's stay; and a change that
    passes leaves nothing behind."""
    scene = still()

    def answer(window: int) -> np.ndarray:
        squeezed = 0.05 + 0.5 * scene if 30 <= window < 60 else scene
        return np.repeat(squeezed[None], T, 0)

    maps = stream(answer, 100)
    np.testing.assert_allclose(maps[30], scene, atol=0.01)
    np.testing.assert_allclose(maps[59], scene, atol=0.1)  # ten seconds later
    np.testing.assert_allclose(maps[99], scene, atol=0.05)


def test_offline_windows_do_not_lose_contrast_either() -> None:
    rng, scene = np.random.default_rng(2), still()
    starts = list(range(0, 4 * 60, 4))
    parts = [np.repeat((scene + noise(rng, 0.05))[None], T, 0).astype(np.float32) for _ in starts]
    merged = merge_windows(parts, starts, affine=True)
    assert abs(np.mean([m.std() for m in merged[-40:]]) / parts[0].std() - 1) < 0.12


def test_a_matched_slope_is_the_same_from_either_side() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(2000)
    x, y = truth + rng.normal(0, 0.1, 2000), 2.0 * (truth + rng.normal(0, 0.1, 2000)) - 0.3
    scale, shift = match_affine(x, y)
    back = match_affine(y, x)
    assert scale * back[0] == pytest.approx(1.0)
    assert scale * back[1] + shift == pytest.approx(0.0)
    assert scale == pytest.approx(2.0, rel=0.02)
    assert fit_affine(x, y)[0] < 1.9  # the dilution that match_affine avoids
    assert match_affine(np.full(3, 2.0), np.arange(3.0)) == (1.0, -1.0)
    assert match_affine(np.arange(3.0), np.full(3, 2.0)) == (1.0, 1.0)
    assert np.isnan(match_affine([], [])).all()


def test_the_metric_fit_has_no_memory_and_so_no_drift() -> None:
    """Its ridge and its least squares bias a frame's (scale, shift) a little, the 500th like the first."""
    rng, scene = np.random.default_rng(4), still()
    pixels = rng.uniform([30, 12], [50, 46], (32, 2))
    column, row = pixels.astype(int).T
    truth = 0.05 + 0.4 * scene
    metres = []
    for _ in range(500):
        scale, shift = metric_disparity(scene + noise(rng, 0.02), pixels, 1 / truth[row, column], np.ones(32))
        metres.append(1 / (scale * 0.85 + shift))
    early, late = np.mean(metres[:100]), np.mean(metres[-100:])
    assert late == pytest.approx(early, rel=0.01)
    assert late == pytest.approx(1 / (0.05 + 0.4 * 0.85), rel=0.05)
