"""`thfm run` with a real (tiny, untrained) network."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import typer
from stream_fakes import FakeRuntime, moving_square
from tiny_model import make_tiny_checkpoint
from typer.testing import CliRunner
from video_files import write_packets

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.offline import film, run
from thfm_ros.offline.commands import register
from thfm_ros.offline.film import Film, film_frame
from thfm_ros.stream.estimator import FrameResult, StreamConfig, StreamEstimator
from thfm_ros.stream.ledger import FrameLedger
from thfm_ros.stream.offline import run_stream
from thfm_ros.tasks import TASKS
from thfm_ros.video import VideoReader, VideoWriter

NS = 1_000_000_000


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    with VideoWriter(path, 24.0) as writer:
        for i in range(24):
            writer.write(moving_square(i))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return make_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


def invoke(*arguments: object) -> object:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with one command alone typer would drop its name
    return CliRunner().invoke(app, [str(a) for a in ("run", *arguments)])


def test_a_video_becomes_a_film_of_all_outputs(video: Path, checkpoint: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "film.mp4", tmp_path / "figures.json"
    result = invoke(video, "-o", out, "--bundle", checkpoint, "--stride", 4, "--json", figures)
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    assert (found["frames"], found["backend"], found["trained"]) == (12, "torch", "false")
    assert (found["read"], found["sampled"]) == (24, 12)
    film = VideoReader(out)
    assert len(list(film)) == 12
    assert film.fps == pytest.approx(12.0)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_film_has_the_times_of_the_video_and_says_what_it_left_out(checkpoint: Path, tmp_path: Path) -> None:
    """Half a frame, another size and an uneven rate in one file."""
    still = [cv2.imencode(".jpg", moving_square(i))[1].tobytes() for i in range(8)]
    still[3] = still[3][: len(still[3]) // 2]
    still[6] = cv2.imencode(".jpg", np.ascontiguousarray(moving_square(6)[:, 16:80]))[1].tobytes()
    stamps = [0, 1, 2, 3, 9, 10, 11, 14]  # twelfths of a second
    write_packets(tmp_path / "a.mkv", still, stamps, fps=12)
    out = tmp_path / "film.mp4"
    result = invoke(tmp_path / "a.mkv", "-o", out, "--bundle", checkpoint, "--tasks", "foreground", "--stride", 1)
    assert result.exit_code == 0, result.output
    times = [time for time, _ in VideoReader(out)]
    np.testing.assert_allclose(times, [s / 12 for s in stamps if s != 3], atol=2e-3)
    output = " ".join(result.output.split())
    assert "a.mkv: 1 damaged frames were left out" in output
    assert "changes its size: 1 frames of" in output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video": "missing.mp4"}, "video not found: missing.mp4"),
        ({"tasks": "depths"}, "unknown task 'depths'"),
        ({"out": "film.avi"}, "has to be an .mp4"),
        ({"bundle": "/nowhere"}, "/nowhere"),
        ({"video": "/"}, "found the folder /: name a file in it"),
        ({"video": "walkers"}, "the samples are"),
        ({"out": ""}, "name it"),
        # Before the network is looked for.
        ({"out": "/proc/x.mp4", "bundle": "/nowhere"}, "cannot write /proc/x.mp4"),
        ({"json": "/", "bundle": "/nowhere"}, "cannot write /: it is a folder"),
        ({"json": "/dev/null/a.json", "bundle": "/nowhere"}, "cannot write /dev/null/a.json"),
    ],
)
def test_wrong_arguments_are_one_line_and_leave_nothing(
    video: Path, checkpoint: Path, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    use = {"video": str(video), "out": str(tmp_path / "o.mp4"), "bundle": str(checkpoint), "tasks": "foreground"}
    use |= {k: str(tmp_path / v) if k == "out" else v for k, v in change.items()}
    figures = ("--json", use["json"]) if "json" in use else ()
    result = invoke(use["video"], "-o", use["out"], "--bundle", use["bundle"], "--tasks", use["tasks"], *figures)
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def interrupt_at(frame: int, how: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `how` happen while that frame of the film is drawn."""
    shown = 0

    def drawn(result: FrameResult) -> np.ndarray:
        nonlocal shown
        shown += 1
        if shown == frame:
            how()
        return film_frame(result)

    monkeypatch.setattr(film, "film_frame", drawn)


