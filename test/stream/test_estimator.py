"""The estimator: stamps, windows, consistency across windows, geometry, metres, people, faults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from stream_fakes import FakeManifest, FakeRuntime, moving_square

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.estimator import FrameResult, StreamConfig, StreamEstimator
from thfm_ros.tasks import TASKS

MS = 1_000_000
CAMERA = Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)
ALL = [t for t in TASKS if not t.startswith("human")]


def run(
    estimator: StreamEstimator, count: int, stride: int, tasks: list[str] = ALL, start: int = 0
) -> list[FrameResult]:
    results = []
    for i in range(start, start + count):
        estimator.push(i * 83 * MS, moving_square(i), CAMERA)
        if (i + 1) % stride == 0:
            results += estimator.step(tasks)
    return results


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_every_frame_is_answered_once_with_its_own_stamp_and_picture(stride: int) -> None:
    results = run(StreamEstimator(FakeRuntime()), 30, stride)
    assert [r.stamp_ns for r in results] == [i * 83 * MS for i in range(30)]
    for i, result in enumerate(results):
        np.testing.assert_allclose(result.dense_pose.mean(-1), result.image.mean(-1) / 255.0, atol=1e-3)
        assert abs(int(result.image.max()) - int(moving_square(i).max())) < 30


def test_hold_waits_for_a_full_window_and_then_answers_all_of_it() -> None:
    estimator = StreamEstimator(FakeRuntime(), StreamConfig(warmup="hold"))
    for i in range(4):
        estimator.push(i * 83 * MS, moving_square(i))
        assert estimator.step(ALL) == []
    estimator.push(4 * 83 * MS, moving_square(4))
    assert len(estimator.step(ALL)) == 5


def test_more_new_frames_than_a_window_answers_the_newest_window() -> None:
    estimator = StreamEstimator(FakeRuntime())
    for i in range(9):
        estimator.push(i * 83 * MS, moving_square(i))
    assert [r.stamp_ns for r in estimator.step(ALL)] == [i * 83 * MS for i in range(4, 9)]
    assert estimator.step(ALL) == []  # nothing new


def test_newest_only() -> None:
    estimator = StreamEstimator(FakeRuntime(), StreamConfig(newest_only=True))
    assert [r.stamp_ns for r in run(estimator, 9, 3)] == [i * 83 * MS for i in (2, 5, 8)]


def test_disparity_keeps_its_units_from_window_to_window() -> None:
    """Each window is normalised by itself (the fake does it like the network); aligned, brightness x stays x."""
    estimator = StreamEstimator(FakeRuntime())
    results = []
    for i in range(20):
        image = moving_square(i)
        if i >= 8:  # the bright square leaves: every later window has another normalisation
            image = np.minimum(image, 140)
        estimator.push(i * 83 * MS, image, CAMERA)
        results += estimator.step(["scene_depth"])
    first, last = results[0], results[-1]
    # Both show the same gradient at the left border, above the square.
    np.testing.assert_allclose(last.disparity[2, :40], first.disparity[2, :40], atol=0.02)
    unaligned = StreamEstimator(FakeRuntime())
    unaligned.push(0, np.minimum(moving_square(19), 140), CAMERA)
    (alone,) = unaligned.step(["scene_depth"])
    assert np.abs(alone.disparity[2, :40] - first.disparity[2, :40]).max() > 0.1


def test_depth_is_metric_only_with_intrinsics() -> None:
    with_camera = run(StreamEstimator(FakeRuntime()), 4, 1)
    assert all(r.depth is not None and r.metric_source == "skeleton" for r in with_camera)
    estimator = StreamEstimator(FakeRuntime())
    estimator.push(0, moving_square(0))
    (result,) = estimator.step(ALL)
    assert result.depth is None
    assert result.metric_source == "none"
    assert result.disparity is not None
    assert not result.people[0].located


def test_without_a_person_there_is_no_metric_depth_from_the_skeleton() -> None:
    results = run(StreamEstimator(FakeRuntime(visibility=0.05)), 4, 1)
    assert all(r.depth is None and r.people == [] for r in results)


def test_a_depth_camera_wins_and_gives_its_metres() -> None:
    estimator = StreamEstimator(FakeRuntime())
    image = moving_square(0)
    luminance = image.astype(float).mean(-1)
    measured = (1.0 / (0.1 + 0.5 * (luminance - luminance.min()) / np.ptp(luminance))).astype(np.float32)
    estimator.push(0, image, CAMERA, measured)
    (result,) = estimator.step(ALL)
    assert result.metric_source == "depth_camera"
    away = np.abs(result.depth - measured[1::2, 1::2]) / measured[1::2, 1::2]
    assert np.median(away) < 0.02
    estimator.push(83 * MS, moving_square(1), CAMERA)  # no pair for this frame: the last scale serves
    (result,) = estimator.step(ALL)
    assert result.metric_source == "depth_camera"
    estimator.push(7000 * MS, moving_square(2), CAMERA)  # silent for long: the skeleton takes over again
    estimator.step(ALL)
    estimator.push(7083 * MS, moving_square(3), CAMERA)
    (result,) = estimator.step(ALL)
    assert result.metric_source == "skeleton"


def test_a_depth_image_that_comes_after_its_frames_pass_measures_the_frames_after_it() -> None:
    estimator = StreamEstimator(FakeRuntime(visibility=0.05))  # nobody in view to measure by
    image = moving_square(0)
    luminance = image.astype(float).mean(-1)
    measured = (1.0 / (0.1 + 0.5 * (luminance - luminance.min()) / np.ptp(luminance))).astype(np.float32)
    estimator.push(0, image, CAMERA)
    (result,) = estimator.step(ALL)
    assert result.depth is None
    assert list(estimator.measurable) == [0]
    estimator.measure(0, measured)
    estimator.push(83 * MS, image, CAMERA)
    (result,) = estimator.step(ALL)
    assert result.metric_source == "depth_camera"
    assert np.median(np.abs(result.depth / measured[1::2, 1::2] - 1)) < 0.02
    estimator.reset()
    assert not estimator.measurable


@pytest.mark.parametrize(("before", "after"), [("scene_depth", "human_depth"), ("human_depth", "scene_depth")])
def test_another_kind_of_depth_does_not_keep_the_scale(before: str, after: str) -> None:
    estimator = StreamEstimator(FakeRuntime(visibility=0.05))  # nobody in view to measure by
    image = moving_square(0)
    luminance = image.astype(float).mean(-1)
    measured = (1.0 / (0.1 + 0.5 * (luminance - luminance.min()) / np.ptp(luminance))).astype(np.float32)
    estimator.push(0, image, CAMERA, measured)
    (result,) = estimator.step([before])
    assert result.metric_source == "depth_camera"
    estimator.push(83 * MS, image, CAMERA)
    (result,) = estimator.step([after])
    assert result.depth is None
    assert result.metric_source == "none"
    estimator.push(166 * MS, image, CAMERA, measured)
    (result,) = estimator.step([after])
    assert result.metric_source == "depth_camera"


def test_people_are_where_the_network_put_them() -> None:
    runtime = FakeRuntime(root=(0.1, -0.05, 3.0))
    (result,) = run(StreamEstimator(runtime), 1, 1)
    (person,) = result.people
    assert re.fullmatch("[a-z]{5}_1", person.id)
    assert person.image_size == (96, 64)
    # The fake's camera has fx = image width, principal point in the middle: CAMERA.
    np.testing.assert_allclose(person.xyz[0], runtime.root, atol=1e-4)
    np.testing.assert_allclose(person.xy[0], (96 * (0.1 / 3 + 0.5), 64 * 0.5 - 96 * 0.05 / 3), atol=1e-3)
    left, top, right, bottom = person.box()
    assert 0 <= left < right <= 96
    assert 0 <= top < bottom <= 64


def test_ids_are_stable_and_a_jump_or_absence_is_another_person() -> None:
    runtime = FakeRuntime()
    estimator = StreamEstimator(runtime, StreamConfig(absence_s=1.0))
    ids = [r.people[0].id for r in run(estimator, 5, 1)]
    runtime.root = (1.3, 0.0, 3.0)
    ids += [r.people[0].id for r in run(estimator, 2, 1, start=5)]
    runtime.visibility = 0.05
    run(estimator, 14, 1, start=7)
    runtime.visibility = 0.9
    ids += [r.people[0].id for r in run(estimator, 1, 1, start=21)]
    assert [i.split("_")[1] for i in ids] == ["1"] * 5 + ["2"] * 2 + ["3"]


def test_ids_never_come_again() -> None:
    ids = [run(StreamEstimator(FakeRuntime()), 1, 1)[0].people[0].id for _ in range(50)]
    assert len(set(ids)) == 50
    estimator = StreamEstimator(FakeRuntime())
    ids = []
    for _ in range(3):
        estimator.reset()
        ids += [r.people[0].id for r in run(estimator, 2, 1)]
    assert len(set(ids)) == 3


def test_joints_are_smoothed_from_pass_to_pass_but_not_from_one_person_to_the_next() -> None:
    rng = np.random.default_rng(0)

    class Trembling(FakeRuntime):
        def predict(self, frames: np.ndarray, tasks: Sequence[str], *first: object) -> SimpleNamespace:
            found = super().predict(frames, tasks, *first)
            found.keypoints.xyz += rng.normal(0, 0.03, found.keypoints.xyz.shape)
            return found

    def poses(noise: float) -> np.ndarray:
        estimator = StreamEstimator(Trembling(), StreamConfig(joint_noise_m=noise))
        return np.stack([r.people[0].xyz_relative for r in run(estimator, 40, 4)])

    assert poses(0.03).std(0).mean() < 0.85 * poses(0.0).std(0).mean()
    runtime = FakeRuntime()
    estimator = StreamEstimator(runtime)
    run(estimator, 4, 2)
    runtime.root = (1.3, 0.0, 3.0)
    (person,) = run(estimator, 1, 1, start=4)[0].people
    assert person.id.endswith("_2")
    np.testing.assert_allclose(person.xyz[0], runtime.root, atol=1e-4)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (160, 40), (40, 160), (33, 47)])
@pytest.mark.parametrize("output", ["model", "input"])
def test_the_letterbox_is_undone_and_intrinsics_follow(width: int, height: int, output: str) -> None:
    estimator = StreamEstimator(FakeRuntime(), StreamConfig(output=output))
    camera = Intrinsics.from_fov(60.0, width, height)
    image = np.full((height, width, 3), 200, np.uint8)
    image[:, : width // 2] = 60
    estimator.push(0, image, camera)
    (result,) = estimator.step(ALL)
    if output == "input":
        assert result.size == (width, height)
    assert abs(result.size[0] / result.size[1] - width / height) / (width / height) < 0.1
    assert (result.intrinsics.width, result.intrinsics.height) == result.size
    assert result.intrinsics.cx == pytest.approx(result.size[0] / 2)
    for value in (result.disparity, result.normals, result.foreground, result.dense_pose, result.image):
        assert value.shape[:2] == result.size[::-1]
    # No black border is left, and the edge between the halves sits in the middle.
    row = result.dense_pose[result.size[1] // 2, :, 0]
    np.testing.assert_allclose(row[[0, -1]], [60 / 255, 200 / 255], atol=0.02)
    edge = np.abs(np.diff(row)).argmax() + 1
    assert abs(edge - result.size[0] / 2) <= 1.5


def test_only_the_asked_tasks_run() -> None:
    runtime = FakeRuntime()
    estimator = StreamEstimator(runtime)
    (result,) = run(estimator, 1, 1, ["foreground"])
    assert runtime.last_tasks == ("foreground",)
    assert result.disparity is None
    assert result.normals is None
    assert result.people == []
    run(estimator, 1, 1, ["human_depth"], start=1)
    assert set(runtime.last_tasks) == {"human_depth", "foreground"}


@pytest.mark.parametrize("kind", ["depth", "normals"])
def test_tasks_that_share_a_map_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match=f"expected one of scene_{kind} and human_{kind} at most"):
        run(StreamEstimator(FakeRuntime()), 1, 1, [f"human_{kind}", "foreground", f"scene_{kind}"])
    (result,) = run(StreamEstimator(FakeRuntime()), 1, 1, [f"human_{kind}"])
    assert (result.disparity if kind == "depth" else result.normals) is not None


def test_human_depth_has_no_background() -> None:
    image = np.repeat(np.linspace(60, 240, 96)[None, :, None], 64, 0).repeat(3, 2).astype(np.uint8)
    estimator = StreamEstimator(FakeRuntime())
    estimator.push(0, image, CAMERA)
    (result,) = estimator.step(["human_depth", "keypoints_3d"])
    mask = result.foreground > 0.5
    assert 0.2 < mask.mean() < 0.8
    np.testing.assert_array_equal(np.isfinite(result.disparity), mask)
    np.testing.assert_array_equal(np.isfinite(result.depth), mask)


def test_a_task_the_model_lacks_is_left_out() -> None:
    runtime = FakeRuntime(manifest=FakeManifest(tasks=("foreground",)))
    (result,) = run(StreamEstimator(runtime), 1, 1, ALL)
    assert runtime.last_tasks == ("foreground",)
    assert result.foreground is not None


def test_a_failed_pass_loses_its_frames_and_the_stream_goes_on() -> None:
    runtime = FakeRuntime(failures=1)
    estimator = StreamEstimator(runtime)
    estimator.push(0, moving_square(0))
    with pytest.raises(RuntimeError, match="device lost"):
        estimator.step(ALL)
    estimator.push(83 * MS, moving_square(1))
    assert [r.stamp_ns for r in estimator.step(ALL)] == [83 * MS]


def test_another_resolution_starts_anew() -> None:
    estimator = StreamEstimator(FakeRuntime())
    run(estimator, 3, 1)
    estimator.push(3 * 83 * MS, np.zeros((50, 70, 3), np.uint8))
    (result,) = estimator.step(ALL)
    assert result.source_size == (70, 50)


@pytest.mark.parametrize("warmup", ["pad", "hold"])
def test_finish_answers_what_waits_and_ends_the_clip(warmup: str) -> None:
    estimator = StreamEstimator(FakeRuntime(), StreamConfig(warmup=warmup))
    for i in range(3):
        estimator.push(i * 83 * MS, moving_square(i), CAMERA)
    other = np.zeros((50, 70, 3), np.uint8)
    assert not estimator.continues(other)
    with pytest.raises(ValueError, match="while 3 frames wait for their results: finish first"):
        estimator.push(3 * 83 * MS, other)
    first = estimator.finish(ALL)
    assert [r.stamp_ns for r in first] == [i * 83 * MS for i in range(3)]
    assert estimator.continues(other)
    assert estimator.finish(ALL) == []
    estimator.push(4 * 83 * MS, moving_square(4), CAMERA)
    (second,) = estimator.finish(ALL)
    assert second.people[0].id != first[0].people[0].id


def test_a_finish_that_fails_ends_the_clip_too() -> None:
    estimator = StreamEstimator(FakeRuntime(failures=1))
    estimator.push(0, moving_square(0))
    with pytest.raises(RuntimeError, match="device lost"):
        estimator.finish(ALL)
    estimator.push(83 * MS, np.zeros((50, 70, 3), np.uint8))
    assert [r.stamp_ns for r in estimator.step(ALL)] == [83 * MS]


def test_full_tells_when_one_more_frame_would_cost_one() -> None:
    estimator = StreamEstimator(FakeRuntime())
    for i in range(5):
        assert not estimator.full
        estimator.push(i * 83 * MS, moving_square(i))
    assert estimator.full
    assert len(estimator.step(ALL)) == 5
    assert not estimator.full


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_anything_but_an_rgb_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected a uint8 RGB image"):
        StreamEstimator(FakeRuntime()).push(0, image)


def test_timings_name_every_stage() -> None:
    estimator = StreamEstimator(FakeRuntime())
    run(estimator, 1, 1)
    assert list(estimator.timings_ms) == ["prepare", "encode", "transform", "decode", "people", "postprocess"]
