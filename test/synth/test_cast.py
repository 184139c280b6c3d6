"""Clothes of a kind, players, children, and people in rows."""

import numpy as np
import pytest

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth import outfit
from thfm_ros.synth.body import Body
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.outfit import dress
from thfm_ros.synth.prints import KINDS
from thfm_ros.synth.sample import Clip
from thfm_ros.synth.sport import SPORTS
from thfm_ros.synth.things import make_wheelchair
from thfm_ros.synth.wardrobe import Wardrobe

JOINTS = JOINT_SETS["thfm32"].joints
STILLS = {"frames": 1, "height": 96, "width": 160, "identities": 4, "empty": 0.0, "occluders": 0.0, "sensor": False}


CARRIERS = {"mounted": "horse", "wheeled": "wheelchair", "pushing": "pram"}


@pytest.fixture(scope="module")
def body(assets) -> Body:
    return Body(assets)


@pytest.fixture(scope="module")
def rows(assets) -> list[Clip]:
    config = SynthConfig(**STILLS, people=4, rows=1.0)
    return [generate_clip(config, 3, i, assets) for i in range(24)]


def in_world(clip: Clip) -> list[np.ndarray]:
    """Each person's joints (T, 32, 3) in the world."""
    pose = np.linalg.inv(clip.world_to_camera.astype(float))
    return [
        np.einsum("tij,tkj->tki", pose[:, :3, :3], p.keypoints_3d.astype(float)) + pose[:, None, :3, 3]
        for p in clip.people
    ]


def joint(points: np.ndarray, name: str) -> np.ndarray:
    return points[:, JOINTS.index(name)]


def dressed(body: Body, count: int, prints: float) -> list[Dressed]:
    wardrobe = Wardrobe(body)
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        made.append(dress(body, wardrobe, body.identity(rng), rng, prints=prints))
    return made


def people_alone_look_otherwise(clips: list[Clip], others: list[Clip]) -> bool:
    """More than a few pixels of people differ, nothing else does, and no truth."""
    changed = 0
    for a, b in zip(clips, others, strict=True):
        assert np.array_equal(a.depth, b.depth)
        assert np.array_equal(a.instances, b.instances)
        assert np.array_equal(a.dense_pose, b.dense_pose)
        differs = (a.rgb != b.rgb).any(-1)
        assert not (differs & ~a.human_mask).any()
        changed += differs.sum()
    return changed > 100


def test_everybody_is_dressed_as_one_kind_with_trims_on_cloth_alone(body) -> None:
    made = dressed(body, 40, 1.0)
    assert {d.tags["dressed"] for d in made} == set(KINDS)
    assert all(m.trim == 0 for d in made for m in d.materials if m.kind != "cloth")
    assert sum(any(m.trim for m in d.materials) for d in made) > 25
    assert not any("dressed" in d.tags for d in dressed(body, 5, 0.0))
    for d in made:  # a suit is a jacket over a light shirt
        if d.tags["dressed"] == "suit":
            assert d.tags["jacket"] == "open"


def test_bathers_show_their_skin_and_men_the_chest(body) -> None:
    made = dressed(body, 80, 1.0)
    bathers = [d for d in made if d.tags["dressed"] == "bathing"]
    assert len(bathers) > 3
    assert {d.tags["bottom"] for d in bathers} <= {"shorts", "brief", "trousers", "swimsuit"}
    assert min(sum(m.kind == "cloth" for m in d.materials) for d in bathers) == 1
    assert not any("jacket" in d.tags for d in bathers)
    caps = [d.tags.get("headgear") == "swim cap" for d in made]
    assert 0 < sum(caps) < len(bathers)
    for person, capped in zip(made, caps, strict=True):
        (bare,) = {m.pattern for m in person.materials if m.kind == "skin"}
        assert bare == (person.tags["dressed"] == "bathing") >= capped


def test_a_bare_trunk_shows_what_clothes_hide_and_changes_no_truth(assets, monkeypatch) -> None:
    monkeypatch.setattr(outfit, "choose_kind", lambda rng: "bathing")
    config = SynthConfig(frames=1, height=128, width=128, empty=0.0, sensor=False, prints=1.0, samples=1)
    forget = generate_clip.__globals__["_person"].cache_clear
    forget()
    bare = [generate_clip(config, 6, i, assets) for i in range(8)]
    made = outfit.Material
    monkeypatch.setattr(outfit, "Material", lambda kind, *a, **b: made(kind, *a, **b | {"pattern": 0}))
    forget()
    plain = [generate_clip(config, 6, i, assets) for i in range(8)]
    forget()
    assert people_alone_look_otherwise(bare, plain)


def test_prints_are_on_clothes_and_change_no_truth(assets, monkeypatch) -> None:
    config = SynthConfig(frames=1, height=128, width=128, empty=0.0, sensor=False, prints=1.0, samples=1)
    printed = [generate_clip(config, 6, i, assets) for i in range(8)]
    made = outfit.printed

    def bare(rng, kind, top, bottom) -> None:
        made(rng, kind, top, bottom)
        top.trim = bottom.trim = 0

    monkeypatch.setattr(outfit, "printed", bare)
    config = SynthConfig(frames=1, height=128, width=128, empty=0.0, sensor=False, prints=1.0, samples=1)
    generate_clip.__globals__["_person"].cache_clear()
    plain = [generate_clip(config, 6, i, assets) for i in range(8)]
    generate_clip.__globals__["_person"].cache_clear()
    assert people_alone_look_otherwise(printed, plain)


