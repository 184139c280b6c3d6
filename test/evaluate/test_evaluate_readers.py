"""Every reader on a tiny data set in its published layout, and what it says where something is missing."""

import pickle
import sys
from pathlib import Path
from types import ModuleType

import evaluate_layouts as layouts
import numpy as np
import pytest
from scipy.sparse import csc_matrix

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers import READERS, body_models, h36m, pickles, read, rich


def test_videomatte(tmp_path: Path) -> None:
    layouts.videomatte(tmp_path)
    for root in (tmp_path, tmp_path / "videomatte_512x288", tmp_path / "videomatte_512x288/videomatte_static"):
        clips = read("videomatte", root)
        assert [(c.name, c.frames) for c in clips] == [("0000", 3), ("0001", 2)]
    assert clips[0].video().shape == (3, 16, 24, 3)
    assert np.array_equal(clips[0].truth(2)["alpha"], layouts.matte())


def test_videomatte_names_what_does_not_match(tmp_path: Path) -> None:
    layouts.videomatte(tmp_path)
    (tmp_path / "videomatte_512x288/videomatte_static/0001/pha/0001.png").unlink()
    with pytest.raises(UserError, match=r"0001: expected the same frames in com and pha, found 2 and 1"):
        read("videomatte", tmp_path)
    with pytest.raises(UserError, match="motion clips not found"):
        read("videomatte", tmp_path, split="motion")


def test_photomatte85_composes_over_grey(tmp_path: Path) -> None:
    layouts.photomatte85(tmp_path)
    photos = read("photomatte85", tmp_path, background=0.2)
    assert len(photos) == 85
    image, alpha = photos[3].image(0), photos[3].truth(0)["alpha"]
    assert (alpha == 0).any()
    assert np.unique(image[alpha == 0]).tolist() == [51]
    (tmp_path / "0007.png").unlink()
    with pytest.raises(UserError, match="expected the 85 photos of PhotoMatte85, found 84"):
        read("photomatte85", tmp_path)


def test_ppm100(tmp_path: Path) -> None:
    layouts.ppm100(tmp_path)
    photos = read("ppm100", tmp_path)
    assert [p.name for p in photos] == ["0_a", "1_b"]
    assert photos[0].image(0).shape == (16, 24, 3)
    assert photos[0].truth(0)["alpha"].shape == (16, 24)
    (tmp_path / "val/matte/1_b.jpg").unlink()
    with pytest.raises(UserError, match=r"image not found: expected .*matte/1_b"):
        read("ppm100", tmp_path)


def test_emdb_with_precomputed_joints(tmp_path: Path) -> None:
    path = layouts.emdb(tmp_path)
    world = np.random.default_rng(1).normal(size=(6, 24, 3))
    np.savez(path.with_name("P0_09_outdoor_walk_joints.npz"), joints=world)
    (sequence,) = read("emdb", tmp_path)
    joints = sequence.joints()
    assert sequence.video().shape == (6, 24, 18, 3)
    assert joints.joint_set == "smpl24"
    assert joints.xyz == pytest.approx(world + np.array([0.1, 0.2, 3.0]))
    assert joints.valid.tolist() == [False] + [True] * 5
    assert (sequence.intrinsics.fx, sequence.intrinsics.cx) == (20, 9.5)  # corner-based pixel coordinates


def test_emdb_without_a_body_model_says_where_to_get_it(tmp_path: Path) -> None:
    layouts.emdb(tmp_path)
    (sequence,) = read("emdb", tmp_path)
    with pytest.raises(UserError, match=r"SMPL body model \(male\) is not here.*https://smpl.is.tue.mpg.de"):
        sequence.joints()


def test_emdb_subset_and_version(tmp_path: Path) -> None:
    path = layouts.emdb(tmp_path)
    with pytest.raises(UserError, match="none of 1 sequences belongs to subset emdb2"):
        read("emdb", tmp_path, subset="emdb2")
    data = pickles.load(path)
    del data["camera"]["extrinsics"]
    path.write_bytes(pickle.dumps(data))
    with pytest.raises(UserError, match=r"expected entry 'extrinsics', found .*: another version"):
        read("emdb", tmp_path)


