import resource
import struct
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from video_files import QUARTERS, write, write_colours, write_packets, write_sound

from thfm_ros.encoded_image import decode_image
from thfm_ros.errors import UserError
from thfm_ros.frames import FrameClock
from thfm_ros.video import BROKEN, VideoReader, VideoWriter, read_clip


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
    (tmp_path / "a.mp4").write_text("a video")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"videos need PyAV.*pip install"):
        VideoReader(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"videos need PyAV.*pip install"), VideoWriter(tmp_path / "b.mp4", 10):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def quarters(image):
    """Mean colours of the four quarters, as (2, 2, 3)."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return np.array(
        [[q[6:-6, 6:-6].mean((0, 1)) for q in (r[:, :width], r[:, width:])] for r in (image[:height], image[height:])]
    )


def first(path):
    return next(image for _, image in VideoReader(path))


TURNS = {  # a, b, c, d of a display matrix -> what it does to the picture
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # a phone held upright
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): np.rot90,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", TURNS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_videos_are_upright(tmp_path, matrix, suffix):
    write(tmp_path / f"a{suffix}", [QUARTERS] * 3, matrix=matrix)
    expected = TURNS[matrix](QUARTERS)
    reader = VideoReader(tmp_path / f"a{suffix}")
    images = [image for _, image in reader]
    assert [(reader.height, reader.width), *(image.shape[:2] for image in images)] == [expected.shape[:2]] * 4
    for image in images:
        assert image.flags.c_contiguous
        np.testing.assert_allclose(quarters(image), quarters(expected), atol=6)


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(64, 45), 137), (Fraction(8, 9), 85), (Fraction(1, 999), 96)])
@pytest.mark.parametrize("matrix", [None, (0, 1, -1, 0)])
def test_pixels_are_square(tmp_path, aspect, width, matrix):
    write(tmp_path / "a.mp4", [QUARTERS] * 2, aspect=aspect, matrix=matrix)
    reader = VideoReader(tmp_path / "a.mp4")
    size = (64, width) if matrix is None else (width, 64)
    assert (reader.height, reader.width) == first(tmp_path / "a.mp4").shape[:2] == size


UNEVEN = [0.0, 0.04, 0.08, 0.5, 0.54, 1.5, 1.54]


@pytest.mark.parametrize("start", [0.0, 3.2])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_times_are_those_of_the_file(tmp_path, start, suffix, b_frames):
    options = {"bf": str(b_frames), "b-adapt": "0"}
    write(tmp_path / f"a{suffix}", ramp(7), times=[start + t for t in UNEVEN], options=options)
    reader = VideoReader(tmp_path / f"a{suffix}")
    times, images = zip(*reader, strict=True)
    np.testing.assert_allclose(times, UNEVEN, atol=2e-3)
    assert reader.longest_gap() == pytest.approx(0.96, abs=2e-3)
    assert reader.notes == []
    np.testing.assert_allclose([image.mean() / 20 for image in images], range(7), atol=0.4)


def ramp(count):
    return [np.full((64, 96, 3), 20 * i, np.uint8) for i in range(count)]


@pytest.mark.parametrize(("form", "times"), [("h264", None), ("avi", None), ("avi", np.arange(12) / 10)])
def test_files_without_times_are_even(tmp_path, form, times):
    """A raw stream has no times; AVI has those of decoding, which B frames put out of order."""
    write(tmp_path / "a", ramp(12), times=times, options={"bf": "3", "b-adapt": "0"}, form=form)
    reader = VideoReader(tmp_path / "a")
    shown, images = zip(*reader, strict=True)
    assert reader.fps == pytest.approx(10, rel=0.11)
    np.testing.assert_allclose(shown, np.arange(12) / 10, atol=0.02)
    np.testing.assert_allclose([image.mean() / 20 for image in images], range(12), atol=0.4)


def test_times_always_increase():
    """Stamps that are missing, negative, or jump back."""
    frame = av.VideoFrame(16, 16)
    frame.time_base = Fraction(1, 10)
    clock = FrameClock(10)
    times = []
    for stamp in (None, -3, -2, 2, 2, 1, None, 8):
        frame.pts = stamp
        times.append(clock(frame))
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 1.2])


def test_an_edit_list_is_followed(tmp_path):
    """A trimmed recording: frames before the cut are in the file, and no player shows them."""
    write(tmp_path / "a.mp4", ramp(12), options={"bf": "0", "g": "100"})
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"elst") + 4  # version and flags, count, duration, media time
    scale = struct.unpack(">I", data[(mdhd := data.index(b"mdhd")) + 16 : mdhd + 20])[0]
    data[at + 12 : at + 16] = struct.pack(">I", round(0.5 * scale))
    (tmp_path / "b.mp4").write_bytes(data)
    times, images = zip(*VideoReader(tmp_path / "b.mp4"), strict=True)
    np.testing.assert_allclose(times, np.arange(7) / 10, atol=1e-3)
    np.testing.assert_allclose([image.mean() / 20 for image in images], range(5, 12), atol=0.4)


def test_a_recording_without_a_rate_is_counted(tmp_path):
    """Browsers write WebM whose header has no rate; the frames have their times."""
    write(tmp_path / "a.webm", ramp(7), times=UNEVEN, codec="libvpx", fps=1000, options={"crf": "8", "b": "1M"})
    reader = VideoReader(tmp_path / "a.webm")
    assert reader.fps == pytest.approx(6 / 1.54, rel=0.02)
    np.testing.assert_allclose([t for t, _ in reader], UNEVEN, atol=2e-3)


@pytest.mark.parametrize("matrix", ["601", "709", "2020"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_colours_are_those_that_the_file_names(tmp_path, matrix, full, bits):
    write_colours(tmp_path / "a.mp4", QUARTERS, matrix, full, bits)
    np.testing.assert_allclose(quarters(first(tmp_path / "a.mp4")), quarters(QUARTERS), atol=5)


@pytest.mark.parametrize(("size", "matrix"), [((96, 64), "601"), ((1280, 720), "709")])
def test_unnamed_colours_are_those_of_their_size(tmp_path, size, matrix):
    image = cv2.resize(QUARTERS, size, interpolation=cv2.INTER_NEAREST)
    write_colours(tmp_path / "a.mp4", image, matrix, tagged=False)
    np.testing.assert_allclose(quarters(first(tmp_path / "a.mp4")), quarters(QUARTERS), atol=5)
    with VideoWriter(tmp_path / "b.mp4", 10) as video:
        video.write(image)
    np.testing.assert_allclose(quarters(first(tmp_path / "b.mp4")), quarters(QUARTERS), atol=5)


def test_hdr_is_said(tmp_path):
    write_colours(tmp_path / "a.mp4", QUARTERS, "2020", bits=10, transfer=16)
    assert "HDR" in " ".join(VideoReader(tmp_path / "a.mp4").notes)
    write_colours(tmp_path / "b.mp4", QUARTERS, "2020", bits=10)
    assert VideoReader(tmp_path / "b.mp4").notes == []


def test_interlaced_frames_have_no_combs(tmp_path):
    """Two instants in one frame: a bar that moves between its fields."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[::2, 20:50] = 255
    image[1::2, 60:90] = 255
    write(tmp_path / "a.mp4", [image] * 3, options={"crf": "4", "x264-params": "interlaced=1:tff=1"})
    reader = VideoReader(tmp_path / "a.mp4")
    assert "interlaced" in reader.notes[0]
    shown = first(tmp_path / "a.mp4").astype(int)
    assert shown.shape == image.shape
    assert shown[:, 30:40].min() > 200
    assert shown[:, 70:80].max() < 60