def test_rows_have_more_people_who_look_the_same_way_and_hide_one_another(rows) -> None:
    turned, hidden, counts = [], 0, set()
    for clip in rows:
        counts.add(len(clip.people))
        facing = []
        for points in in_world(clip):
            across = joint(points, "left_shoulder")[0] - joint(points, "right_shoulder")[0]
            facing.append(np.arctan2(across[1], across[0]))
        mean = np.angle(np.exp(1j * np.array(facing)).mean())
        turned += np.abs(np.angle(np.exp(1j * (np.array(facing) - mean)))).tolist()
        for number, person in enumerate(clip.people, 1):
            inside = (person.keypoints_2d[0] >= 0).all(1) & (person.keypoints_2d[0] < [160, 96]).all(1)
            inside &= person.keypoints_3d[0, :, 2] > 0.1
            x, y = person.keypoints_2d[0].T.astype(int)
            whose = clip.instances[0, y[inside], x[inside]]
            deeper = person.keypoints_3d[0, inside, 2] - clip.depth[0, y[inside], x[inside]] > 0.2
            others = (whose > 0) & (whose != number) & deeper
            assert (person.visibility[0, inside][others] == 0.5).all()
            hidden += others.sum()
    assert min(counts) >= 4
    assert max(counts) > 6
    assert np.median(turned) < 0.4
    assert hidden > 200


def test_people_in_rows_stand_apart_from_each_other(rows) -> None:
    for clip in rows:
        middles = np.stack([joint(p, "pelvis")[0] for p in in_world(clip)])
        gaps = np.linalg.norm(middles[:, None] - middles[None], axis=-1) + 9 * np.eye(len(middles))
        assert gaps.min() > 0.2


def test_players_play_and_those_who_jump_are_in_the_air(assets) -> None:
    config = SynthConfig(**STILLS, people=1, sport=1.0)
    names, heights, gear = set(), [], 0
    for i in range(0, 160, 4):
        clip = generate_clip(config, 5, i, assets)
        name = clip.meta["motion"][0]
        names.add(name)
        if name == "jumping":
            heights.append(in_world(clip)[0][..., 2].min())
        if name in ("skiing", "boarding"):
            gear += any(t in ("ski", "board") for t in clip.meta["things"])
            assert "things" in clip.meta
    assert names == set(SPORTS)
    assert min(heights) > 0.1
    assert gear >= 4


def test_riders_are_on_what_carries_them_which_is_nobody(assets) -> None:
    config = SynthConfig(**(STILLS | {"height": 48, "width": 72}), people=1, rides=1.0)
    names = set()
    for i in range(0, 64, 4):
        clip = generate_clip(config, 3, i, assets)
        name = clip.meta["motion"][0]
        names.add(name)
        assert CARRIERS[name] in clip.meta["things"]
        joints = in_world(clip)[0]
        if name == "mounted":
            assert joint(joints, "pelvis")[0, 2] > 0.9
            assert joints[0, :, 2].min() > 0.2
        assert np.array_equal(clip.instances > 0, clip.human_mask)
    assert names == set(CARRIERS)


@pytest.mark.parametrize("height", [0.3, 0.45, 0.6])
def test_wheelchairs_are_as_high_as_asked_and_all_wheels_stand_on_the_floor(height: float) -> None:
    piece = make_wheelchair(np.random.default_rng(1), height)
    seat = piece.meshes[0].vertices
    assert seat[:, 2].max() == pytest.approx(height - 0.005, abs=0.01)
    assert min(m.vertices[:, 2].min() for m in piece.meshes) == pytest.approx(0, abs=0.01)
    assert all(len(m.vertices) == len(at) for m, at in zip(piece.meshes, piece.local, strict=True))


def test_toddlers_are_small_with_large_heads(body) -> None:
    def shape(age: str | None) -> np.ndarray:
        found = []
        for seed in range(12):
            identity = body.identity(np.random.default_rng(seed), age)
            used = np.unique(body.faces["body"])
            high = np.ptp(identity.vertices[used, 2])
            found.append((high, np.ptp(identity.vertices[body.parts == 1][:, 2]) / high))
        return np.array(found)

    toddlers, children, anybody = shape("toddler"), shape("child"), shape(None)
    assert toddlers[:, 0].max() < 1.25
    assert toddlers[:, 0].mean() < children[:, 0].mean() < anybody[:, 0].mean()
    assert toddlers[:, 1].mean() > 1.1 * children[:, 1].mean()


def test_carried_children_are_at_the_chest_of_who_carries_them(assets) -> None:
    config = SynthConfig(**(STILLS | {"height": 32, "width": 48, "samples": 1}), people=3, young=0.5)
    found = carried = 0
    for i in range(0, 160, 4):
        clip = generate_clip(config, 8, i, assets)
        if "carried" not in clip.meta["motion"]:
            continue
        carried += 1
        people = in_world(clip)  # the largest first: whoever is near enough
        pairs = [(a, b) for a in people for b in people if a is not b]
        gaps = [np.linalg.norm(joint(a, "spine2")[0] - joint(b, "pelvis")[0]) for a, b in pairs]
        heights = [joint(b, "pelvis")[0, 2] for _, b in pairs]
        best = int(np.argmin(gaps))
        found += gaps[best] < 0.5 and heights[best] > 0.5
    assert carried >= 3
    assert found == carried


def test_a_moving_clip_of_rows_keeps_who_is_who(assets) -> None:
    clip = generate_clip(SynthConfig(frames=3, height=64, width=96, people=3, rows=1.0, empty=0.0), 1, 1, assets)
    assert np.array_equal(clip.instances > 0, clip.human_mask)
    assert clip.instances.max() <= len(clip.people) <= 7
