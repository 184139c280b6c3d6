"""Properties of the matting metrics, the degenerate cases, and the plain formulas of the papers."""

import cv2
import numpy as np
import pytest

from thfm_ros.evaluate import matting

RNG = np.random.default_rng(0)


def blob(size: tuple[int, int] = (40, 56), sigma: float = 4.0) -> np.ndarray:
    noise = cv2.GaussianBlur(RNG.normal(size=size), (0, 0), sigma)
    low, high = noise.min(), noise.max()
    return np.round(255 * np.clip(2.5 * (noise - low) / (high - low) - 0.8, 0, 1)).astype(np.uint8)


def plain_conn(pred: np.ndarray, true: np.ndarray, skip_empty: bool) -> float:
    """The definition, threshold by threshold."""
    level = np.full(true.shape, -1.0)
    for k in range(1, 11):
        both = ((pred >= k * 0.1) & (true >= k * 0.1)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        if count == 1 and skip_empty:
            continue
        inside = labels == 1 + np.argmax(stats[1:, -1]) if count > 1 else np.zeros(true.shape, bool)
        level[(level == -1) & ~inside] = (k - 1) * 0.1
    level[level == -1] = 1
    phi = [1 - (x - level) * (x - level >= 0.15) for x in (pred, true)]
    return float(np.abs(phi[0] - phi[1]).sum() / 1000)


@pytest.mark.parametrize("kind", ["noisy", "other", "empty truth", "empty both", "full", "binary"])
@pytest.mark.parametrize(("metric", "skip_empty"), [(matting.conn, False), (matting.conn_p3m, True)])
def test_conn_is_its_definition(kind: str, metric, skip_empty: bool) -> None:
    true, pred = blob(), blob()
    if kind == "noisy":
        pred = np.clip(true + RNG.normal(0, 12, true.shape), 0, 255).astype(np.uint8)
    elif kind.startswith("empty"):
        true = np.zeros_like(true)
        pred = pred if kind == "empty truth" else true
    elif kind == "full":
        pred = np.full_like(pred, 255)
    elif kind == "binary":
        pred, true = (np.where(x > 127, 255, 0).astype(np.uint8) for x in (pred, true))
    expected = plain_conn(matting.as_alpha(pred), matting.as_alpha(true), skip_empty)
    assert metric(pred, true) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_conn_variants_differ_on_empty_truth() -> None:
    pred, true = blob(), np.zeros((40, 56), np.uint8)
    assert matting.conn_p3m(pred, true) == 0
    assert matting.conn(pred, true) > 0


def test_conn_trimap_counts_unknown_pixels_only() -> None:
    pred, true = blob(), blob()
    everywhere = matting.conn(pred, true, np.full(pred.shape, 128, np.uint8))
    assert everywhere == pytest.approx(matting.conn(pred, true))
    assert matting.conn(pred, true, np.zeros(pred.shape, np.uint8)) == 0


@pytest.mark.parametrize(
    "metric", [matting.mad, matting.mse, matting.sad, matting.grad, matting.grad_p3m, matting.conn, matting.conn_p3m]
)
def test_identical_is_zero_and_frames_are_independent(metric) -> None:
    clip, other = np.stack([blob(), blob()]), np.stack([blob(), blob()])
    assert metric(clip, clip) == pytest.approx([0, 0], abs=1e-12)
    assert metric(clip, other) == pytest.approx([metric(clip[0], other[0]), metric(clip[1], other[1])])


def test_grad_normalisation_ignores_contrast_only_where_asked() -> None:
    true = blob()
    pred = (true // 2).astype(np.uint8)
    assert matting.grad(pred, true) < 0.02 * matting.grad(pred, true, normalise=False)


def test_constant_images_have_no_gradient() -> None:
    flat, grey = np.zeros((20, 30), np.uint8), np.full((20, 30), 128, np.uint8)
    for normalise in (True, False):
        assert matting.grad(flat, grey, normalise) == pytest.approx(0, abs=1e-6)


def test_float_and_uint8_alphas_agree() -> None:
    pred, true = blob(), blob()
    for metric in (matting.mad, matting.grad, matting.conn):
        assert metric(pred / 255.0, true / 255.0) == pytest.approx(metric(pred, true), rel=1e-4)


def test_dtssd_of_a_still_error_is_zero_and_short_clips_are_empty() -> None:
    true = np.stack([blob()] * 3)
    assert matting.dtssd(true // 2, true) == pytest.approx([0, 0])
    assert matting.dtssd(true[:1], true[:1]).shape == (0,)
    assert matting.clip_metrics(true[:1], true[:1])["dtssd"].tolist() == [0.0]


def test_aggregate_weighs_by_frame_index() -> None:
    assert matting.aggregate_clips([np.array([1.0, 3.0]), np.array([3.0])]) == pytest.approx((2 + 3) / 2)
    assert np.isnan(matting.aggregate_clips([]))


def test_iou_of_empty_masks_is_one() -> None:
    empty = np.zeros((4, 4), np.uint8)
    assert matting.iou(empty, empty) == 1
    assert matting.iou(empty, empty + 255) == 0


def test_shape_mismatch_is_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        matting.mad(np.zeros((4, 4)), np.zeros((4, 5)))
