"""Properties of the normal and depth metrics."""

import numpy as np
import pytest

from thfm_ros.evaluate import depth, normals

RNG = np.random.default_rng(0)


def unit(shape: tuple[int, ...]) -> np.ndarray:
    n = RNG.normal(size=(*shape, 3)).astype(np.float32)
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


def rotated(n: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about an axis perpendicular to each vector: by exactly that angle."""
    axis = np.cross(n, unit(n.shape[:-1]))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    a = np.radians(degrees)
    return n * np.cos(a) + np.cross(axis, n) * np.sin(a)


def test_known_angle_is_measured() -> None:
    true = unit((12, 16))
    errors = normals.angular_error(rotated(true, 20.2), true)
    assert errors == pytest.approx(np.full(192, 20.2), abs=1e-2)
    got = normals.sapiens([errors])
    assert got["within_11.25"] == 0
    assert got["within_22.5"] == 100
    assert got["median_deg"] == 20.25
    assert normals.dsine(errors)["median_deg"] == pytest.approx(20.2, abs=1e-2)


def test_length_does_not_matter_and_zero_is_ninety_degrees() -> None:
    true = unit((4, 5))
    assert normals.angular_error(7 * true, true).max() < 0.05
    assert normals.angular_error(0 * true, true) == pytest.approx(np.full(20, 90.0))


def test_thresholds_are_strict() -> None:
    assert normals.dsine(np.array([30.0, 29.999], np.float32))["within_30"] == 50


def test_mask_and_resize() -> None:
    true = np.broadcast_to(np.array([0, 0, -1], np.float32), (8, 12, 3))
    pred = np.broadcast_to(np.array([0, 0, -2], np.float32), (4, 6, 3))
    mask = np.zeros((8, 12), np.uint8)
    mask[:, :3] = 255
    assert normals.angular_error(pred, true, mask) == pytest.approx(np.zeros(24))


def test_pooling_equals_one_big_image_and_survives_json() -> None:
    images = [np.abs(RNG.normal(0, 20, n)).astype(np.float32) for n in (100, 7, 0)]
    assert normals.sapiens(images) == pytest.approx(normals.sapiens([np.concatenate(images)]))
    merged = normals.Pooled()
    for e in images:
        one = normals.Pooled()
        one.add(e)
        merged.merge(one.state)
    assert merged.result() == pytest.approx(normals.sapiens(images))


def test_no_valid_pixel_gives_nan_and_is_left_out_per_image() -> None:
    empty = np.zeros(0, np.float32)
    assert all(np.isnan(v) for v in normals.sapiens([empty]).values())
    full = np.array([1.0, 3.0], np.float32)
    assert normals.per_image([empty, full])["mean_deg"] == 2
    assert np.isnan(normals.per_image([empty, full], skip_empty=False)["mean_deg"])


@pytest.mark.parametrize("scope", ["image", "clip"])
def test_depth_is_affine_invariant_in_disparity(scope: str) -> None:
    true = RNG.uniform(1, 5, (3, 12, 16))
    pred = 0.3 / true + 0.2
    got = depth.evaluate(pred, true, np.ones_like(true), depth.DepthProtocol("disparity", scope))
    assert got["abs_rel"] == pytest.approx(np.zeros(3), abs=1e-9)
    assert got["delta1"] == pytest.approx(np.ones(3))


def test_scope_matters_where_frames_scale_differently() -> None:
    true = RNG.uniform(1, 5, (2, 12, 16))
    pred = np.array([1.0, 0.5])[:, None, None] / true
    mask = np.ones_like(true)
    each = depth.evaluate(pred, true, mask, depth.DepthProtocol("disparity", "image"))
    whole = depth.evaluate(pred, true, mask, depth.DepthProtocol("disparity", "clip"))
    assert each["abs_rel"].max() < 1e-9
    assert whole["abs_rel"].min() > 0.05


def test_depth_space_aligns_depth() -> None:
    true = RNG.uniform(1, 5, (1, 12, 16))
    got = depth.evaluate(3 * true - 1, true, np.ones_like(true), depth.DepthProtocol("depth", "image"))
    assert got["rmse"] == pytest.approx([0], abs=1e-9)


def test_frames_without_valid_pixels() -> None:
    true = RNG.uniform(1, 5, (3, 6, 8))
    true[1] = 0
    got = depth.evaluate(1 / np.maximum(true, 0.1), true, np.ones_like(true), depth.DepthProtocol())
    assert np.isnan(got["abs_rel"]).tolist() == [False, True, False]
    assert depth.clip_metrics(1 / np.maximum(true, 0.1), true)["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(depth.clip_metrics(true, 0 * true)["rmse"])
    nothing = depth.image_metrics(true[0], true[0], 0 * true[0], "disparity")
    assert np.isnan(nothing["rmse"])


def test_singular_fits() -> None:
    assert depth.fit_midas(np.zeros(5), np.arange(5.0)) == (0, 0)
    scale, shift = depth.fit_lstsq(np.full(5, 2.0), np.full(5, 3.0))
    assert 2 * scale + shift == pytest.approx(3)
