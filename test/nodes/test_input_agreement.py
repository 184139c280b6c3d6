"""Inputs that must agree, over real DDS: what does not is said in one line, counted, and costs as little as it can."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_harness import NS, System, books, camera_info, header, stamp_of, wait_for
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stream_fakes import FakeRuntime, moving_square, skeleton

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics, project
from thfm_ros.msg import PersonArray
from thfm_ros.nodes.agreement import Findings, OneCamera, check_measures
from thfm_ros.nodes.depth_images import DepthImages
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.logs import Throttled

FRAME = "camera_optical_frame"


class Camera:
    """The `camera` part of /diagnostics."""

    def __init__(self, ros: System) -> None:
        self._heard: list[Any] = ros.listen(DiagnosticArray, "/diagnostics")

    @property
    def last(self) -> DiagnosticStatus | None:
        return next((s for s in self._heard[-1].status if s.name.endswith(": camera")), None) if self._heard else None

    def says(self, *words: str) -> str:
        """Waits until a WARN of one line has these words; the line."""
        line = wait_for(
            lambda: (
                (s := self.last)
                and s.level == DiagnosticStatus.WARN
                and all(w in s.message for w in words)
                and s.message
            ),
            what=f"a warning with {words}",
        )
        assert "\n" not in line
        return line

    def is_content(self) -> None:
        wait_for(lambda: (s := self.last) and s.level == DiagnosticStatus.OK, what="no warning")

    def value(self, key: str) -> str:
        return next((v.value for v in self.last.values if v.key == key), "") if self.last else ""


def luminance_depth(image: np.ndarray, near: float = 2.0) -> np.ndarray:
    """Metres that the fake network's disparity fits exactly; the nearest at `near`."""
    luminance = image.astype(float).mean(-1)
    share = (luminance - luminance.min()) / np.ptp(luminance)
    return (1.0 / (0.5 / near + 0.5 / near * share)).astype(np.float32)


# The depth camera


def wrong_depths() -> dict[str, tuple[Image, CameraInfo | None, str]]:
    """What is wrong -> a depth image of 1.5 to 3 m that is not the colour image's, its calibration, the words."""
    good = luminance_depth(moving_square(0), near=1.5)
    wide = camera_info(0)
    wide.k[0] = wide.k[4] = 60.0  # the colour camera has 96
    return {
        "aspect": (to_image(np.ascontiguousarray(good[:48]), "32FC1", header(0)), None, "aspect ratio"),
        "frame": (to_image(good, "32FC1", header(0, "depth_optical_frame")), None, "depth_optical_frame"),
        "view": (to_image(good, "32FC1", header(0)), wide, "colour camera's view"),
        "units": (to_image(good * 1000, "32FC1", header(0)), None, "expected metres"),
        "nothing": (to_image(good * 0, "32FC1", header(0)), None, "found none"),
        "encoding": (to_image(np.zeros((64, 96, 3), np.uint8), "rgb8", header(0)), None, "encoding"),
        "empty": (Image(header=header(0), encoding="32FC1"), camera_info(0), "found 0x0"),
    }


@pytest.mark.parametrize("wrong", list(wrong_depths()))
def test_depth_that_is_not_of_the_colour_image_is_refused_and_the_skeleton_measures(ros: System, wrong: str) -> None:
    node = ros.perception(use_depth_camera=True)
    camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    calibration = ros.camera.create_publisher(CameraInfo, "depth_camera/camera_info", 10)
    said, depth = Camera(ros), ros.listen(Image, "depth/image")
    wait_for(lambda: camera.get_subscription_count() and calibration.get_subscription_count())
    msg, info, words = wrong_depths()[wrong]
    if info is not None:
        calibration.publish(info)
        wait_for(lambda: node._inputs._depths._info is not None)
    for index in range(8):
        msg.header.stamp = header(ros.stamp(index)).stamp
        camera.publish(msg)
        ros.play([index], depth, image=moving_square(0))
    line = said.says("depth", words)
    assert "skeleton" in line
    wait_for(lambda: int(said.value("Depth images refused")) > 0)
    assert said.value("Depth images used") == "0"
    wait_for(lambda: said.value("Depth image by") == "skeleton")
    # By the skeleton, which stands at 3 m with nothing but the gradient and the square around it.
    found = np.frombuffer(depth[-1].data, np.float32)
    assert 2.5 < np.nanmedian(found) < 6.0


