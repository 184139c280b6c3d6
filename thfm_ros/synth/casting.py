"""Who plays which part: players, children and who carries them, people in rows who look the same way.

All of it draws from a random stream of its own, so that clips without such parts stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Action, Part
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.materials import UPPER, colour_of
from thfm_ros.synth.motion import Motion
from thfm_ros.synth.posture import (
    carried_motion,
    carrying_motion,
    mounted_motion,
    pushing_motion,
    seated_motion,
    standing_motion,
    wheeled_motion,
)
from thfm_ros.synth.sport import EQUIPPED, SPORTS, sport_motion

JOINTS = JOINT_SETS["thfm32"].joints
PARTS = ("rows", "sport", "young", "rides", "still")  # settings that a cast depends on


@dataclass(frozen=True)
class Rows:
    """People one behind the other: the way they face (radians about z, 0 is -y), and where each stands (N, 3)."""

    yaw: float
    places: np.ndarray


@dataclass(frozen=True)
class Cast:
    """What each of `count` people is to do, or None; their age ("child", "toddler" or None); who carries whom: the
    number of the one carried by that of the carrier; rows, or None; whether near things take the place of people."""

    count: int
    parts: list[Part | None]
    ages: list[str | None]
    carried: dict[int, int] = field(default_factory=dict)
    rows: Rows | None = None
    still: bool = False


def make_cast(config: SynthConfig, seed: int, index: int, count: int) -> Cast:
    """A cast for `count` people, or more of them in rows."""
    nobody = Cast(count, [None] * max(count, 1), [None] * max(count, 1))
    if not any(getattr(config, name) for name in PARTS):
        return nobody
    rng = np.random.default_rng([seed, index, int(config.digest(), 16), 4])
    if rng.random() < config.still:
        return Cast(0, [None], [None], still=True)
    if count == 0:
        return nobody
    rows = rng.random() < config.rows
    if rows:
        count = int(rng.integers(max(3, config.people), 2 * config.people + 2))
    parts: list[Part | None] = [None] * count
    ages: list[str | None] = [None] * count
    for n in range(count):
        if rng.random() < config.young:
            ages[n] = "toddler" if rng.random() < 0.5 else "child"
        if config.rides and rng.random() < config.rides and ages[n] != "toddler":
            parts[n] = rider(rng)
        elif rng.random() < config.sport and ages[n] != "toddler":
            parts[n] = player(rng)
    if rows:
        return _in_rows(rng, Cast(count, parts, ages))
    carried: dict[int, int] = {}
    for n in range(1, count):
        if ages[n] == "toddler" and ages[n - 1] != "toddler" and rng.random() < 0.75:
            ages[n - 1] = None
            yaw = float(rng.uniform(-np.pi, np.pi))
            parts[n - 1], parts[n] = Part(carrying_motion, yaw, False), Part(carried_motion, _held_to(rng, yaw), False)
            carried[n - 1] = n
    return Cast(count, parts, ages, carried)


def player(rng: np.random.Generator) -> Part:
    """Somebody at a sport, now and then in the air."""
    names = list(SPORTS)
    name = names[rng.choice(len(names), p=[SPORTS[n][1] for n in names])]
    high = name == "jumping" or (name == "boarding" and rng.random() < 0.3)
    return Part(partial(sport_motion, name=name), None, name in EQUIPPED, float(rng.uniform(0.1, 1.0)) if high else 0.0)


def rider(rng: np.random.Generator) -> Part:
    """Somebody on a horse, in a wheelchair, or who pushes a pram or a cart."""
    roll = rng.random()
    if roll < 0.4:
        return Part(mounted_motion, None, False, float(rng.uniform(0.55, 0.85)))
    return Part(wheeled_motion if roll < 0.7 else pushing_motion, None, False)


def _held_to(rng: np.random.Generator, yaw: float) -> float:
    """A child looks at who carries it, or the same way, or aside."""
    return float(yaw + rng.choice([np.pi, 0.0, np.pi / 2, -np.pi / 2], p=[0.5, 0.3, 0.1, 0.1]) + rng.normal(0, 0.2))


def _in_rows(rng: np.random.Generator, cast: Cast) -> Cast:
    """Everybody but players and those of the first row's front stands or sits in one to three rows, which may rise."""
    yaw = float(rng.uniform(-np.pi, np.pi))
    ahead, right = np.array([np.sin(yaw), -np.cos(yaw), 0.0]), np.array([np.cos(yaw), np.sin(yaw), 0.0])
    count, depth = cast.count, int(rng.choice([1, 2, 3], p=[0.15, 0.55, 0.3]))
    wide, gap = rng.uniform(0.55, 0.9), rng.uniform(0.6, 1.0)
    rise = rng.uniform(0.1, 0.45) if rng.random() < 0.55 else 0.0
    sits = rng.choice([0.0, 1.0, 0.5], p=[0.5, 0.35, 0.15])
    first = 1 if count > 3 and rng.random() < 0.4 else 0  # one of them plays before the others
    parts, places = list(cast.parts), np.zeros((count, 3))
    if first:
        parts[0] = parts[0] or (player(rng) if rng.random() < 0.6 else Part(standing_motion))
        places[0] = ahead * rng.uniform(1.2, 4.5) + right * rng.normal(0, 0.8)
    across = -(-(count - first) // depth)
    for k in range(count - first):
        row, column = k % depth, k // depth
        motion: Callable[[np.random.Generator, float], Motion]
        motion = seated_motion if rng.random() < sits else standing_motion
        parts[first + k] = Part(motion, float(yaw + rng.normal(0, 0.25)), None, row * rise)
        side = (column - (across - 1) / 2 + 0.5 * (row % 2)) * wide + rng.normal(0, 0.06)
        places[first + k] = right * side - ahead * (row * gap + rng.normal(0, 0.05))
    return replace(cast, parts=parts, rows=Rows(yaw, places))


def placed(cast: Cast, actions: list[Action]) -> list[Action]:
    """The same actions where the cast wants them: in rows, or on an arm."""
    if cast.rows is not None:
        middles = [a.joints[:, JOINTS.index("pelvis")].mean(0) * [1, 1, 0] for a in actions]
        return [a.moved(p - m) for a, p, m in zip(actions, cast.rows.places, middles, strict=True)]
    out = list(actions)
    for carrier, child in cast.carried.items():
        joints = out[carrier].joints
        ahead = np.array([np.sin(out[carrier].yaw), -np.cos(out[carrier].yaw), 0.0])
        arm = joints[:, [JOINTS.index("left_elbow"), JOINTS.index("left_wrist")]].mean(1)
        chest = joints[:, JOINTS.index("spine2")] + 0.24 * ahead
        seat = np.stack([*(0.5 * (arm + chest))[:, :2].T, arm[:, 2] + 0.06], 1)
        out[child] = out[child].moved(seat - out[child].joints[:, JOINTS.index("pelvis")])
    return out


def recoloured(rng: np.random.Generator, dressed: Dressed) -> Dressed:
    """The same person in clothes and hair of other colours: of a crowd nobody asks who looks like whom."""
    materials = [replace(m) for m in dressed.materials]
    for m in materials:
        if m.kind == "cloth":
            m.a = colour_of(rng, UPPER)
            m.b = m.a * rng.uniform(0.6, 1.1) if rng.random() < 0.5 else colour_of(rng, UPPER)
        elif m.kind == "hair":
            shade = rng.uniform(0.5, 2.0)
            m.a, m.b = np.clip(m.a * shade, 0.004, 0.8), np.clip(m.b * shade, 0.004, 0.8)
        elif m.kind == "skin":
            m.a = np.clip(m.a * rng.uniform(0.8, 1.2), 0.01, 0.85)
    return replace(dressed, materials=materials)
