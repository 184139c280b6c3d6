"""Things near people: what they hide, what they never become, and that nothing changes where they are off."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip
from thfm_ros.synth.things import HELD_OUT, MAKERS, make_seat, make_thing

STILLS = {"frames": 1, "identities": 4, "height": 96, "width": 160, "empty": 0.0, "sensor": False}


def made(assets, count: int, **settings) -> list[Clip]:
    """Clips of one seed whatever the settings: with and without things they show the same people and cameras."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SynthConfig, "digest", lambda _: "ab")
        config = SynthConfig(**{**STILLS, **settings})
        return [generate_clip(config, 5, i, assets) for i in range(count)]


@pytest.fixture(scope="module")
def pairs(assets) -> list[tuple[Clip, Clip]]:
    """The same stills without things and with them."""
    return list(zip(made(assets, 16), made(assets, 16, things=1.0), strict=True))


def test_things_hide_people_and_are_nobody(pairs) -> None:
    hidden = 0
    for without, with_them in pairs:
        lost, won = without.alpha - with_them.alpha, with_them.alpha - without.alpha
        assert won.max() < 1e-6  # no pixel becomes more of a person
        hidden += (lost > 0.5).sum()
        gone = without.human_mask & ~with_them.human_mask & (with_them.alpha == 0)
        assert (with_them.depth[gone] < without.depth[gone]).all()  # something nearer is there
        assert (with_them.instances[gone] == 0).all()
        assert (with_them.dense_pose[gone] == 0).all()
        assert (with_them.parts[gone] == 0).all()
    assert hidden > 300


def test_what_things_leave_of_people_stays_as_it_was(pairs) -> None:
    kept = 0
    for without, with_them in pairs:
        same = (without.alpha == 1) & (with_them.alpha == 1)
        kept += same.sum()
        for name in ("depth", "normals", "dense_pose", "parts"):
            assert np.array_equal(getattr(without, name)[same], getattr(with_them, name)[same])
    assert kept > 3000


def test_joints_behind_things_are_hidden(pairs) -> None:
    changed = 0
    for without, with_them in pairs:
        before, after = without.people[0].visibility, with_them.people[0].visibility
        assert np.array_equal(without.people[0].keypoints_2d, with_them.people[0].keypoints_2d)
        assert (after <= before).all()
        assert np.array_equal(after == 0, before == 0)  # what lies outside of the picture lies there still
        changed += (after < before).sum()
    assert changed > 10


def test_things_stand_out_from_what_is_behind_them_with_normals_to_the_camera(pairs) -> None:
    share = []
    for without, with_them in pairs:
        there = with_them.depth < without.depth - 0.02
        share.append(there.mean())
        normals = with_them.normals[there]
        assert np.allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-3)
    assert np.mean(share) > 0.05


def test_most_heads_stay_in_sight(pairs) -> None:
    seen = [(a.people[0].visibility[0, 0] < 1, b.people[0].visibility[0, 0] < 1) for a, b in pairs]
    assert np.mean([after and not before for before, after in seen]) < 0.3


def test_each_kind_stands_on_the_floor_with_a_surface_on_every_part() -> None:
    for split, kinds in (("train", MAKERS.keys() - HELD_OUT - {"small"}), ("test", MAKERS.keys() - {"small"})):
        rng = np.random.default_rng(3)
        pieces = [make_thing(rng, split) for _ in range(400)]
        assert {p.name for p in pieces} == kinds
        for piece in pieces:
            points = np.concatenate([m.vertices for m in piece.meshes])
            assert np.isfinite(points).all()
            assert points[:, 2].max() > 0.05
            assert np.abs(points).max() < 6
            assert sum(len(m.faces) for m in piece.meshes) < 9000
            for mesh, local, material in zip(piece.meshes, piece.local, piece.materials, strict=True):
                assert len(local) == len(mesh.vertices)
                assert mesh.faces.max() < len(mesh.vertices)
                assert material.photo >= 0


@pytest.mark.parametrize("height", [0.25, 0.45, 0.7])
def test_seats_are_as_high_as_asked(height: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        seat = make_seat(rng, height)
        points = np.concatenate([m.vertices for m in seat.meshes])
        middle = points[np.abs(points[:, :2]).max(1) < 0.2]
        assert np.isclose(middle[:, 2], height, atol=0.01).any()


def test_photographs_are_on_things(assets, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "green.png"), np.full((120, 160, 3), (0, 160, 0), np.uint8))
    plain = made(assets, 8, things=1.0)
    green = made(assets, 8, things=1.0, backgrounds=tmp_path, composed=0.0, nobody=0.0)
    excess = lambda c: float(c.rgb[..., 1].astype(float).mean() - c.rgb[..., ::2].astype(float).mean())  # noqa: E731
    assert np.mean([excess(c) for c in green]) > np.mean([excess(c) for c in plain]) + 2


def test_the_same_clip_again_whatever_came_before(assets) -> None:
    config = SynthConfig(**{**STILLS, "things": 1.0})
    first = generate_clip(config, 2, 5, assets)
    generate_clip(config, 2, 40, assets)
    generate_clip(config, 2, 80, assets)
    generate_clip(config, 2, 120, assets)
    again = generate_clip(config, 2, 5, assets)
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.depth, again.depth)


def test_clips_have_things_that_stand_still(assets) -> None:
    config = SynthConfig(frames=3, height=64, width=96, empty=0.0, sensor=False, things=1.0)
    clip = generate_clip(config, 0, 1, assets)
    assert len(clip.meta["things"]) >= 2


def test_off_is_as_if_they_were_not_there() -> None:
    assert "things" not in SynthConfig().settings()
    assert SynthConfig(things=0.5).digest() != SynthConfig().digest()
    with pytest.raises(UserError, match="things is a share in 0"):
        SynthConfig(things=1.5)
