"""camera_info: half-pixel conventions, scaling, binning, regions, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics, project
from thfm_ros.nodes.camera_info import intrinsics_of, is_rectified, lens_of, pinhole_camera_info, scaled_camera_info


def camera_info(
    fx: float = 500.0, cx: float = 319.5, cy: float = 239.5, width: int = 640, height: int = 480
) -> CameraInfo:
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.0])
    info.k = [fx, 0.0, cx, 0.0, fx, cy, 0.0, 0.0, 1.0]
    info.p = [0.9 * fx, 0.0, cx + 3.0, 12.0, 0.0, 0.9 * fx, cy - 2.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    return info


def test_the_middle_of_the_image_is_the_middle() -> None:
    """A ROS camera with cx = (width - 1) / 2 looks through the middle: cx = width / 2 here."""
    assert intrinsics_of(camera_info(), 640, 480) == Intrinsics(500.0, 500.0, 320.0, 240.0, 640, 480)
    assert intrinsics_of(camera_info(), 640, 480, rectified=True) == Intrinsics(450.0, 450.0, 323.0, 238.0, 640, 480)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_a_scaled_camera_sees_the_same(scale: float) -> None:
    info = camera_info(cx=300.0, cy=200.0)
    width, height = int(640 * scale), int(480 * scale)
    small = scaled_camera_info(info, (640, 480), width, height, Header(frame_id="f"))
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 5), (20, 3))
    for rectified in (False, True):
        full = project(points, intrinsics_of(info, 640, 480, rectified))
        np.testing.assert_allclose(project(points, intrinsics_of(small, width, height, rectified)), full * scale)
    assert list(small.d) == list(info.d)
    assert small.p[3] == pytest.approx(12.0 * scale)
    assert (small.width, small.height, small.header.frame_id) == (width, height, "f")


def test_binning_and_region_of_interest() -> None:
    info = camera_info()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    info.binning_x = info.binning_y = 2
    camera = intrinsics_of(info, 200, 150)
    assert camera == Intrinsics(250.0, 250.0, 110.0, 100.0, 200, 150)
    out = scaled_camera_info(info, (200, 150), 100, 75, Header())
    assert intrinsics_of(out, 100, 75) == Intrinsics(125.0, 125.0, 55.0, 50.0, 100, 75)
    assert (out.roi.width, out.binning_x) == (0, 0)


def test_an_info_without_size_belongs_to_the_image() -> None:
    assert intrinsics_of(camera_info(width=0, height=0), 640, 480).width == 640


def test_an_image_of_another_size_but_the_same_shape_is_rescaled() -> None:
    assert intrinsics_of(camera_info(), 320, 240) == Intrinsics(250.0, 250.0, 160.0, 120.0, 320, 240)


def stretched() -> CameraInfo:
    info = camera_info()
    info.k[4] = 5000.0
    return info


def cut(x: int, y: int, width: int, height: int) -> CameraInfo:
    info = camera_info()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = x, y, width, height
    return info


def binned(x: int, y: int) -> CameraInfo:
    info = camera_info()
    info.binning_x, info.binning_y = x, y
    return info


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (CameraInfo(width=640, height=480), "no focal length"),
        (camera_info(fx=math.nan), "not finite"),
        (camera_info(cx=math.inf), "not finite"),
        (camera_info(fx=-5.0), "no focal length"),
        (camera_info(width=480, height=480), "another aspect ratio"),
        (camera_info(fx=1.2, cx=0.5, cy=0.5), "not normalised"),
        (camera_info(fx=500 / 640), "not normalised"),
        (camera_info(fx=4.0), "not normalised"),
        (camera_info(fx=500_000.0), "focal lengths of 26 to 64000 px"),
        (camera_info(cx=0.0, cy=0.0), "principal point"),
        (camera_info(cx=0.0), "principal point"),
        (camera_info(cy=0.0), "principal point"),
        (camera_info(cx=640.0, cy=480.0), "principal point"),
        (camera_info(cx=-320.0), "principal point"),
        (camera_info(cy=math.nan), "not finite"),
        (stretched(), "focal lengths"),
        (cut(100, 40, 400, 300), "publish a roi of zeros"),
        (cut(100, 40, 400, 200), "publish a roi of zeros"),
        (cut(400, 300, 400, 300), "a roi within"),
        (binned(2, 1), "another aspect ratio"),
    ],
)
def test_unusable_infos_are_refused_in_one_line(info: CameraInfo, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        intrinsics_of(info, 640, 480)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("fov_deg", [2.0, 60.0, 150.0])
def test_cameras_that_exist_are_taken(scale: int, fov_deg: float) -> None:
    """Telephoto and wide angle, a principal point well off the middle, non-square pixels, any size."""
    fx = 320 * scale / math.tan(math.radians(fov_deg / 2))
    info = camera_info(fx=fx, cx=200.0 * scale, cy=300.0 * scale, width=640 * scale, height=480 * scale)
    info.k[4] = 0.6 * fx
    assert intrinsics_of(info, 640, 480).fx == pytest.approx(fx / scale)


def test_a_region_at_the_border_has_its_principal_point_outside() -> None:
    info = cut(440, 330, 200, 150)
    camera = intrinsics_of(info, 200, 150)
    assert (camera.cx, camera.cy) == (320.0 - 440.0, 240.0 - 330.0)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/image_rect", True),
        ("/camera/image_rect_color", True),
        ("/camera/image_rect/compressed", True),
        ("/left/image_rect_raw", True),
        ("/zed/zed_node/rgb/color/rect/image", True),
        ("/oak/rgb/image_rectified", True),
        ("/camera/image_raw", False),
        ("/camera/color/image_raw", False),
        ("/direct/image", False),
        ("/rectangle/image", False),
        ("/camera/image_unrect", False),
    ],
)
def test_auto_goes_by_the_topics_name(topic: str, rectified: bool) -> None:
    assert is_rectified("auto", topic) == rectified
    assert is_rectified("true", topic)
    assert not is_rectified("false", topic)


def test_a_lens_is_known_by_its_distortion() -> None:
    info = camera_info()
    lens = lens_of(info)
    assert lens is not None
    assert (lens.model, lens.coefficients, lens.known) == ("plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.0), True)
    info.d = [0.0] * 5
    assert lens_of(info) is None
    info.d = []
    assert lens_of(info) is None
    info.d = [math.nan] * 5
    with pytest.raises(UserError, match="D that are not finite"):
        lens_of(info)


def test_a_pinhole_goes_there_and_back() -> None:
    camera = Intrinsics.from_fov(70.0, 320, 180)
    info = pinhole_camera_info(camera, Header())
    for rectified in (False, True):
        back = intrinsics_of(info, 320, 180, rectified)
        np.testing.assert_allclose(back.matrix, camera.matrix)
