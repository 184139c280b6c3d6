"""Statues and posters, which are nobody; things that fill a picture; hard light, and photographs brought to light."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from thfm_ros.synth import clip as clips
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.figures import MATTERS, matter, poster

STILLS = {"frames": 1, "height": 64, "width": 96, "identities": 4, "occluders": 0.0, "sensor": False}
TRUTH = ("alpha", "dense_pose", "instances", "parts", "keypoints_2d")


def hide(monkeypatch, kind: str) -> None:
    """Takes things of a kind out of scenes before they are rendered."""
    made = clips.assemble

    def without(body, people, surroundings, frames):
        surroundings.things = [t for t in surroundings.things if t.piece.name != kind]
        return made(body, people, surroundings, frames)

    monkeypatch.setattr(clips, "assemble", without)


@pytest.mark.parametrize(("share", "kind"), [("statues", "statue"), ("posters", "poster")])
def test_likenesses_stand_in_pictures_and_are_nobody(assets, monkeypatch, share: str, kind: str) -> None:
    config = SynthConfig(**STILLS, empty=0.5, **{share: 1.0})
    indices = range(32)
    shown = [generate_clip(config, 5, i, assets) for i in indices]
    hide(monkeypatch, kind)
    clips._stills.cache_clear()
    without = [generate_clip(config, 5, i, assets) for i in indices]
    clips._stills.cache_clear()
    seen = 0
    for a, b in zip(shown, without, strict=True):
        assert kind in a.meta["things"]
        nearer = a.depth[0] < b.depth[0] - 1e-3
        seen += nearer.sum()
        assert not a.human_mask[0][nearer].any()
        assert (a.instances[0][nearer] == 0).all()
        assert (a.dense_pose[0][nearer] == 0).all()
        assert len(a.people) == len(b.people)
    assert seen > 300


def test_a_statue_is_of_one_matter_and_stands_on_the_ground(assets) -> None:
    config = SynthConfig(**STILLS, statues=1.0)
    rises = []
    for seed in range(8):
        piece = clips._statue(config, (1, seed, 2), assets, np.random.default_rng(seed))
        assert piece.name == "statue"
        assert len(piece.meshes) == len(piece.materials) == len(piece.local) <= 2
        assert all(m.kind == "object" and m.photo < 0 for m in piece.materials)
        low = min(m.vertices[:, 2].min() for m in piece.meshes)
        assert abs(low) < 1e-3
        rises.append(piece.meshes[0].vertices[:, 2].min())
        for mesh, local in zip(piece.meshes, piece.local, strict=True):
            assert len(mesh.vertices) == len(local)
            assert 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)
    assert max(rises) > 0.1
    assert len({matter(np.random.default_rng(i)).pattern for i in range(60)}) > 3
    assert len(MATTERS) == 10


def test_posters_show_a_picture_upright_and_whole_texels_of_it() -> None:
    for seed in range(20):
        piece = poster(np.random.default_rng(seed), 3)
        face, shown = piece.meshes[0], piece.materials[0]
        assert (shown.photo, shown.extra, shown.scale) == (3, 1.0, 1.0)
        places = piece.local[0]
        assert places.min() >= 0
        assert places.max() <= 1
        top = face.vertices[:, 2] > face.vertices[:, 2].mean()
        assert places[top, 1].max() < places[~top, 1].min()  # the first rows are up
        wide, high = np.ptp(face.vertices[:, 0]), np.ptp(face.vertices[:, 2])
        part = np.ptp(places[:, 0]), np.ptp(places[:, 1])
        assert part[0] / part[1] == pytest.approx(wide / high, rel=1e-4)  # people are as slim as they were


def test_pictures_on_posters_are_of_people_and_always_the_same(assets) -> None:
    clips._picture.cache_clear()
    first = clips._picture(assets, "train", None, "cpu", 3)
    clips._picture.cache_clear()
    clips._stills.cache_clear()
    again = clips._picture(assets, "train", None, "cpu", 3)
    assert first.shape == (256, 256, 3)
    assert np.array_equal(first, again)


def test_things_fill_the_picture_where_nobody_is(assets) -> None:
    config = SynthConfig(**STILLS, empty=0.0, still=1.0)
    near = []
    for i in range(16):
        clip = generate_clip(config, 2, i, assets)
        assert clip.people == []
        assert not clip.human_mask.any()
        assert (clip.instances == 0).all()
        assert clip.meta["framing"][i % 4] == "still"
        assert len(clip.meta["things"]) >= 2
        near.append((clip.depth[0] < 3.0).mean())
    assert np.median(near) > 0.3


def test_hard_light_changes_nothing_but_light(assets, monkeypatch) -> None:
    config = SynthConfig(**STILLS, empty=0.0, hard=1.0)
    lit = [generate_clip(config, 4, i, assets) for i in range(12)]
    monkeypatch.setattr(clips, "set_light", lambda *_: None)
    clips._stills.cache_clear()
    before = [generate_clip(config, 4, i, assets) for i in range(12)]
    clips._stills.cache_clear()
    for a, b in zip(lit, before, strict=True):
        assert not np.array_equal(a.rgb, b.rgb)
        for name in (*TRUTH, "depth", "normals"):
            assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)


def test_photographs_come_to_the_light_of_people(assets, tmp_path: Path, monkeypatch) -> None:
    """A black and a white photograph are as bright as people are, or nearer to it."""
    for name, value in (("dark", 12), ("bright", 235)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((90, 120, 3), value, np.uint8))
    config = SynthConfig(**STILLS, empty=0.0, backgrounds=tmp_path, composed=1.0, nobody=0.0, matched=1.0)
    matched = [generate_clip(config, 4, i, assets) for i in range(16)]
    monkeypatch.setattr(clips, "set_light", lambda *_: None)
    clips._stills.cache_clear()
    before = [generate_clip(config, 4, i, assets) for i in range(16)]
    clips._stills.cache_clear()
    for a, b in zip(matched, before, strict=True):
        outside = a.alpha == 0
        change = a.rgb[outside].astype(float).mean() - b.rgb[outside].astype(float).mean()
        assert change > 1 if b.meta["photograph"] == "dark.png" else change < -1
        for name in TRUTH:
            assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
