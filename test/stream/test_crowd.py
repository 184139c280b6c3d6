"""Everyone in view through the estimator: ids that stay, joints in place, masks, counts, and nobody where nobody is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from crowd_fakes import CAMERA, HEIGHT_M, SIZE, Block, CrowdManifest, CrowdRuntime, picture
from stream_fakes import FakeManifest

from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.estimator import FrameResult, StreamConfig, StreamEstimator
from thfm_ros.stream.offline import run_stream
from thfm_ros.stream.people import Person, score_of

NS = 1_000_000_000
TASKS = ["foreground", "keypoints_2d", "keypoints_3d"]
Scene = Callable[[float], list[Block]]  # seconds -> who is there


def play(
    scene: Scene,
    seconds: float,
    runtime: CrowdRuntime | None = None,
    config: StreamConfig | None = None,
    pillars: Sequence[tuple[int, int]] = (),
    stride: int = 3,
    estimator: StreamEstimator | None = None,
    start: float = 0.0,
) -> list[FrameResult]:
    estimator = estimator or StreamEstimator(runtime or CrowdRuntime(), config or StreamConfig())
    results = []
    for i in range(round(12 * start), round(12 * (start + seconds))):
        estimator.push(round(i / 12 * NS), picture(scene(i / 12), pillars), CAMERA)
        if (i + 1) % stride == 0:
            results += estimator.step(TASKS)
    return results


def of(result: FrameResult, block: Block) -> Person | None:
    """Whoever's joints lie in that block's middle."""
    near = [p for p in result.people if np.abs(np.median(p.xy, 0) - (block.x, block.y)).max() < block.height / 5]
    return near[0] if len(near) == 1 else None


def three(seconds: float) -> list[Block]:
    return [
        Block(1, 80 + 20 * seconds, 150, 160),
        Block(2, 240, 140 + 5 * seconds, 90),
        Block(3, 420 - 15 * seconds, 150, 50),
    ]


def test_everybody_has_an_id_a_box_joints_and_pixels() -> None:
    results = play(three, 3)
    assert len(results) == 36
    ids = [{n: of(r, b).id for n, b in enumerate(three(i / 12))} for i, r in enumerate(results)]
    assert all(each == ids[0] for each in ids)
    assert len(set(ids[0].values())) == 3
    for i, result in enumerate(results):
        assert len(result.people) == 3
        assert result.others == 0
        heights = [p.box()[3] - p.box()[1] for p in result.people]
        assert heights == sorted(heights, reverse=True)  # the nearest first
        values = {0, *(p.label for p in result.people)}
        assert set(np.unique(result.instances)) == values
        assert result.instances.shape == result.size[::-1]
        for block in three(i / 12):
            person = of(result, block)
            assert np.abs(np.array(person.box()) - block.box).max() < 4
            assert np.abs(np.ptp(person.xy, axis=0) - np.ptp(block.box.reshape(2, 2), axis=0)).max() < 7
            assert result.instances[int(block.y / 2), int(block.x / 2)] == person.label
            z = HEIGHT_M * CAMERA.fy / block.height
            assert person.xyz[0, 2] == pytest.approx(z, rel=0.1)


def test_velocity_and_covariance_are_those_of_the_way_in_metres() -> None:
    results = play(three, 4)
    for speed_px, number in ((20, 0), (-15, 2)):
        block = three(4 - 1 / 12)[number]
        person = of(results[-1], block)
        metres = HEIGHT_M / block.height
        assert person.velocity[0] == pytest.approx(speed_px * metres, abs=0.12)
        assert abs(person.velocity[1]) < 0.1
        root = person.xyz[0]
        along = root / np.linalg.norm(root)
        spread = np.sqrt(along @ person.covariance @ along)
        assert 0.05 < spread / root[2] < 0.25  # a body's size says how far it is to a tenth or so
        assert np.linalg.eigvalsh(person.covariance)[:2].max() < spread**2 / 4


@pytest.mark.parametrize("stride", [1, 4])
def test_a_crossing_leaves_everyone_their_id(stride: int) -> None:
    """The nearer one hides the other entirely on the way."""

    def scene(seconds: float) -> list[Block]:
        return [Block(1, 60 + 80 * seconds, 150, 170), Block(2, 420 - 80 * seconds, 150, 110)]

    results = play(scene, 4.5, stride=stride)
    assert not results[0].people or stride > 1  # nobody is somebody at once
    first = [of(results[2], b).id for b in scene(2 / 12)]
    last = [of(results[-1], b).id for b in scene((len(results) - 1) / 12)]
    assert first == last
    assert {p.id for r in results for p in r.people} == set(first)


@pytest.mark.parametrize(("hidden_s", "same"), [(2.0, True), (4.5, False)])
def test_behind_a_pillar(hidden_s: float, same: bool) -> None:
    """60 pixels a second behind a pillar that hides all of a body 45 pixels wide for so long."""
    pillar = (150, round(150 + 45 + 60 * hidden_s))

    def scene(seconds: float) -> list[Block]:
        return [Block(1, 60 + 60 * seconds, 150, 120)]

    results = play(scene, (pillar[1] + 40 - 60) / 60, pillars=[pillar])
    gone = sum(not r.people for r in results) / 12
    assert hidden_s - 0.7 < gone < hidden_s + 0.5
    assert (of(results[0], scene(0)[0]).id == results[-1].people[0].id) == same


def test_absence_is_a_parameter() -> None:
    def scene(seconds: float) -> list[Block]:
        return [] if 1 < seconds < 2.5 else [Block(1, 200, 150, 120)]

    for absence_s, count in ((1.0, 2), (3.0, 1)):
        results = play(scene, 4, config=StreamConfig(absence_s=absence_s))
        assert len({p.id for r in results for p in r.people}) == count


def test_nobody_is_an_empty_list_and_who_left_leaves_no_ghost() -> None:
    runtime = CrowdRuntime()
    results = play(lambda s: three(s) if s < 1 else [], 3, runtime)
    assert all(len(r.people) == 3 for r in results[:12])
    assert all(not r.people and not r.others and not r.instances.any() for r in results[12:])
    assert runtime.looked_at[-1] == 0  # and costs nothing
    assert all(not r.people for r in play(lambda s: [], 1))


def test_what_no_skeleton_confirms_is_nobody() -> None:
    results = play(three, 1, CrowdRuntime(visibility=0.1))
    assert all(not r.people and not r.instances.any() for r in results)


def test_of_twenty_people_the_nearest_are_reported_and_the_others_counted() -> None:
    crowd = [Block(n + 1, 24 + 48 * (n % 10), 80 + 130 * (n // 10), 60 + n + 30 * (n > 13)) for n in range(20)]
    runtime = CrowdRuntime()
    results = play(lambda s: crowd, 1, runtime)
    assert set(runtime.looked_at) == {6}
    for result in results:
        assert len(result.people) == 6
        assert result.others == 14
        assert all(of(result, block) is not None for block in crowd[-6:])
    assert len(play(lambda s: crowd, 0.5, config=StreamConfig(max_people=2))[-1].people) == 2


def test_by_a_depth_camera_a_child_who_is_nearer_comes_first_and_is_the_one_reported() -> None:
    grown, child = Block(1, 120, 150, 160), Block(2, 360, 150, 120)
    depth = np.full(SIZE[::-1], 9.0, np.float32)
    for block, metres in ((grown, 6.0), (child, 4.0)):
        left, top, right, bottom = block.box.astype(int)
        depth[top:bottom, left:right] = metres
    estimator = StreamEstimator(CrowdRuntime(), StreamConfig(confirm_s=0.0))

    def see(i: int, measured: np.ndarray | None) -> list[Person]:
        estimator.push(round(i / 12 * NS), picture([grown, child]), CAMERA, measured)
        return estimator.step(TASKS)[0].people

    assert [p.xy[:, 0].mean() < 240 for p in see(0, None)] == [True, False]  # the largest first
    assert [p.xy[:, 0].mean() < 240 for p in see(1, depth)] == [False, True]
    estimator.config = StreamConfig(max_people=1)
    assert [p.xy[:, 0].mean() < 240 for p in see(2, None)] == [False]


def test_who_is_missed_by_the_masks_for_a_moment_is_followed_by_their_window() -> None:
    runtime = CrowdRuntime()
    estimator = StreamEstimator(runtime)
    before = play(three, 1, estimator=estimator)
    runtime.blind = True
    meanwhile = play(three, 0.5, estimator=estimator, start=1)
    runtime.blind = False
    after = play(three, 1, estimator=estimator, start=1.5)
    names = {p.id for p in before[-1].people}
    assert all({p.id for p in r.people} == names for r in meanwhile + after)
    assert all(p.label == 0 for r in meanwhile for p in r.people)


@pytest.mark.parametrize("tasks", [("foreground",), ("instances", "foreground")])
def test_without_the_task_instances_people_are_the_parts_of_the_mask(tasks: tuple[str, ...]) -> None:
    manifest = CrowdManifest(tasks=(*tasks, "keypoints_2d", "keypoints_3d"))
    estimator = StreamEstimator(CrowdRuntime(manifest))
    (line,) = estimator.shortcomings or [""]
    assert ("no task instances" in line) == ("instances" not in tasks)
    results = play(three, 1, estimator=estimator)
    assert all(of(r, b) is not None for i, r in enumerate(results) for b in three(i / 12))


class Rough(CrowdRuntime):
    """Its offsets are wrong by tens of pixels, the same way over a few of them, and trembling besides."""

    def predict(self, frames: np.ndarray, tasks: Sequence[str], *options: object) -> SimpleNamespace:
        found = super().predict(frames, tasks, *options)
        rng = np.random.default_rng(0)
        code = found.dense["instances"]
        noise = rng.normal(0, 1, (*code.shape[1:3], 2))
        code[..., :2] += (code[..., 2:] > -1) * (0.03 * noise + 0.8 * cv2.GaussianBlur(noise, (0, 0), 4))
        return found


def test_a_map_of_instances_that_disagrees_with_itself_is_joined_by_the_mask_and_that_is_said() -> None:
    estimator = StreamEstimator(Rough())
    results = play(three, 1, estimator=estimator)
    assert "too rough" in estimator.doubt
    assert all(len(r.people) == 3 for r in results)
    sure = StreamEstimator(CrowdRuntime())
    play(three, 0.5, estimator=sure)
    assert sure.doubt == ""


def test_by_a_rough_map_two_who_touch_are_two_and_stay_who_they_are() -> None:
    def scene(seconds: float) -> list[Block]:
        return [Block(1, 190, 150, 160), Block(2, 246, 150, 150)]

    assert scene(0)[0].box[2] > scene(0)[1].box[0]
    results = play(scene, 2, Rough())
    assert {len(r.people) for r in results} == {2}
    assert len({p.id for r in results for p in r.people}) == 2


@pytest.mark.parametrize("tasks", [("instances", "foreground"), ("foreground",)])
def test_one_person_whose_mask_falls_into_two_fragments_is_one(tasks: tuple[str, ...]) -> None:
    """A pillar, thinner than they are, crosses somebody after a second."""

    class Moving(Rough if "instances" in tasks else CrowdRuntime):
        pass

    estimator = StreamEstimator(Moving(CrowdManifest(tasks=(*tasks, "keypoints_2d", "keypoints_3d"))))
    block = Block(1, 240, 150, 200)
    results = play(lambda s: [block], 1, estimator=estimator)
    results += play(lambda s: [block], 1, estimator=estimator, start=1, pillars=[(236, 246)])
    assert all(len(r.people) == 1 for r in results)
    assert len({p.id for r in results for p in r.people}) == 1


@pytest.mark.parametrize("frames", [1, 2])
def test_a_flicker_is_nobody(frames: int) -> None:
    def scene(seconds: float) -> list[Block]:
        blink = [Block(2, 380, 150, 100)] if 0.99 < seconds < 0.99 + frames / 12 else []
        return [Block(1, 120, 150, 140), *blink]

    for stride in (1, 4):
        results = play(scene, 2, stride=stride)
        assert len({p.id for r in results for p in r.people}) == 1
        assert max(r.others for r in results) == 0
    at_once = play(scene, 2, config=StreamConfig(confirm_s=0.0))
    assert len({p.id for r in at_once for p in r.people}) == 2


def test_in_a_single_picture_everybody_is_somebody() -> None:
    estimator = StreamEstimator(CrowdRuntime())
    estimator.push(0, picture(three(0)), CAMERA)
    (result,) = estimator.finish(TASKS)
    assert len(result.people) == 3


def test_of_a_camera_slower_than_a_gap_everybody_is_reported_from_its_second_frame_on() -> None:
    """Until then it may be any camera, whose first frame may show a flicker."""
    estimator = StreamEstimator(CrowdRuntime())
    slow = [(2 * i * NS, picture(three(0)), CAMERA) for i in range(4)]
    assert [len(r.people) for r in run_stream(estimator, slow, TASKS, stride=1)] == [0, 3, 3, 3]
    fast = [(round(i / 12 * NS), picture(three(0)), CAMERA) for i in range(4)]
    assert [len(r.people) for r in run_stream(estimator, fast, TASKS, stride=1)] == [0, 0, 3, 3]


def test_who_walks_off_beyond_the_edge_and_who_is_hidden_up_to_the_knees_keep_their_ids() -> None:
    """Each box becomes a fraction of what it was, within half a second, and whole again."""

    def scene(seconds: float) -> list[Block]:
        out = 60 * np.sin(np.pi * np.clip(seconds - 1, 0, 1))
        return [Block(1, 40 - out, 150, 200), Block(2, 300, 150, 160), *([Block(3, 300, 215, 170)] * (seconds > 1.5))]

    results = play(scene, 3)
    assert of(results[0], scene(0)[0]).id == of(results[-1], scene(3)[0]).id
    assert len({p.id for r in results for p in r.people}) == 3


def test_by_the_mask_alone_two_who_meet_stay_two_where_they_were_two_before() -> None:
    def scene(seconds: float) -> list[Block]:
        return [Block(1, 180 + 12 * min(seconds, 2), 150, 160), Block(2, 270 - 12 * min(seconds, 2), 150, 150)]

    manifest = CrowdManifest(tasks=("foreground", "keypoints_2d", "keypoints_3d"))
    results = play(scene, 4, CrowdRuntime(manifest))  # from 1.4 s on the two touch
    assert {len(r.people) for r in results} == {2}
    assert len({p.id for r in results for p in r.people}) == 2
    assert all(of(results[-1], block) is not None for block in scene(4))


def test_without_windows_a_frame_has_one_skeleton_and_that_is_said() -> None:
    estimator = StreamEstimator(CrowdRuntime(CrowdManifest(windows=None)))
    (line,) = estimator.shortcomings
    assert "one skeleton" in line
    assert all(len(r.people) == 1 for r in play(three, 1, estimator=estimator))
    masks_alone = StreamEstimator(CrowdRuntime(FakeManifest(tasks=("foreground",), height=144, width=240)))
    assert masks_alone.shortcomings == []


# Bad input


@pytest.mark.parametrize("x", [-40, 0, 478, 520])
def test_a_window_beyond_the_picture_s_edge(x: float) -> None:
    results = play(lambda s: [Block(1, x, 150, 280), Block(2, 240, 290, 200)], 1)
    assert all(np.isfinite(p.xy).all() for r in results for p in r.people)
    assert all(0 <= p.box()[0] <= p.box()[2] <= SIZE[0] for r in results for p in r.people)


def test_somebody_of_eight_pixels() -> None:
    results = play(lambda s: [Block(1, 200, 150, 24), Block(2, 300, 150, 9)], 1)
    assert all(1 <= len(r.people) <= 2 for r in results)


def test_two_people_in_one_place_are_two_once_they_part() -> None:
    def scene(seconds: float) -> list[Block]:
        return [Block(1, 200, 150, 120), Block(2, 200 + 60 * max(0, seconds - 1), 150, 110)]

    results = play(scene, 3)
    assert all(len(r.people) == 1 for r in results[:12])
    assert len(results[-1].people) == 2
    assert results[0].people[0].id in {p.id for p in results[-1].people}


def test_another_resolution_in_the_middle_of_a_track_is_another_stream() -> None:
    estimator = StreamEstimator(CrowdRuntime())
    before = play(three, 1, estimator=estimator)
    small = Intrinsics(240.0, 240.0, 120.0, 72.0, 240, 144)
    for i in range(12, 18):
        image = picture([Block(1, 60, 70, 80)], size=(240, 144))
        estimator.push(round(i / 12 * NS), image, small)
    (person,) = estimator.step(TASKS)[-1].people
    assert person.id not in {p.id for p in before[-1].people}
    assert person.image_size == (240, 144)


def test_without_a_camera_s_calibration_people_have_ids_and_no_place() -> None:
    estimator = StreamEstimator(CrowdRuntime())
    for i in range(4):
        estimator.push(round(i / 12 * NS), picture(three(i / 12)))
    results = estimator.step(TASKS)
    assert [len(r.people) for r in results] == [3] * 4
    assert all(np.isnan(p.velocity).all() and np.isnan(p.covariance).all() for r in results for p in r.people)


def test_half_a_body_scores_as_much_as_a_whole_one() -> None:
    sure, whole = np.full(32, 0.9), np.full(32, 0.9)
    sure[12:] = 0.0  # a face and shoulders
    assert score_of(sure) == pytest.approx(score_of(whole)) == pytest.approx(0.9)
    assert score_of(np.full(32, 0.35)) == pytest.approx(0.35)  # a thing that looks a little like everything
    assert score_of(np.array([0.5, 0.7])) == pytest.approx(0.6)
