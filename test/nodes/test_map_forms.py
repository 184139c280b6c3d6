"""Compressed images and points, as those read them who know nothing of this package."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from node_harness import System, stamp_of, wait_for
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from thfm_ros.geometry import Intrinsics, project
from thfm_ros.nodes.images import compressed_to_rgb
from thfm_ros.nodes.maps import FORMS, MapSettings
from thfm_ros.stream.estimator import FrameResult

HEADER = Header(frame_id="camera")


def frame(depth: np.ndarray | None = None) -> FrameResult:
    """A picture of 6x4 with all its colours different."""
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3
    mask = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    return FrameResult(0, image, (6, 4), Intrinsics(5.0, 5.0, 3.0, 2.0, 6, 4), depth=depth, foreground=mask)


def metres() -> np.ndarray:
    depth = np.linspace(0.2, 30.0, 24, dtype=np.float32).reshape(4, 6)
    depth[0, 1], depth[0, 2], depth[0, 3] = np.nan, np.inf, 0.05
    return depth


def as_the_plugin_reads_it(message: CompressedImage) -> np.ndarray:
    """Metres (H, W) as compressed_depth_image_transport decodes them: depth = a / (code - b), 0 is unknown."""
    encoding, _, form = message.format.partition("; ")
    assert (encoding, form) == ("32FC1", "compressedDepth png")
    kind, a, b = struct.unpack_from("<iff", bytes(message.data))
    assert kind == 0  # inverse depth
    codes = cv2.imdecode(np.frombuffer(message.data, np.uint8)[12:], cv2.IMREAD_UNCHANGED)
    assert codes.dtype == np.uint16
    with np.errstate(divide="ignore"):
        return np.where(codes > 0, a / (codes.astype(np.float32) - b), np.nan)


def test_compressed_depth_is_what_image_transport_reads() -> None:
    depth = metres()
    found = as_the_plugin_reads_it(FORMS["depth/image/compressedDepth"](frame(depth), HEADER, MapSettings()))
    assert np.isnan(found[0, 1:3]).all()
    assert found[0, 3] == pytest.approx(0.154, abs=0.001)  # the least it can state
    rest = np.isfinite(depth) & (depth > 0.1)
    np.testing.assert_allclose(found[rest], depth[rest], atol=0.05)
    near = rest & (depth < 10)
    np.testing.assert_allclose(found[near], depth[near], atol=0.006)


def test_a_mask_as_png_is_exact_and_a_picture_as_jpeg_has_its_colours() -> None:
    mask = FORMS["foreground/image/compressed"](frame(), HEADER, MapSettings())
    exact = cv2.imdecode(np.frombuffer(mask.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(exact, np.rint(frame().foreground * 255).astype(np.uint8))
    blue = FrameResult(0, np.full((16, 16, 3), (10, 20, 200), np.uint8), (16, 16), None)
    sizes = []
    for quality in (95, 10):
        picture = FORMS["overlay/image/compressed"](blue, HEADER, MapSettings(jpeg_quality=quality))
        np.testing.assert_allclose(compressed_to_rgb(picture)[8, 8], (10, 20, 200), atol=8)
        assert picture.format == "rgb8; jpeg compressed bgr8"
        noisy = FrameResult(0, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), (64, 64), None)
        sizes.append(len(FORMS["overlay/image/compressed"](noisy, HEADER, MapSettings(jpeg_quality=quality)).data))
    assert sizes[0] > 2 * sizes[1]


def test_points_project_to_the_pixels_that_they_are_of() -> None:
    for step in (1, 2):
        result = frame(metres())
        cloud = FORMS["depth/points"](result, HEADER, MapSettings(points_step=step))
        assert [f.name for f in cloud.fields] == ["x", "y", "z", "rgb"]
        assert (cloud.point_step, cloud.row_step, cloud.height) == (16, 16 * cloud.width, 1)
        points = np.frombuffer(cloud.data, np.float32).reshape(-1, 4)
        known = np.isfinite(result.depth[::step, ::step])
        assert len(points) == cloud.width == known.sum()
        pixels = np.floor(project(points[:, :3], result.intrinsics)).astype(int)
        np.testing.assert_allclose(points[:, 2], result.depth[pixels[:, 1], pixels[:, 0]], rtol=1e-6)
        assert (pixels % step == 0).all()
        bits = points[:, 3].copy().view(np.uint32)
        colours = np.stack([bits >> 16, bits >> 8 & 255, bits & 255], -1)
        np.testing.assert_array_equal(colours, result.image[pixels[:, 1], pixels[:, 0]])


def test_a_frame_without_metres_has_none_of_these() -> None:
    assert FORMS["depth/points"](frame(), HEADER, MapSettings()) is None
    assert FORMS["depth/image/compressedDepth"](frame(), HEADER, MapSettings()) is None
    nothing_known = np.full((4, 6), np.nan, np.float32)
    assert FORMS["depth/points"](frame(nothing_known), HEADER, MapSettings()).width == 0


def test_the_node_publishes_them_under_the_frames_header(ros: System) -> None:
    ros.perception(points_step=2)
    depth = ros.listen(Image, "depth/image")
    kinds = {name: PointCloud2 if name.endswith("points") else CompressedImage for name in FORMS}
    heard = {name: ros.listen(kind, name) for name, kind in kinds.items()}
    stamps = ros.play(range(2), depth)
    wait_for(lambda: all(len(messages) == 2 for messages in heard.values()))
    for messages in heard.values():
        assert [stamp_of(m) for m in messages] == stamps
        assert {m.header.frame_id for m in messages} == {"camera_optical_frame"}
    raw = np.frombuffer(depth[-1].data, np.float32).reshape(depth[-1].height, depth[-1].width)
    packed = as_the_plugin_reads_it(heard["depth/image/compressedDepth"][-1])
    plain = (raw > 0.2) & (raw < 10)
    np.testing.assert_allclose(packed[plain], raw[plain], atol=0.01)
    assert heard["depth/points"][-1].width == np.isfinite(raw[::2, ::2]).sum()
