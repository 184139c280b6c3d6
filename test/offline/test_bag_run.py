"""`thfm run BAG` with a small fast network: every frame answered under its own stamp, nothing of the input lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from stream_fakes import FakeRuntime, moving_square
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.offline.commands import register
from thfm_ros.stream.estimator import FrameResult
from thfm_ros.video import VideoReader

pytest.importorskip("rosbags.rosbag2")
pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from bag_files import LATCHED, NS, RATE, START, Kind, camera, header, jpeg, raw, read_bag, stamp_of, write_bag
from mcap.reader import make_reader
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import CompressionMode, Reader
from sensor_msgs.msg import CompressedImage, Image

from thfm_ros.msg import PersonArray
from thfm_ros.nodes.bag import BagWriter
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.message_types import message_type
from thfm_ros.nodes.topics import PUBLISHED
from thfm_ros.offline import annotated_bag
from thfm_ros.offline.bag_recording import BagRecording

KINDS = {
    "mcap": Kind(),
    "mcap-zstd": Kind(mode=CompressionMode.STORAGE),
    "mcap-split": Kind(files=3),
    "sqlite": Kind("sqlite3"),
    "sqlite-zstd-messages": Kind("sqlite3", CompressionMode.MESSAGE),
    "sqlite-zstd-files-split": Kind("sqlite3", CompressionMode.FILE, files=2),
}
OUTPUTS = {
    *("depth/image", "depth/camera_info", "depth/points", "inverse_depth/image", "normals/image"),
    *("normals/image_color", "foreground/image", "dense_pose/image", "dense_pose/image_color", "people"),
    *("skeleton/markers", "overlay/image"),
}


class Runtime(FakeRuntime):
    computed_in = "fp32"
    warnings: tuple[str, ...] = ()


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thfm_ros.engine.load.load_runtime", lambda *_, **__: Runtime())


def invoke(*arguments: object) -> Any:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with one command alone typer would drop its name
    return CliRunner(env={"COLUMNS": "500"}).invoke(app, [str(a) for a in ("run", *arguments, "--bundle", "any")])


def succeed(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refusal(*arguments: object) -> str:
    result = invoke(*arguments)
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("image", [raw, jpeg])
def test_every_frame_is_answered_and_nothing_of_the_input_is_lost(tmp_path: Path, kind: Kind, image: Callable) -> None:
    entries = camera(17, "/cam/image_raw/compressed" if image is jpeg else "/cam/image_raw", image)
    bag, out = write_bag(tmp_path / "in", entries, kind), tmp_path / "out"
    succeed(bag, "-o", out, "--stride", 4, "--json", tmp_path / "a.json")
    before, after = read_bag(bag), read_bag(out)
    assert len(before) == len(entries)
    assert [m for m in after if m[0] in {m[0] for m in before}] == before
    outputs = defaultdict(list)
    for topic, name, recorded, data in after:
        outputs[topic, name].append((recorded, data))
    images = [(stamp_of(m), recorded) for topic, m, recorded in entries if "image" in topic]
    found = {topic.removeprefix("/") for topic, _ in outputs} - {t.removeprefix("/") for t, *_ in before}
    assert found == OUTPUTS
    for topic in PUBLISHED:
        if topic.name in OUTPUTS:
            messages = outputs["/" + topic.name, topic.type.replace("/", "/msg/")]
            decoded = [deserialize_message(data, message_type(topic.type)) for _, data in messages]
            heads = [m.markers[0] if topic.name == "skeleton/markers" else m for m in decoded]
            assert [(stamp_of(m), at) for m, (at, _) in zip(heads, messages, strict=True)] == images, topic.name
            assert {m.header.frame_id for m in heads} == {"camera_optical"}
    figures = json.loads((tmp_path / "a.json").read_text())
    assert (figures["read"], figures["frames"], figures["with a person"]) == (17, 17, 17)
    assert figures["topics"] == {f"/{name}": 17 for name in OUTPUTS}


def test_the_annotated_bag_keeps_storage_definitions_and_quality_of_service(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "in", camera(5), Kind("sqlite3"))
    succeed(bag, "-o", tmp_path / "same")
    succeed(bag, "-o", tmp_path / "other", "--storage", "mcap", "--zstd", "--namespace", "/robot/")
    assert (tmp_path / "same" / "same.db3").exists()
    for name in ("same", "other"):
        with Reader(bag) as one, Reader(tmp_path / name) as two:
            topics = {c.topic: c for c in two.connections}
            for connection in one.connections:
                assert topics[connection.topic].msgdef == connection.msgdef
                assert topics[connection.topic].digest == connection.digest
                assert topics[connection.topic].ext == connection.ext
            assert topics["/chatter"].ext.offered_qos_profiles == [LATCHED]
            assert "/people" in topics if name == "same" else "/robot/people" in topics
    with (tmp_path / "other" / "other.mcap").open("rb") as file:  # by the library of MCAP itself
        reader = make_reader(file)
        assert {chunk.compression for chunk in reader.get_summary().chunk_indexes} == {"zstd"}
        people = [schema.name for schema, channel, _ in reader.iter_messages(topics=["/robot/people"])]
    assert people == 5 * ["thfm_ros/msg/PersonArray"]


def test_frames_at_the_networks_rate_are_a_choice(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "in", camera(30))
    succeed(bag, "-o", tmp_path / "out", "--sampled", "--tasks", "foreground", "--json", tmp_path / "a.json")
    figures = json.loads((tmp_path / "a.json").read_text())
    assert (figures["read"], figures["frames"]) == (30, 12)
    assert set(figures["topics"]) == {"/foreground/image", "/overlay/image"}


def test_a_film_of_a_bag_has_its_times_also_where_it_loops(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "in", camera(10) + [(t, m, r + NS) for t, m, r in camera(10)])
    succeed(bag, "-o", tmp_path / "film.mp4", "--every-frame", "--tasks", "foreground")
    times = [time for time, _ in VideoReader(tmp_path / "film.mp4")]
    np.testing.assert_allclose(times, np.arange(20) / RATE, atol=0.01)


def test_a_topic_may_change_the_type_of_its_pictures_and_lose_some(tmp_path: Path) -> None:
    """Cut off bytes, an unknown encoding: left out, counted, said, and still copied."""
    entries = camera(12)
    broken = {4: "rgb8", 8: "secret"}
    for number, encoding in broken.items():
        image = [m for topic, m, _ in entries if topic == "/cam/image_raw"][number]
        image.encoding = encoding
        image.data = image.data[:100]
    bag = write_bag(tmp_path / "in", entries)
    output = succeed(bag, "-o", tmp_path / "out", "--tasks", "foreground")
    assert "/cam/image_raw: malformed rgb8 image" in output
    assert "2 damaged frames were left out" in output
    topics = [topic for topic, *_ in read_bag(tmp_path / "out")]
    assert (topics.count("/cam/image_raw"), topics.count("/foreground/image")) == (12, 10)


def test_without_a_calibration_there_are_no_metres_unless_a_field_of_view_stands_in(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "in", camera(5, info=False))
    output = succeed(bag, "-o", tmp_path / "plain", "--json", tmp_path / "a.json")
    assert "expected the calibration of /cam/image_raw on /cam/camera_info, found none: without metres" in output
    assert json.loads((tmp_path / "a.json").read_text())["with metric depth"] == 0
    succeed(bag, "-o", tmp_path / "fov", "--fov", 60, "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["with metric depth"] == 5
    assert "/depth/camera_info" in {topic for topic, *_ in read_bag(tmp_path / "fov")}


def test_a_depth_camera_gives_the_metres(tmp_path: Path) -> None:
    """The fake network's person is 3 m away by its size; the camera, whose images are recorded later, measures 2 m."""
    entries = camera(12)
    for topic, message, recorded in camera(12):
        if topic == "/cam/image_raw":
            depth = to_image(np.full((32, 48), 2.0, np.float32), "32FC1", message.header)
            entries.append(("/cam/depth", depth, recorded + NS // 10))
    bag = write_bag(tmp_path / "in", sorted(entries, key=lambda entry: entry[2]))
    distance = {}
    for name, options in {"size": (), "camera": ("--depth", "cam/depth")}.items():
        succeed(bag, "-o", tmp_path / name, "--image", "/cam/image_raw", *options)
        people = [deserialize_message(d, PersonArray) for t, _, _, d in read_bag(tmp_path / name) if t == "/people"]
        distance[name] = [array.people[0].root.z for array in people]
    np.testing.assert_allclose(distance["size"], 3.0, atol=0.05)
    np.testing.assert_allclose(distance["camera"][-6:], 2.0, atol=0.3)
    assert "no depth images on /no in" in refusal(
        bag, "-o", tmp_path / "b", "--image", "/cam/image_raw", "--depth", "/no"
    )


@pytest.mark.parametrize(("late_s", "paired"), [(2.0, True), (-2.0, True), (4.0, False)])
def test_a_depth_image_is_found_by_its_stamp_when_recorded_seconds_apart(
    late_s: float, paired: bool, tmp_path: Path
) -> None:
    entries = camera(12)
    for topic, message, recorded in camera(12):
        if topic == "/cam/image_raw":
            depth = to_image(np.full((64, 96), 2.0, np.float32), "32FC1", message.header)
            entries.append(("/cam/depth", depth, recorded + round(late_s * NS)))
    bag = write_bag(tmp_path / "in", sorted(entries, key=lambda entry: entry[2]))
    with closing(BagRecording(bag, "/cam/image_raw", depth="/cam/depth")) as recording:
        assert [frame.depth is not None for frame in recording] == 12 * [paired]


def test_depth_is_found_after_the_stamps_have_jumped_back(tmp_path: Path) -> None:
    entries = []
    for begin, recorded_later in ((START, 0), (START - 60 * NS, 70 * NS)):
        for topic, message, recorded in camera(12, start=begin):
            entries.append((topic, message, recorded + recorded_later))
            if topic == "/cam/image_raw":
                depth = to_image(np.full((64, 96), 2.0, np.float32), "32FC1", message.header)
                entries.append(("/cam/depth", depth, recorded + recorded_later + NS // 2))
    bag = write_bag(tmp_path / "in", sorted(entries, key=lambda entry: entry[2]))
    with closing(BagRecording(bag, "/cam/image_raw", depth="/cam/depth")) as recording:
        assert all(frame.depth is not None for frame in recording)


def test_a_depth_image_that_is_not_registered_is_named_and_not_used(tmp_path: Path) -> None:
    entries = camera(6)
    for topic, message, recorded in camera(6):
        if topic == "/cam/image_raw":
            head = header(stamp_of(message), "depth_optical")
            entries.append(("/cam/depth", to_image(np.full((32, 48), 2.0, np.float32), "32FC1", head), recorded))
    output = succeed(write_bag(tmp_path / "in", entries), "-o", tmp_path / "a.mp4", "--depth", "/cam/depth")
    assert "expected frame_id 'camera_optical', the colour image's, found 'depth_optical'" in output
    assert "6 of 6 images have no depth image of their moment" in output


def test_the_topics_are_found_where_one_can_be_meant(tmp_path: Path) -> None:
    head = header(camera(1)[0][2])
    depth = [("/cam/depth", to_image(np.ones((8, 8), np.float32), "32FC1", head), stamp_of(camera(1)[0][1]))]
    both = camera(3) + [(t, m, r) for t, m, r in camera(3, "/cam/image_raw/compressed", jpeg) if "compressed" in t]
    output = succeed(write_bag(tmp_path / "one", both + depth), "-o", tmp_path / "a.mp4")
    assert "the images are those of /cam/image_raw (--image chooses another one of" in output
    two = camera(3) + camera(3, "/left/image_raw")
    bag = write_bag(tmp_path / "two", two)
    assert "several topics with colour images" in (line := refusal(bag, "-o", tmp_path / "b.mp4"))
    assert "choose one with --image: /cam/image_raw, /left/image_raw" in line
    succeed(bag, "-o", tmp_path / "b", "--image", "/left/image_raw", "--tasks", "foreground")
    assert "no images on /right in" in refusal(bag, "-o", tmp_path / "c.mp4", "--image", "/right")
    assert "no camera_info on /no in" in refusal(
        bag, "-o", tmp_path / "c.mp4", "--image", "/cam/image_raw", "--camera-info", "/no"
    )


def unreadable(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """What a user may name that is no whole bag with images: its name, where it is, words of the refusal."""
    whole = write_bag(folder / "whole", camera(12))

    def changed(name: str, change: Callable[[Path], None]) -> Path:
        shutil.copytree(whole, folder / name)
        change(folder / name)
        return folder / name

    def cut(path: Path) -> None:
        file = path / "whole.mcap"
        file.write_bytes(file.read_bytes()[:-5000])

    def other_storage(path: Path) -> None:
        text = (path / "metadata.yaml").read_text()
        (path / "metadata.yaml").write_text(text.replace("storage_identifier: mcap", "storage_identifier: cloud"))

    yield "nothing", folder / "nothing.mcap", "not found"
    yield "no name", folder / "nothing", "is neither a video file, a bag nor a sample"
    yield "empty", write_bag(folder / "empty", []), "expected a bag with images"
    yield "no images", write_bag(folder / "talk", [e for e in camera(6) if "chatter" in e[0]]), "/chatter (std_msgs/msg"
    yield "cut off", changed("cut", cut), "end magic is invalid: it was cut off: `mcap recover"
    yield "no metadata", changed("bare", lambda p: (p / "metadata.yaml").unlink()), "ros2 bag reindex"
    yield "broken metadata", changed("yaml", lambda p: (p / "metadata.yaml").write_text("{")), "Could not load YAML"
    yield "storage", changed("cloud", other_storage), "Storage plugin 'cloud' not supported"
    yield "file gone", changed("gone", lambda p: (p / "whole.mcap").unlink()), "database files are missing"
    (folder / "zero.mcap").touch()
    yield "zero bytes", folder / "zero.mcap", "is empty (0 bytes)"
    (folder / "text.mcap").write_text("a text, and no bag at all")
    yield "text", folder / "text.mcap", "expected a bag (MCAP or sqlite3), found neither"
    (folder / "old.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    yield "ROS 1", folder / "old.bag", "rosbags-convert --src"
    part = folder / "part.db3.zstd"
    part.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    yield "a part", part, f"found one compressed file of it, {part}: name {folder}"


def test_what_is_no_whole_bag_is_refused_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    for name, path, words in unreadable(tmp_path):
        assert words in refusal(path, "-o", tmp_path / "out"), name
        assert not (tmp_path / "out").exists(), name


def test_a_single_file_of_a_bag_will_do(tmp_path: Path) -> None:
    for storage, suffix in (("mcap", "mcap"), ("sqlite3", "db3")):
        bag = write_bag(tmp_path / storage, camera(4), Kind(storage))
        succeed(bag / f"{storage}.{suffix}", "-o", tmp_path / f"{storage}_out", "--tasks", "foreground")
        assert [m[0] for m in read_bag(tmp_path / f"{storage}_out")].count("/foreground/image") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to make: expected -o"),
        (("-o", "in"), "is the input"),
        (("-o", "out.mcap"), "without a suffix, a bag"),
        (("-o", "out", "--storage", "disk"), "unknown storage 'disk': expected mcap or sqlite3"),
        (("-o", "a.mp4", "--zstd"), "--zstd belong to an annotated bag"),
        (("--rerun", "a.mcap"), "takes an .rrd file"),
        (("-o", "out", "--tasks", "instances"), "expected keypoints_2d or keypoints_3d beside instances"),
    ],
)
def test_wrong_options_leave_nothing(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    bag = write_bag(tmp_path / "in", camera(2))
    placed = [tmp_path / a if i and arguments[i - 1] in ("-o", "--rerun") else a for i, a in enumerate(arguments)]
    assert words in refusal(bag, *placed)
    assert list(tmp_path.iterdir()) == [bag]


def test_outputs_that_the_bag_has_already_need_another_name(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "in", camera(3))
    succeed(bag, "-o", tmp_path / "once", "--tasks", "foreground")
    again = (tmp_path / "once", "-o", tmp_path / "twice", "--tasks", "foreground", "--image", "/cam/image_raw")
    assert "has /foreground/image, /overlay/image already" in refusal(*again)
    assert "exists: remove it" in refusal(bag, "-o", tmp_path / "once")
    succeed(*again, "--namespace", "again")
    assert {"/foreground/image", "/again/foreground/image"} <= {topic for topic, *_ in read_bag(tmp_path / "twice")}


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may become larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, storage: str) -> None:
    bag = write_bag(tmp_path / "in", camera(200))
    with room_for(1_500_000):
        line = refusal(bag, "-o", tmp_path / "out", "--storage", storage, "--tasks", "foreground")
    assert f"cannot write {tmp_path / 'out'}" in line
    assert "make room, or choose another place" in line
    assert list(tmp_path.iterdir()) == [bag]


def test_an_interrupted_bag_has_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag, out, seen = write_bag(tmp_path / "in", camera(24)), tmp_path / "out", 0
    write = annotated_bag.AnnotatedBag.write

    def interrupted(self: annotated_bag.AnnotatedBag, result: FrameResult) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        write(self, result)

    monkeypatch.setattr(annotated_bag.AnnotatedBag, "write", interrupted)
    result = invoke(bag, "-o", out, "--tasks", "foreground", "--json", tmp_path / "a.json")
    assert result.exit_code == 128 + signal.SIGTERM
    assert f"{out} has 5 of 24 frames" in result.output
    assert [topic for topic, *_ in read_bag(out)].count("/foreground/image") == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_a_message_is_copied_whole_when_a_signal_comes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, out, cut = write_bag(tmp_path / "in", camera(24)), tmp_path / "out", []
    copy = BagWriter.copy

    def interrupted(self: BagWriter, *message: Any) -> None:
        if "/foreground/image" in self._connections:  # there is something to keep
            cut.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
            cut.clear()
        copy(self, *message)

    monkeypatch.setattr(BagWriter, "copy", interrupted)
    result = invoke(bag, "-o", out, "--tasks", "foreground")
    assert result.exit_code == 128 + signal.SIGTERM
    assert f"ended early: {out} has" in result.output
    assert not cut


def test_a_run_that_fails_before_its_first_frame_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise UserError("no such bundle")

    monkeypatch.setattr("thfm_ros.engine.load.load_runtime", fails)
    bag = write_bag(tmp_path / "in", camera(2))
    rerun = ("--rerun", tmp_path / "a.rrd") if find_spec("rerun") else ()
    assert refusal(bag, "-o", tmp_path / "out", *rerun) == "no such bundle"
    assert list(tmp_path.iterdir()) == [bag]


def test_a_bag_that_is_damaged_in_the_middle_is_read_up_to_there(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "in", camera(300), Kind(mode=CompressionMode.STORAGE))
    data = bytearray((bag / "in.mcap").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1000] = bytes(1000)
    (bag / "in.mcap").write_bytes(data)
    result = invoke(bag, "-o", tmp_path / "out", "--tasks", "foreground")
    assert f"cannot read the bag {bag} after" in str(result.exception)
    assert f"{tmp_path / 'out'} has" in result.output
    topics = [topic for topic, *_ in read_bag(tmp_path / "out")]
    assert 0 < topics.count("/foreground/image") <= topics.count("/cam/image_raw") < 300


def test_images_without_stamps_have_the_times_of_their_record(tmp_path: Path) -> None:
    entries = camera(4)
    for _, message, _ in entries:
        if isinstance(message, (Image, CompressedImage)):
            message.header = header(0)
    output = succeed(write_bag(tmp_path / "in", entries), "-o", tmp_path / "out", "--tasks", "foreground")
    assert "images without a stamp" in output
    masks = [(at, deserialize_message(data, Image)) for t, _, at, data in read_bag(tmp_path / "out") if "fore" in t]
    assert [stamp_of(m) for _, m in masks] == [at for at, _ in masks]


def test_without_its_library_a_bag_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_bag(tmp_path / "in", camera(2))
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    monkeypatch.delitem(sys.modules, "thfm_ros.nodes.bag")
    assert "bags need rosbags, found" in refusal(bag, "-o", tmp_path / "out")


def test_a_video_has_no_topics(tmp_path: Path) -> None:
    from thfm_ros.video import VideoWriter

    with VideoWriter(tmp_path / "v.mp4", 12.0) as film:
        film.write(moving_square(0))
    assert "choose topics of a bag" in refusal(tmp_path / "v.mp4", "-o", tmp_path / "o.mp4", "--image", "/a")
    assert "has to be an .mp4 file" in refusal(tmp_path / "v.mp4", "-o", tmp_path / "o")
    assert "is the input" in refusal(tmp_path / "v.mp4", "-o", tmp_path / "v.mp4")
