"""Windows: what is cut is what lies there, and points lead back to where they came from."""

from __future__ import annotations

import numpy as np
import pytest

from thfm_ros.stream.windows import FollowedClip, Window

SIZE = (112, 144)


def ramp(width: int = 640, height: int = 480) -> np.ndarray:
    """Red is the column, green the row, both in parts of 255 over the image: a pixel's colour says where it was."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize("box", [(100, 50, 180, 300), (300, 200, 310, 230), (20, 30, 600, 460), (-30, 100, 60, 300)])
def test_points_of_a_window_are_where_its_pixels_come_from(box: tuple[float, ...]) -> None:
    image = ramp()
    window = Window.around(box, SIZE)
    cut = window.cut(image)
    assert cut.shape == (144, 112, 3)
    for row, column in ((20, 30), (72, 56), (120, 90)):
        x, y = window.to_image(np.array([(column + 0.5) / 112, (row + 0.5) / 144])) - 0.5
        if 2 < x < 637 and 2 < y < 477:
            assert cut[row, column, 0] == pytest.approx(x * 255 / 639, abs=2)
            assert cut[row, column, 1] == pytest.approx(y * 255 / 479, abs=2)


def test_a_window_is_a_quarter_larger_than_its_box_and_has_its_own_aspect() -> None:
    window = Window.around((100, 50, 180, 350), SIZE)
    corners = window.to_image(np.array([(0, 0), (1, 1)]))
    assert np.ptp(corners[:, 1]) == pytest.approx(1.25 * 300)
    assert np.ptp(corners[:, 0]) == pytest.approx(1.25 * 300 * 112 / 144)


@pytest.mark.parametrize("box", [(700, 100, 800, 300), (-900, -900, -700, -500), (50, 50, 50, 50), (0, 0, 1, 1)])
def test_a_window_beside_the_picture_is_black_and_an_empty_box_is_no_error(box: tuple[float, ...]) -> None:
    cut = Window.around(box, SIZE).cut(np.full((480, 640, 3), 200, np.uint8))
    assert cut.shape == (144, 112, 3)
    if box[0] > 640 or box[2] < 0:
        assert not cut.any()


def test_a_clip_follows_its_person_steadily() -> None:
    rng = np.random.default_rng(0)
    way = np.array([[100 + 10 * t, 80, 160 + 10 * t, 280] for t in range(5)], float)
    boxes = way + rng.normal(0, 2, way.shape)
    boxes[[0, 3]] = np.nan
    clip = FollowedClip.along(boxes, SIZE)
    assert len({w.step for w in clip.windows}) == 1
    steps = np.diff([w.start for w in clip.windows], axis=0)
    np.testing.assert_allclose(steps, np.repeat(steps[:1], 4, 0), atol=1e-9)
    assert steps[0] == pytest.approx((10, 0), abs=1.5)
    middle = clip.to_image(np.full((5, 1, 2), 0.5))[:, 0]
    np.testing.assert_allclose(middle, (way[:, :2] + way[:, 2:]) / 2, atol=4)
    cut = clip.cut([ramp()] * 5)
    assert cut.shape == (5, 144, 112, 3)
    assert cut.dtype == np.uint8