@pytest.mark.parametrize("shape", [(64, 96), (480, 640), (1080, 1920)])
def test_sparse_depth_measures_and_a_few_pixels_do_not(shape: tuple[int, int]) -> None:
    depth = np.full(shape, np.nan, np.float32)
    valid = np.random.default_rng(0).random(shape)
    check_measures(np.where(valid < 0.03, 3.0, depth))
    check_measures(np.where(valid < 0.5, 150.0, np.where(valid < 0.7, 10.0, depth)))  # outdoors
    for nothing in (depth, np.where(valid < 1e-6, 3.0, depth), np.where(valid < 0.5, 50.0, depth)):
        with pytest.raises(UserError, match="expected at least 64 pixels"):
            check_measures(nothing)
    with pytest.raises(UserError, match="median of 3000"):
        check_measures(np.where(valid < 0.5, 3000.0, depth))


def test_a_line_whose_numbers_change_is_logged_once() -> None:
    lines: list[str] = []
    findings = Findings(lines.append)
    for depth in (2399.0, 2406.0, 0.0003):
        with pytest.raises(UserError) as caught:
            check_measures(np.full((64, 96), depth, np.float32))
        findings.note("depth image", str(caught.value))
        assert findings.lines == [str(caught.value)]  # in /diagnostics it is the newest
    assert len(lines) == 2  # an image of nothing is another matter
    for camera in ("camera1", "camera2"):  # names are not numbers
        findings.note("cameras", f"found also frame_id '{camera}', 640x480")
    assert len(lines) == 4


def test_lines_that_differ_in_numbers_are_throttled_together() -> None:
    lines: list[str] = []
    say = Throttled(lines.append, period_s=60.0)
    for size in range(1000, 1020):
        say(f"malformed compressed image: format 'jpeg', {size} bytes cannot be decoded")
    say("malformed rgb8 image: 640x480 with step 1920 needs 921600 bytes, found 9")
    say("malformed rgb8 image: 1280x720 with step 3840 needs 2764800 bytes, found 11")
    say("malformed bgr8 image: 1280x720 with step 3840 needs 2764800 bytes, found 11")
    assert [line.split()[1] for line in lines] == ["compressed", "rgb8", "bgr8"]
    assert "1000 bytes" in lines[0]


def test_a_depth_camera_without_a_usable_calibration_measures_and_is_said(ros: System) -> None:
    node = ros.perception(use_depth_camera=True)
    camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    calibration = ros.camera.create_publisher(CameraInfo, "depth_camera/camera_info", 10)
    said, depth = Camera(ros), ros.listen(Image, "depth/image")
    wait_for(lambda: camera.get_subscription_count() and calibration.get_subscription_count())
    calibration.publish(CameraInfo(width=96, height=64))
    wait_for(lambda: node._inputs._depths._info is not None)
    for index in range(8):
        camera.publish(to_image(luminance_depth(moving_square(0)), "32FC1", header(ros.stamp(index))))
        ros.play([index], depth, image=moving_square(0))
    said.says("depth_camera/camera_info has no focal length", "not compared")
    wait_for(lambda: said.value("Depth image by") == "depth_camera")
    assert said.value("Depth images refused") == "0"


def test_a_depth_camera_that_is_mended_takes_over(ros: System) -> None:
    ros.perception(use_depth_camera=True)
    camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    said, depth = Camera(ros), ros.listen(Image, "depth/image")
    wait_for(lambda: camera.get_subscription_count())
    image = moving_square(0)
    for index in range(30):
        frame = "depth_optical_frame" if index < 6 else FRAME
        camera.publish(to_image(luminance_depth(image), "32FC1", header(ros.stamp(index), frame)))
        ros.play([index], depth, image=image)
        if index == 5:
            said.says("depth_optical_frame")
    said.is_content()
    wait_for(lambda: said.value("Depth image by") == "depth_camera")
    found = np.frombuffer(depth[-1].data, np.float32).reshape(32, 48)
    assert np.median(np.abs(found / luminance_depth(image)[1::2, 1::2] - 1)) < 0.02


