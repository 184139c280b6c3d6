"""The body, its motion and its place on the ground."""

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.synth import bvh, motion, rotations
from thfm_ros.synth.action import known_motions, make_action
from thfm_ros.synth.body import Identity
from thfm_ros.synth.clip import studio
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dance import dance_motion
from thfm_ros.synth.gait import gait_motion
from thfm_ros.synth.kick import kick_motion
from thfm_ros.synth.outfit import dress
from thfm_ros.synth.posture import seated_motion, standing_motion

JOINTS = motion.JOINTS


@pytest.fixture(scope="module")
def shared(assets):
    return studio(assets)


def rest_pose(body, identity: Identity, frames: int = 1):
    eye = np.tile(np.eye(3, dtype=np.float32), (frames, len(body.bones), 1, 1))
    return (eye, *body.pose(identity, eye, np.repeat(identity.heads[None, 0], frames, 0)))


def test_identities_vary_and_are_repeatable(shared):
    body = shared.body
    people = [body.identity(np.random.default_rng(i)) for i in range(40)]
    again = body.identity(np.random.default_rng(7))
    assert np.array_equal(people[7].vertices, again.vertices)
    heights = [np.ptp(p.vertices[np.unique(body.faces["body"])][:, 2]) for p in people]
    assert min(heights) < 1.5 < 1.75 < max(heights)
    assert {p.gender > 0.5 for p in people} == {True, False}
    assert min(p.age for p in people) < 0.55


def test_rest_pose_moves_nothing(shared):
    body = shared.body
    identity = body.identity(np.random.default_rng(1))
    deltas, offsets, heads = rest_pose(body, identity)
    which = np.arange(0, 13000, 50)
    assert np.abs(offsets).max() < 1e-5
    assert np.allclose(heads[0], identity.heads, atol=1e-5)
    assert np.allclose(
        body.skin_points(identity.vertices, which, deltas, offsets)[0], identity.vertices[which], atol=1e-5
    )


def test_bones_keep_their_lengths(shared):
    body = shared.body
    identity = body.identity(np.random.default_rng(2))
    rng = np.random.default_rng(0)
    rot, _ = motion.sample(motion.random_motion(rng, 1.0), np.arange(5) / 5)
    deltas = body.bone_deltas(identity, rot, rng.uniform(0, 1, (5, 2, 8)))
    _, heads = body.pose(identity, deltas, np.zeros((5, 3)))
    parents = body.parents[1:]
    lengths = np.linalg.norm(heads[:, 1:] - heads[:, parents], axis=-1)
    assert np.allclose(lengths, np.linalg.norm(identity.heads[1:] - identity.heads[parents], axis=-1), atol=1e-4)
    assert np.allclose(deltas @ np.swapaxes(deltas, -1, -2), np.eye(3), atol=1e-4)


def test_random_motion_stays_within_the_limits():
    for seed in range(5):
        m = motion.random_motion(np.random.default_rng(seed), 3.0)
        for k, joint in enumerate(JOINTS):
            kind = joint if joint in motion.LIMITS else joint[1:]
            low, high = np.array(motion.LIMITS[kind]).T
            if joint[0] == "r" and joint != "root":
                low, high = np.array([low[0], -high[1], -high[2]]), np.array([high[0], -low[1], -low[2]])
            q = m.rotations[:, k]
            angle = 2 * np.arctan2(np.linalg.norm(q[:, 1:], axis=1), q[:, 0])
            vector = q[:, 1:] / np.maximum(np.linalg.norm(q[:, 1:], axis=1, keepdims=True), 1e-9) * angle[:, None]
            assert (vector >= low - 1e-6).all()
            assert (vector <= high + 1e-6).all()
        steps = np.abs(np.diff(m.rotations, axis=0)).max()
        assert steps < 0.2  # smooth


def test_agile_motion_is_smooth_and_goes_far_beyond_standing():
    thighs = [JOINTS.index(f"{side}hip") for side in "lr"]

    def raised(made: motion.Motion) -> float:
        """Share of frames with a thigh more than 60 degrees from hanging straight down."""
        matrices = rotations.to_matrix(motion.global_rotations(made.rotations)[:, thighs])
        return float((matrices[..., 2, 2].min(1) < 0.5).mean())

    agile = [motion.agile_motion(np.random.default_rng(seed), 3.0) for seed in range(30)]
    for m in agile:
        assert m.duration >= 3.0
        assert np.allclose(np.linalg.norm(m.rotations, axis=-1), 1)
        between = np.abs((m.rotations[1:] * m.rotations[:-1]).sum(-1)).clip(0, 1)
        speed = 2 * np.arccos(between).max(1)  # of the fastest joint, radians a frame
        assert speed.max() < 0.45
        assert speed.min() < 0.15 * speed.max()  # at rest in each posture
    usual = [raised(motion.random_motion(np.random.default_rng(seed), 3.0)) for seed in range(30)]
    assert np.mean([raised(m) for m in agile]) > 0.3 > 4 * np.mean(usual)


