"""The real graph over real DDS: camera, perception and recorder as processes, seen by an independent subscriber."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from thfm_ros import processes
from thfm_ros.nodes.bag import typestore
from thfm_ros.video import VideoReader, VideoWriter

FRAMES, RATE = 40, 8.0


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Runs the graph on a short video with the tiny network; gives (folder, what the subscriber saw)."""
    folder = tmp_path_factory.mktemp("graph")
    environment = {**os.environ, "ROS_DOMAIN_ID": "100", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "thfm_ros.cli", "init", "tiny", "--out", str(folder / "tiny")], check=True, timeout=120
    )
    noise = np.random.default_rng(0)
    with VideoWriter(folder / "input.mp4", RATE) as video:
        for i in range(FRAMES):
            image = noise.integers(0, 60, (96, 160, 3), np.uint8)
            image[30:70, 2 * i : 2 * i + 40] = 200
            video.write(image)
    running = []

    def start(module, *arguments, **parameters):
        command = [sys.executable, *module, *arguments]
        if parameters:
            command += ["--ros-args"]
            for name, value in parameters.items():
                command += ["-p", f"{name}:={json.dumps(value)}"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    try:
        subscriber = start([str(Path(__file__).with_name("subscriber.py"))], "8", "150")
        recorder = start(
            ["-m", "thfm_ros.nodes.recorder_node"],
            video=str(folder / "film.mp4"),
            picture=str(folder / "film.png"),
            table=str(folder / "table.json"),
            bag=str(folder / "bag"),
            idle_s=6.0,
            start_timeout_s=140.0,
        )
        start(["-m", "thfm_ros.nodes.perception_node"], bundle=str(folder / "tiny"), backend="torch", min_score=0.0)
        start(["-m", "thfm_ros.nodes.camera_node"], source=str(folder / "input.mp4"), wait_for_subscribers=3)
        _, errors = recorder.communicate(timeout=200)
        assert recorder.returncode == 0, errors
        seen, errors = subscriber.communicate(timeout=60)
        assert subscriber.returncode == 0, errors
        yield folder, json.loads(seen)
    finally:
        processes.end(running)


def test_every_output_carries_the_stamp_and_frame_of_an_input(graph):
    _, seen = graph
    inputs = [m["stamp"] for m in seen["image"]]
    for topic, messages in seen.items():
        assert messages, f"nothing came on {topic}"
        stamps = [m["stamp"] for m in messages]
        assert stamps == sorted(set(stamps)), f"{topic} repeats or goes backwards"
        assert {m["frame"] for m in messages} == {"camera_optical_frame"}
        if topic != "camera_info":
            assert set(stamps) & set(inputs)
            assert all(s in inputs or s < inputs[0] for s in stamps), f"{topic} has stamps of no input"


def test_images_are_what_their_encoding_says(graph):
    _, seen = graph
    bytes_per_pixel = {"rgb8": 3, "mono8": 1, "32FC1": 4, "32FC3": 12}
    encodings = {
        "inverse_depth/image": "32FC1",
        "normals/image": "32FC3",
        "normals/image_color": "rgb8",
        "foreground/image": "mono8",
        "dense_pose/image": "32FC3",
        "overlay/image": "rgb8",
    }
    for topic, encoding in encodings.items():
        for message in seen[topic]:
            width, height, step = message["size"]
            assert message["encoding"] == encoding
            assert step == width * bytes_per_pixel[encoding]
            assert message["bytes"] == step * height


def test_people_have_whole_skeletons_in_input_pixels(graph):
    _, seen = graph
    assert {tuple(m["size"]) for m in seen["people"]} == {(160, 96)}
    assert {j for m in seen["people"] for j in m["joints"]} == {32}


def test_the_recorder_leaves_film_picture_and_table(graph):
    folder, _ = graph
    film = list(VideoReader(folder / "film.mp4"))
    table = json.loads((folder / "table.json").read_text())
    assert len(film) > 0
    assert (folder / "film.png").read_bytes()[:4] == b"\x89PNG"
    assert table["/people"]["messages"] >= len(film)
    assert table["/people"]["latency_ms_median"] > 0
    assert not list(folder.glob(".*"))  # nothing half-written


def test_the_bag_holds_every_message(graph):
    from rosbags.rosbag2 import Reader

    folder, _ = graph
    table = json.loads((folder / "table.json").read_text())
    store = typestore()
    counts: dict[str, int] = {}
    with Reader(folder / "bag") as bag:
        for connection, _, raw in bag.messages():
            counts[connection.topic] = counts.get(connection.topic, 0) + 1
            if connection.topic == "/people":
                message = store.deserialize_cdr(raw, connection.msgtype)
                assert message.header.frame_id == "camera_optical_frame"
    assert counts == {topic: row["messages"] for topic, row in table.items() if row["messages"]}
    assert counts["/perception/stats"] > 1


@pytest.mark.parametrize(
    ("node", "parameter", "message"),
    [
        ("camera", "source:=/dev/video99", "camera: camera /dev/video99 does not exist"),
        ("camera", "rate:=fast", "camera: parameter rate = 'fast': expected a float"),
        ("camera", "rate:=-1", "camera: parameter rate = -1: expected 0"),
        ("recorder", "topics:=[depths]", "recorder: cannot record depths"),
        ("recorder", "video:=/dev/null/film.mp4", "recorder: cannot write /dev/null/film.mp4"),
        ("recorder", "bag:=/dev/null/bag", "recorder: cannot write /dev/null/bag"),
    ],
)
def test_mistakes_in_parameters_are_one_line(node, parameter, message):
    done = subprocess.run(
        [sys.executable, "-m", f"thfm_ros.nodes.{node}_node", "--ros-args", "-p", parameter],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
