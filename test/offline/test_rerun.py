"""`thfm run --rerun`: what the viewer gets, read back from the file."""

from __future__ import annotations

import resource
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_fakes import FakeRuntime, moving_square

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics, project, unproject
from thfm_ros.offline.rerun_log import POINT_STEP, RerunLog
from thfm_ros.stream.estimator import FrameResult, StreamEstimator

pytest.importorskip("rerun")

TASKS = ("scene_depth", "scene_normals", "foreground", "dense_pose", "keypoints_3d")
CAMERA = Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)
START, STEP = 1_760_000_000_123_456_789, 83_333_333


def results(count: int = 3, start: int = START, camera: Intrinsics | None = CAMERA) -> list[FrameResult]:
    estimator = StreamEstimator(FakeRuntime())
    for i in range(count):
        estimator.push(start + i * STEP, moving_square(i), camera)
    return estimator.step(TASKS)


def write(path: Path, frames: list[FrameResult], dated: bool = True) -> dict[str, dict[str, dict[int, Any]]]:
    with RerunLog(path, "a test", dated) as log:
        for result in frames:
            log.write(result)
    return read(path)


def read(path: Path) -> dict[str, dict[str, dict[int, Any]]]:
    """entity -> component -> time in ns -> values; what holds at any time has the key -1."""
    from rerun.chunk import RrdReader

    found: dict[str, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        times = [-1] * batch.num_rows
        for name in chunk.timeline_names:
            assert name in ("stamp", "video"), name
            times = batch.column(name).cast("int64").to_pylist()
        for field in batch.schema:
            if ":" in field.name:
                values = batch.column(field.name).to_pylist()
                found[chunk.entity_path][field.name].update(zip(times, values, strict=True))
    return found


def test_every_frame_has_its_pictures_points_and_skeletons_at_its_own_stamp(tmp_path: Path) -> None:
    frames = results()
    found = write(tmp_path / "a.rrd", frames)
    stamps = [r.stamp_ns for r in frames]
    for entity, component in (
        ("/world/camera/image", "EncodedImage:blob"),
        ("/world/camera/image/mask", "SegmentationImage:buffer"),
        ("/world/camera/image/bones", "LineStrips2D:strips"),
        ("/world/points", "Points3D:positions"),
        ("/world/bones", "LineStrips3D:strips"),
        ("/world/joints", "Points3D:positions"),
        ("/depth/metres", "DepthImage:buffer"),
        ("/normals", "EncodedImage:blob"),
        ("/dense_pose", "EncodedImage:blob"),
    ):
        assert sorted(found[entity][component]) == stamps, entity
    for result in frames:
        assert result.depth is not None
        assert result.intrinsics is not None
        points = unproject(result.depth, result.intrinsics)[::POINT_STEP, ::POINT_STEP]
        known = np.isfinite(points).all(-1)
        np.testing.assert_allclose(found["/world/points"]["Points3D:positions"][result.stamp_ns], points[known], 1e-5)
        person = result.people[0]
        joints = np.array(found["/world/joints"]["Points3D:positions"][result.stamp_ns])
        np.testing.assert_allclose(joints, person.xyz, 1e-5)
        bones = np.array(found["/world/bones"]["LineStrips3D:strips"][result.stamp_ns])
        assert bones.shape == (len(person.joint_set.bones), 2, 3)
    labels = found["/world/joints"]["Points3D:labels"][stamps[0]]
    assert labels[0] == f"{frames[0].people[0].id} pelvis"


def test_the_skeleton_in_space_and_the_one_in_the_picture_agree_through_the_camera(tmp_path: Path) -> None:
    """As the viewer projects it: with the pinhole of the file."""
    (first, *_) = frames = results(1)
    found = write(tmp_path / "a.rrd", frames)
    ((columns,),) = found["/world/camera/image"]["Pinhole:image_from_camera"].values()
    ((resolution,),) = found["/world/camera/image"]["Pinhole:resolution"].values()
    camera = Intrinsics.from_matrix(np.reshape(columns, (3, 3)).T, *map(int, resolution))
    assert (camera.width, camera.height) == first.size
    flat = np.array(found["/world/camera/image/bones"]["LineStrips2D:strips"][first.stamp_ns])
    space = np.array(found["/world/bones"]["LineStrips3D:strips"][first.stamp_ns])
    np.testing.assert_allclose(project(space, camera), flat, atol=0.5)


def test_who_is_gone_and_metres_that_are_gone_do_not_stay(tmp_path: Path) -> None:
    one, two, three = results()
    two = replace(two, people=[], depth=None, metric_source="none")
    found = write(tmp_path / "a.rrd", [one, two, three])
    for entity in ("/world/joints", "/world/points"):
        assert found[entity]["Points3D:positions"][two.stamp_ns] == []
    assert found["/world/bones"]["LineStrips3D:strips"][two.stamp_ns] == []
    assert list(found["/depth/metres"]["Clear:is_recursive"]) == [two.stamp_ns]
    assert list(found["/depth/relative"]["Clear:is_recursive"]) == [three.stamp_ns]


def test_a_video_counts_from_its_start_and_needs_no_camera(tmp_path: Path) -> None:
    found = write(tmp_path / "a.rrd", results(2, start=0, camera=None), dated=False)
    assert sorted(found["/normals"]["EncodedImage:blob"]) == [0, STEP]
    assert "Pinhole:resolution" not in found["/world/camera/image"]


def test_a_failed_run_keeps_what_was_done_and_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.rrd"
    for kept in (path, tmp_path / "a.partial.rrd"):
        log = RerunLog(path, "a test", True)
        with pytest.raises(RuntimeError, match="device lost"), log:  # noqa: PT012
            log.write(results(1)[0])
            raise RuntimeError("device lost")
        assert log.kept == kept
        assert list(read(kept)["/normals"]["EncodedImage:blob"]) == [START]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.partial.rrd", "a.rrd"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    frames = results(5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*a.rrd.*make room"):
            write(tmp_path / "a.rrd", frames)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_without_a_display_the_viewer_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"no display .*--rerun OUT.rrd"):
        RerunLog(None, "a test", True)