def test_gaits_are_smooth_alternate_and_swing_the_arms_against_the_legs():
    gaits = [gait_motion(np.random.default_rng(seed), 3.0) for seed in range(60)]
    swing, counter, way = [], [], []
    for m in gaits:
        assert m.duration >= 3.0
        assert np.allclose(np.linalg.norm(m.rotations, axis=-1), 1)
        between = np.abs((m.rotations[1:] * m.rotations[:-1]).sum(-1)).clip(0, 1)
        assert 2 * np.arccos(between).max() < 1.2  # radians a frame, of a sprinter's knee
        matrices = rotations.to_matrix(motion.global_rotations(m.rotations))
        ahead = {joint: matrices[:, JOINTS.index(joint), 1, 2] for joint in ("lhip", "rhip", "lshoulder")}
        assert np.corrcoef(ahead["lhip"], ahead["rhip"])[0, 1] < -0.8
        swing.append(np.ptp(ahead["lhip"]))
        counter.append(np.corrcoef(ahead["lhip"], ahead["lshoulder"])[0, 1] < -0.5)
        way.append(np.sign(m.root[0, 1] - m.root[-1, 1]))
    assert min(swing) < 0.8 < 1.3 < max(swing)  # from strolls to sprints
    assert 0.75 < np.mean(counter) < 1  # some hold something
    assert 0.5 < np.mean(way) < 1  # most go the way that they face
    assert np.allclose(gait_motion(np.random.default_rng(7), 3.0).rotations, gaits[7].rotations)


@pytest.mark.parametrize("make", [kick_motion, dance_motion])
def test_kicks_and_dances_are_smooth_and_stand_on_a_leg(make):
    lifted = []
    for seed in range(60):
        m = make(np.random.default_rng(seed), 3.0)
        assert m.duration >= 3.0
        assert np.allclose(np.linalg.norm(m.rotations, axis=-1), 1)
        between = np.abs((m.rotations[1:] * m.rotations[:-1]).sum(-1)).clip(0, 1)
        assert 2 * np.arccos(between).max() < 1.0
        matrices = rotations.to_matrix(motion.global_rotations(m.rotations))
        thighs = -matrices[:, [JOINTS.index("lhip"), JOINTS.index("rhip")], 2, 2]  # z of where they point
        assert thighs.min(1).max() < -0.5
        lifted.append(thighs.max())
    assert np.quantile(lifted, 0.75) > -0.6  # one in four above 53 degrees
    assert np.allclose(make(np.random.default_rng(59), 3.0).rotations, m.rotations)


def test_who_kicks_high_leans_the_other_way():
    along = []
    for seed in range(80):
        matrices = rotations.to_matrix(motion.global_rotations(kick_motion(np.random.default_rng(seed), 3.0).rotations))
        thighs = -matrices[:, [JOINTS.index("lhip"), JOINTS.index("rhip")], :, 2]
        frame, leg = np.unravel_index(thighs[..., 2].argmax(), thighs.shape[:2])
        if thighs[frame, leg, 2] > -0.3:
            along.append(thighs[frame, leg, :2] @ matrices[frame, JOINTS.index("root"), :2, 2])
    assert len(along) > 40
    assert np.mean(along) < -0.1


def test_mirroring_twice_is_nothing(assets):
    m = motion.from_humanoid("walk", assets.motions["walk"].astype(float), True)
    twice = motion.mirrored(motion.mirrored(m))
    assert np.allclose(twice.rotations, m.rotations)
    assert np.allclose(twice.root, m.root)
    left, right = JOINTS.index("lknee"), JOINTS.index("rknee")
    assert np.allclose(motion.mirrored(m).rotations[:, left, :2], m.rotations[:, right, :2])


def test_a_capture_is_the_motion_that_it_was_made_of(assets):
    made = motion.random_motion(np.random.default_rng(3), 2.0)
    walk = motion.from_humanoid("walk", assets.motions["walk"].astype(float), True)  # not at a capture's frame rate
    for m in (made, walk):
        again = motion.from_capture(m.name, **motion.to_capture(m))
        times = np.arange(int(m.duration * motion.CAPTURE_FPS)) / motion.CAPTURE_FPS
        (turned, moved), (turned_again, moved_again) = motion.sample(m, times), motion.sample(again, times)
        assert np.abs(turned - turned_again).max() < 1e-3
        assert np.abs(moved - moved[0] * [1, 1, 0] - moved_again).max() < 1e-3
        assert np.allclose(np.linalg.norm(again.rotations, axis=-1), 1)