def test_depth_pairs_again_after_time_has_jumped_back() -> None:
    """Depth comes faster than colour, so what had no pair fills the queue."""
    depths = DepthImages(0.01, Findings(lambda line: None))

    def play(start_ns: int) -> None:
        paired = depths.paired
        for index in range(60):  # 2 s
            stamp = start_ns + index * NS // 30
            depths.on_depth(Image(header=header(stamp)))
            if index % 3 == 0:
                depths.on_colour(header(stamp))
        assert depths.paired == paired + 20

    for start_ns in (1000 * NS, 1001 * NS, 0):  # the second goes back by a part of what was played
        play(start_ns)


@pytest.mark.parametrize(("offset_ns", "words"), [(500_000_000, "raise depth_slop_s"), (None, "no depth image on")])
def test_depth_that_never_pairs_is_said(ros: System, offset_ns: int | None, words: str) -> None:
    ros.perception(use_depth_camera=True)
    camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    said, depth = Camera(ros), ros.listen(Image, "depth/image")
    wait_for(lambda: camera.get_subscription_count())
    for index in range(24):
        if offset_ns is not None:
            stamp = ros.stamp(index) - 10_000_000_000 + offset_ns
            camera.publish(to_image(luminance_depth(moving_square(0)), "32FC1", header(stamp)))
        ros.play([index], depth)
    said.says(words, "skeleton")


@pytest.mark.parametrize(("offset_ns", "words"), [(40_000_000, "raise depth_slop_s"), (None, "no depth image on")])
def test_a_depth_camera_that_stops_or_drifts_apart_after_it_has_paired_is_said(
    offset_ns: int | None, words: str
) -> None:
    findings = Findings(lambda line: None)
    depths = DepthImages(0.03, findings)

    def play(start: int, count: int, offset_ns: int | None) -> list[str]:
        for index in range(start, start + count):
            stamp = index * NS // 12
            depths.on_colour(header(stamp))
            if offset_ns is not None:
                depths.on_depth(Image(header=header(stamp + offset_ns)))
        depths.look("/depth")
        return findings.lines

    assert play(0, 40, 0) == []
    assert play(40, 19, offset_ns) == []
    (line,) = play(59, 2, offset_ns)
    assert words in line
    assert play(61, 1, 0) == []


def test_the_skeleton_stands_where_the_depth_camera_sees_it(ros: System) -> None:
    """A person half as large again as the network takes them for: 4.5 m away, not 3."""
    runtime = FakeRuntime(root=(0.0, 0.0, 3.0))
    ros.perception(runtime, use_depth_camera=True)
    camera = ros.camera.create_publisher(Image, "depth_camera/image", 10)
    said, people = Camera(ros), ros.listen(PersonArray, "people")
    wait_for(lambda: camera.get_subscription_count())
    body = skeleton() + runtime.root
    measured = np.full((64, 96), 9.0, np.float32)
    for (u, v), z in zip(project(body, Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)), body[:, 2], strict=True):
        measured[max(0, int(v) - 4) : int(v) + 5, max(0, int(u) - 4) : int(u) + 5] = 1.5 * z
    for index in range(12):
        camera.publish(to_image(measured, "32FC1", header(ros.stamp(index) + 1_000_000)))
        ros.play([index], people)
    wait_for(lambda: said.value("Joints by") == "measured")
    (person,) = people[-1].people
    at_the_pelvis = measured[32, 48]
    assert person.root.z == pytest.approx(at_the_pelvis, rel=0.03)
    assert person.root.z == pytest.approx(4.5, rel=0.03)
    for joint, wanted in zip(person.joints, 1.5 * body, strict=True):  # each on its ray
        found = (joint.position.x, joint.position.y, joint.position.z)
        np.testing.assert_allclose(found, wanted, rtol=0.04, atol=0.05)


# camera_info


