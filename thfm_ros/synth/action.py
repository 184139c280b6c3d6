"""What a person does in a clip: motion, hands, face, and where it puts them in the world."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth import feet
from thfm_ros.synth.assets import Assets
from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.bvh import BvhFolder
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dance import dance_motion
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.gait import gait_motion
from thfm_ros.synth.kick import kick_motion
from thfm_ros.synth.motion import (
    Motion,
    agile_motion,
    blended,
    from_capture,
    from_humanoid,
    joint_noise,
    levelled,
    mirrored,
    random_motion,
    sample,
)
from thfm_ros.synth.posture import rest_motion
from thfm_ros.synth.rotations import from_rotvec, multiply, smooth_noise

TEST_MOTIONS = ("dance_b", "kick", "getup_faceup", "run")
# Motions that are rarer than others by this factor: upright ones dominate, as people do; rolls and crawls stay in.
RARE = dict.fromkeys(("backflip", "cartwheel", "crawl", "getup_facedown", "getup_faceup", "roll"), 0.25)
CAPTURES = 2 / 3  # of the bundled motion capture, so that many takes of few kinds leave room for the others
# Training is to cover what its motions do not hold: radians that joints stray from them at the most, and the chance of
# a person leaning or lying, whatever they do.
STRAY = {"train": 0.12, "test": 0.07}
LEANING = {"train": 0.05, "test": 0.0}
# Motion that is made, and the chance of each where none before it was chosen; alone or blended with what else is drawn.
MADE: dict[str, tuple[tuple[Callable[[np.random.Generator, float], Motion], float], ...]] = {
    "train": ((gait_motion, 0.3), (kick_motion, 0.12), (dance_motion, 0.12), (agile_motion, 0.15)),
    "test": (),
}


@dataclass(frozen=True)
class Part:
    """What somebody is to do, where others decide: a motion, given randomness and seconds; the way they face (radians
    about z, 0 is -y), or None; whether they hold something, or None where chance decides; metres above the ground."""

    motion: Callable[[np.random.Generator, float], Motion]
    yaw: float | None = None
    holds: bool | None = None
    lift: float = 0.0


@dataclass(frozen=True)
class Action:
    """Bone transforms (T, J, 3, 3) and (T, J, 3), joints (T, 32, 3) in the world, the way the person faces (radians
    about z, 0 is -y), rest (T, V, 3) where the face moves, or None; name of the motion; holds: the side of the hand
    that has something in it, "L" or "R", or None."""

    deltas: np.ndarray
    offsets: np.ndarray
    joints: np.ndarray
    yaw: float
    rest: np.ndarray | None
    name: str
    holds: str | None = None

    def moved(self, by: np.ndarray) -> Action:
        """The same action elsewhere: by (3,) metres, or (T, 3) from frame to frame."""
        by = np.broadcast_to(by, (len(self.joints), 3))[:, None].astype(np.float32)
        return replace(self, offsets=(self.offsets + by).astype(np.float32), joints=self.joints + by)


def _held_out(name: str) -> bool:
    """About every tenth BVH file, by its name without suffix: other files beside it never move it to the other split,
    and copies of it in other folders stay in its own."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") % 10 == 0


@lru_cache(maxsize=8)
def known_motions(assets: Assets, split: str, bvh: BvhFolder | None) -> tuple[Motion, ...]:
    """The motions of a split: a fixed part of the motion capture and a tenth of BVH files are held out for "test"."""
    names = sorted(k for k in assets.motions if not k.endswith(".loop"))
    found = [from_humanoid(n, assets.motions[n].astype(float), bool(assets.motions[f"{n}.loop"])) for n in names]
    arrays = assets.captures
    captures = sorted(k.removesuffix(".root") for k in arrays if k.endswith(".root"))
    found += [from_capture(n, arrays[f"{n}.rotations"], arrays[f"{n}.root"]) for n in captures]
    held = [m for m in found if (m.name in TEST_MOTIONS) == (split == "test")]
    if bvh is not None:
        files = bvh.load()
        # What is bundled is trained on, so another copy of it cannot be held out.
        own = [m for m in files if (_held_out(m.name) and m.name not in captures) == (split == "test")]
        if not own and split == "train":
            raise UserError(
                f"all {len(files)} BVH files in {bvh.folder} are held out for the test split, by the hash of their "
                "names: add more or rename one"
            )
        held += own
    return tuple(held if split == "test" else map(levelled, held))  # held-out people stay who they are