def noisy_jpegs(count):
    rng = np.random.default_rng(0)
    return [cv2.imencode(".jpg", rng.integers(0, 256, (64, 96, 3), np.uint8))[1].tobytes() for _ in range(count)]


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mjpeg"])
def test_half_a_frame_is_left_out_and_counted(tmp_path, suffix):
    jpegs = noisy_jpegs(6)
    jpegs[2] = jpegs[2][: len(jpegs[2]) // 2]
    jpegs[4] = jpegs[4][:-2]  # no end marker: whole
    write_packets(tmp_path / f"a{suffix}", jpegs, range(6))
    reader = VideoReader(tmp_path / f"a{suffix}")
    images = [image for _, image in reader]
    assert (len(images), reader.damaged) == (5, 1)
    for image, data in zip(images, jpegs[:2] + jpegs[3:], strict=True):
        expected = cv2.cvtColor(decode_image(data), cv2.COLOR_BGR2RGB)
        assert np.abs(image.astype(int) - expected).mean() < 20  # another frame: 80


def rolling_noise(count):
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8), (96, 64))
    return [np.roll(noise, 4 * i, 1) for i in range(count)]


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_recording_that_was_cut_off_says_so_and_a_whole_one_does_not(tmp_path, suffix):
    """A download that stopped: its header names the whole length, and libav takes its end for the file's."""
    path = tmp_path / f"a{suffix}"
    write(path, rolling_noise(60), options={"bf": "0", "g": "10"})
    reader = VideoReader(path)
    assert (len(list(reader)), reader.notes) == (60, [])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = VideoReader(path)
    assert 10 < len(list(reader)) < 50
    list(reader)
    assert len([note for note in reader.notes if "its header names 6.00 s: the end is missing" in note]) == 1


