"""3D joints in calibrated views, and pictures without anybody: figures that are known, damaged data in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import real_layouts as layouts
import typer
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.evaluate import commands, nobody, views
from thfm_ros.evaluate.picture_models import FunctionModel, constant_model
from thfm_ros.evaluate.readers import nobody as nobody_reader
from thfm_ros.evaluate.readers.views import LIMBS, Skeleton, VideoView, read


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command("other")(lambda: None)
    commands.register(app)
    return CliRunner().invoke(app, ["evaluate", *arguments])


def predicting(change: Callable[[np.ndarray], np.ndarray]) -> FunctionModel:
    """A network whose skeleton is the first view's, changed."""
    points = change(layouts.skeleton())
    return FunctionModel(joints=lambda images: np.repeat(points[None], len(images), 0), joint_set="coco17")


def test_the_box_is_where_the_camera_sees_the_joints(tmp_path: Path) -> None:
    person = read(layouts.views(tmp_path)).views[0].people[0]
    points = layouts.skeleton()
    xy = points[:, :2] / points[:, 2:] * 100 + [48, 32]
    assert person.box == pytest.approx([*xy.min(0), *np.ptp(xy, 0)])


def test_a_turned_and_scaled_skeleton_is_wrong_until_aligned(tmp_path: Path) -> None:
    root = layouts.views(tmp_path, layouts.views_table(1))
    true = views.measure(predicting(lambda p: p - 7.0), root)  # any root
    assert true["joints"] == pytest.approx({"people": 1, "missed": 0, "mpjpe": 0, "pa_mpjpe": 0}, abs=1e-6)
    figures = views.measure(predicting(lambda p: 2.0 * p[:, [0, 2, 1]] * [1, 1, -1]), root)
    assert figures["joints"]["mpjpe"] > 100
    assert figures["joints"]["pa_mpjpe"] == pytest.approx(0, abs=1e-6)
    assert set(figures["mpjpe by joint"]) == set(LIMBS)


def test_one_wrong_joint_is_reported_by_name_and_unknown_ones_do_not_count(tmp_path: Path) -> None:
    def change(points: np.ndarray) -> np.ndarray:
        points[9] += [0.0, 0.3, 0.4]  # the left wrist, half a metre away
        return points

    table = layouts.views_table(1)
    figures = views.measure(predicting(change), layouts.views(tmp_path / "a", table))
    assert figures["mpjpe by joint"]["left_wrist"] == pytest.approx(500)
    assert figures["joints"]["mpjpe"] == pytest.approx(500 / 12)
    table[0]["people"][0]["valid"] = [int(i != 9) for i in range(17)]
    known = views.measure(predicting(change), layouts.views(tmp_path / "b", table))
    assert known["joints"]["pa_mpjpe"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(known["mpjpe by joint"]["left_wrist"])


def test_video_has_an_error_of_acceleration(tmp_path: Path) -> None:
    root = layouts.views(tmp_path / "views", frames=12)
    data = read(root)
    assert [len(video.skeletons) for video in data.videos] == [12]
    still = predicting(lambda p: p)
    _, videos = views.predict(still, data, tmp_path / "out")
    assert (videos[0]["frames"], videos[0]["fps"]) == ([0, 2, 4, 6, 8, 10], 12.0)
    figures = views.score_videos(data.videos, videos)["video"]
    true = np.stack([layouts.skeleton(0.02 * i)[5:] for i in range(0, 12, 2)])
    true -= true[:, 6:8].mean(1, keepdims=True)
    assert figures["jitter"] == 0
    assert figures["accel"] == pytest.approx(np.linalg.norm(np.diff(true, 2, axis=0), axis=-1).mean() * 144)
    perfect = [{**videos[0], "xyz": np.stack([data.videos[0].skeletons[i].xyz for i in videos[0]["frames"]])}]
    assert views.score_videos(data.videos, perfect)["video"]["accel"] == 0


def test_jitter_leaves_out_gaps_of_the_truth(tmp_path: Path) -> None:
    """Joints that move at one speed have none, though the last known skeleton stands for those of a gap."""
    points = layouts.skeleton()[5:]
    moving = [points + [0, 0, 0.1 * i] * np.arange(12)[:, None] for i in range(16)]
    skeletons = [Skeleton(xyz, np.ones(12, bool), np.zeros(4)) for xyz in moving]
    for i in (6, 7):
        skeletons[i] = Skeleton(moving[5], np.zeros(12, bool), np.zeros(4))
    prediction = {"xyz": np.stack(moving), "frames": list(range(16)), "fps": 12.0}
    prediction["xyz"][6] += np.arange(12)[:, None]  # what was predicted there has no truth beside it
    video = VideoView("a.mp4", tmp_path / "a.mp4", 12.0, tuple(skeletons))
    figures = views.score_videos([video], [prediction])["video"]
    assert [figures[name] for name in ("jitter", "jitter_truth")] == pytest.approx([0, 0], abs=1e-6)
    prediction["xyz"][1] += np.arange(12)[:, None]
    assert views.score_videos([video], [prediction])["video"]["jitter"] > 1


def test_people_whose_joints_are_unknown_do_not_count(tmp_path: Path) -> None:
    table = layouts.views_table(2)
    table[0]["people"][0]["valid"] = [0] * 17
    root = layouts.views(tmp_path, table, frames=4)
    with np.load(root / "joints_world.npz") as stored:
        arrays = dict(stored)
    valid = np.ones((4, 17), bool)
    valid[[0, 2]] = False
    np.savez(root / "joints_world.npz", valid=valid, **arrays)
    data = read(root)
    assert [len(view.people) for view in data.views] == [0, 1]
    skeletons = data.videos[0].skeletons
    assert [bool(s.valid.all()) for s in skeletons] == [False, True, False, True]
    assert skeletons[2].box == pytest.approx(skeletons[1].box)
    assert views.measure(predicting(lambda p: p), root)["joints"]["people"] == 1


def test_rows_are_used_again(tmp_path: Path) -> None:
    data = read(layouts.views(tmp_path / "views", frames=4))
    calls = []

    def joints(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return np.repeat(layouts.skeleton()[None], len(images), 0)

    model = FunctionModel(joints=joints, joint_set="coco17")
    first = views.predict(model, data, tmp_path / "out")
    count = len(calls)
    again = views.predict(model, data, tmp_path / "out")
    assert len(calls) == count == 4
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1][0]["xyz"], again[1][0]["xyz"])