def test_bundled_captures_are_trained_on_and_look_like_people(assets):
    known = [m for m in known_motions(assets, "train", None) if f"{m.name}.root" in assets.captures]
    assert len(known) > 100
    for m in known:
        up = motion.global_rotations(m.rotations)[:, JOINTS.index("chest"), 1:3]  # no lean about x and y: upright
        assert m.duration > 1
        assert np.median(np.linalg.norm(up, axis=1)) < 0.6, m.name
        assert np.linalg.norm(np.diff(m.root, axis=0), axis=1).max() < 0.35, m.name  # leg lengths a frame


def test_looping_motion_walks_on(assets):
    m = motion.from_humanoid("walk", assets.motions["walk"].astype(float), True)
    _, root = motion.sample(m, np.array([0.1, 0.1 + m.duration, 0.1 + 2 * m.duration]))
    assert np.allclose(root[2] - root[1], root[1] - root[0], atol=1e-6)
    assert np.linalg.norm((root[1] - root[0])[:2]) > 0.5


@pytest.mark.parametrize("seed", range(6))
def test_actions_are_on_the_ground(shared, assets, seed):
    body = shared.body
    rng = np.random.default_rng(seed)
    identity = body.identity(rng)
    dressed = dress(body, shared.wardrobe, identity, rng)
    times = np.arange(9) / 12
    config = SynthConfig(frames=9)
    action = make_action(rng, body, identity, dressed, times, assets, config, [])
    used = np.unique(body.faces["body"])[::5]
    points = body.skin_points(identity.vertices, used, action.deltas, action.offsets)
    assert points[..., 2].min() > -0.05
    assert points[..., 2].min() < 0.06 + dressed.sole
    assert np.isfinite(action.joints).all()


def test_hands_close(shared):
    """A fist brings the finger tips towards the wrist; flat hands do not."""
    body = shared.body
    identity = body.identity(np.random.default_rng(3))
    still = np.zeros((2, len(JOINTS), 4))
    still[..., 0] = 1
    hands = np.zeros((2, 2, 8))
    hands[1, :, :5] = 1.3
    deltas = body.bone_deltas(identity, still, hands)
    _, heads = body.pose(identity, deltas, np.zeros((2, 3)))
    for side in "LR":
        reach = np.linalg.norm(
            heads[:, body.index[f"finger3-3.{side}"]] - heads[:, body.index[f"wrist.{side}"]], axis=-1
        )
        assert reach[1] < 0.9 * reach[0]


def write_bvh(path, swing: float) -> None:
    """Hips, legs, spine and arms with CMU's names; the left arm turns about the body's depth axis."""
    sides = []
    for side, x in (("Left", 1), ("Right", -1)):
        sides.append(
            f"JOINT {side}UpLeg {{ OFFSET {x} 0 0 CHANNELS 3 Z Y X JOINT {side}Leg {{ OFFSET 0 -4 0 CHANNELS 3 Z Y X "
            f"JOINT {side}Foot {{ OFFSET 0 -4 0 CHANNELS 3 Z Y X End Site {{ OFFSET 0 0 1 }} }} }} }}"
        )
    arms = [
        f"JOINT {side}Arm {{ OFFSET {x} 2 0 CHANNELS 3 Z Y X "
        f"JOINT {side}ForeArm {{ OFFSET {2 * x} 0 0 CHANNELS 3 Z Y X "
        f"JOINT {side}Hand {{ OFFSET {2 * x} 0 0 CHANNELS 3 Z Y X End Site {{ OFFSET {x} 0 0 }} }} }} }}"
        for side, x in (("Left", 1), ("Right", -1))
    ]
    text = (
        "HIERARCHY ROOT Hips { OFFSET 0 0 0 CHANNELS 6 PX PY PZ Z Y X "
        + " ".join(sides)
        + " JOINT Spine1 { OFFSET 0 3 0 CHANNELS 3 Z Y X "
        + "JOINT Head { OFFSET 0 3 0 CHANNELS 3 Z Y X End Site { OFFSET 0 1 0 } } "
        + " ".join(arms)
        + " } }"
    )
    for a in "XYZ":
        text = text.replace(f" P{a} ", f" {a}position ")
    for a in "ZYX":
        text = text.replace(f" {a} ", f" {a}rotation ")
    for word in ("ROOT", "JOINT", "End", "OFFSET", "CHANNELS", "{", "}"):
        text = text.replace(f"{word} ", f"\n{word} ") if word not in "{}" else text.replace(word, f"\n{word}\n")
    names = [w.split()[1] for w in text.splitlines() if w.startswith(("ROOT", "JOINT"))]
    frames = []
    for k in range(4):
        row = [0.0, 8.0, 0.0]
        for n in names:
            row += [swing * k / 3 if n == "LeftArm" else 0.0, 0.0, 0.0]
        frames.append(" ".join(map(str, row)))
    path.write_text(text + "\nMOTION\nFrames: 4\nFrame Time: 0.033333\n" + "\n".join(frames) + "\n")