def test_a_camera_info_that_was_sent_once_before_the_node_is_received(ros: System) -> None:
    ros.camera.destroy_publisher(ros.infos)
    qos = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    infos = ros.camera.create_publisher(CameraInfo, "camera_info", qos)
    infos.publish(camera_info(0))
    ros.infos = infos
    ros.perception()
    depth = ros.listen(Image, "depth/image")
    heard = ros.listen(Image, "inverse_depth/image")
    wait_for(lambda: ros.nodes[0]._inputs._last_info is not None, what="the latched camera_info")
    ros.play(range(2), heard, info=False)
    wait_for(lambda: len(depth) == 2)


def test_of_two_cameras_infos_the_images_own_is_used_and_a_stranger_is_said(ros: System) -> None:
    node = ros.perception()
    said, infos = Camera(ros), ros.listen(CameraInfo, "depth/camera_info")
    for index, (frame, focal) in enumerate(((FRAME, 80.0), ("left", 160.0))):
        info = camera_info(ros.stamp(0))
        info.header.frame_id = frame
        info.k[0] = info.k[4] = focal
        ros.infos.publish(info)
        wait_for(lambda index=index: len(node._inputs._infos.get(ros.stamp(0), ())) == index + 1)
    ros.play([0], infos, info=False)
    assert infos[-1].k[0] == pytest.approx(40.0)
    said.is_content()
    image = to_image(moving_square(1), "rgb8", header(ros.stamp(1), "right"))
    ros.images.publish(image)
    said.says("expected frame_id 'right'", "remap camera_info")


def test_an_unusable_camera_info_is_one_line_in_the_log_and_in_the_part_camera(ros: System) -> None:
    """It was usable before, but for its distortion; only what is wrong now stands there."""
    node = ros.perception()
    lines: list[str] = []
    node._throttled = Throttled(lines.append, period_s=0.0)  # all that is to be logged
    said, heard = Camera(ros), ros.listen(Image, "inverse_depth/image")
    for index in range(4):
        info = bent(ros.stamp(index))
        info.k[0] = 0.0 if index else info.k[0]
        ros.infos.publish(info)
        wait_for(lambda index=index: ros.stamp(index) in node._inputs._infos)
        ros.play([index], heard, info=False)
    line = said.says("camera_info has no focal length", "no 3D outputs meanwhile")
    assert "not rectified" not in line
    assert len([text for text in lines if "focal length" in text]) == 1
    ros.infos.publish(camera_info(ros.stamp(4)))
    wait_for(lambda: ros.stamp(4) in node._inputs._infos)
    ros.play([4], heard, info=False)
    said.is_content()


def test_a_field_of_view_stands_in_for_an_uncalibrated_camera(ros: System) -> None:
    ros.perception(horizontal_fov_deg=60.0)
    said, infos = Camera(ros), ros.listen(CameraInfo, "depth/camera_info")
    info = camera_info(ros.stamp(0))
    info.k = [0.0] * 9
    ros.infos.publish(info)
    wait_for(lambda: ros.nodes[0]._inputs._last_info is not None)
    ros.play([0], infos, info=False)
    assert infos[0].k[0] == pytest.approx(24 / np.tan(np.radians(30)))
    said.says("horizontal_fov_deg is used instead")


def bent(stamp: int, p: float = 48.0) -> CameraInfo:
    """A camera with distortion, whose rectified image has another focal length."""
    info = camera_info(stamp)
    info.d = [-0.2, 0.05, 0.0, 0.0, 0.0]
    info.p = [p, 0.0, 47.5, 0.0, 0.0, p, 31.5, 0.0, 0.0, 0.0, 1.0, 0.0] if p else [0.0] * 12
    return info