def test_the_views_command_scores_files_beside_a_network(tmp_path: Path) -> None:
    table = layouts.views_table()
    root = layouts.views(tmp_path / "views", table)
    predictions = [{"image": row["image"], "people": row["people"]} for row in table]
    predictions[1]["people"] = [None]
    (tmp_path / "peer.json").write_text(json.dumps(predictions))
    sheet = tmp_path / "sheet.jpg"
    arguments = ["--root", str(root), "--checkpoint", "constant", "--predictions", str(tmp_path / "peer.json")]
    result = run("views", *arguments, "--out", str(tmp_path / "out"), "--sheet", str(sheet))
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out/report.json").read_text())["figures"]
    assert figures["peer"]["joints"]["pa_mpjpe"] == pytest.approx(0, abs=1e-6)
    assert figures["peer"]["joints"]["missed"] == pytest.approx(1 / 3)
    assert figures["constant"]["joints"]["pa_mpjpe"] > 10
    assert sheet.stat().st_size


def test_pictures_of_one_name_in_two_folders_are_two_pictures(tmp_path: Path) -> None:
    table = layouts.views_table(2)
    for row, camera in zip(table, ("cam1", "cam2"), strict=True):
        row["image"] = f"{camera}/0001.jpg"
        (tmp_path / "views" / camera).mkdir(parents=True)
    root = layouts.views(tmp_path / "views", table)
    peer = tmp_path / "peer.json"
    peer.write_text(json.dumps(table[::-1]))
    data = read(root)
    figures = views.score(data.views, views.load_predictions(peer, data))
    assert figures["joints"] == pytest.approx({"people": 2, "missed": 0, "mpjpe": 0, "pa_mpjpe": 0}, abs=1e-6)
    seen: list[str] = []
    views.predict(predicting(lambda p: p), data, tmp_path / "out", step=seen.append)
    assert seen == ["cam1/0001.jpg", "cam2/0001.jpg"]
    assert len(list((tmp_path / "out").rglob("*.json"))) == 2