def choose_motion(rng: np.random.Generator, assets: Assets, config: SynthConfig, duration: float) -> Motion:
    """Motion capture, random motion or a blend of the two, in `train` also what is made or a blend with it; mirrored
    half of the time."""
    motion = _drawn(rng, assets, config, duration)
    for make, chance in MADE[config.split]:
        if rng.random() < chance:
            made = make(rng, duration)
            motion = made if rng.random() < 0.6 else blended(made, motion, rng.uniform(0.1, 0.6), made.duration)
            break
    return mirrored(motion) if rng.random() < 0.5 else motion


def _drawn(rng: np.random.Generator, assets: Assets, config: SynthConfig, duration: float) -> Motion:
    known = known_motions(assets, config.split, config.bvh)
    roll = rng.random()
    if roll < 0.42:
        motion = random_motion(rng, duration)
    else:
        p = np.array([RARE.get(m.name, 1.0) for m in known])
        captured = np.array([f"{m.name}.root" in assets.captures for m in known])
        if captured.any():
            first = np.array([m.name in assets.motions for m in known])
            p[captured] = CAPTURES / (1 - CAPTURES) * p[first].sum() / captured.sum()
        motion = known[rng.choice(len(known), p=p / p.sum())]
        if roll > 0.85:
            motion = blended(motion, random_motion(rng, motion.duration + 0.1), rng.uniform(0.2, 0.6))
    return motion


def make_action(
    rng: np.random.Generator,
    body: Body,
    identity: Identity,
    dressed: Dressed,
    times: np.ndarray,
    assets: Assets,
    config: SynthConfig,
    others: list[np.ndarray],
    part: Part | None = None,
) -> Action:
    """A motion on this body, feet on the ground (z = 0), clear of the others' joints (T, 32, 3) in all frames."""
    length = times[-1] - times[0]
    resting = part is not None or (config.rest > 0 and rng.random() < config.rest)
    if part is not None:
        motion = part.motion(rng, length + 1.0)
    else:
        motion = rest_motion(rng, length + 1.0) if resting else choose_motion(rng, assets, config, length + 1.0)
    speed = rng.uniform(0.75, 1.3)
    start = (
        rng.uniform(0, max(motion.duration - length * speed, 0.0))
        if not motion.loop
        else rng.uniform(0, motion.duration)
    )
    rotations, root = sample(motion, start + times * speed)
    rotations = joint_noise(rng, rotations, times, rng.uniform(0.01, STRAY[config.split]))
    hands = _hands(rng, times)
    holds = None
    holding = part.holds if part is not None else None
    if holding or (holding is None and config.held and rng.random() < config.held):
        side = int(rng.integers(2))
        holds = "LR"[side]
        hands[:, side, :5] = np.maximum(hands[:, side, :5], [0.5, 0.9, 0.95, 0.95, 0.9])  # fingers around it
    yaw = part.yaw if part is not None and part.yaw is not None else rng.uniform(-np.pi, np.pi)
    turn = from_rotvec(np.array([0, 0, yaw]))
    if not resting and LEANING[config.split] and rng.random() < LEANING[config.split]:
        way = rng.uniform(-np.pi, np.pi)
        tilt = from_rotvec(rng.uniform(0.4, 1.8) * np.array([np.cos(way), np.sin(way), 0]))
        turn = multiply(turn, tilt)
    rotations[:, 0] = multiply(np.broadcast_to(turn, rotations[:, 0].shape), rotations[:, 0])
    c, s = np.cos(yaw), np.sin(yaw)
    root = (root - root[0] * np.array([1, 1, 0])) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    root = root * body.leg_length(identity.heads)
    deltas = body.bone_deltas(identity, rotations, hands)
    deltas, offsets, heads, shift = place_on_ground(body, identity, dressed, deltas, root, times)
    offsets, heads = offsets + shift[:, None], heads + shift[:, None]
    joints = body.keypoints(identity, deltas, offsets, heads)
    if part is not None and part.lift:
        up = np.array([0, 0, part.lift], np.float32)
        offsets, joints = offsets + up, joints + up
    if others:
        aside = _clear_of(rng, joints, others)
        offsets, joints = offsets + aside, joints + aside
    # Root's mean facing over the clip, for the camera.
    forward = deltas[:, 0].mean(0) @ np.array([0, -1.0, 0])
    facing = float(np.arctan2(forward[0], -forward[1]))
    rest = _expression(rng, body, identity, dressed, times) if len(times) > 1 or rng.random() < 0.7 else None
    return Action(deltas, offsets.astype(np.float32), joints, facing, rest, motion.name, holds)


