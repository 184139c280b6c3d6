"""A person's distance by a depth camera, and the rays of a bent image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from stream_fakes import FakeRuntime, moving_square, skeleton

from thfm_ros.geometry import Intrinsics, project
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.stream.estimator import StreamConfig, StreamEstimator
from thfm_ros.stream.lens import Lens
from thfm_ros.stream.people import Person, locate
from thfm_ros.stream.torso import LEAST_JOINTS, TORSO, distance_factor

MS = 1_000_000
CAMERA = Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)
JOINTS = JOINT_SETS["thfm32"]
ROOT = np.array([0.1, -0.05, 3.0])
BODY = skeleton() + ROOT
XY = project(BODY, CAMERA)
SURE = np.full(32, 0.9)


def measured(factor: float, background: float = 9.0, width: int = 96, height: int = 64) -> np.ndarray:
    """(height, width) metres: BODY, `factor` times as far and as large, in front of a wall."""
    depth = np.full((64, 96), background, np.float32)
    for (u, v), z in zip(XY, BODY[:, 2], strict=True):
        depth[max(0, int(v) - 4) : int(v) + 5, max(0, int(u) - 4) : int(u) + 5] = factor * z
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)


def factor_of(depth: np.ndarray, confidence: np.ndarray = SURE) -> float:
    return distance_factor(depth, XY, BODY, confidence, (96, 64), JOINTS)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("size", [(96, 64), (48, 32), (192, 128)])
def test_the_torso_tells_how_far_a_person_is(factor: float, size: tuple[int, int]) -> None:
    assert factor_of(measured(factor, 20.0, *size)) == pytest.approx(factor, rel=0.03)


def test_an_arm_in_front_holes_and_noise_do_not_count() -> None:
    rng = np.random.default_rng(0)
    depth = measured(1.2) * rng.normal(1.0, 0.01, (64, 96)).astype(np.float32)
    depth[rng.random((64, 96)) < 0.3] = np.nan
    for joint in ("left_shoulder", "spine2", "neck"):
        u, v = XY[JOINTS.index(joint)].astype(int)
        depth[v - 2 : v + 3, u - 2 : u + 3] = 0.6
    assert factor_of(depth) == pytest.approx(1.2, rel=0.03)


def test_what_is_no_person_is_not_taken_for_one() -> None:
    assert np.isnan(factor_of(np.full((64, 96), np.nan, np.float32)))
    assert np.isnan(factor_of(np.full((64, 96), 15.0, np.float32)))  # a wall five times as far
    assert np.isnan(factor_of(np.full((64, 96), 0.5, np.float32)))  # something held before the camera
    halves = measured(1.0)
    for number, joint in enumerate(TORSO):  # joints that do not agree
        u, v = XY[JOINTS.index(joint)].astype(int)
        halves[v - 4 : v + 5, u - 4 : u + 5] = (1.8, 3.0, 5.4)[number % 3]
    assert np.isnan(factor_of(halves))
    few = np.where(np.isin(np.arange(32), [JOINTS.index(j) for j in TORSO[: LEAST_JOINTS - 1]]), 0.9, 0.1)
    assert np.isnan(factor_of(measured(1.0), few))


def people(depths: dict[int, np.ndarray], late: dict[int, np.ndarray], count: int = 6) -> list[Person]:
    """The person of each frame, one a pass: depth images that come with their frames, and after their passes."""
    estimator = StreamEstimator(FakeRuntime(root=tuple(ROOT)), StreamConfig(joint_noise_m=0.0))
    found = []
    for i in range(count):
        estimator.push(i * 83 * MS, moving_square(i), CAMERA, depths.get(i))
        (result,) = estimator.step(["keypoints_2d", "keypoints_3d"])
        found += result.people
        if i in late:
            assert i * 83 * MS in estimator.measurable
            estimator.measure(i * 83 * MS, late[i])
    return found


def test_a_persons_root_is_where_the_depth_image_has_their_torso() -> None:
    for person in people({i: measured(1.4) for i in range(6)}, {}):
        assert person.measured
        assert person.xyz[0, 2] == pytest.approx(1.4 * ROOT[2], rel=0.03)
        np.testing.assert_allclose(project(person.xyz, CAMERA), person.xy, atol=0.05)  # all joints stay on their rays
        np.testing.assert_allclose(person.xyz - person.xyz[0], person.xyz_relative, atol=1e-6)


def test_a_late_depth_image_and_a_missing_one_place_the_frames_after_them() -> None:
    late = people({}, {0: measured(1.4)})
    assert [p.measured for p in late] == [False, *[True] * 5]
    assert late[0].xyz[0, 2] == pytest.approx(ROOT[2], rel=1e-3)
    assert late[-1].xyz[0, 2] == pytest.approx(1.4 * ROOT[2], rel=0.03)
    missing = people({1: measured(0.7)}, {})
    assert [p.measured for p in missing] == [False, *[True] * 5]
    assert missing[-1].xyz[0, 2] == pytest.approx(0.7 * ROOT[2], rel=0.03)
    assert not any(p.measured for p in people({i: np.full((64, 96), np.nan, np.float32) for i in range(6)}, {}))


def test_who_stands_still_does_so_too_when_a_depth_camera_first_measures_them() -> None:
    """Their place changes by more than a metre, by another measure, and nobody has moved."""
    found = people({i: measured(1.4) for i in range(4, 10)}, {}, 10)
    assert [p.measured for p in found] == [False] * 4 + [True] * 6
    assert found[4].root[2] - found[3].root[2] > 1.0
    np.testing.assert_allclose([p.velocity for p in found], 0, atol=0.05)


def test_another_person_has_their_own_size() -> None:
    runtime = FakeRuntime(root=tuple(ROOT))
    estimator = StreamEstimator(runtime)
    estimator.push(0, moving_square(0), CAMERA, measured(0.6))
    (result,) = estimator.step(["keypoints_3d"])
    assert result.people[0].measured
    runtime.root = (1.6, -0.05, 3.0)
    estimator.push(83 * MS, moving_square(1), CAMERA)
    (result,) = estimator.step(["keypoints_3d"])
    assert not result.people[0].measured
    assert result.people[0].xyz[0, 2] == pytest.approx(3.0, rel=1e-3)


def test_a_depth_image_that_measures_nothing_leaves_the_skeletons_scale_alone() -> None:
    estimator = StreamEstimator(FakeRuntime())
    for i in range(6):
        depth = np.full((64, 96), np.nan, np.float32) if i >= 2 else None
        estimator.push(i * 83 * MS, moving_square(i), CAMERA, depth)
        (result,) = estimator.step(["scene_depth", "keypoints_3d"])
        assert result.metric_source == "skeleton"
        assert result.depth is not None


LENSES = [
    Lens("plumb_bob", (-0.3, 0.1, 0.001, -0.002, -0.01)),
    Lens("", (-0.2, 0.05, 0.0, 0.0)),
    Lens("rational_polynomial", (0.9, -0.1, 0.0005, 0.0, 0.01, 0.4, -0.05, 0.02)),
    Lens("equidistant", (0.05, -0.01, 0.002, 0.0)),
]


def seen_through(lens: Lens, points: np.ndarray) -> np.ndarray:
    """Pixels (K, 2) of camera-frame points (K, 3) by OpenCV's own projection."""
    if lens.model == "equidistant":
        xy, _ = cv2.fisheye.projectPoints(
            points[None], np.zeros(3), np.zeros(3), CAMERA.matrix, np.array(lens.coefficients)
        )
    else:
        xy, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), CAMERA.matrix, np.array(lens.coefficients))
    return xy.reshape(-1, 2)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model or "unnamed")
def test_a_body_is_placed_through_a_lens_as_through_a_pinhole(lens: Lens) -> None:
    bent = seen_through(lens, BODY)
    assert np.abs(bent - XY).max() > 0.3
    np.testing.assert_allclose(lens.straightened(bent, CAMERA), XY, atol=0.02)
    np.testing.assert_allclose(locate(bent, skeleton(), SURE, CAMERA, lens), BODY, atol=0.005)
    assert np.abs(locate(bent, skeleton(), SURE, CAMERA) - BODY).max() > 0.02


def test_pixels_that_no_ray_reaches_do_not_count_and_unknown_models_change_nothing() -> None:
    lens = LENSES[0]
    far = np.concatenate((seen_through(lens, BODY)[:31], [[4000.0, -3000.0]]))
    assert np.isnan(lens.straightened(far, CAMERA)[31]).all()
    placed = locate(far, skeleton(), SURE, CAMERA, lens)
    np.testing.assert_allclose(placed, BODY, atol=0.005)
    for unknown in (Lens("kannala", (0.1,)), Lens("plumb_bob", (0.1, 0.2))):
        assert not unknown.known
        np.testing.assert_array_equal(unknown.straightened(XY, CAMERA), XY)