def test_bvh_turns_the_arm_by_its_angle(tmp_path):
    write_bvh(tmp_path / "arms.bvh", -90.0)
    m = bvh.load(tmp_path / "arms.bvh")
    shoulder = rotations.to_matrix(motion.global_rotations(m.rotations)[:, JOINTS.index("lshoulder")])
    arm = shoulder @ np.array([0, 0, -1.0])
    assert np.allclose(arm[0], [1, 0, 0], atol=1e-6)  # T pose: the left arm points left
    assert np.allclose(arm[-1], [0, 0, -1], atol=1e-6)  # turned by -90 degrees about z forward: down
    knee = rotations.to_matrix(motion.global_rotations(m.rotations)[:, JOINTS.index("lknee")])
    assert np.allclose(knee[0] @ [0, 0, -1], [0, 0, -1], atol=1e-6)
    assert np.allclose(m.root[0], [0, 0, 1])  # 8 units of leg


def test_bvh_folders_feed_the_generator_and_errors_name_the_file(tmp_path, assets):
    for k in range(3):
        write_bvh(tmp_path / f"m{k}.bvh", 10.0 * k)
    names = {m.name for m in known_motions(assets, "train", bvh.BvhFolder.at(tmp_path))}
    assert {"m0", "m1", "m2"} <= names
    (tmp_path / "bad.bvh").write_text("HIERARCHY\nROOT Hips\n{\nOFFSET 0 zero 0\n")
    with pytest.raises(UserError, match=r"bad\.bvh"):
        bvh.load_folder(tmp_path)
    with pytest.raises(UserError, match=r"no \.bvh files"):
        bvh.load_folder(tmp_path / "empty")


def test_rotations_agree_with_matrices():
    rng = np.random.default_rng(0)
    a, b = rotations.from_rotvec(rng.normal(size=(50, 3))), rotations.from_rotvec(rng.normal(size=(50, 3)))
    product = rotations.to_matrix(rotations.multiply(a, b))
    assert np.allclose(product, rotations.to_matrix(a) @ rotations.to_matrix(b))
    x, y = rng.normal(size=3), rng.normal(size=3)
    turned = rotations.to_matrix(rotations.between(x, y)) @ x
    assert np.allclose(turned / np.linalg.norm(turned), y / np.linalg.norm(y))


def test_upright_people_look_ahead_whatever_their_trunk_does(assets):
    pitches = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        captured = known_motions(assets, "train", None)
        made = [standing_motion(rng, 1.0), seated_motion(rng, 1.0), gait_motion(rng, 1.0)]
        for moved in (*made, captured[rng.integers(len(captured))]):
            turns = rotations.to_matrix(motion.global_rotations(moved.rotations))
            upright = turns[:, JOINTS.index("chest"), 2, 2] > 0.8
            pitches.append(np.degrees(np.arcsin(-turns[upright, JOINTS.index("neck"), 2, 1])))
    median, spread = (f([np.median(p) for p in pitches if len(p)]) for f in (np.median, np.std))
    assert -10 < median < 2
    assert 5 < spread < 25


def test_a_levelled_head_turns_with_the_trunk_of_a_motion_that_lies(assets):
    moved = motion.random_motion(np.random.default_rng(3), 1.0)
    moved.rotations[:, JOINTS.index("neck")] = rotations.from_rotvec(np.array([0.6, 0.0, 0.0]))
    level = motion.levelled(moved).rotations
    pitch = motion.global_rotations(level)[:, JOINTS.index("neck")]
    ahead = -rotations.to_matrix(pitch)[:, 2, 1]
    assert np.median(np.arcsin(ahead)) == pytest.approx(motion.LEVEL, abs=0.05)
    moved.rotations[:, 0] = rotations.from_rotvec(np.array([1.5, 0.0, 0.0]))
    assert np.array_equal(motion.levelled(moved).rotations, moved.rotations)