def test_predictions_of_people_who_do_not_count_are_left_out(tmp_path: Path) -> None:
    """They list everybody of joints.json, who need not be known well enough."""
    table = layouts.views_table(1)
    known = table[0]["people"][0]
    table[0]["people"] = [{**known, "valid": [0] * 17, "xyz_camera_m": [[0, 0, 1]] * 17}, known]
    peer = tmp_path / "peer.json"
    peer.write_text(json.dumps(table))
    data = read(layouts.views(tmp_path / "views", table))
    figures = views.score(data.views, views.load_predictions(peer, data))
    assert figures["joints"]["people"] == 1
    assert figures["joints"]["pa_mpjpe"] == pytest.approx(0, abs=1e-6)
    table[0]["people"].pop()
    peer.write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"1 people of cam01_f000.jpg, where joints.json lists 2"):
        views.load_predictions(peer, data)


Change = Callable[[list[dict[str, Any]]], Any]
DAMAGE: dict[str, tuple[Change, str]] = {
    "no views": (lambda t: t.clear(), "expected views, found none"),
    "no calibration": (lambda t: t[1].pop("K"), "expected the calibration 'K' of cam01_f001.jpg, found none"),
    "half a calibration": (lambda t: t[1].update(K=[[1, 2]]), "expected 'K' of cam01_f001.jpg of shape 3x3"),
    "no focal length": (lambda t: t[1].update(K=np.zeros((3, 3)).tolist()), "positive focal lengths"),
    "no picture's name": (lambda t: t[0].pop("image"), "expected 'image' of every view"),
    "no people": (lambda t: t[0].pop("people"), "expected a list 'people'"),
    "no names": (lambda t: t[0]["people"][0].pop("joint_names"), "expected left_shoulder"),
    "few joints": (lambda t: t[0]["people"][0]["xyz_camera_m"].pop(), "of shape 17x3, found (16, 3)"),
    "behind the camera": (
        lambda t: t[0]["people"][0].update(xyz_camera_m=[[0, 0, -1]] * 17),
        "expected joints before the camera",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_views_are_one_line_before_any_work(tmp_path: Path, kind: str) -> None:
    change, message = DAMAGE[kind]
    root = layouts.views(tmp_path / "views")
    table = layouts.views_table()
    change(table)
    (root / "joints.json").write_text(json.dumps(table))
    result = run("views", "--root", str(root), "--checkpoint", "constant")
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "joints.json").unlink(), "the views' calibration and joints not found"),
        (lambda root: (root / "joints.json").write_text("{"), "as JSON"),
        (lambda root: (root / "joints.json").write_text("{}"), "expected views, found dict"),
        (lambda root: (root / "cam01_f001.jpg").unlink(), "1 of 3 missing"),
        (lambda root: (root / "joints_world.npz").write_bytes(b"PK"), "joints_world.npz as .npz"),
        (lambda root: np.savez(root / "joints_world.npz", fps=1), "expected entry 'joint_names'"),
    ],
)
def test_missing_and_damaged_files_of_views_are_named(tmp_path: Path, spoil: Any, message: str) -> None:
    root = layouts.views(tmp_path / "views", frames=2)
    spoil(root)
    with pytest.raises(UserError) as error:
        read(root)
    assert message in str(error.value)


@pytest.mark.parametrize("content", ["[", "{}", "[]", '[{"image": "cam01_f000.jpg", "people": []}]'])
def test_damaged_predictions_on_views_are_one_line(tmp_path: Path, content: str) -> None:
    data = read(layouts.views(tmp_path))
    (tmp_path / "peer.json").write_text(content)
    with pytest.raises(UserError, match=r"peer.json: expected a list of \{image, people"):
        views.load_predictions(tmp_path / "peer.json", data)


def photographs(root: Path) -> Path:
    """Three dark ones and a bright one, in a folder and its subfolder."""
    (root / "more").mkdir(parents=True)
    for name, value in (("a.png", 0), ("b.jpg", 10), ("more/c.png", 20), ("more/d.png", 250)):
        cv2.imwrite(str(root / name), np.full((24, 32, 3), value, np.uint8))
    return root