def spread_out(rng: np.random.Generator, actions: list[Action]) -> list[Action]:
    """The same people standing about: each somewhere in a disc of 1 to 4.5 m, clear of the ones before."""
    radius = rng.uniform(1.0, 4.5)
    placed: list[Action] = []
    for action in actions:
        centre = action.joints.mean((0, 1)) * [1, 1, 0]
        for _ in range(30):
            angle, reach = rng.uniform(-np.pi, np.pi), radius * np.sqrt(rng.random())
            aside = np.array([reach * np.cos(angle), reach * np.sin(angle), 0.0]) - centre
            joints = (action.joints + aside).astype(np.float32)
            gaps = [np.linalg.norm((joints[:, :, None] - p.joints[:, None])[..., :2], axis=-1).min() for p in placed]
            if min(gaps, default=1.0) > APART:
                break
        else:  # no room here: beside everybody
            joints = (action.joints - centre).astype(np.float32)
            aside = _clear_of(rng, joints, [p.joints for p in placed]) - centre
            joints = (action.joints + aside).astype(np.float32)
        offsets = (action.offsets + aside).astype(np.float32)
        placed.append(replace(action, offsets=offsets, joints=joints))
    return placed


APART = 0.35  # metres between the joints of people who stand about, seen from above
CLEARANCE = 0.45  # metres between the joints and limbs' middles of two people, seen from above