def test_rich(tmp_path: Path) -> None:
    layouts.rich(tmp_path)
    np.savez(tmp_path / "bodies/test/Gym_010_lunge1/010_joints.npz", joints=np.zeros((3, 24, 3)))
    (sequence,) = read("rich", tmp_path)
    assert (sequence.name, sequence.frames) == ("Gym_010_lunge1-010-cam_00", 3)
    assert sequence.joints().xyz == pytest.approx(np.broadcast_to([0, 1.0, 4.0], (3, 24, 3)))
    assert sequence.image(0).shape == (16, 24, 3)
    with pytest.raises(UserError, match="no images of split test for cameras"):
        read("rich", tmp_path, cameras=(5,))


def test_rich_gender_comes_from_the_toolkits_table(tmp_path: Path) -> None:
    layouts.rich(tmp_path)
    body, genders = tmp_path / "bodies/test/Gym_010_lunge1/00001/010.pkl", tmp_path / "resource/gender.json"
    assert rich.find_gender(tmp_path, "010", body, {}) == "male"
    assert rich.find_gender(tmp_path, "009", body, {"gender": "male"}) == "female"  # the table stands first
    with pytest.raises(UserError, match=r"gender.json: expected entry '11', found 9, 10"):
        rich.find_gender(tmp_path, "011", body, {})
    genders.unlink()
    assert rich.find_gender(tmp_path, "010", body, {"gender": "female"}) == "female"  # of repacked bodies
    (sequence,) = read("rich", tmp_path)
    with pytest.raises(UserError, match=r"does not tell its gender: expected .*gender.json; copy .*rich_toolkit"):
        sequence.joints()


def test_rich_without_calibration_or_body_model(tmp_path: Path) -> None:
    layouts.rich(tmp_path)
    (sequence,) = read("rich", tmp_path)
    with pytest.raises(UserError, match=r"SMPLX body model \(male\) is not here.*https://smpl-x.is.tue.mpg.de"):
        sequence.joints()
    (tmp_path / "scan_calibration/Gym/calibration/000.xml").unlink()
    with pytest.raises(UserError, match=r"RICH calibration not found.*rich.is.tue.mpg.de"):
        read("rich", tmp_path)


def test_h36m(tmp_path: Path) -> None:
    pose = layouts.h36m(tmp_path)
    recordings = read("h36m", tmp_path)
    assert len(recordings) == 4
    assert {r.fps for r in recordings} == {10.0}
    first = recordings[0]
    assert first.frames == 3
    assert h36m.load_pose(next(tmp_path.glob("S9/*/*/*.cdf"))) == pytest.approx(pose)
    joints = first.joints()
    assert joints.joint_set == "h36m17"
    assert joints.xyz[:, 0] == pytest.approx(pose[::5, 0] / 1000)
    # Random access and order both find frames 0, 5 and 10 of the video.
    assert [round(first.image(i).mean() / 20) for i in (2, 0, 1, 2)] == [10, 0, 5, 10]
    assert [r.name for r in read("h36m", tmp_path, protocol=2)] == [f"{s}-Directions 1.60457274" for s in ("S9", "S11")]


def test_h36m_missing_video_and_damaged_pose(tmp_path: Path) -> None:
    layouts.h36m(tmp_path)
    damaged = next(tmp_path.glob("S9/*/*/*.cdf"))
    damaged.write_bytes(b"not a CDF")
    with pytest.raises(UserError, match="cannot read"):
        read("h36m", tmp_path)
    for video in tmp_path.glob("S9/Videos/*.mp4"):
        video.unlink()
    with pytest.raises(UserError, match=r"Human3.6M video not found.*vision.imar.ro"):
        read("h36m", tmp_path)