def test_a_broadcast_with_lost_packets_says_so(tmp_path):
    write(tmp_path / "a.ts", rolling_noise(30))
    data = bytearray((tmp_path / "a.ts").read_bytes())
    begin = len(data) // 2 // 188 * 188
    (tmp_path / "b.ts").write_bytes(data[:begin] + data[begin + 4 * 188 :])
    for name, notes in (("a.ts", []), ("b.ts", [BROKEN])):
        reader = VideoReader(tmp_path / name)
        list(reader)
        assert reader.notes == notes


def test_each_frame_keeps_its_size_and_a_film_has_one(tmp_path):
    square = np.ascontiguousarray(QUARTERS[:, 16:80])
    jpegs = [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in (QUARTERS, square, QUARTERS)]
    write_packets(tmp_path / "a.mkv", jpegs, range(3))
    images = [image for _, image in VideoReader(tmp_path / "a.mkv")]
    assert [image.shape[:2] for image in images] == [(64, 96), (64, 64), (64, 96)]
    with pytest.raises(UserError, match="expected frames of one size, found 96x64, 64x64"):
        read_clip(tmp_path / "a.mkv", 3, 10)
    with VideoWriter(tmp_path / "b.mp4", 10) as film:
        for image in images:
            film.write(image)
    assert film.letterboxed == 1
    _, middle, _ = (image for _, image in VideoReader(tmp_path / "b.mp4"))
    np.testing.assert_allclose(quarters(middle[:, 16:80]), quarters(square), atol=6)
    assert max(middle[:, :14].max(), middle[:, 82:].max()) < 30


def test_a_film_keeps_the_times_that_it_is_given(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 12) as film:
        for time, image in zip(UNEVEN, ramp(7), strict=True):
            film.write(image, time)
    np.testing.assert_allclose([time for time, _ in VideoReader(tmp_path / "a.mp4")], UNEVEN, atol=1e-4)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_a_picture_is_a_video_of_one_frame(tmp_path, suffix):
    path = tmp_path / f"100%d{suffix}"
    path.write_bytes(cv2.imencode(suffix, QUARTERS[..., ::-1])[1].tobytes())
    reader = VideoReader(path)
    ((time, image),) = reader
    assert (time, reader.frames, reader.width, reader.height) == (0.0, 1, 96, 64)
    np.testing.assert_allclose(quarters(image), quarters(QUARTERS), atol=8)


def test_a_stream_of_jpegs_is_no_picture(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"".join(noisy_jpegs(4)))
    assert len(list(VideoReader(tmp_path / "a.bin"))) == 4


def test_a_photograph_is_turned_as_its_exif_says(tmp_path):
    data = cv2.imencode(".jpg", QUARTERS[..., ::-1])[1].tobytes()
    body = b"Exif\x00\x00MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    np.testing.assert_allclose(quarters(first(tmp_path / "a.jpg")), quarters(np.rot90(QUARTERS, -1)), atol=6)


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    write_sound(tmp_path / "sound.wav")
    write_sound(tmp_path / "song.m4a")
    (tmp_path / "half.jpg").write_bytes(noisy_jpegs(1)[0][:2000])
    (tmp_path / "cut.mp4").write_bytes(b"")
    write(tmp_path / "whole.mp4", ramp(12))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:-500])  # its index is at the end
    for name, words in (
        ("empty.mp4", r"empty\.mp4 is empty \(0 bytes\): name another file"),
        ("sound.wav", r"no video stream in .*sound\.wav: name a file with pictures"),
        ("song.m4a", r"no video stream in .*song\.m4a: name a file with pictures"),
        ("half.jpg", r"cannot read the picture .*half\.jpg: .* end too early"),
        ("cut.mp4", r"cannot read .*cut\.mp4 as a video: .*: name another file"),
        ("frame_%04d.png", r"found a pattern of names, .*: make a video of the pictures \(ffmpeg -i 'frame_%04d\.png'"),
        ("*.png", "found a pattern of names"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "-a.mp4", "two words.mp4", "100%d.mp4", "http:x.mp4", "concat:a|b.mp4", "é?#.mp4"]
)
def test_any_file_name_will_do(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # also without a folder before it
    with VideoWriter(name, 10) as video:
        for image in ramp(3):
            video.write(image)
    assert len(list(VideoReader(name))) == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_was_written_before_a_failure_is_a_film_where_that_is_wanted(tmp_path):
    path = tmp_path / "a.mp4"
    for frames, kept in ((2, path), (1, tmp_path / "a.partial.mp4")):  # the older film stays
        video = VideoWriter(path, 10, keep=True)
        with pytest.raises(RuntimeError), video:  # noqa: PT012
            for _ in range(frames):
                video.write(np.zeros((32, 32, 3), np.uint8))
            raise RuntimeError
        assert video.kept == kept
        assert len(list(VideoReader(kept))) == frames
    assert len(list(VideoReader(path))) == 2
    assert len(list(tmp_path.iterdir())) == 2
