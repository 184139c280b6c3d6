"""Who is who: assignments as scipy makes them, and ids that stay over simulated crowds."""

from __future__ import annotations

import numpy as np
import pytest

from thfm_ros.evaluate.crowd import box_iou
from thfm_ros.evaluate.tracking import TrackedFrame, tracking_figures
from thfm_ros.stream.assign import assign
from thfm_ros.stream.detect import Detection
from thfm_ros.stream.tracker import NS, Place, Tracker


@pytest.mark.parametrize("seed", range(40))
def test_assignments_cost_as_little_as_scipy_s(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    cost = rng.random(rng.integers(0, 9, 2))
    pairs = assign(cost)
    rows, columns = optimize.linear_sum_assignment(cost)
    assert len(pairs) == len(rows)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert sum(cost[i, j] for i, j in pairs) == pytest.approx(cost[rows, columns].sum())


def test_what_may_not_be_is_not_assigned() -> None:
    assert assign(np.array([[np.inf, 1.0], [np.inf, 2.0]])) == [(0, 1)]
    assert assign(np.full((2, 3), np.inf)) == []


def walkers(seed: int, seconds: float = 20.0, people: int = 5) -> list[list[tuple[int, Detection]]]:
    """12 frames a second of people who walk to and fro in a room, seen by a camera; whoever is behind somebody is seen
    in part or not at all. Boxes tremble, one in twenty is missed, colours are noisy."""
    rng = np.random.default_rng(seed)
    place = np.stack([rng.uniform(-2, 2, people), rng.uniform(2.5, 7, people)], 1)
    way = rng.normal(0, 0.7, (people, 2))
    clothes = rng.dirichlet(np.full(32, 0.1), people)
    frames = []
    for _ in range(round(12 * seconds)):
        place += way / 12
        for axis, (low, high) in enumerate(((-2.5, 2.5), (2.0, 8.0))):
            out = (place[:, axis] < low) | (place[:, axis] > high)
            way[out, axis] *= -1
            place[:, axis] = place[:, axis].clip(low, high)
        x, z = place.T
        height = 480 * 1.7 / z
        boxes = np.stack(
            [320 + 480 * x / z - 0.18 * height, 240 - height / 2, 320 + 480 * x / z + 0.18 * height, 240 + height / 2],
            1,
        )
        frame = []
        for i in np.argsort(z):
            left, right = boxes[i, 0], boxes[i, 2]
            for j in np.flatnonzero(z < z[i]):
                if boxes[j, 0] <= left:
                    left = max(left, min(boxes[j, 2], right))
                if boxes[j, 2] >= right:
                    right = min(right, max(boxes[j, 0], left))
            if right - left > 0.3 * (boxes[i, 2] - boxes[i, 0]) and rng.random() > 0.05:
                box = np.array([left, boxes[i, 1], right, boxes[i, 3]]) + rng.normal(0, 0.01 * height[i], 4)
                colours = np.abs(clothes[i] + rng.normal(0, 0.01, 32))
                frame.append((int(i), Detection(box, 0.9, colours / colours.sum())))
        frames.append([frame[n] for n in rng.permutation(len(frame))])
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_people_keep_their_ids_while_they_walk_behind_one_another(seed: int) -> None:
    tracker, sequence = Tracker(), []
    for index, frame in enumerate(walkers(seed)):
        who = tracker.step(round(index / 12 * NS), [d for _, d in frame])
        names = [int(tracker.name(who[n]).split("_")[1]) if n in who else 0 for n in range(len(frame))]
        boxes = np.array([d.box for _, d in frame]).reshape(-1, 4)
        sequence.append(TrackedFrame(np.array([n for n, _ in frame], int), np.array(names, int), box_iou(boxes, boxes)))
    figures = tracking_figures([sequence])
    assert figures["idf1"] > 0.9
    assert figures["switches"] <= 5 * 20 / 60 * 2  # two a person and minute


def test_who_comes_back_after_the_absence_is_new_and_numbers_never_repeat() -> None:
    tracker = Tracker(absence_s=1.0)
    box = np.array([10.0, 10.0, 40.0, 100.0])
    names = []
    for second in (0.0, 0.5, 1.4, 3.0, 3.1):
        (track,) = tracker.step(round(second * NS), [Detection(box, 1.0)]).values()
        names.append(tracker.name(track))
    prefix = tracker.prefix
    assert names == [f"{prefix}_1"] * 3 + [f"{prefix}_2"] * 2
    tracker.reset()
    (track,) = tracker.step(4 * NS, [Detection(box, 1.0)]).values()
    assert tracker.name(track) == f"{prefix}_3"
    assert Tracker().prefix != prefix


def test_somebody_found_twice_is_one() -> None:
    tracker = Tracker()
    box = np.array([10.0, 10.0, 40.0, 100.0])
    for index in range(3):
        tracker.step(index * NS // 12, [Detection(box, 0.9), Detection(box + 1, 0.5)])
    assert len(tracker.tracks) == 1


def seen(tracker: Tracker, seconds: float, *boxes: tuple[float, ...], colours: np.ndarray | None = None) -> list[int]:
    """The number of whoever is known in each box; 0 for who is not."""
    who = tracker.step(round(seconds * NS), [Detection(np.array(box, float), 1.0, colours) for box in boxes])
    known = {n: track for n, track in who.items() if track.known}
    return [int(tracker.name(known[n]).split("_")[1]) if n in known else 0 for n in range(len(boxes))]


def test_nobody_is_somebody_before_they_were_seen_for_a_while() -> None:
    tracker, box = Tracker(confirm_s=0.15), (10, 10, 40, 100)
    assert [seen(tracker, n / 12, box) for n in range(4)] == [[0], [0], [1], [1]]
    assert seen(tracker, 0.5, box, (200, 10, 240, 110)) == [1, 0]
    for n in range(7, 12):
        assert seen(tracker, n / 12, box) == [1]
    assert [seen(tracker, n / 12, box, (200, 10, 240, 110)) for n in range(12, 15)] == [[1, 0], [1, 0], [1, 2]]
    slow = Tracker(confirm_s=0.15)  # of a machine that sees two frames a second
    assert [seen(slow, n / 2, box) for n in range(2)] == [[0], [1]]


def test_nobody_takes_a_part_of_somebody_else_so_that_a_third_finds_a_place() -> None:
    """One stays, one left; a chair appears before the first, of whom the second could be the rest."""
    tracker = Tracker()
    stays, left, chair = (100, 20, 160, 220), (110, 30, 165, 215), (120, 180, 150, 220)
    for n in range(6):
        assert seen(tracker, n / 12, stays, (300, 30, 355, 215))[0] in (0, 1)
    tracker.tracks[1].state[0] = left  # where the hidden one is expected by now
    assert seen(tracker, 1.2, stays, chair)[0] == 1


def test_a_depth_camera_s_metres_say_where_and_how_large_who_is_hidden_comes_back() -> None:
    """Somebody walks towards the camera from 6 m to 3.5 m, hidden on the way: twice as high then."""
    focal = np.array([480.0, 480.0])

    def box_at(seconds: float) -> tuple[float, ...]:
        z = 6 - 1.25 * seconds
        x, half = 240 + 480 * 0.8 / z, 480 * 0.85 / z
        return (x - 0.35 * half, 144 - half, x + 0.35 * half, 144 + half)

    errors = []
    for metres in (True, False):
        tracker = Tracker()
        for n in range(4):
            seen(tracker, n / 12, box_at(n / 12))
            root, velocity = np.array([0.8, 0.0, 6 - 1.25 * n / 12]), np.array([0.0, 0.0, -1.25])
            tracker.tracks[0].place = Place(root, velocity, focal) if metres else None
        expected = tracker.tracks[0].at(round(1.6 * NS))
        errors.append(np.abs(expected - box_at(1.6)).max())
    assert errors[0] < 0.6 * errors[1]
