"""Damaged files and files of another version: one line that names the file, never a traceback."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate_layouts as layouts
import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers import pickles, read
from thfm_ros.evaluate.readers.base import load_json, load_npy, load_npz

Change = Callable[[Path], Any]


def text(content: str) -> Change:
    return lambda path: path.write_text(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One byte of the first entry's data, so that only its checksum tells."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        name = archive.infolist()[-1]
        at = name.header_offset + 30 + len(name.filename) + name.compress_size // 2
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def npz(**arrays: Any) -> Change:
    return lambda path: np.savez(path, **arrays)


def edit(*names: str, value: Any) -> Change:
    """One entry of a pickle replaced."""

    def change(path: Path) -> None:
        table = whole = pickles.load(path)
        for name in names[:-1]:
            table = table[name]
        table[names[-1]] = value
        path.write_bytes(pickle.dumps(whole))

    return change


def xml(name: str, content: str) -> Change:
    def change(path: Path) -> None:
        path.write_text(f'<?xml version="1.0"?><opencv_storage><{name}>{content}</{name}></opencv_storage>')

    return change


def smaller(path: Path) -> None:
    """A RICH camera matrix of the wrong size."""
    path.write_text(path.read_text().replace("<cols>4</cols>", "<cols>3</cols>"))


HI4D = "pair28/dance28"
GOLIATH = "m--20240101--1200--ABC123--pilot--ProjectGoliath--Head"
CAMERAS = f"{HI4D}/cameras/rgb_cameras.npz"
EMDB = "P0/09_outdoor_walk/P0_09_outdoor_walk"
XML = "scan_calibration/Gym/calibration/000.xml"
GYM = "bodies/test/Gym_010_lunge1"
CASES: list[tuple[str, str, Change, str]] = [
    ("goliath", f"{GOLIATH}/camera_calibration.json", cut, "as JSON"),
    ("goliath", f"{GOLIATH}/camera_calibration.json", text("[1]"), "expected a JSON object, found list"),
    ("goliath", f"{GOLIATH}/camera_calibration.json", text('{"krt": []}'), "expected entry 'KRT', found krt"),
    ("goliath", f"{GOLIATH}/camera_calibration.json", text('{"KRT": 3}'), "expected a list of cameras"),
    ("goliath", f"{GOLIATH}/camera_calibration.json", text('{"KRT": [3]}'), "expected entry 'K'"),
    ("goliath", f"{GOLIATH}/camera_calibration.json", text('{"KRT": [{"K": [1]}]}'), "expected K of shape 3x3"),
    ("goliath", f"{GOLIATH}/image/cam400002.zip", flip, "cam400002.zip"),
    ("goliath", f"{GOLIATH}/scan_mesh/scan_mesh.zip", flip, "scan_mesh.zip"),
    ("hi4d", f"{HI4D}/meta.npz", cut, "as .npz"),
    ("hi4d", f"{HI4D}/meta.npz", text(""), "as .npz"),
    ("hi4d", f"{HI4D}/meta.npz", npz(start=1), "expected entry 'end', found start"),
    ("hi4d", f"{HI4D}/meta.npz", npz(start="a", end=2), "expected numbers as start"),
    ("hi4d", f"{HI4D}/meta.npz", npz(start=[1, 2], end=2), "expected start of shape 1, found (2,)"),
    ("hi4d", f"{HI4D}/meta.npz", npz(start=3, end=2), "expected end >= start, found 3 .. 2"),
    ("hi4d", f"{HI4D}/meta.npz", npz(start=np.array({}), end=2), "as .npz: Object arrays cannot be loaded"),
    ("hi4d", CAMERAS, cut, "as .npz"),
    ("hi4d", CAMERAS, npz(ids=[4]), "expected entry 'extrinsics', found ids"),
    ("hi4d", CAMERAS, npz(ids=[4], extrinsics=0, dist_coeffs=0), "expected entry 'intrinsics'"),
    ("hi4d", CAMERAS, npz(ids=[4], extrinsics=0, dist_coeffs=0, intrinsics=0), "expected intrinsics of shape 1x3x3"),
    ("hi4d", f"{HI4D}/frames/mesh-f00002.obj", text("v 1 2 x"), "as a Wavefront mesh"),
    ("hi4d", f"{HI4D}/frames/mesh-f00002.obj", text("v 1 2\nf 1 1 1"), "expected vertices of shape Nx3"),
    ("hi4d", f"{HI4D}/frames_vis/mesh-f00001.pkl", edit("faces", value=3), "expected faces of shape Nx3"),
    ("hi4d prepared", "pair28_dance/normal/000001.npy", cut, "as .npy"),
    ("hi4d prepared", "pair28_dance/normal/000001.npy", text(""), "as .npy"),
    ("emdb", f"{EMDB}_joints.npz", text("nonsense"), "as .npz"),
    ("emdb", f"{EMDB}_joints.npz", npz(xyz=0), "expected entry 'joints', found xyz"),
    ("emdb", f"{EMDB}_joints.npz", npz(joints=np.zeros((6, 22, 3))), "expected joints of shape 6x24x3"),
    ("emdb", f"{EMDB}_data.pkl", edit("n_frames", value="six"), "expected numbers as n_frames"),
    ("emdb", f"{EMDB}_data.pkl", edit("camera", "extrinsics", value=np.eye(4)), "expected extrinsics of shape 6x4x4"),
    ("emdb", f"{EMDB}_data.pkl", edit("camera", "intrinsics", value=None), "expected intrinsics of shape 3x3"),
    ("emdb", f"{EMDB}_data.pkl", edit("smpl", "poses_body", value=np.zeros((6, 63))), "poses_body of shape 6x69"),
    ("rich", XML, cut, "000.xml"),
    ("rich", XML, text("nonsense"), "as OpenCV XML"),
    ("rich", XML, text(""), "000.xml"),
    ("rich", XML, xml("CameraMatrix", "7"), "000.xml"),
    ("rich", XML, smaller, "000.xml"),
    ("rich", f"{GYM}/00001/010.pkl", edit("body_pose", value=np.zeros(60)), "expected body_pose of shape 63"),
    ("rich", "resource/gender.json", cut, "as JSON"),
]


def read_all(name: str, root: Path, options: dict[str, Any]) -> None:
    for recording in read(name, root, **options):
        recording.video()
        if recording.joints:
            recording.joints()
        for i in range(recording.frames if recording.truth else 0):
            recording.truth(i)


@pytest.mark.parametrize(("name", "file", "change", "message"), CASES, ids=[f"{c[0]}-{c[3][:30]}" for c in CASES])
def test_damaged_files_are_named(tmp_path: Path, name: str, file: str, change: Change, message: str) -> None:
    getattr(layouts, name.replace(" ", "_"))(tmp_path)
    np.savez(tmp_path / "SMPL_MALE.npz", **layouts.body_model(24))
    np.savez(tmp_path / "SMPLX_MALE.npz", **layouts.body_model(55))
    change(tmp_path / file)
    options = {"body_models": tmp_path} if name in ("emdb", "rich") else {}
    with pytest.raises(UserError) as error:
        read_all(name.split()[0], tmp_path, options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_that_are_no_camera_or_frame_are_passed_over(tmp_path: Path) -> None:
    layouts.rich(tmp_path)
    (tmp_path / "images/test/Gym_010_lunge1/cam_xx").mkdir()
    other = tmp_path / GYM / "backup"
    other.mkdir()
    (other / "010.pkl").write_bytes(b"")
    assert [r.frames for r in read("rich", tmp_path)] == [3]


def test_good_files_are_read_and_missing_ones_say_where_from(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=1)
    np.save(tmp_path / "a.npy", np.zeros((2, 5, 3)))
    (tmp_path / "a.json").write_text(json.dumps({"k": 1}))
    assert list(load_npz(tmp_path / "a.npz", ("y",), "ask", ("x", "z"))) == ["y", "x"]
    assert load_npy(tmp_path / "a.npy", (-1, -1, 3), "ask").shape == (2, 5, 3)
    assert load_json(tmp_path / "a.json", "ask") == {"k": 1}
    for load in (lambda p: load_npz(p, (), "ask"), lambda p: load_npy(p, (), "ask"), lambda p: load_json(p, "ask")):
        with pytest.raises(UserError, match=r"annotation file not found: expected .*none; ask"):
            load(tmp_path / "none")
    with pytest.raises(UserError, match=r"its array of shape 2x2, found \(2, 5, 3\)"):
        load_npy(tmp_path / "a.npy", (2, 2), "ask")
