"""MOTA, IDF1, HOTA and switches against TrackEval's, and in cases that need no arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_sequences import sequence

from thfm_ros.evaluate.tracking import TrackedFrame, tracking_figures

# By TrackEval 1.3.0 (its classes HOTA, CLEAR and Identity), of `sequence(seed)`.
REFERENCE = {
    0: {
        "mota": 0.10052910052910052,
        "switches": 21.0,
        "missed": 73.0,
        "false": 76.0,
        "idf1": 0.4776902887139108,
        "hota": 0.3481632405892493,
        "deta": 0.3948903975765949,
        "assa": 0.30750172061310693,
    },
    1: {
        "mota": 0.05319148936170213,
        "switches": 17.0,
        "missed": 72.0,
        "false": 89.0,
        "idf1": 0.4580152671755725,
        "hota": 0.3491413321343147,
        "deta": 0.4120987946559763,
        "assa": 0.29648427462648047,
    },
    2: {
        "mota": -0.042328042328042326,
        "switches": 12.0,
        "missed": 95.0,
        "false": 90.0,
        "idf1": 0.30563002680965146,
        "hota": 0.2735341586163781,
        "deta": 0.37700822252755817,
        "assa": 0.19941443884153295,
    },
    3: {
        "mota": 0.11702127659574468,
        "switches": 13.0,
        "missed": 78.0,
        "false": 75.0,
        "idf1": 0.34316353887399464,
        "hota": 0.27719769910898734,
        "deta": 0.38559237614734143,
        "assa": 0.19987401118584525,
    },
    4: {
        "mota": -0.08021390374331551,
        "switches": 17.0,
        "missed": 91.0,
        "false": 94.0,
        "idf1": 0.27586206896551724,
        "hota": 0.2460582350451471,
        "deta": 0.37047361367890796,
        "assa": 0.16529596115640957,
    },
    5: {
        "mota": 0.14136125654450263,
        "switches": 5.0,
        "missed": 82.0,
        "false": 77.0,
        "idf1": 0.519893899204244,
        "hota": 0.3604676308543732,
        "deta": 0.3900631286567262,
        "assa": 0.33373085724714774,
    },
}


@pytest.mark.parametrize("seed", REFERENCE)
def test_figures_are_those_of_trackeval(seed: int) -> None:
    found = tracking_figures([sequence(seed)])
    assert {name: found[name] for name in REFERENCE[seed]} == pytest.approx(REFERENCE[seed])


def frames(ids: list[list[int]]) -> list[TrackedFrame]:
    """Two people who are found exactly, under these ids."""
    return [TrackedFrame(np.array([1, 2]), np.array(each), np.eye(2)) for each in ids]


def test_whoever_keeps_their_id_has_all_and_whoever_swaps_once_half() -> None:
    same = tracking_figures([frames([[7, 8]] * 10)])
    assert (same["mota"], same["idf1"], same["hota"], same["switches"]) == (1.0, 1.0, pytest.approx(1.0), 0.0)
    swapped = tracking_figures([frames([[7, 8]] * 5 + [[8, 7]] * 5)])
    assert (swapped["switches"], swapped["idf1"], swapped["deta"]) == (2.0, 0.5, pytest.approx(1.0))


@pytest.mark.parametrize(("truth", "found"), [([1], []), ([], [10]), ([], [])])
def test_a_frame_without_anybody_is_no_frame_before(truth: list[int], found: list[int]) -> None:
    """TrackEval leaves such frames out: who was together before one stays so after it."""

    def frame(truth: list[int], found: list[int], likeness: list[float]) -> TrackedFrame:
        return TrackedFrame(np.array(truth, int), np.array(found, int), np.reshape(likeness, (len(truth), len(found))))

    figures = tracking_figures([[frame([1], [10], [0.9]), frame(truth, found, []), frame([1], [10, 11], [0.6, 0.8])]])
    assert figures["switches"] == 0


def test_nobody_is_no_figure_and_no_error() -> None:
    nobody = TrackedFrame(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 0)))
    assert np.isnan(tracking_figures([[nobody]])["mota"])
    assert np.isnan(tracking_figures([])["idf1"])
    ghost = TrackedFrame(np.zeros(0, int), np.array([3]), np.zeros((0, 1)))
    assert tracking_figures([[nobody, ghost]])["false"] == 1.0