@pytest.mark.parametrize("misspelt", [True, False])
def test_hi4d_renders_normals(tmp_path: Path, misspelt: bool) -> None:
    layouts.hi4d(tmp_path, misspelt)
    recordings = read("hi4d", tmp_path)
    assert [r.name for r in recordings] == ["pair28-dance28", "pair32-dance32", "pair37-dance37"]
    for i in range(2):  # from the pickle, then from the .obj
        truth = recordings[0].truth(i)
        assert truth["depth"][8, 12] == pytest.approx(1.75)
        # The cube's front: 0.5 m at 1.75 m with f = 30 px covers 8.6 px; the mask keeps the left half.
        assert 20 < truth["mask"].sum() < 50
        assert not truth["mask"][:, 12:].any()
        assert (truth["normals"][truth["mask"]][:, 2] < -0.3).all()


def test_hi4d_prepared_maps(tmp_path: Path) -> None:
    layouts.hi4d_prepared(tmp_path)
    (recording,) = read("hi4d", tmp_path)
    assert recording.frames == 2
    assert recording.truth(1)["normals"].shape == (16, 24, 3)
    assert np.array_equal(recording.truth(1)["mask"], layouts.matte() > 0)


def test_hi4d_names_the_missing_pair_and_camera(tmp_path: Path) -> None:
    layouts.hi4d(tmp_path, pairs=(28, 32))
    with pytest.raises(UserError, match=r"Hi4D's pair 37 not found.*yifeiyin04"):
        read("hi4d", tmp_path)
    with pytest.raises(UserError, match="expected camera 5, found"):
        read("hi4d", tmp_path, pairs=(28,), camera=5)


def test_goliath_renders_depth_in_metres(tmp_path: Path) -> None:
    layouts.goliath(tmp_path)
    recordings = read("goliath", tmp_path, kind="Head")
    assert [r.name[-9:] for r in recordings] == ["cam400002", "cam400007"]
    first = recordings[0]
    assert first.frames == 2  # frame 0 has no scan
    assert first.image(0).shape == (16, 24, 3)
    # K of 48 x 32 with its principal point between the four middle pixels stays there at 24 x 16.
    assert (first.intrinsics.fx, first.intrinsics.cx, first.intrinsics.cy) == (30, 12, 8)
    truth = first.truth(0)
    assert truth["depth"][8, 12] == pytest.approx(1.75)
    assert truth["mask"].sum() == (np.isfinite(truth["depth"]) & (layouts.matte() > 0)).sum() > 30
    assert [r.name[-9:] for r in read("goliath", tmp_path, camera_count=1)] == ["cam400002"]


def test_goliath_names_what_is_missing(tmp_path: Path) -> None:
    capture = layouts.goliath(tmp_path)
    with pytest.raises(UserError, match=r"nothing matches .*MinimalBody"):
        read("goliath", tmp_path, kind="MinimalBody")
    (capture / "scan_mesh/scan_mesh.zip").write_bytes(b"cut off")
    with pytest.raises(UserError, match="is no zip archive"):
        read("goliath", tmp_path)
    (capture / "camera_calibration.json").unlink()
    with pytest.raises(UserError, match="Goliath's calibration not found"):
        read("goliath", tmp_path)


class Hostile:
    def __reduce__(self) -> tuple:
        return (print, ("executed",))


def test_hostile_pickle_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": Hostile()}))
    with pytest.raises(UserError, match=r"it holds builtins.print"):
        pickles.load(path)
    path.write_bytes(b"\x80\x04 nonsense")
    with pytest.raises(UserError, match="cannot read"):
        pickles.load(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", range(2, 6))
def test_numpy_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    value = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [np.float32(2), np.bool_(True)],
        "c": np.array(["x", "y"]),
        "d": {1},
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    got = pickles.load(path)
    assert np.array_equal(got["a"], value["a"])
    assert got["b"] == value["b"]
    assert got["c"].tolist() == ["x", "y"]


def test_unknown_data_set_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"expected one of {READERS[0]}"):
        read("imagenet", tmp_path)
    with pytest.raises(UserError, match="folder does not exist"):
        read("emdb", tmp_path / "nowhere")


