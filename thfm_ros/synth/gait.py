"""Walking, jogging and running of every style, made of a few periodic angles: what most people do most of the time."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.motion import JOINTS, LEVEL, Motion
from thfm_ros.synth.rotations import from_rotvec

FPS = 30.0
# Angles in radians, of a stroll and of a sprint (after Novacheck, Gait & Posture 1998); styles stray from them.
STRIDES = (0.75, 1.6)  # a second
SPEED = (1.0, 5.5)  # leg lengths a second
LEAN = (0.02, 0.35)
TWIST = (0.05, 0.2)  # of the pelvis, to either side
HIP = (0.12, 0.45)  # middle of its swing, forwards
THIGH = (0.35, 0.85)  # to either side of that
KNEE = (0.12, 0.4)  # where it carries
HEEL = (0.8, 1.7)  # more where it swings
PUSH = (0.25, 0.6)  # of the foot from the ground
ARM = (0.3, 0.8)  # to either side
ELBOW = (0.2, 1.5)


def gait_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Steps straight ahead or, in one of eight, back; arms swing against the legs, or hold something in one of six."""
    times = np.arange(int(duration * FPS) + 2) / FPS
    pace = rng.beta(0.8, 0.8)

    def style(stroll_and_sprint: tuple[float, float]) -> float:
        return float(np.interp(pace, (0, 1), stroll_and_sprint) * rng.lognormal(0, 0.25))

    strides, speed = style(STRIDES), style(SPEED)
    forwards = 1.0 if rng.random() < 0.875 else -1.0
    phase = 2 * np.pi * (forwards * strides * times + rng.random())
    vectors = {joint: np.zeros((len(times), 3)) for joint in JOINTS}
    twist, lean = style(TWIST) * np.cos(phase), style(LEAN)
    sway = rng.normal(0, 0.05) * np.sin(phase)
    vectors["root"] = np.stack([lean + 0.02 * np.cos(2 * phase), sway, -twist], -1)
    vectors["chest"][:] = rng.normal((0.05, 0, 0), (0.1, 0.05, 0.05)) + np.stack([0 * twist, -sway, 1.6 * twist], -1)
    looking = -LEVEL - 0.9 * (lean + vectors["chest"][0, 0])  # ahead, however the trunk leans
    vectors["neck"][:] = rng.normal((looking, 0, 0), (0.2, 0.1, 0.3))
    hip, thigh, knee, heel, push = (style(x) for x in (HIP, THIGH, KNEE, HEEL, PUSH))
    arm, elbow, wide = style(ARM), style(ELBOW), abs(rng.normal(0.12, 0.1))
    for side, turn in (("l", 0.0), ("r", np.pi)):
        at = phase + turn  # 0 where the thigh is foremost, pi where it is hindmost and the foot leaves the ground
        vectors[f"{side}hip"][:, 0] = -hip - thigh * np.cos(at)
        vectors[f"{side}hip"][:, 1] = -abs(rng.normal(0.02, 0.05))
        vectors[f"{side}knee"][:, 0] = knee + heel * _bump(at, 1.4 * np.pi, 2.0)
        vectors[f"{side}ankle"][:, 0] = push * _bump(at, 1.1 * np.pi, 4.0) - 0.5 * knee
        vectors[f"{side}shoulder"][:, 0] = rng.normal(0, 0.1) + arm * np.cos(at)
        vectors[f"{side}shoulder"][:, 1] = -wide
        vectors[f"{side}shoulder"][:, 2] = rng.normal(0, 0.2)
        vectors[f"{side}elbow"][:, 0] = -elbow * (1 - 0.25 * np.cos(at)) - 0.05
    held = {0: "lr", 1: "l", 2: "r"}.get(int(rng.integers(18)), "")
    for side in held:
        vectors[f"{side}shoulder"][:] = rng.uniform((-1.4, -0.5, -0.6), (0.3, 0.0, 0.6))
        vectors[f"{side}elbow"][:, 0] = -rng.uniform(0.1, 2.2)
    for joint, value in vectors.items():
        value[:] = np.clip(value, -2.4, 2.4)
        if joint[0] == "r" and joint != "root":
            value *= np.array([1, -1, -1])
    root = np.zeros((len(times), 3))
    root[:, 1], root[:, 2] = -forwards * speed * times, 1.0
    return Motion("gait", FPS, from_rotvec(np.stack([vectors[joint] for joint in JOINTS], 1)), root)


def _bump(phase: np.ndarray, peak: float, width: float) -> np.ndarray:
    """1 at the peak, near 0 half a period from it; the narrower the larger `width`."""
    return np.exp(width * (np.cos(phase - peak) - 1))