def sees_bright_people() -> FunctionModel:
    """Reports somebody in a bright picture, and has all of it in the mask."""

    def keypoints(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bright = (images[:, :, images.shape[2] // 2].mean((1, 2)) > 0).astype(float)
        return np.full((len(images), 17, 2), 0.5), np.repeat(bright[:, None], 17, 1)

    return FunctionModel(keypoints, masks=lambda images: images.mean(1) > 0, picture=(32, 24), joint_set="coco17")


def test_false_people_and_their_pixels_are_counted(tmp_path: Path) -> None:
    figures = nobody.measure(sees_bright_people(), photographs(tmp_path))
    assert figures == {
        "pictures without anybody": {"pictures": 4, "reported": 0.25, "people": 0.25, "mask": 0.25, "masked": 0.25}
    }


def test_pictures_of_all_kinds_and_behind_links_are_looked_at(tmp_path: Path) -> None:
    root, elsewhere = photographs(tmp_path / "photographs"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for suffix in ("webp", "tif", "tiff", "bmp"):
        cv2.imwrite(str(elsewhere / f"e.{suffix}"), np.full((24, 32, 3), 30, np.uint8))
    (root / "link").symlink_to(elsewhere)
    names = [name for name, _ in nobody_reader.read(root).images()]
    assert names == sorted(
        ["a.png", "b.jpg", "more/c.png", "more/d.png", *(f"link/e.{s}" for s in ("bmp", "tif", "tiff", "webp"))]
    )


def test_a_stretch_of_a_video_is_pictures_too(tmp_path: Path) -> None:
    layouts.views(tmp_path, frames=48)
    video = tmp_path / "videos/cam01.mp4"
    data = nobody_reader.read(video, 0.5, 1.5, rate=4)
    assert [name for name, _ in data.images()] == ["0.500 s", "0.750 s", "1.000 s", "1.250 s"]
    assert data.count == 4
    assert len(list(nobody_reader.read(video, 0.5, rate=100, limit=7).images())) == 7
    assert nobody_reader.read(video, rate=100).count == len(list(nobody_reader.read(video, rate=100).images())) == 48


def test_a_stretch_after_the_end_of_a_video_without_a_length_is_one_line(tmp_path: Path) -> None:
    layouts.views(tmp_path, frames=24)
    video = tmp_path / "cam01.mkv"
    with av.open(str(tmp_path / "videos/cam01.mp4")) as source, av.open(str(video), "w") as out:
        stream = out.add_stream("libx264", rate=24)
        for frame in source.decode(video=0):
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")))
        out.mux(stream.encode())
    assert nobody.measure(constant_model(), video)["pictures without anybody"]["pictures"] > 0
    for begin, end, found in ((100.0, None, "from 100 to its end"), (0.01, 0.02, "from 0.01 to 0.02 s")):
        with pytest.raises(UserError, match=f"expected pictures in .*mkv {found}, found none: change --from"):
            nobody.measure(constant_model(), video, begin, end)


def test_the_nobody_command_draws_and_goes_on(tmp_path: Path) -> None:
    root = photographs(tmp_path / "photographs")
    rows = {name: {"scores": [], "mask": 0.0} for name in ("a.png", "b.jpg", "more/c.png", "more/d.png")}
    (tmp_path / "peer.json").write_text(json.dumps(rows))
    arguments = ["nobody", "--root", str(root), "--checkpoint", "constant", "--out", str(tmp_path / "out")]
    result = run(*arguments, "--predictions", str(tmp_path / "peer.json"), "--sheet", str(tmp_path / "sheet.png"))
    assert result.exit_code == 0, result.output
    assert "| pictures without anybody | peer | 4 | 0 | 0 | 0 | 0 |" in result.output
    stored = json.loads((tmp_path / "out/report.json").read_text())
    assert stored["figures"]["constant"]["pictures without anybody"]["reported"] == 1
    assert (tmp_path / "sheet.png").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EMPTY"], "expected pictures (.png"),
        (["/nowhere"], "video not found: /nowhere"),
        (["PHOTOGRAPHS", "--to", "3"], "expected a video for --from and --to, found the folder"),
        (["VIDEO", "--from", "9"], "of 2.0 s, found from 9 to its end"),
        (["VIDEO", "--from", "1", "--to", "1"], "found from 1 to 1 s"),
        (["TEXT"], "as a video"),
    ],
)
def test_nothing_to_look_at_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    layouts.views(tmp_path / "views", frames=48)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    places = {"EMPTY": tmp_path / "empty", "PHOTOGRAPHS": photographs(tmp_path / "photographs")}
    places |= {"VIDEO": tmp_path / "views/videos/cam01.mp4", "TEXT": tmp_path / "text.mp4"}
    root = str(places.get(arguments[0], arguments[0]))
    result = run("nobody", "--root", root, *arguments[1:], "--checkpoint", "constant")
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
