"""The camera for those who have none: a file at its own times and as a player shows it, a device's whole frames."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from node_harness import System, stamp_of, wait_for
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from video_files import QUARTERS, write, write_packets

from thfm_ros.nodes import camera_node
from thfm_ros.nodes.camera_node import CameraNode, FileSource, device_rgb
from thfm_ros.nodes.images import image_to_rgb

UNEVEN = [0.0, 0.04, 0.08, 0.4, 0.44, 0.9, 0.94]


def play(ros: System, path: Path, **params: object) -> tuple[list[Image], list[CameraInfo], CameraNode]:
    """What the camera node sends of a file."""
    images = ros.listen(Image, "image", wait=False)
    infos = ros.listen(CameraInfo, "camera_info", wait=False)
    values = {"source": str(path), "wait_for_subscribers": 1, **params}
    node = CameraNode(context=ros.context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
    ros.extra.append(node)
    node.run()
    wait_for(lambda: len(images) >= node.sent and len(infos) >= node.sent, what="every image and camera_info")
    return images, infos, node


@pytest.mark.parametrize("rate", [0.0, 15.0])
def test_frames_have_the_times_of_the_file(
    ros: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr(camera_node, "LATE_S", 1e9)  # whatever else this machine does
    write(tmp_path / "a.mp4", [QUARTERS] * 7, times=UNEVEN)
    images, _, node = play(ros, tmp_path / "a.mp4", rate=rate)
    assert node.sent == 7
    wait_for(lambda: len(images) == 7)
    stamps = np.array([stamp_of(image) for image in images]) / 1e9
    speed = rate / node.source.reader.fps if rate else 1.0
    np.testing.assert_allclose((stamps - stamps[0]) * speed, UNEVEN, atol=0.02)


def test_a_film_held_upright_is_sent_upright_with_its_camera(ros: System, tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [QUARTERS] * 2, matrix=(0, 1, -1, 0))
    images, infos, _ = play(ros, tmp_path / "a.mp4")
    wait_for(lambda: len(images) == len(infos) == 2)
    expected = np.rot90(QUARTERS, -1)
    for image in images:
        difference = image_to_rgb(image).astype(int) - expected
        assert np.abs(difference).mean() < 8
    assert {(info.width, info.height) for info in infos} == {(64, 96)}


def test_half_a_frame_is_not_sent(ros: System, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    jpegs = [cv2.imencode(".jpg", noise)[1].tobytes()] * 4
    jpegs[2] = jpegs[2][: len(jpegs[2]) // 2]
    write_packets(tmp_path / "a.avi", jpegs, range(4))
    _, _, node = play(ros, tmp_path / "a.avi", rate=100.0)
    assert (node.sent, node.source.damaged) == (3, 1)


def test_what_is_found_out_while_a_file_is_played_is_logged(
    ros: System, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), np.uint8)
    write(tmp_path / "a.mkv", list(noise), options={"bf": "0", "g": "5"})
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    _, _, node = play(ros, tmp_path / "a.mkv", rate=100.0)
    assert 0 < node.sent < 30
    assert capfd.readouterr().err.count("the end is missing") == 1


def test_a_loop_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [QUARTERS] * 4, fps=10)
    frames = FileSource(str(tmp_path / "a.mp4"), loop=True, rate=20.0).frames()
    due = [next(frames)[0] for _ in range(10)]
    np.testing.assert_allclose(due, np.arange(10) / 20, atol=1e-6)


def test_a_device_gives_pixels_or_the_bytes_of_a_jpeg() -> None:
    data = cv2.imencode(".jpg", QUARTERS[..., ::-1])[1]
    for given in (data.reshape(1, -1), data.reshape(1, -1)[:, :-2], data.ravel()):  # with and without its end marker
        rgb = device_rgb(given)
        assert np.abs(rgb.astype(int) - QUARTERS).mean() < 8
    np.testing.assert_array_equal(device_rgb(np.ascontiguousarray(QUARTERS[..., ::-1])), QUARTERS)
    assert device_rgb(data.reshape(1, -1)[:, : data.size // 2]) is None
    assert device_rgb(np.zeros((1, 4000), np.uint8)) is None
    damaged = data.ravel().copy()
    size = damaged.tobytes().index(b"\xff\xc0") + 5
    damaged[size : size + 4] = 240  # 61680 pixels wide and high: more than OpenCV takes
    assert device_rgb(damaged) is None


def test_only_a_file_needs_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "av" or name.startswith(("av.", "thfm_ros.video"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(camera_node.UserError, match="videos need PyAV"):
        FileSource("walker", loop=False, rate=0.0)