@pytest.mark.parametrize(
    ("topic", "rectified", "matrix"),
    [
        ("camera/image_raw", None, "K"),
        ("camera/image_rect", "auto", "K for want of P"),
        ("camera/image_rect", None, "P"),
        ("camera/image_rect_color", "auto", "P"),
        ("zed/left/color/rect/image", "auto", "P"),
        ("camera/direct", "auto", "K"),
        ("camera/image_rect", False, "K"),
        ("camera/image_raw", True, "P"),
        ("camera/image_raw", "true", "P"),
    ],
)
def test_whether_the_image_is_rectified_is_found_by_its_name_or_given(
    ros: System, topic: str, rectified: Any, matrix: str
) -> None:
    from rclpy.node import Node

    given = {} if rectified is None else {"rectified": rectified}
    node = ros.perception(autostart=False, cli_args=["--ros-args", "-r", f"image:=/{topic}"], **given)
    node.trigger_configure()
    node.trigger_activate()
    assert isinstance(node, Node)
    ros.images = ros.camera.create_publisher(Image, f"/{topic}", 10)
    said, people = Camera(ros), ros.listen(PersonArray, "people")
    wait_for(lambda: ros.images.get_subscription_count() and ros.infos.get_subscription_count())
    ros.infos.publish(bent(ros.stamp(0), p=0.0 if "for want" in matrix else 48.0))
    wait_for(lambda: node._inputs._last_info is not None)
    ros.play([0], people, info=False)
    wait_for(lambda: said.value("Intrinsics") == matrix[0])
    if matrix == "P":
        said.is_content()
        # Half the focal length, and the fake says the same about the pixels: half as far away.
        assert people[0].people[0].root.z == pytest.approx(1.5, rel=0.05)
    elif "for want" in matrix:
        assert "joints are straightened" not in said.says("expected P in camera_info, found zeros")
    else:
        said.says("not rectified", "D of camera_info is not 0", "image_rect")


def test_rectified_is_a_word_or_a_bool_and_nothing_else(ros: System) -> None:
    node = ros.perception(load=lambda *_: FakeRuntime(), autostart=False)
    for value, word in ((True, "true"), (False, "false"), ("auto", "auto"), ("true", "true")):
        (result,) = node.set_parameters([Parameter("rectified", value=value)])
        assert result.successful
        assert node.settings().rectified == word
    for value in ("maybe", 1, 0.5, ["true"]):
        (result,) = node.set_parameters([Parameter("rectified", value=value)])
        assert not result.successful
        assert "expected auto, true, false" in result.reason
    assert node.settings().rectified == "true"


# Cameras and frames


