"""What people wear, hold, sit on and lie on; shots that cut through them; people in the dark."""

from typing import Any

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import make_action
from thfm_ros.synth.assembly import assemble
from thfm_ros.synth.body import PARTS
from thfm_ros.synth.camera import make_close_camera, make_shoulder_camera
from thfm_ros.synth.clip import generate_clip, studio
from thfm_ros.synth.config import ADDED, SynthConfig
from thfm_ros.synth.outfit import dress
from thfm_ros.synth.placing import furniture_of, in_hand, under_feet
from thfm_ros.synth.posture import POSTURES
from thfm_ros.synth.things import SEATS
from thfm_ros.synth.worn import HEADGEAR

JOINTS = JOINT_SETS["thfm32"].joints
SMALL = {"frames": 1, "height": 64, "width": 96, "empty": 0.0, "sensor": False}
TIMES = np.arange(3) / 10


def people(assets, count: int, **settings) -> list:
    """Body, identity, clothes and action of people who wear, hold and do what the settings say."""
    s, config = studio(assets), SynthConfig(frames=3, fps=10, **settings)
    made = []
    for k in range(count):
        rng = np.random.default_rng(k)
        identity = s.body.identity(rng)
        dressed = dress(s.body, s.wardrobe, identity, rng, config.split, config.worn)
        action = make_action(rng, s.body, identity, dressed, TIMES, assets, config, [])
        made.append((s.body, identity, dressed, action))
    return made


@pytest.fixture(scope="module")
def equipped(assets) -> list:
    """Sixty identities and their clothes."""
    s = studio(assets)
    made = []
    for k in range(60):
        rng = np.random.default_rng(k)
        identity = s.body.identity(rng)
        made.append((identity, dress(s.body, s.wardrobe, identity, rng, worn=1.0)))
    return made


def test_each_thing_to_wear_is_worn_by_somebody(equipped) -> None:
    tags = [d.tags for _, d in equipped]
    assert {t.get("headgear") for t in tags} == {*HEADGEAR, None}
    assert {t.get("outer") for t in tags} == {"coat", "jacket", "vest", None}
    assert {t.get("bag") for t in tags} == {"backpack", "shoulder", None}
    assert any(t.get("gloves") for t in tags)
    assert any(t.get("glasses") == "dark" for t in tags)


def test_what_is_worn_is_on_the_body_and_has_its_coordinates(assets, equipped) -> None:
    s = studio(assets)
    for identity, d in equipped:
        assert np.isfinite(d.rest).all()
        coordinates = (d.canon - s.canon_low) * s.canon_scale
        assert coordinates.min() > -0.02
        assert coordinates.max() < 1.02
        # Clothes and bags are near the skin that they go with, and what is theirs on the body is near, too.
        assert np.linalg.norm(d.rest - identity.vertices[d.source], axis=1).max() < 0.6
        assert d.parts.min() >= 1
        assert d.parts.max() < len(PARTS)
        assert len(d.material) == len(d.faces)
        assert d.material.max() < len(d.materials)


def test_all_that_is_worn_belongs_to_the_mask(assets) -> None:
    config = SynthConfig(**SMALL, worn=1.0, held=1.0, rest=0.5, things=1.0)
    counted: list[tuple[int, int, int]] = []

    def spy(body, persons, surroundings, frames):
        geometry = assemble(body, persons, surroundings, frames)
        worn = sum(len(d.faces) for _, d, _ in persons)
        counted.append((geometry.human_faces, worn, len(surroundings.things)))
        return geometry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thfm_ros.synth.clip.assemble", spy)
        generate_clip(config, 0, 0, assets)
    ((human, worn, things),) = counted
    assert human == worn  # all faces of outfits and nothing of what is held, sat on or about
    assert things >= 1


def test_what_is_held_moves_with_the_hand(assets) -> None:
    sides = set()
    for body, _, _, action in people(assets, 8, held=1.0):
        (thing,) = in_hand(np.random.default_rng(1), body, action)
        hand = action.joints[:, JOINTS.index("left_hand" if action.holds == "L" else "right_hand")]
        sides.add(action.holds)
        assert np.linalg.norm(thing.shifts - hand, axis=1).max() < 0.06
        assert np.allclose(thing.turns @ thing.turns.transpose(0, 2, 1), np.eye(3), atol=1e-3)
        assert np.linalg.det(thing.turns).min() > 0.9
        wrist = action.deltas[:, body.index[f"wrist.{action.holds}"]]
        own = wrist.transpose(0, 2, 1) @ thing.turns
        assert np.allclose(own, own[:1], atol=1e-3)  # it does not turn in the hand
    assert sides == {"L", "R"}


def test_skis_and_boards_are_under_feet(assets) -> None:
    names, rng = set(), np.random.default_rng(0)
    for _, _, _, action in people(assets, 40, held=1.0):
        things = under_feet(rng, action)
        feet = action.joints[:, [JOINTS.index(f"{s}_{j}") for s in ("left", "right") for j in ("foot", "ankle")]]
        for thing in things:
            names.add(thing.piece.name)
            assert np.linalg.norm(feet - thing.shifts[:, None], axis=-1).min(1).max() < 0.9
            assert np.allclose(np.linalg.det(thing.turns), 1, atol=1e-3)
            assert (thing.turns[:, 2, 2] >= -1e-6).all()  # the upper side up
    assert names == {"ski", "board"}