def _clear_of(rng: np.random.Generator, joints: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """(3,) the shortest step of a random direction along the ground that keeps clear of everyone in all frames."""
    a, b = np.array(JOINT_SETS["thfm32"].bones).T
    dense = lambda x: np.concatenate([x, (x[:, a] + x[:, b]) / 2], 1)[..., :2]  # noqa: E731 - limbs have middles
    own, rest = dense(joints), np.concatenate([dense(x) for x in others], 1)
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    # A pair is apart from where its gap across the way suffices, or where the step has passed along the way.
    gap = rest[:, None] - own[:, :, None]
    along, across = gap @ way, gap @ np.array([-way[1], way[0]])
    reach = along + np.sqrt(np.maximum(CLEARANCE**2 - across**2, 0))
    step = max(float(reach[np.abs(across) < CLEARANCE].max(initial=0.0)), 0.0) + rng.uniform(0, 0.5)
    return np.array([*(way * step), 0.0], np.float32)


def place_on_ground(
    body: Body, identity: Identity, dressed: Dressed, deltas: np.ndarray, root: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Deltas, offsets and heads of the pose with planted feet, and the shift (T, 3) that puts it on the ground."""
    offsets, heads = body.pose(identity, deltas, root)
    which = body.sparse
    lowest = lambda: body.skin_points(identity.vertices, which, deltas, offsets)[..., 2].min(1)  # noqa: E731
    points = feet.soles(body, identity, deltas, offsets)
    shift = feet.ground_shift(points, lowest(), times)
    if len(times) > 1:
        deltas = feet.plant(body, identity, deltas, heads, points, shift, times).astype(np.float32)
        offsets, heads = body.pose(identity, deltas, root)
        shift[:, 2] = feet.ground_shift(points, lowest(), times)[:, 2]
    shift[:, 2] += dressed.sole * 0.98
    return deltas, offsets, heads, shift


def _hands(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """(T, 2, 8) curls of thumb and fingers, spread, twist and bend: relaxed, flat, fists, pointing; slowly moving."""
    out = np.zeros((len(times), 2, 8))
    for side in range(2):
        style = rng.choice(["relaxed", "flat", "fist", "point", "random"], p=[0.45, 0.15, 0.15, 0.08, 0.17])
        curl = {
            "relaxed": np.array([0.2, 0.25, 0.3, 0.35, 0.4]),
            "flat": np.zeros(5),
            "fist": np.array([0.8, 1.3, 1.35, 1.35, 1.3]),
            "point": np.array([0.6, 0.05, 1.3, 1.35, 1.3]),
            "random": rng.uniform(0, 1.2, 5),
        }[str(style)]
        noise = smooth_noise(rng, times, 8, 0.6)
        out[:, side, :5] = np.clip(curl + noise[:, :5] * 0.08, -0.05, 1.45)
        out[:, side, 5] = rng.uniform(0, 0.25) + 0.03 * noise[:, 5]
        out[:, side, 6] = rng.uniform(-0.9, 0.9) + 0.1 * noise[:, 6]
        out[:, side, 7] = rng.uniform(-0.5, 0.5) + 0.08 * noise[:, 7]
    return out


def _expression(
    rng: np.random.Generator, body: Body, identity: Identity, dressed: Dressed, times: np.ndarray
) -> np.ndarray:
    """(T, V, 3) rest positions with a moving face: a few facial actions and blinks."""
    names, moved = body.action_names, body.data["action_vertices"]
    choices = [
        ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"),
        ("jawOpen",),
        ("jawOpen", "mouthFunnel"),
        ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
        ("browDownLeft", "browDownRight", "noseSneerLeft", "noseSneerRight"),
        ("mouthFrownLeft", "mouthFrownRight"),
        ("mouthPucker",),
        ("cheekPuff",),
        ("mouthStretchLeft", "mouthStretchRight"),
        ("eyeSquintLeft", "eyeSquintRight"),
        ("eyeWideLeft", "eyeWideRight"),
        ("mouthRollLower", "mouthPressLeft", "mouthPressRight"),
    ]
    weights: dict[str, np.ndarray] = {}
    for k in rng.choice(len(choices), int(rng.integers(0, 3)), replace=False):
        level = np.clip(rng.uniform(0.1, 0.8) * (0.8 + 0.5 * smooth_noise(rng, times, 1, 0.4)[:, 0]), 0, 1)
        for name in choices[k]:
            weights[name] = level
    blink = np.exp(-(((times[:, None] - rng.uniform(-1, times[-1] + 2, 2)) / 0.09) ** 2).min(1))
    if blink.max() > 0.05:
        weights["eyeBlinkLeft"] = weights["eyeBlinkRight"] = blink
    offset = np.zeros((len(times), len(moved), 3), np.float32)
    scale = float(np.ptp(identity.vertices[moved, 2]) / np.ptp(body.template[moved, 2]))
    for name, level in weights.items():
        offset += (level[:, None, None] * scale) * body.data["actions"][names.index(name)].astype(np.float32)
    full = np.zeros((len(body.template)), np.int32) - 1
    full[moved] = np.arange(len(moved))
    row = full[dressed.source]
    own = np.flatnonzero(row >= 0)
    rest = np.repeat(dressed.rest[None], len(times), 0)
    rest[:, own] += offset[:, row[own]]
    return rest
