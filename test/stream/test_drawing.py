"""Drawings: each person in a colour of their own, their pixels tinted, their number written."""

from __future__ import annotations

import numpy as np
import pytest
from stream_fakes import skeleton

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.stream.drawing import color_of, draw_people
from thfm_ros.stream.people import Person

JOINTS = JOINT_SETS["thfm32"]


def person(number: int, x: float, confidence: float = 0.9) -> Person:
    body = skeleton()
    return Person(
        f"kzqwh_{number}",
        JOINTS,
        body[:, :2] * 60 + (x, 100),
        body,
        body,
        np.full(32, confidence),
        (320, 200),
        label=number,
    )


def test_everybody_has_their_own_colour_over_their_own_pixels() -> None:
    image = np.full((200, 320, 3), 100, np.uint8)
    labels = np.zeros((200, 320), np.uint16)
    labels[190:, :100], labels[190:, 200:] = 1, 2
    drawn = draw_people(image, [person(1, 60), person(2, 240)], labels)
    for area, number in ((drawn[195, 5], 1), (drawn[195, 315], 2)):
        assert area == pytest.approx(0.6 * 100 + 0.4 * 255 * np.array(color_of(f"kzqwh_{number}")), abs=2)
    np.testing.assert_array_equal(drawn[195, 150], 100)
    assert (image == 100).all()
    named = draw_people(image, [person(1, 60)]) != draw_people(image, [person(1, 60)], names=False)
    assert named.any()


def test_who_is_not_sure_is_not_drawn() -> None:
    image = np.full((200, 320, 3), 100, np.uint8)
    np.testing.assert_array_equal(draw_people(image, [person(1, 60, 0.1)]), image)