def test_of_two_cameras_on_a_topic_the_first_is_answered(ros: System) -> None:
    node = ros.perception()
    said, heard = Camera(ros), ros.listen(Image, "inverse_depth/image")
    second = ros.camera.create_publisher(Image, "image", QoSProfile(depth=50))
    wait_for(lambda: second.get_subscription_count())
    ros.play(range(3), heard)
    other = np.full((60, 40, 3), 90, np.uint8)
    for index in range(3, 9):
        received = books(node)[0]
        second.publish(to_image(other, "rgb8", header(ros.stamp(index - 0.5), "other_frame")))
        wait_for(lambda received=received: books(node)[0] == received + 1)
        ros.play([index], heard)
    wait_for(lambda: books(node)[0] == books(node)[1] == 15)
    assert node.buffer.totals().drops["camera"] >= 4  # all but those by which it was found
    own = [m for m in heard if m.header.frame_id == FRAME]
    assert [stamp_of(m) for m in own] == [ros.stamp(i) for i in range(9)]
    said.says("two cameras on /image", "other_frame")
    said.says("2 publishers on /image")


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_of_two_compressed_cameras_of_one_frame_the_first_is_answered(ros: System, kind: str) -> None:
    node = ros.perception(image_transport="compressed", autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    said, heard = Camera(ros), ros.listen(Image, "inverse_depth/image")
    cameras = [ros.camera.create_publisher(CompressedImage, "image/compressed", 10) for _ in range(2)]
    wait_for(lambda: all(c.get_subscription_count() for c in cameras))
    for index in range(16):
        image = moving_square(index) if index < 4 or index % 2 else np.full((40, 60, 3), 90, np.uint8)
        received = books(node)[0]
        data = cv2.imencode(kind, image)[1].tobytes()
        cameras[image.shape[0] == 40].publish(CompressedImage(header=header(ros.stamp(index)), format=kind, data=data))
        wait_for(lambda received=received: books(node)[0] == received + 1 and books(node)[0] == books(node)[1])
    assert node.buffer.totals().drops["camera"] == 5  # of 6: the first might have been a change of mode
    assert {(m.width, m.height) for m in heard[-5:]} == {(48, 32)}
    said.says("two cameras on /image/compressed", "60x40")


def test_compressed_images_that_cannot_be_read_are_no_second_camera(ros: System) -> None:
    """Garbage, and a JPEG and a PNG that end within their headers, each twice among good ones."""
    node = ros.perception(image_transport="compressed", autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    said, heard = Camera(ros), ros.listen(Image, "inverse_depth/image")
    camera = ros.camera.create_publisher(CompressedImage, "image/compressed", 10)
    wait_for(camera.get_subscription_count)
    good = {kind: cv2.imencode(kind, moving_square(0))[1].tobytes() for kind in (".jpg", ".png")}
    damaged = [bytes(200), good[".jpg"][:20], good[".png"][:20]] * 2
    sent = [data for bad in damaged for data in (good[".jpg"], bad)]
    for index, data in enumerate(sent):
        camera.publish(CompressedImage(header=header(ros.stamp(index)), format="jpeg", data=data))
        wait_for(lambda count=index + 1: books(node) == (count, count))
    wait_for(lambda: len(heard) == len(damaged))
    assert +node.buffer.totals().drops == {"malformed": len(damaged)}
    said.is_content()


def test_a_camera_that_changes_its_mode_is_one_camera() -> None:
    cameras = OneCamera(silence_s=2.0)
    assert all(cameras.admit("a", t / 10) for t in range(20))
    assert all(cameras.admit("b", 2 + t / 10) for t in range(20))
    assert all(cameras.admit("a", 4 + t / 10) for t in range(20))
    assert cameras.others(10.0) == []


@pytest.mark.parametrize("periods", [(0.1, 0.1), (0.03, 0.2), (0.2, 0.03)])
def test_of_two_cameras_one_is_let_through_and_the_other_when_it_is_gone(periods: tuple[float, float]) -> None:
    cameras = OneCamera(silence_s=2.0)
    events = sorted((i * p + 0.001 * n, n) for n, p in enumerate(periods) for i in range(int(10 / p)))
    admitted = [(t, n) for t, n in events if cameras.admit("ab"[n], t)]
    settled = {n for t, n in admitted if t > 2.0}
    assert settled == {0}
    assert [t for t, n in admitted if n == 0] == [t for t, n in events if n == 0]  # nothing of the first is lost
    assert cameras.others(9.99) == ["b"]
    assert not cameras.admit("b", 10.5)
    assert cameras.admit("b", 12.5)
    assert cameras.others(12.5) == []


def test_one_corrupt_header_is_no_second_camera() -> None:
    cameras = OneCamera()
    for t in range(20):
        assert cameras.admit("odd" if t == 7 else "a", t / 10)
    assert cameras.others(2.0) == []


def test_an_empty_frame_id_is_said_once_and_answered(ros: System) -> None:
    ros.perception()
    said, heard = Camera(ros), ros.listen(Image, "inverse_depth/image")
    for index in range(4):
        ros.images.publish(to_image(moving_square(index), "rgb8", header(ros.stamp(index), "")))
        wait_for(lambda index=index: len(heard) == index + 1)
    said.says("empty frame_id", "set the driver's frame_id")


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_camera_that_sends_nothing_is_said_until_it_does(ros: System, transport: str) -> None:
    """None, one that publishes what the node does not subscribe to, or one that is silent."""
    node = ros.perception(load=lambda *_: FakeRuntime(), image_transport=transport, namespace="/robot")
    camera = Camera(ros)
    topic = "/robot/image" + ("/compressed" if transport == "compressed" else "")
    camera.says(f"no image on {topic}", "found 0 publishers", "remap image", "image_transport")
    publisher = ros.camera.create_publisher(CompressedImage if transport == "compressed" else Image, topic, 10)
    camera.says("found 1 publishers")
    wait_for(lambda: publisher.get_subscription_count() > 0)
    pixels = moving_square(0)
    jpeg = CompressedImage(header=header(ros.stamp(0)), format="jpeg", data=cv2.imencode(".jpg", pixels)[1].tobytes())
    publisher.publish(jpeg if transport == "compressed" else to_image(pixels, "rgb8", header(ros.stamp(0))))
    camera.is_content()
    assert node.state == "active"
