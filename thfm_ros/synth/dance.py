"""Dances: limbs that move to one beat, in unison, mirrored or in turns, while the body sways, bounces and turns."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.motion import JOINTS, Motion
from thfm_ros.synth.rotations import from_rotvec, multiply

FPS = 30.0
# Rotation vectors of the left side between which arms and legs dance, lowest and highest.
SHOULDER = ((-2.8, -2.2, -0.8), (0.8, -0.02, 0.8))
THIGH = ((-2.0, -1.3, -0.5), (0.6, 0.1, 0.5))


def dance_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Phrases of some beats, each with its own figure; from one figure to the next within half a second; 30 fps."""
    times = np.arange(int(duration * FPS) + 2) / FPS
    beat = 2 * np.pi * (rng.uniform(0.6, 1.5) * times + rng.random())
    phrase = rng.uniform(1.2, 3.0)
    place = times / phrase + rng.random()
    figures = [_figure(rng, beat) for _ in range(int(place[-1]) + 2)]
    n = place.astype(int)
    w = np.clip((place - n - 1) * phrase / 0.5 + 1, 0, 1)  # the last half second leads on
    w = (w * w * (3 - 2 * w))[:, None]
    vectors = {joint: np.zeros((len(times), 3)) for joint in JOINTS}
    for joint, value in vectors.items():
        options = np.stack([figure[joint] for figure in figures])
        rows = np.arange(len(times))
        value[:] = (1 - w) * options[n, rows] + w * options[n + 1, rows]
        if joint[0] == "r" and joint != "root":
            value *= np.array([1, -1, -1])
    turning = np.cumsum(rng.choice([0.0, 1.0]) * rng.normal(0, 1.5) * (1 + np.cos(beat / 4)) / FPS)
    rotations = np.stack([from_rotvec(vectors[joint]) for joint in JOINTS], 1)
    yaw = from_rotvec(np.stack([0 * turning, 0 * turning, turning], -1))
    rotations[:, 0] = multiply(yaw, rotations[:, 0])
    root = np.tile([0.0, 0.0, 1.0], (len(times), 1))
    return Motion("dances", FPS, rotations, root)


def _figure(rng: np.random.Generator, beat: np.ndarray) -> dict[str, np.ndarray]:
    """(N, 3) rotation vectors of every joint, right ones as if they were left."""
    sway, slow = rng.normal(0, 0.12), rng.choice([0.5, 1.0])
    swing, bounce = np.cos(slow * beat + rng.uniform(0, 6)), 0.5 - 0.5 * np.cos(beat)
    found = {
        "root": rng.normal((0.08, 0, 0), (0.12, 0.06, 0.1))
        + swing[:, None] * np.array([0.0, sway, rng.normal(0, 0.15)]),
        "chest": rng.normal((0.05, 0, 0), (0.2, 0.15, 0.2))
        + swing[:, None] * np.array([rng.normal(0, 0.08), rng.normal(0, 0.12) - sway, rng.normal(0, 0.25)]),
        "neck": rng.normal(0, (0.2, 0.12, 0.35)) + swing[:, None] * rng.normal(0, (0.1, 0.05, 0.15)),
    }
    arms = [_between(rng, SHOULDER, 1.0) for _ in "lr"]
    elbows = [-0.05 - 2.2 * rng.beta(0.8, 1.2, 2) for _ in "lr"]
    legs = [_between(rng, THIGH, rng.uniform(0.3, 1.0)) for _ in "lr"]
    alike, turns = rng.random() < 0.7, rng.random() < 0.5  # both arms the same; one after the other
    steps, wide, bent = rng.random() < 0.6, -abs(rng.normal(0.05, 0.25)), 0.05 + 0.9 * rng.beta(0.8, 2.0)
    for i, side in enumerate("lr"):
        own = 0 if alike else i
        goes = 0.5 - 0.5 * np.cos(slow * beat + (np.pi * i if turns else 0))[:, None]
        found[f"{side}shoulder"] = arms[own][0] + goes * (arms[own][1] - arms[own][0])
        found[f"{side}elbow"] = _hinge(elbows[own][0] + goes[:, 0] * (elbows[own][1] - elbows[own][0]))
        # Steps in turns, or both feet on the ground and knees that bounce.
        lifted = np.maximum(np.cos(slow * beat + np.pi * i), 0) if steps else 0 * beat
        knee = bent * (0.5 + bounce)
        stance = np.stack([-0.5 * knee, 0 * knee + wide, 0 * knee], -1)
        found[f"{side}hip"] = stance + lifted[:, None] * (legs[own][1] - stance)
        up = np.clip(-found[f"{side}hip"][:, 0], 0, None)
        found[f"{side}knee"] = _hinge(0.03 + knee + lifted * rng.uniform(0.2, 1.4) * (0.4 + up))
        found[f"{side}ankle"] = _hinge(-0.5 * knee * (1 - lifted) + lifted * rng.uniform(-0.2, 0.6))
    return found


def _between(
    rng: np.random.Generator, limits: tuple[tuple[float, ...], tuple[float, ...]], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two postures (3,) of a joint, the second drawn near to or far from the first."""
    low, high = np.array(limits)
    first, second = rng.uniform(low, high), rng.uniform(low, high)
    return share * first, share * (first + rng.uniform(0.3, 1.0) * (second - first))


def _hinge(angle: np.ndarray) -> np.ndarray:
    """(N, 3) about x."""
    return np.stack([angle, 0 * angle, 0 * angle], -1)
