"""An MCAP bag through the real node equals the offline estimator on the same frames, stamp for stamp, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_harness import System, books, camera_info, header, stamp_of, wait_for
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from stream_fakes import moving_square
from tiny_model import make_tiny_checkpoint

from thfm_ros.engine.load import load_runtime
from thfm_ros.msg import PersonArray
from thfm_ros.nodes.bag import BagWriter
from thfm_ros.nodes.camera_info import intrinsics_of
from thfm_ros.nodes.images import image_to_rgb, to_image
from thfm_ros.nodes.parameters import DEFAULT_TASKS
from thfm_ros.nodes.people import people_to_msg
from thfm_ros.stream.estimator import FrameResult, StreamConfig, StreamEstimator
from thfm_ros.stream.offline import run_stream

pytest.importorskip("torch")
rosbags = pytest.importorskip("rosbags.rosbag2")

NS = 1_000_000_000
RATE, FRAMES, STRIDE = 30.0, 41, 4
LOW_SCORE = 0.0  # untrained: people are reported however unsure


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 Hz with jitter, in bgr8, and a loop back to the start in the middle."""
    path = tmp_path_factory.mktemp("bag") / "camera"
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, FRAMES)
    writer = BagWriter(path)
    for i in range(FRAMES):
        at = i if i < 25 else i - 25
        stamp = System.START + round((at / RATE + jitter[i]) * NS)
        image = to_image(moving_square(i)[..., ::-1], "rgb8", header(stamp))
        image.encoding = "bgr8"
        info = camera_info(stamp)
        received = System.START + round(i / RATE * NS)
        writer.write("/camera_info", "sensor_msgs/msg/CameraInfo", received, serialize_message(info))
        writer.write("/image", "sensor_msgs/msg/Image", received, serialize_message(image))
    writer.close()
    return path


def messages(bag: Path) -> list[tuple[str, Any]]:
    kinds = {"/image": Image, "/camera_info": CameraInfo}
    with rosbags.Reader(bag) as reader:
        return [(c.topic, deserialize_message(bytes(raw), kinds[c.topic])) for c, _, raw in reader.messages()]


def offline(checkpoint: Path, bag: Path) -> list[FrameResult]:
    infos = {stamp_of(m): m for topic, m in messages(bag) if topic == "/camera_info"}
    images = [m for topic, m in messages(bag) if topic == "/image"]
    frames = [(stamp_of(m), image_to_rgb(m), intrinsics_of(infos[stamp_of(m)], m.width, m.height)) for m in images]
    runtime = load_runtime(checkpoint, backend="torch", threads=1)
    return list(run_stream(StreamEstimator(runtime, StreamConfig(min_score=LOW_SCORE)), frames, DEFAULT_TASKS, STRIDE))


def anonymous(identity: str) -> str:
    """An id without the letters that no other node has."""
    return identity.split("_")[1]


def test_a_bag_through_the_node_equals_the_offline_pipeline(ros: System, checkpoint: Path, bag: Path) -> None:
    expected = offline(checkpoint, bag)
    node = ros.perception(
        load=lambda *_: load_runtime(checkpoint, backend="torch", threads=1),
        stride=STRIDE,
        min_score=LOW_SCORE,
        gap_s=60.0,
    )
    wait_for(lambda: node.state == "active" and ros.images.get_subscription_count() == 1)
    wait_for(lambda: ros.infos.get_subscription_count() == 1)
    node.buffer.live = False  # the same strides as offline, however slow this machine is
    names = ("inverse_depth/image", "depth/image", "normals/image", "foreground/image", "dense_pose/image")
    heard = {name: ros.listen(Image, name) for name in names}
    people = ros.listen(PersonArray, "people")
    count = 0
    for topic, message in messages(bag):
        if topic == "/camera_info":
            ros.infos.publish(message)
            stamp = stamp_of(message)
            wait_for(lambda stamp=stamp: stamp in node._inputs._infos)
            continue
        ros.images.publish(message)
        count += 1
        # As fast as every frame is taken in and every pass is done: a bag has no deadline.
        wait_for(lambda count=count: books(node) == (count, count), what=f"frame {count}")
    totals = node.buffer.totals()
    assert totals.resets == 1
    assert totals.drops["overrun"] == totals.drops["failed"] == totals.drops["malformed"] == 0
    expected = expected[: totals.answered]  # a file's end is known, a topic's is not: at most a part of a stride less
    assert len(expected) == totals.answered >= 12
    wait_for(lambda: len(people) == len(heard["inverse_depth/image"]) == len(expected))
    stamps = [r.stamp_ns for r in expected]
    metric = [r for r in expected if r.depth is not None]
    wait_for(lambda: len(heard["depth/image"]) == len(metric))
    for name, field in zip(names, ("disparity", "depth", "normals", "foreground", "dense_pose"), strict=True):
        wanted = metric if field == "depth" else expected
        assert [stamp_of(m) for m in heard[name]] == [r.stamp_ns for r in wanted], name
        for message, result in zip(heard[name], wanted, strict=True):
            value = getattr(result, field)
            if field == "foreground":
                value = (value * 255.0 + 0.5).astype(np.uint8)
            found = np.frombuffer(message.data, value.dtype).reshape(value.shape)
            np.testing.assert_array_equal(found, value, err_msg=f"{name} {result.stamp_ns}")
    assert [stamp_of(m) for m in people] == stamps
    for message, result in zip(people, expected, strict=True):
        numbered = [replace(person, id=anonymous(person.id)) for person in result.people]
        for person in message.people:
            person.id = anonymous(person.id)
        wanted = people_to_msg(numbered, result.source_size, message.header, result.others)
        on_the_wire = deserialize_message(serialize_message(wanted), PersonArray)  # float32
        assert str(message) == str(on_the_wire)  # every digit; NaN equals NaN
    assert any(r.people for r in expected)
