"""Instances: grouping the encoded truth gives the people back, whoever they are and wherever the picture ends."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from thfm_ros.instances import Instances, encode, group
from thfm_ros.quantities import INSTANCES

SHAPE = (144, 240)


def person(ids: np.ndarray, number: int, x: float, foot: float, height: float, rng: np.random.Generator) -> None:
    """Draws somebody about `height` pixels high over what is there: a head, a trunk, arms and legs that spread."""
    unit = height / 8
    joint = lambda dx, up: (round(x + dx * unit), round(foot - up * unit))  # noqa: E731
    draw = lambda a, b, wide: cv2.line(ids, a, b, number, max(1, round(wide * unit)))  # noqa: E731
    cv2.circle(ids, joint(0, 7.4), max(1, round(0.6 * unit)), number, -1)
    draw(joint(0, 6.6), joint(0, 4), 1.6)
    for side in (-1, 1):
        draw(joint(0.4 * side, 4), joint(side * rng.uniform(0.2, 1.6), 0), 0.8)
        draw(joint(0.7 * side, 6.3), joint(side * rng.uniform(0.8, 2.4), rng.uniform(3.5, 6)), 0.6)


def crowd(seed: int, count: int, least: float = 8, largest: float = 150) -> np.ndarray:
    """(H, W) numbers of people from far to near, each over the ones behind, some beyond the picture's edge; whoever is
    all but hidden is left out."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(SHAPE, np.uint8)
    for number, height in enumerate(sorted(np.exp(rng.uniform(np.log(least), np.log(largest), count))), 1):
        person(ids, number, rng.uniform(0, SHAPE[1]), rng.uniform(60, 170), height, rng)
    for number in range(1, count + 1):
        if (ids == number).sum() < 14:
            ids[ids == number] = 0
    return ids


def overlaps(found: Instances, ids: np.ndarray) -> dict[int, float]:
    """The best IoU with a found person of everybody in the truth."""
    out = {}
    for number in np.unique(ids[ids > 0]):
        own = ids == number
        each = [(own & (found.labels == n)).sum() / (own | (found.labels == n)).sum() for n in range(1, len(found) + 1)]
        out[int(number)] = float(max(each, default=0.0))
    return out


@pytest.mark.parametrize("seed", range(12))
def test_grouping_the_encoded_truth_gives_everybody_back(seed: int) -> None:
    ids = crowd(seed, 6)
    found = group(INSTANCES.from_rgb(INSTANCES.to_rgb(encode(ids))))
    assert len(found) == len(np.unique(ids[ids > 0]))
    assert all(iou > 0.999 for iou in overlaps(found, ids).values())
    assert np.array_equal(found.labels > 0, ids > 0)
    assert (found.scores > 0.99).all()
    sizes = np.bincount(found.labels.ravel(), minlength=len(found) + 1)[1:]
    assert (np.diff(sizes) <= 0).all()  # the largest first
    for number, box, (x, y) in zip(range(1, len(found) + 1), found.boxes, found.centres, strict=True):
        rows, columns = np.nonzero(found.labels == number)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert found.labels[int(y), int(x)] == number


@pytest.mark.parametrize("seed", range(6))
def test_people_who_touch_stay_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.zeros(SHAPE, np.uint8)
    for number, x in ((1, 100), (2, 100 + 4.5 * 100 / 8)):
        person(ids, number, x, 130, 100, rng)
    found = group(encode(ids))
    assert len(found) == 2
    assert min(overlaps(found, ids).values()) > 0.999


def test_eight_pixels_are_somebody_and_fewer_than_asked_are_nobody() -> None:
    ids = np.zeros(SHAPE, np.uint8)
    ids[20:28, 30:33] = 1
    ids[20:28, 36:39] = 2
    ids[100:103, 100:103] = 3
    found = group(encode(ids))
    assert len(found) == 2
    assert overlaps(found, ids) == {1: 1.0, 2: 1.0, 3: 0.0}
    assert len(group(encode(ids), least=9)) == 3


def test_someone_behind_a_pillar_is_one() -> None:
    ids = np.zeros(SHAPE, np.uint8)
    ids[30:120, 100:140] = 1
    ids[:, 116:122] = 0
    assert overlaps(group(encode(ids)), ids) == {1: 1.0}


def test_someone_larger_than_the_picture_is_one() -> None:
    ids = np.ones(SHAPE, np.uint8)
    assert overlaps(group(encode(ids)), ids) == {1: 1.0}


def test_nobody_is_an_empty_list() -> None:
    found = group(encode(np.zeros(SHAPE, np.uint8)))
    assert len(found) == 0
    assert found.labels.max() == 0
    assert found.boxes.shape == (0, 4)


def test_more_people_than_asked_are_left_out() -> None:
    ids = np.zeros(SHAPE, np.uint8)
    for n in range(8):
        ids[20:50, 10 + 28 * n : 22 + 28 * n] = n + 1
    assert len(group(encode(ids), most=3)) == 3


@pytest.mark.parametrize("seed", range(6))
def test_a_network_s_errors_leave_most_people_apart(seed: int) -> None:
    ids = crowd(seed, 5, least=20)
    rng = np.random.default_rng(seed)
    rough, smooth = (rng.normal(0, 1, (*SHAPE, 3)).astype(np.float32) for _ in range(2))
    smooth = cv2.GaussianBlur(smooth, (0, 0), 4)
    found = group(encode(ids) + 0.02 * rough + 0.03 * smooth / smooth.std())
    everyone = overlaps(found, ids)
    large = [iou for number, iou in everyone.items() if (ids == number).sum() > 80]
    assert np.mean([iou > 0.5 for iou in large]) >= 0.75
    assert np.mean(large) > 0.7
    assert len(found) <= len(everyone) + 2


def test_the_code_is_within_its_range_and_the_same_at_every_size() -> None:
    ids = crowd(3, 4, least=60)
    code = encode(ids)
    assert np.abs(code[..., :2]).max() <= 1
    assert code[..., 2].min() == 0
    assert code[..., 2].max() == 1
    assert (code[ids == 0] == 0).all()
    twice = encode(np.kron(ids, np.ones((2, 2), np.uint8)))
    inside = cv2.erode((ids > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert np.abs(twice[::2, ::2] - code)[inside].mean() < 0.05
