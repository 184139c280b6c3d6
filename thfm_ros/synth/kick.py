"""Kicks of every direction and height, standing or turning: what a leg does together with a trunk that leans against it
and arms that guard or balance."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.motion import JOINTS, Motion
from thfm_ros.synth.rotations import from_rotvec, multiply

FPS = 30.0
# The way a kick goes: radians from straight ahead to the outside, mean and deviation; how high it goes at the most.
WAYS = ((0.0, 0.3, 2.2), (0.7, 0.3, 2.1), (1.4, 0.3, 1.9), (2.8, 0.3, 1.2))
SHARES = (0.4, 0.2, 0.25, 0.15)


def kick_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Kicks one after another: the knee is drawn up, the leg flung out and drawn back, and the next one follows."""
    times = np.arange(int(duration * FPS) + 2) / FPS
    phase = times / rng.uniform(0.7, 1.8) + rng.random()
    number = phase.astype(int)
    stand, guards = _stand(rng), rng.random() < 0.5
    side, yaw = str(rng.choice(["l", "r"])), 0.0
    parts = []
    for n in range(number[0], number[-1] + 1):
        rotations, turned = _kick(rng, phase[number == n] - n, side, stand, guards)
        rotations[:, 0] = multiply(from_rotvec(np.array([0.0, 0.0, yaw])), rotations[:, 0])
        parts.append(rotations)
        yaw += turned
        side = {"l": "r", "r": "l"}[side] if rng.random() < 0.35 else side
    root = np.tile([0.0, 0.0, 1.0], (len(times), 1))
    return Motion("kicks", FPS, np.concatenate(parts), root)


def _stand(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """(3,) rotation vectors, as of the left side, that a person comes back to between kicks."""
    bent = 0.05 + 0.7 * rng.beta(0.8, 2.0)
    stride = rng.uniform(-0.4, 0.4)
    found = {
        "root": rng.normal((0.05, 0, 0), (0.1, 0.05, 0.2)),
        "chest": rng.normal(0, (0.12, 0.08, 0.2)),
        "neck": rng.normal(0, (0.15, 0.1, 0.3)),
    }
    for s, way in (("l", 1), ("r", -1)):
        found[f"{s}hip"] = np.array([way * stride - 0.5 * bent, -abs(rng.normal(0.1, 0.15)), rng.normal(0, 0.1)])
        found[f"{s}knee"] = np.array([bent, 0, 0])
        found[f"{s}ankle"] = np.array([-0.5 * bent - way * stride, 0, 0])
        found[f"{s}shoulder"] = np.array([rng.normal(-0.3, 0.4), -abs(rng.normal(0.15, 0.2)), rng.normal(0, 0.3)])
        found[f"{s}elbow"] = np.array([-0.1 - 2.2 * rng.beta(1.2, 1.5), 0, 0])
    return found


def _kick(
    rng: np.random.Generator, at: np.ndarray, side: str, stand: dict[str, np.ndarray], guards: bool
) -> tuple[np.ndarray, float]:
    """(N, 13, 4) rotations at `at` (N,) from 0, the beginning of one kick, to 1; radians that it turns the body."""
    up, out = _hill(at, 0.1, 0.4, 0.6, 0.95), _hill(at, 0.3, 0.48, 0.54, 0.75)
    other = {"l": "r", "r": "l"}[side]
    way_mean, way_spread, highest = WAYS[rng.choice(len(WAYS), p=SHARES)]
    way, height = rng.normal(way_mean, way_spread), highest * rng.uniform(0.25, 1.0)
    towards = np.array([-np.cos(way), -np.sin(way), 0.0])  # the axis, as of the left side
    lean = min(rng.uniform(-0.1, 0.8) * height, 1.1)
    goal = {
        f"{side}hip": height * towards + np.array([0, 0, rng.normal(0, 0.4)]),
        f"{side}ankle": np.array([rng.uniform(-0.4, 0.7), 0, 0]),
        f"{other}hip": np.array([rng.normal(-0.1, 0.1), rng.normal(0, 0.08), rng.normal(0, 0.3)]),
        f"{other}knee": np.array([0.05 + 0.6 * rng.beta(0.8, 2.0), 0, 0]),
        "chest": rng.normal((0.25, 0, 0), (0.2, 0.1, 0.3)),
        "neck": np.array([-0.2, 0.0, 0.0]) + rng.normal(0, (0.2, 0.1, 0.4)),
    }
    for s in "lr":
        if not guards or rng.random() < 0.3:  # flung: forward on the other side, back and out on the kicking one
            forth = -rng.uniform(0.0, 1.4) if s == other else rng.uniform(-0.3, 0.9)
            goal[f"{s}shoulder"] = np.array([forth, -rng.uniform(0.1, 1.6), rng.normal(0, 0.3)])
            goal[f"{s}elbow"] = np.array([-0.05 - 1.8 * rng.beta(0.9, 2.0), 0, 0])
    vectors = {joint: np.tile(value, (len(at), 1)) for joint, value in stand.items()}
    for joint, value in goal.items():
        vectors[joint] += up[:, None] * (value - vectors[joint])
    drawn, flung = rng.uniform(0.8, 2.3), rng.uniform(0.03, 0.5)
    vectors[f"{side}knee"][:, 0] += up * (drawn - vectors[f"{side}knee"][:, 0]) - out * (drawn - flung)
    for joint in vectors:
        if joint[0] == "r" and joint != "root":
            vectors[joint] *= np.array([1, -1, -1])
    leaning = lean * towards * np.array([1, 1 if side == "l" else -1, 0])
    rotations = np.stack([from_rotvec(vectors[joint]) for joint in JOINTS], 1)
    leant = from_rotvec(up[:, None] * leaning)
    for s in "lr":  # legs go where they go, however the trunk leans
        k = JOINTS.index(f"{s}hip")
        rotations[:, k] = multiply(leant * np.array([1, -1, -1, -1]), rotations[:, k])
    turned = rng.choice([-1, 1]) * rng.uniform(0.5, 2 * np.pi) if rng.random() < 0.4 else rng.normal(0, 0.2)
    spin = np.stack([0 * at, 0 * at, turned * _hill(at, 0.0, 1.0, 2.0, 3.0)], -1)
    rotations[:, 0] = multiply(multiply(from_rotvec(spin), rotations[:, 0]), leant)
    return rotations, float(turned)


def _hill(at: np.ndarray, start: float, top: float, down: float, end: float) -> np.ndarray:
    """0 before `start`, 1 from `top` to `down`, 0 after `end`, smooth between them."""
    x = np.clip(np.minimum((at - start) / (top - start), (end - at) / (end - down)), 0, 1)
    return x * x * (3 - 2 * x)
