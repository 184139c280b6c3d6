"""BVH files as they come: other names, orders of channels, units, frame rates, axes; and broken ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.synth import bvh, rotations
from thfm_ros.synth.action import known_motions
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.generate import run


def words(text: str, between: str | None = None) -> list[str]:
    return text.split(between)


CMU = words(
    "Hips LeftUpLeg LeftLeg LeftFoot RightUpLeg RightLeg RightFoot Spine1 Head "
    "LeftArm LeftForeArm LeftHand RightArm RightForeArm RightHand"
)
NAMES = {
    "cmu": CMU,
    "mixamo": [f"mixamorig:{n}" for n in CMU],
    "motionbuilder": words(
        "Hips LeftHip LeftKnee LeftAnkle RightHip RightKnee RightAnkle Chest2 Head "
        "LeftShoulder LeftElbow LeftWrist RightShoulder RightElbow RightWrist"
    ),
    "daz": words("hip lThigh lShin lFoot rThigh rShin rFoot chest head lShldr lForeArm lHand rShldr rForeArm rHand"),
    "unreal": words(
        "pelvis thigh_l calf_l foot_l thigh_r calf_r foot_r spine_02 head "
        "upperarm_l lowerarm_l hand_l upperarm_r lowerarm_r hand_r"
    ),
    "biped": words(
        "Bip01 Pelvis,Bip01 L Thigh,Bip01 L Calf,Bip01 L Foot,Bip01 R Thigh,Bip01 R Calf,Bip01 R Foot,Bip01 Spine1,"
        "Bip01 Head,Bip01 L UpperArm,Bip01 L Forearm,Bip01 L Hand,Bip01 R UpperArm,Bip01 R Forearm,Bip01 R Hand",
        ",",
    ),
}
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 7, 9, 10, 7, 12, 13)
LIMBS = [[9, 0, 0], [0, -41, 0], [0, -42, 0], [-9, 0, 0], [0, -41, 0], [0, -42, 0], [0, 30, 0], [0, 28, 0]]
ARMS = [[18, 20, 0], [28, 0, 0], [25, 0, 0], [-18, 20, 0], [-28, 0, 0], [-25, 0, 0]]
OFFSETS = np.array([[0, 0, 0], *LIMBS, *ARMS], float)
# From x left, y up, z forward to a file's axes with z up.
Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)


@dataclass(frozen=True)
class Style:
    names: str = "cmu"
    order: str = "ZYX"
    scale: float = 1.0
    fps: float = 30.0
    z_up: bool = False
    line_ends: str = "\n"

    @property
    def axes(self) -> np.ndarray:
        return Z_UP if self.z_up else np.eye(3)


def euler(matrix: np.ndarray, order: str) -> list[float]:
    """Degrees about the axes of `order`, the first turned last."""
    i, j, k = ("XYZ".index(c) for c in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    b = np.arcsin(np.clip(sign * matrix[i, k], -1, 1))
    a = np.arctan2(-sign * matrix[j, k], matrix[k, k])
    c = np.arctan2(-sign * matrix[i, j], matrix[i, i])
    return list(np.degrees([a, b, c]))


def turns(time: float) -> list[np.ndarray]:
    """A rotation a joint, smooth in time."""
    vectors = np.sin(time * np.linspace(1, 3, 45) + np.arange(45)).reshape(15, 3) * 0.4
    return list(rotations.to_matrix(rotations.from_rotvec(vectors)))


def write(path: Path, style: Style) -> Path:
    names = NAMES[style.names]
    lines = ["HIERARCHY"]

    def joint(n: int, depth: int) -> None:
        lines.append("  " * depth + f"{'JOINT' if depth else 'ROOT'} {names[n]} {{")
        x, y, z = style.axes @ OFFSETS[n] * style.scale
        lines.append(f"OFFSET {x:.6f} {y:.6f} {z:.6f}")
        move = "" if depth else "Xposition Yposition Zposition "
        lines.append(f"CHANNELS {3 if depth else 6} {move}" + " ".join(f"{c}rotation" for c in style.order))
        children = [k for k, p in enumerate(PARENTS) if p == n]
        for k in children:
            joint(k, depth + 1)
        if not children:
            lines.append("End Site { OFFSET 0 0 1 }")
        lines.append("}")

    joint(0, 0)
    count = int(style.fps) + 1
    lines += ["MOTION", f"Frames: {count}", f"Frame Time: {1 / style.fps:.8f}"]
    for f in range(count):
        time = f / style.fps
        row = list(style.axes @ np.array([30 * time, 90.0, 120 * time]) * style.scale)
        for m in turns(time):
            row += euler(style.axes @ m @ style.axes.T, style.order)
        lines.append(" ".join(f"{v:.6f}" for v in row))
    path.write_text(style.line_ends.join(lines) + style.line_ends, newline="")
    return path


PLAIN = Style()


@pytest.mark.parametrize(
    "style",
    [
        *[Style(names=n) for n in NAMES if n != "cmu"],
        *[Style(order=o) for o in ("XYZ", "YXZ", "ZXY", "XZY", "YZX")],
        *[Style(scale=s) for s in (0.01, 1 / 2.54, 10.0)],
        *[Style(fps=f) for f in (60.0, 120.0)],
        Style(z_up=True),
        Style(names="mixamo", order="XYZ", scale=0.01, fps=60.0, z_up=True, line_ends="\r\n"),
    ],
    ids=lambda s: f"{s.names}-{s.order}-{s.scale:.2f}-{s.fps:.0f}-{'z' if s.z_up else 'y'}",
)
def test_the_same_motion_however_it_is_written(tmp_path, style):
    expected = bvh.load(write(tmp_path / "plain.bvh", PLAIN))
    found = bvh.load(write(tmp_path / "other.bvh", style))
    assert found.fps == pytest.approx(expected.fps, rel=1e-4)
    assert found.rotations.shape == expected.rotations.shape
    dots = np.abs((found.rotations * expected.rotations).sum(-1))
    assert dots.min() > 1 - 1e-5
    assert np.allclose(found.root, expected.root, atol=1e-3)
    assert np.ptp(expected.root[:, 1]) > 1  # forward is -y, in leg lengths


def test_slower_files_keep_their_rate(tmp_path):
    assert bvh.load(write(tmp_path / "a.bvh", replace(PLAIN, fps=24.0))).fps == pytest.approx(24, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("HIERARCHY", "{}", 1), "start with HIERARCHY, found '{}'"),
        (lambda t: t.replace("LeftLeg", "Tail"), "no joint for 'lknee': expected a name like leftleg, .*found Hips"),
        (lambda t: t.replace("Frame Time: 0.03333333", "Frame Time: 0"), "frame time between .* found 0.0"),
        (lambda t: t.replace("Yrotation", "Yscale", 1), "channels like Xrotation, found 'Yscale' of Hips"),
        (lambda t: t[:-200], "expected 31 frames .* of 48 numbers, found"),
        (lambda t: t.replace("Frames: 31", "Frames: many"), "many"),
        (lambda t: t[:200], "cut short|after MOTION"),
        (lambda t: t.replace("Frames:", "Count:"), "expected 'Frames: N'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, change, message):
    path = write(tmp_path / "walk.bvh", PLAIN)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=rf"walk\.bvh is not a usable BVH file: .*({message})") as error:
        bvh.load(path)
    assert "\n" not in str(error.value)


SHORT = Style(fps=3.0)


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        write(path / f"{name}.bvh", SHORT)
    return path


def test_a_folder_is_its_names_and_contents_wherever_it_lies(tmp_path, monkeypatch):
    first = bvh.BvhFolder.at(folder_of(tmp_path / "one", "walk", "run"))
    assert bvh.BvhFolder.at(folder_of(tmp_path / "two" / "deep", "run", "walk")) == first
    monkeypatch.chdir(tmp_path)
    assert bvh.BvhFolder.at("one").folder == first.folder == str(tmp_path / "one")
    (tmp_path / "one" / "notes.txt").write_text("no motion")
    assert bvh.BvhFolder.at("one") == first
    write(tmp_path / "one" / "jump.BVH", SHORT)
    added = bvh.BvhFolder.at("one")
    (tmp_path / "one" / "jump.BVH").rename(tmp_path / "one" / "leap.bvh")
    renamed = bvh.BvhFolder.at("one")
    write(tmp_path / "one" / "leap.bvh", replace(SHORT, order="XYZ"))
    changed = bvh.BvhFolder.at("one")
    assert len({first, added, renamed, changed}) == 4


def test_the_settings_know_the_files_and_not_the_path(tmp_path):
    config = SynthConfig(bvh=folder_of(tmp_path / "one", "walk"))
    assert SynthConfig(bvh=str(folder_of(tmp_path / "two", "walk"))).digest() == config.digest()
    assert str(tmp_path) not in json.dumps(config.settings())
    shipped = SynthConfig(**json.loads(json.dumps(asdict(config))))  # as workers get it
    assert shipped == config
    assert shipped.bvh.folder == str(tmp_path / "one")
    write(tmp_path / "one" / "run.bvh", SHORT)
    assert SynthConfig(bvh=tmp_path / "one").digest() != config.digest()
    assert SynthConfig(bvh=tmp_path / "one") != config
    with pytest.raises(UserError, match="does not exist"):
        SynthConfig(bvh=tmp_path / "three")


def test_files_that_change_after_the_start_are_refused(tmp_path):
    folder = bvh.BvhFolder.at(folder_of(tmp_path / "one", "walk"))
    assert [m.name for m in folder.load()] == ["walk"]
    write(tmp_path / "one" / "run.bvh", SHORT)
    with pytest.raises(UserError, match="not those that this run began with"):
        folder.load()


def test_new_files_move_no_motion_to_the_other_split(tmp_path, assets):
    def split() -> dict[str, set[str]]:
        """Own motions of a split; the bundled ones apart."""
        folder = bvh.BvhFolder.at(tmp_path / "own")
        return {
            s: {m.name for m in known_motions(assets, s, folder)} - {m.name for m in known_motions(assets, s, None)}
            for s in ("train", "test")
        }

    names = [f"m{k:02d}" for k in range(10, 40)]
    folder_of(tmp_path / "own", *names)
    before = split()
    assert before["train"] | before["test"] == set(names)
    assert not before["train"] & before["test"]
    assert 1 <= len(before["test"]) <= 8
    (tmp_path / "own" / "deeper").mkdir()
    for name in ("aaa", "m20b", "deeper/zzz"):
        write(tmp_path / "own" / f"{name}.bvh", SHORT)
    after = split()
    assert {s: after[s] & set(names) for s in after} == before


def test_a_folder_without_motions_to_train_on_is_refused(tmp_path, assets):
    folder = bvh.BvhFolder.at(folder_of(tmp_path / "own", "m4"))  # its hash holds it out
    assert "m4" in {m.name for m in known_motions(assets, "test", folder)}
    with pytest.raises(UserError, match="held out"):
        known_motions(assets, "train", folder)


def test_other_motions_do_not_mix_in_and_another_place_of_them_does(tmp_path, monkeypatch):
    for name in ("one", "two"):
        folder_of(tmp_path / name, "walk")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"

    def settings(folder: str) -> SynthConfig:
        return SynthConfig(frames=2, height=32, width=48, bvh=bvh.BvhFolder.at(folder))

    first = run(settings("one"), 3, 2, out, per_shard=1)
    (out / "shard-000001.tar").unlink()
    assert run(settings("two"), 3, 2, out, per_shard=1) == first
    write(tmp_path / "one" / "run.bvh", SHORT)
    with pytest.raises(UserError, match="same BVH files"):
        run(settings("one"), 3, 2, out, per_shard=1)
