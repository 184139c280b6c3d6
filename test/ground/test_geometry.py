import numpy as np
import pytest

from thfm_ros.geometry import (
    Intrinsics,
    fit_affine,
    metric_disparity,
    normals_from_depth,
    pixel_rays,
    project,
    solve_root,
    unproject,
)

CAMERA = Intrinsics(300, 310, 161, 93, 320, 192)
RNG = np.random.default_rng(0)


def test_project_inverts_unproject():
    depth = RNG.uniform(1, 4, (192, 320))
    pixels = project(unproject(depth, CAMERA), CAMERA)
    xx, yy = np.meshgrid(np.arange(320) + 0.5, np.arange(192) + 0.5)
    np.testing.assert_allclose(pixels, np.stack([xx, yy], -1), atol=1e-9)


def test_resize_and_crop_keep_the_view():
    points = RNG.uniform([-1, -1, 2], [1, 1, 5], (20, 3))
    full = project(points, CAMERA)
    np.testing.assert_allclose(project(points, CAMERA.resized(160, 48)), full * [0.5, 0.25])
    np.testing.assert_allclose(project(points, CAMERA.cropped(10, -5, 50, 60)), full - [10, -5])


@pytest.mark.parametrize("bad", [(np.nan, 1, 1, 1), (0, 1, 1, 1), (-2, 1, 1, 1), (1, np.inf, 1, 1)])
def test_bad_intrinsics_are_refused(bad):
    with pytest.raises(ValueError, match="finite values and focal lengths > 0"):
        Intrinsics(*bad, 10, 10)


def test_field_of_view():
    camera = Intrinsics.from_fov(90, 640, 480)
    assert camera.fx == pytest.approx(320)
    with pytest.raises(ValueError, match="between 0 and 180"):
        Intrinsics.from_fov(180, 640, 480)


def test_root_is_recovered_exactly_and_weights_silence_outliers():
    rel = RNG.normal(scale=0.4, size=(17, 3))
    root = np.array([0.3, -0.2, 3.5])
    pixels = project(rel + root, CAMERA)
    np.testing.assert_allclose(solve_root(pixels, rel, None, CAMERA), root, atol=1e-9)
    pixels[3] += 80
    weights = np.ones(17)
    weights[3] = 0
    np.testing.assert_allclose(solve_root(pixels, rel, weights, CAMERA), root, atol=1e-9)
    pixels[4] = np.nan
    np.testing.assert_allclose(solve_root(pixels, rel, weights, CAMERA), root, atol=1e-9)


def test_root_of_nothing_is_nan():
    assert np.isnan(solve_root(np.zeros((5, 2)), np.zeros((5, 3)), np.zeros(5), CAMERA)).all()
    one_point = np.full((5, 2), 50.0)
    assert np.isnan(solve_root(one_point, np.zeros((5, 3)), None, CAMERA)).all()


def test_affine_fit_agrees_with_least_squares():
    x, y, w = RNG.random(50), RNG.random(50), RNG.random(50)
    expected = np.linalg.lstsq(np.stack([x, np.ones(50)], 1) * np.sqrt(w)[:, None], y * np.sqrt(w), rcond=None)[0]
    np.testing.assert_allclose(fit_affine(x, y, w), expected)
    assert fit_affine(np.full(3, 2.0), np.full(3, 5.0)) == (1.0, 3.0)
    assert np.isnan(fit_affine([], [])).all()


def test_metric_scale_from_joints():
    z = RNG.uniform(2, 6, (192, 320))
    disparity = (1 / z - 0.05) / 0.4
    pixels = RNG.uniform([0, 0], [320, 192], (32, 2))
    column, row = pixels.astype(int).T
    scale, shift = metric_disparity(disparity, pixels, z[row, column], np.ones(32), ridge=0)
    assert scale == pytest.approx(0.4)
    assert shift == pytest.approx(0.05)


def test_metric_scale_of_a_flat_person_puts_the_far_end_at_infinity():
    scale, shift = metric_disparity(np.full((10, 10), 0.5), np.full((5, 2), 4.0), np.full(5, 2.0), np.ones(5))
    assert scale * 0.5 + shift == pytest.approx(0.5, rel=0.02)
    assert shift >= 0


def test_metric_scale_needs_joints():
    assert np.isnan(metric_disparity(np.ones((4, 4)), np.full((5, 2), 9.0), np.ones(5), np.ones(5))).all()


def test_normals_of_a_plane():
    normal = np.array([0.3, -0.4, -1.0])
    normal /= np.linalg.norm(normal)
    depth = (normal @ [0, 0, 3.0]) / (pixel_rays(CAMERA) @ normal)
    found = normals_from_depth(depth, CAMERA)[1:-1, 1:-1]
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=1e-9)
