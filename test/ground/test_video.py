import resource
import sys

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.video import VideoReader, VideoWriter, read_clip


def write_ramp(path, frames=12, fps=10):
    with VideoWriter(path, fps) as video:
        for i in range(frames):
            video.write(np.full((32, 48, 3), 20 * i, np.uint8))


def test_written_frames_come_back(tmp_path):
    write_ramp(tmp_path / "a.mp4")
    reader = VideoReader(tmp_path / "a.mp4")
    assert (reader.width, reader.height, reader.fps) == (48, 32, 10)
    times, images = zip(*reader, strict=True)
    np.testing.assert_allclose(times, np.arange(12) / 10, atol=1e-6)
    np.testing.assert_allclose([im.mean() for im in images], 20 * np.arange(12), atol=3)
    assert len(list(reader)) == 12  # again from the start
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_clip_shows_the_frame_of_each_instant(tmp_path):
    write_ramp(tmp_path / "a.mp4")
    clip = read_clip(tmp_path / "a.mp4", frames=5, fps=5, start=0.1)
    np.testing.assert_allclose(clip.mean((1, 2, 3)) / 20, [1, 3, 5, 7, 9], atol=0.15)
    faster = read_clip(tmp_path / "a.mp4", frames=4, fps=20)
    np.testing.assert_allclose(faster.mean((1, 2, 3)) / 20, [0, 0, 1, 1], atol=0.15)
    with pytest.raises(UserError, match="too short: 9 frames at 5 fps"):
        read_clip(tmp_path / "a.mp4", frames=9, fps=5)


def test_bad_videos_are_named(tmp_path):
    with pytest.raises(UserError, match=r"not found: .*none\.mp4: check the path"):
        VideoReader(tmp_path / "none.mp4")
    with pytest.raises(UserError, match=r"found the folder .*: name a file in it"):
        VideoReader(tmp_path)
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(UserError, match=r"cannot read .*text\.mp4 as a video: .*: name another file, or convert it"):
        VideoReader(tmp_path / "text.mp4")


def test_failed_writing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "b.mp4", 10) as video:  # noqa: PT012
        video.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError
    with pytest.raises(UserError, match="no frame was given"), VideoWriter(tmp_path / "c.mp4", 10):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", ["half", "all but the last byte"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, room):
    """A limit on the size of files stands for the disk; Python ignores its signal, so that writing fails."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)

    def write(path):
        with VideoWriter(path, 10) as video:
            for image in noise:
                video.write(image)

    write(tmp_path / "a.mp4")
    size = (tmp_path / "a.mp4").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2 if room == "half" else size - 1, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*b\.mp4: File too large: make room"):
            write(tmp_path / "b.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_a_place_that_cannot_be_written_is_named_before_the_first_frame(tmp_path):
    for path, words in ((tmp_path, "it is a folder"), ("/proc/x.mp4", "choose another place")):
        with pytest.raises(UserError, match=words), VideoWriter(path, 10):
            pytest.fail("the film was opened")
    assert not list(tmp_path.iterdir())


def test_without_pyav_a_video_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"videos need PyAV.*pip install"):
        VideoReader(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"videos need PyAV.*pip install"), VideoWriter(tmp_path / "b.mp4", 10):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
