import cv2
import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.panels import (
    LABEL_HEIGHT,
    depth_color,
    disparity_color,
    draw_skeleton,
    grid,
    normals_color,
    panel,
    tint,
    write,
)
from thfm_ros.skeleton import JOINT_SETS


def test_nearer_is_brighter_and_unknown_is_black():
    depth = np.array([[1.0, 2.0, 4.0, np.nan, 0.0]])
    brightness = depth_color(depth).sum(-1)[0].astype(int)
    assert brightness[0] > brightness[1] > brightness[2]
    assert brightness[3] == brightness[4] == 0
    assert not disparity_color(np.full((2, 2), np.nan)).any()


def test_normals_towards_the_camera_are_blue():
    normals = np.array([[[0, 0, -1.0], [1, 0, 0], [0, -1, 0], [0, 0, 0]]], np.float32)
    color = normals_color(normals)[0]
    assert [c.argmax() for c in color[:3]] == [2, 0, 1]
    assert not color[3].any()


def test_tint_changes_people_only():
    image = np.full((4, 4, 3), 100, np.uint8)
    alpha = np.zeros((4, 4))
    alpha[:2] = 1
    out = tint(image, alpha)
    assert (out[2:] == 100).all()
    assert (out[:2] != 100).any(-1).all()


def test_skeleton_is_drawn_where_it_is_sure():
    joints = JOINT_SETS["coco17"]
    xy = np.full((17, 2), 20.0)
    xy[5], xy[6] = (5, 30), (60, 30)
    image = np.zeros((64, 80, 3), np.uint8)
    confidence = np.zeros(17)
    assert not draw_skeleton(image, xy, confidence, joints).any()
    confidence[[5, 6]] = 1
    drawn = draw_skeleton(image, xy, confidence, joints)
    assert drawn[30, 6:58].any(-1).all()
    assert not image.any()
    xy[6] = np.nan  # never a crash on what a network may give
    draw_skeleton(image, xy, np.ones(17), joints)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_grid_keeps_every_panel(count):
    panels = [panel(np.full((10, 20, 3), 40 * (i + 1), np.uint8), f"{i}", 40, 30) for i in range(count)]
    out = grid(panels, 4)
    assert out.shape == ((30 + LABEL_HEIGHT) * -(-count // 4), 160, 3)
    for i, one in enumerate(panels):
        row, column = divmod(i, 4)
        height = 30 + LABEL_HEIGHT
        np.testing.assert_array_equal(out[row * height : (row + 1) * height, column * 40 : (column + 1) * 40], one)


def test_a_picture_is_written_in_its_colours_or_its_name_is_refused(tmp_path):
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 255
    write(tmp_path / "a.png", red)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], red)
    with pytest.raises(UserError, match=r"cannot write .*a\.xyz: expected the name of a picture"):
        write(tmp_path / "a.xyz", red)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
