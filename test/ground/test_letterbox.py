import numpy as np
import pytest

from thfm_ros.geometry import Intrinsics, project
from thfm_ros.letterbox import Letterbox, letterbox


@pytest.mark.parametrize("source", [(640, 480), (480, 640), (320, 192), (33, 700)])
def test_a_letterbox_keeps_the_aspect_and_inverts(source):
    image = np.zeros((source[1], source[0], 3), np.uint8)
    fitted, placement = letterbox(image, 320, 192)
    assert fitted.shape == (192, 320, 3)
    assert 320 in placement.content or 192 in placement.content
    assert placement.crop(fitted).shape[:2] == placement.content[::-1]
    points = np.random.default_rng(0).uniform(0, source, (10, 2))
    np.testing.assert_allclose(placement.points_to_source(placement.points_to_target(points)), points, atol=1e-9)


def test_a_letterbox_moves_the_camera_with_the_image():
    camera = Intrinsics(500, 500, 320, 240, 640, 480)
    placement = Letterbox.of((640, 480), (320, 192))
    points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 5], (10, 3))
    np.testing.assert_allclose(
        project(points, placement.intrinsics(camera)), placement.points_to_target(project(points, camera)), atol=1e-9
    )