def test_smpl_at_rest_is_the_shaped_template_and_turns_as_a_whole(tmp_path: Path) -> None:
    table = layouts.body_model(24)
    (tmp_path / "smpl").mkdir()
    np.savez(tmp_path / "smpl" / "SMPL_MALE.npz", **table, other=np.array([{"an": "object"}], dtype=object))
    betas = np.linspace(-1, 1, 10)
    expected = table["J_regressor"] @ (table["v_template"] + table["shapedirs"] @ betas)
    still, turned = np.zeros((2, 72)), np.zeros((2, 72))
    turned[:, 2] = np.pi / 2
    move = np.array([[1.0, 2.0, 3.0], [0, 0, 0]])

    def joints(pose: np.ndarray) -> np.ndarray:
        return body_models.smpl24("male", pose[:, :3], pose[:, 3:], betas, move, tmp_path, tmp_path / "none.npz")

    assert joints(still) == pytest.approx(expected + move[:, None])
    relative = expected - expected[:1]
    quarter = np.stack([-relative[:, 1], relative[:, 0], relative[:, 2]], -1)
    assert joints(turned) == pytest.approx(quarter + expected[:1] + move[:, None])


def test_smpl_bends_only_below_the_joint(tmp_path: Path) -> None:
    np.savez(tmp_path / "SMPL_FEMALE.npz", **layouts.body_model(24))
    pose = np.zeros((1, 72))
    pose[0, 3 * 5 : 3 * 6] = [0.4, -0.2, 0.9]
    arguments = (np.zeros(10), np.zeros((1, 3)), tmp_path, tmp_path / "none.npz")
    bent = body_models.smpl24("female", pose[:, :3], pose[:, 3:], *arguments)[0]
    rest = body_models.smpl24("female", 0 * pose[:, :3], 0 * pose[:, 3:], *arguments)[0]
    assert bent[:6] == pytest.approx(rest[:6])
    assert (np.linalg.norm(bent[6:] - rest[6:], axis=1) > 1e-3).all()
    lengths = [np.linalg.norm(np.diff(x, axis=0), axis=1) for x in (bent, rest)]
    assert lengths[0] == pytest.approx(lengths[1])


def test_published_pickle_of_a_body_model_is_read_without_its_packages(tmp_path: Path) -> None:
    table = layouts.body_model(24)
    np.savez(tmp_path / "SMPL_MALE.npz", **table)
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = ModuleType("chumpy"), ModuleType("chumpy.ch")
    try:
        ch = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch"})
        sys.modules["chumpy.ch"].Ch = ch
        wrapped = ch()
        wrapped.x = table["shapedirs"]
        sparse = csc_matrix(table["J_regressor"])
        data = pickle.dumps({**table, "shapedirs": wrapped, "J_regressor": sparse}, protocol=2)
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    (tmp_path / "SMPL_FEMALE.pkl").write_bytes(data)
    arguments = (np.zeros((1, 3)), np.ones((1, 69)), np.ones(10), np.ones((1, 3)), tmp_path, tmp_path / "none.npz")
    assert body_models.smpl24("female", *arguments) == pytest.approx(body_models.smpl24("male", *arguments))


def test_rich_joints_come_from_smplx(tmp_path: Path) -> None:
    layouts.rich(tmp_path)
    table = layouts.body_model(55)
    np.savez(tmp_path / "SMPLX_MALE.npz", **table)
    (tmp_path / "images/test/Gym_010_lunge1/cam_xx").mkdir()  # not a camera, no concern of ours
    (tmp_path / "bodies/test/Gym_010_lunge1/notes").mkdir()
    (sequence,) = read("rich", tmp_path, body_models=tmp_path)
    joints = sequence.joints().xyz
    parameters = pickles.load(tmp_path / "bodies/test/Gym_010_lunge1/00001/010.pkl")
    shaped = table["v_template"] + table["shapedirs"] @ parameters["betas"][0]
    expected = (table["J_regressor"] @ shaped)[[*range(22), 28, 43]] + [0, 1, 4]
    assert joints[0] == pytest.approx(expected)


def test_another_file_is_no_body_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "SMPL_MALE.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(UserError, match="expected entry 'shapedirs', found v_template"):
        body_models.find_model("smpl", "male", tmp_path, tmp_path / "none.npz")