def test_brackets_in_names_are_shown_as_they_are(video: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a[red]b[" / "c"
    folder.mkdir(parents=True)
    out = folder / "[/x].mp4"
    result = invoke(video, "-o", out, "--bundle", checkpoint, "--tasks", "scene_depth, foreground", "--stride", 4)
    assert result.exit_code == 0, result.output
    assert f"look at {out}" in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_film_has_the_frames_that_were_done(
    number: int, video: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out = signal.getsignal(number), tmp_path / "o[i].mp4"
    interrupt_at(3, lambda: os.kill(os.getpid(), number), monkeypatch)
    result = invoke(video, "-o", out, "--bundle", checkpoint, "--tasks", "foreground", "--json", tmp_path / "o.json")
    assert result.exit_code == 128 + number
    assert f"{out} has 3 of 12 frames" in result.output
    assert len(list(VideoReader(out))) == 3
    assert list(tmp_path.iterdir()) == [out]  # and no figures, which would be those of another length
    assert signal.getsignal(number) == before


def test_an_older_film_is_not_lost_to_an_interrupted_one(
    video: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "o.mp4"
    older.write_bytes(video.read_bytes())
    interrupt_at(2, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    result = invoke(video, "-o", older, "--bundle", checkpoint, "--tasks", "foreground")
    assert f"{tmp_path / 'o.partial.mp4'} has 2 of 12 frames" in result.output
    assert len(list(VideoReader(tmp_path / "o.partial.mp4"))) == 2
    assert older.read_bytes() == video.read_bytes()


def test_a_pass_that_fails_costs_only_the_frames_after_it(
    video: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise RuntimeError("device lost")

    interrupt_at(6, fails, monkeypatch)
    result = invoke(video, "-o", tmp_path / "o.mp4", "--bundle", checkpoint, "--tasks", "foreground")
    assert str(result.exception) == "device lost"
    assert "has 5 of 12 frames" in result.output
    assert len(list(VideoReader(tmp_path / "o.mp4"))) == 5


def test_a_sample_can_be_named(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", lambda recording, *_: {"video": str(recording.path)})
    result = invoke("walker", "-o", tmp_path / "o.mp4", "--bundle", checkpoint)
    assert result.exit_code == 0, result.output
    assert "samples/walker.mp4" in result.output.replace("\n", "")


@pytest.mark.parametrize(("rate", "stride"), [(12.0, 3), (30.0, 4), (5.0, 4)])
def test_offline_every_sampled_frame_is_answered_once(rate: float, stride: int) -> None:
    frames = [(round(i / rate * NS), moving_square(i), None) for i in range(50)]
    results = list(run_stream(StreamEstimator(FakeRuntime()), frames, ["foreground"], stride))
    stamps = [r.stamp_ns for r in results]
    assert stamps == sorted(set(stamps))
    assert len(results) == (50 if rate <= 12 else pytest.approx(50 * 12 / rate, abs=1))


SIZES = [(64, 96), (60, 40), (40, 60)]


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("warmup", ["pad", "hold"])
@pytest.mark.parametrize("seed", range(4))
def test_offline_every_sampled_frame_is_answered_whatever_the_stamps_and_sizes(
    stride: int, warmup: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    now, size, frames = 0.0, SIZES[0], []
    for _ in range(150):
        now += float(rng.choice([1 / 30, 1 / 12, 0.9, 0.0, -0.1, -30.0, 1.05, 60.0], p=[0.3, 0.3] + 5 * [0.06] + [0.1]))
        if rng.random() < 0.1:
            size = SIZES[rng.integers(3)]
        frames.append((round((1000 + now) * NS), rng.integers(0, 255, (*size, 3), np.uint8), None))
    ledger = FrameLedger()
    estimator = StreamEstimator(FakeRuntime(), StreamConfig(warmup=warmup))
    results = list(run_stream(estimator, frames, ["foreground"], stride, ledger))
    totals = ledger.totals()
    assert totals.received == 150
    assert len(results) == totals.answered == totals.sampled > 60
    assert set(totals.drops) - {r for r, n in totals.drops.items() if not n} <= {"rate", "late"}
    # Each is the answer to its own frame, and in the order in which the frames came.
    given = iter(frames)
    for result in results:
        assert any(
            stamp == result.stamp_ns and image.shape[:2] == result.source_size[::-1] for stamp, image, _ in given
        )


def test_offline_a_cut_ends_a_clip_and_loses_nothing() -> None:
    frames = [(round((i / 12 + (20 if i >= 7 else 0)) * NS), moving_square(i), None) for i in range(10)]
    results = list(run_stream(StreamEstimator(FakeRuntime()), frames, ["foreground", "keypoints_3d"], 2))
    assert [r.stamp_ns for r in results] == [f[0] for f in frames]
    assert len({r.people[0].id for r in results}) == 2


def test_offline_a_time_lapse_is_answered_frame_by_frame() -> None:
    frames = [(2 * i * NS, moving_square(i), None) for i in range(24)]
    results = list(run_stream(StreamEstimator(FakeRuntime()), frames, ["foreground"], 8))
    assert [r.stamp_ns for r in results] == [f[0] for f in frames]


def test_frames_without_a_result_are_named() -> None:
    frames = [(round(t * NS), moving_square(0), None) for t in (0.0, 0.1, 0.1, 0.05, 0.2, 0.2)]
    ledger = FrameLedger()
    results = list(run_stream(StreamEstimator(FakeRuntime()), frames, ["foreground"], 2, ledger))
    recording = SimpleNamespace(path="a.mp4", notes=[], damaged=0)
    (line,) = run.remarks(recording, [Film(Path("a.mp4"), 12.0)], ledger.totals())
    assert len(results) == 3
    assert line == "3 of 6 frames have no result: its stamp is equal to or slightly older than one already taken"


def test_offline_newest_only_is_counted() -> None:
    frames = [(round(i / 12 * NS), moving_square(i), None) for i in range(10)]
    estimator, ledger = StreamEstimator(FakeRuntime(), StreamConfig(newest_only=True)), FrameLedger()
    assert len(list(run_stream(estimator, frames, ["foreground"], 4, ledger))) == 3
    assert (ledger.totals().answered, ledger.totals().drops["newest"]) == (3, 7)


def test_the_film_shows_what_there_is() -> None:
    camera = Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)
    estimator = StreamEstimator(FakeRuntime())
    estimator.push(0, moving_square(0), camera)
    (everything,) = estimator.step([t for t in TASKS if not t.startswith("human")])
    estimator.reset()
    estimator.push(0, moving_square(0))
    (mask_only,) = estimator.step(["foreground"])
    full, small = film_frame(everything), film_frame(mask_only)
    assert full.shape[0] == 2 * small.shape[0]
    assert full.dtype == np.uint8