def test_people_at_rest_sit_lie_and_bend(assets) -> None:
    seen = set()
    for body, identity, _, action in people(assets, 40, rest=1.0):
        seen.add(action.name)
        joint = dict(zip(JOINTS, action.joints.mean(0), strict=True))
        stature = float(np.ptp(identity.vertices[np.unique(body.faces["body"]), 2]))
        low = action.joints[..., 2].min()
        assert -0.03 < low < 0.2  # on the ground
        moved = np.linalg.norm(np.ptp(action.joints, axis=0), axis=-1)
        assert moved.max() < 0.35 * stature  # nobody walks away
        if action.name == "lying":
            assert joint["head"][2] < 0.5 * stature
        elif action.name == "floor":
            assert joint["pelvis"][2] < 0.3 * stature
        elif action.name == "seated":
            assert 0.1 * stature < joint["pelvis"][2] < 0.45 * stature
            assert joint["head"][2] > joint["pelvis"][2] + 0.2 * stature
    assert seen == POSTURES.keys()


def test_seats_are_below_who_sits_and_stand_still(assets) -> None:
    sitting = 0
    for _, _, _, action in people(assets, 40, rest=1.0):
        furniture = furniture_of(np.random.default_rng(0), action)
        if action.name not in ("seated", "bent", "riding"):
            assert not furniture
            continue
        for thing in furniture:
            assert np.array_equal(thing.turns, np.broadcast_to(thing.turns[:1], thing.turns.shape))
            assert np.array_equal(thing.shifts, np.broadcast_to(thing.shifts[:1], thing.shifts.shape))
            if thing.piece.name in SEATS:
                sitting += 1
                points = np.concatenate([m.vertices for m in thing.piece.meshes]) @ thing.turns[0].T + thing.shifts[0]
                hips = action.joints[:, [JOINTS.index("left_hip"), JOINTS.index("right_hip")]].mean((0, 1))
                near = points[np.linalg.norm(points[:, :2] - hips[:2], axis=1) < 0.25]
                top = near[near[:, 2] < hips[2], 2].max()
                assert hips[2] - 0.2 < top < hips[2]
    assert sitting > 8


def test_close_shots_cut_through_people(assets) -> None:
    outside = []
    for k, (_, _, _, action) in enumerate(people(assets, 12)):
        camera, _ = make_close_camera(np.random.default_rng(k), action.joints, TIMES, 96, 160)
        xy, points = camera.project(action.joints)
        inside = ((xy >= 0) & (xy < [160, 96])).all(-1) & (points[..., 2] > 0)
        outside.append(1 - inside.mean())
        gap = np.linalg.norm(action.joints - camera.centres[:, None], axis=-1).min()
        assert 0.25 < gap < 1.7
    assert np.mean(outside) > 0.4
    assert np.mean(np.array(outside) < 1) > 0.7  # something of them is there


def test_shots_past_a_shoulder_show_somebody_near_at_a_side_and_the_others(assets) -> None:
    joints = [action.joints for _, _, _, action in people(assets, 8)]
    sides, shown = [], []
    for k in range(16):
        pair = [joints[k % 8], joints[(k + 3) % 8] + np.array([2.5 * np.cos(k), 2.5 * np.sin(k), 0], np.float32)]
        camera, _ = make_shoulder_camera(np.random.default_rng(k), pair, TIMES, 96, 160)
        near, far = sorted(pair, key=lambda p: np.linalg.norm(p - camera.centres[:, None], axis=-1).min())
        assert np.linalg.norm(near - camera.centres[:, None], axis=-1).min() > 0.25
        xy, points = camera.project(near)
        sides.append(abs(np.median(xy[points[..., 2] > 0.1, 0]) - 80) > 25)
        xy, points = camera.project(far)
        shown.append((((xy >= 0) & (xy < [160, 96])).all(-1) & (points[..., 2] > 0)).mean())
    assert np.mean(sides) > 0.5
    assert np.median(shown) > 0.7


def test_the_dark_takes_light_and_nothing_else(assets) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SynthConfig, "digest", lambda _: "ab")
        pairs = [[generate_clip(SynthConfig(**SMALL, dark=d), 1, i, assets) for d in (0.0, 1.0)] for i in range(3)]
    for bright, dark in pairs:
        assert dark.rgb.mean() < 0.85 * bright.rgb.mean()
        for name in ("depth", "normals", "alpha", "dense_pose", "instances", "keypoints_2d", "visibility"):
            assert np.array_equal(getattr(bright, name), getattr(dark, name), equal_nan=True)


STILLS = {"frames": 1, "height": 48, "width": 64, "identities": 4, "sensor": False}


@pytest.mark.parametrize(
    ("settings", "chance", "names"),
    [
        (SMALL | {"identities": 4, "people": 2}, 0.7, ("things", "rest", "held", "worn", "close", "dark")),
        (STILLS | {"people": 3, "empty": 0.0, "occluders": 0.0}, 0.6, ("prints", "rows", "sport", "young")),
        (
            STILLS | {"height": 64, "width": 96, "people": 2, "occluders": 0.0},
            0.5,
            ("hard", "matched", "still", "statues", "posters"),
        ),
    ],
)
def test_the_same_clip_again_whatever_came_before(
    assets, settings: dict[str, Any], chance: float, names: tuple[str, ...]
) -> None:
    config = SynthConfig(**settings, **dict.fromkeys(names, chance))
    first = generate_clip(config, 2, 5, assets)
    for other in (40, 80, 120):
        generate_clip(config, 2, other, assets)
    again = generate_clip(config, 2, 5, assets)
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.instances, again.instances)


@pytest.mark.parametrize("name", [n for n in ADDED if n != "crowd"])
def test_each_is_off_by_default_and_a_share(name: str) -> None:
    assert name not in SynthConfig().settings()
    assert SynthConfig(**{name: 0.5}).digest() != SynthConfig().digest()
    with pytest.raises(UserError, match=f"{name} is a share in 0"):
        SynthConfig(**{name: 1.5})
