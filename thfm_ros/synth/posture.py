"""Postures that people spend their days in: on seats, floors and bicycles, lying, bent over what is before them."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.motion import JOINTS, LEVEL, Motion
from thfm_ros.synth.rotations import from_rotvec, multiply, smooth_noise

# How common each is.
POSTURES = {"seated": 0.46, "floor": 0.15, "lying": 0.09, "bent": 0.2, "riding": 0.1}


# Vectors of joints by name, and how the whole body is turned first.
Posture = tuple[dict[str, np.ndarray], np.ndarray]


def rest_motion(rng: np.random.Generator, duration: float) -> Motion:
    """One posture held with small movements, 30 fps; its name is one of POSTURES."""
    name = str(rng.choice(list(POSTURES), p=list(POSTURES.values())))
    make = {"seated": _seated, "floor": _floor, "lying": _lying, "bent": _bent, "riding": _riding}[name]
    return held_still(rng, duration, name, make(rng))


def seated_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Somebody on a seat."""
    return held_still(rng, duration, "seated", _seated(rng))


def standing_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Somebody who stands and looks on: arms as those of people at rest."""
    return held_still(rng, duration, "standing", _upright(rng, rng.normal(0.0, 0.07)))


def look_ahead(rng: np.random.Generator, out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns the head back by most of what pelvis and chest lean, as far as necks go: people look where they act."""
    leaning = min(out["root"][0] + out["chest"][0], 0.6)
    out["neck"][0] = np.clip(rng.normal(-LEVEL, 0.26) - 0.9 * leaning, -0.85, 0.6)
    return out


def _upright(rng: np.random.Generator, lean: float) -> Posture:
    """On legs that are nearly straight."""
    out = look_ahead(rng, upper_body(rng, lean))
    for side in "lr":
        bent = abs(rng.normal(0, 0.06))
        out[f"{side}hip"] = np.array([-lean - bent, -rng.uniform(0, 0.15), rng.normal(0, 0.1)])
        out[f"{side}knee"] = np.array([0.04 + 2 * bent, 0.0, 0.0])
        out[f"{side}ankle"] = np.array([-bent, 0.0, 0.0])
    return out, np.zeros(3)


def carrying_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Somebody who stands with a child on the arms."""
    out, base = _upright(rng, rng.normal(-0.05, 0.05))
    for side, turned in (("l", rng.uniform(0.3, 0.7)), ("r", rng.uniform(0.3, 0.8))):
        out[f"{side}shoulder"] = np.array([-rng.uniform(0.2, 0.6), -rng.uniform(0.0, 0.3), turned])
        out[f"{side}elbow"] = np.array([-rng.uniform(1.3, 1.8), 0.0, 0.0])
    return held_still(rng, duration, "carrying", (out, base))


def carried_motion(rng: np.random.Generator, duration: float) -> Motion:
    """A child on somebody's arms: knees apart and bent, upright or against a shoulder."""
    lean = rng.uniform(-0.2, 0.4)
    out = look_ahead(rng, upper_body(rng, lean))
    for side in "lr":
        out[f"{side}hip"] = np.array([-rng.uniform(0.9, 1.6) - lean, -rng.uniform(0.3, 0.7), 0.0])
        out[f"{side}knee"] = np.array([rng.uniform(0.6, 1.5), 0.0, 0.0])
        out[f"{side}ankle"] = np.array([rng.uniform(-0.1, 0.5), 0.0, 0.0])
    return held_still(rng, duration, "carried", (out, np.zeros(3)))


def mounted_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Somebody on a horse: legs down its sides, hands at the reins or anywhere."""
    lean = rng.uniform(-0.1, 0.4)
    out = look_ahead(rng, upper_body(rng, lean))
    reins = rng.random() < 0.7
    for side in "lr":
        if reins:
            out[f"{side}shoulder"] = np.array([-rng.uniform(0.2, 0.7), -rng.uniform(0.0, 0.2), rng.uniform(0.1, 0.4)])
            out[f"{side}elbow"] = np.array([-rng.uniform(0.7, 1.4), 0.0, 0.0])
        thigh = rng.uniform(0.6, 1.2)
        out[f"{side}hip"] = np.array([-thigh - lean, -rng.uniform(0.35, 0.6), 0.2])
        out[f"{side}knee"] = np.array([thigh + rng.uniform(-0.2, 0.4), 0.0, 0.0])
        out[f"{side}ankle"] = np.array([rng.uniform(-0.4, 0.1), 0.0, 0.0])
    return held_still(rng, duration, "mounted", (out, np.zeros(3)))


def wheeled_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Somebody in a wheelchair."""
    return held_still(rng, duration, "wheeled", _seated(rng))


def pushing_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Somebody who pushes a pram or a cart: both hands before the belly, one foot ahead."""
    lean, step = rng.uniform(0.0, 0.3), rng.normal(0, 0.25)
    out, base = _upright(rng, lean)
    for side, ahead in (("l", step), ("r", -step)):
        out[f"{side}shoulder"] = np.array([-lean - rng.uniform(0.25, 0.7), -0.05, rng.uniform(0.0, 0.2)])
        out[f"{side}elbow"] = np.array([-rng.uniform(0.3, 1.1), 0.0, 0.0])
        out[f"{side}hip"] = out[f"{side}hip"] + [-ahead, 0.0, 0.0]
        out[f"{side}knee"] = np.array([0.05 + 0.5 * abs(step), 0.0, 0.0])
    return held_still(rng, duration, "pushing", (out, base))


def held_still(rng: np.random.Generator, duration: float, name: str, posture: Posture) -> Motion:
    """A posture held with small movements, 30 fps."""
    fps = 30.0
    times = np.arange(int(duration * fps) + 2) / fps
    vectors, base = posture
    still = np.zeros((len(JOINTS), 3))
    for k, joint in enumerate(JOINTS):
        mirror = [1, -1, -1] if joint[0] == "r" and joint != "root" else [1, 1, 1]
        still[k] = vectors[joint] * np.array(mirror)
    sway = smooth_noise(rng, times, len(JOINTS) * 3, 0.9).reshape(len(times), -1, 3) * rng.uniform(0.01, 0.08)
    sway[:, [JOINTS.index(j) for j in ("root", "lhip", "rhip", "lknee", "rknee", "lankle", "rankle")]] *= 0.2
    rotations = multiply(np.broadcast_to(from_rotvec(still), (len(times), len(JOINTS), 4)), from_rotvec(sway))
    rotations[:, 0] = multiply(np.broadcast_to(from_rotvec(base), rotations[:, 0].shape), rotations[:, 0])
    root = np.tile([0.0, 0.0, 1.0], (len(times), 1))
    return Motion(name, fps, rotations, root)


def upper_body(rng: np.random.Generator, lean: float) -> dict[str, np.ndarray]:
    """Trunk, head and arms: hands in the lap, before the chest or the face, on a table, hanging, held up."""
    u = rng.uniform
    out = {
        "root": np.array([lean, u(-0.1, 0.1), 0.0]),
        "chest": np.array([u(-0.1, 0.5), rng.normal(0, 0.12), rng.normal(0, 0.2)]),
        "neck": np.array([u(-0.3, 0.5), rng.normal(0, 0.12), rng.normal(0, 0.4)]),
    }
    both = rng.random() < 0.6
    ways = [
        (u(-0.7, -0.1), u(-1.5, -0.7)),  # lap
        (u(-0.9, -0.3), u(-2.3, -1.5)),  # at the chest or the face
        (u(-1.4, -0.6), u(-1.2, -0.1)),  # before, as on a table
        (u(-0.1, 0.4), u(-0.5, -0.08)),  # hanging
        (u(-2.8, -1.6), u(-1.6, -0.1)),  # up
    ]
    p = [0.3, 0.25, 0.27, 0.1, 0.08]
    first = ways[rng.choice(5, p=p)]
    for side in "lr":
        shoulder, elbow = first if both or side == "l" else ways[rng.choice(5, p=p)]
        noise = rng.normal(0, 0.12, 2)
        out[f"{side}shoulder"] = np.array([shoulder + noise[0], -abs(rng.normal(0.12, 0.25)), rng.normal(0.25, 0.35)])
        out[f"{side}elbow"] = np.array([min(elbow + noise[1], -0.06), 0.0, 0.0])
    return out


def _seated(rng: np.random.Generator) -> Posture:
    lean = rng.uniform(-0.35, 0.35)
    out = look_ahead(rng, upper_body(rng, lean))
    apart = rng.uniform(0, 0.35)
    for side in "lr":
        thigh, shin = rng.normal(1.45, 0.1), rng.normal(0.0, 0.35)
        out[f"{side}hip"] = np.array([-thigh - lean, -apart * rng.uniform(0.5, 1.2), rng.normal(0, 0.1)])
        out[f"{side}knee"] = np.array([max(thigh + shin, 0.1), 0.0, 0.0])
        out[f"{side}ankle"] = np.array([-np.clip(shin, -0.4, 0.5), 0.0, 0.0])
    if rng.random() < 0.15:  # one leg over the other
        out["lhip"] += np.array([-0.3, 0.35, 0.0])
    return out, np.zeros(3)


def _floor(rng: np.random.Generator) -> Posture:
    lean = rng.uniform(-0.5, 0.25)
    out = look_ahead(rng, upper_body(rng, lean))
    crossed = rng.random() < 0.4
    for side in "lr":
        if crossed:
            # Turned out about its own length, raised to the front, and apart.
            turns = ((0, 0, rng.uniform(1.0, 1.4)), (-1.5, 0, 0), (0, 0, rng.uniform(0.5, 0.9)), (-lean, 0, 0))
            out[f"{side}hip"] = _one_after_another(*turns)
            out[f"{side}knee"] = np.array([rng.uniform(1.9, 2.4), 0.0, 0.0])
        else:
            raised = rng.uniform(0.0, 0.9)
            out[f"{side}hip"] = np.array([-1.5 - raised - lean, -rng.uniform(0, 0.35), rng.normal(0, 0.15)])
            out[f"{side}knee"] = np.array([0.05 + 2.1 * raised, 0.0, 0.0])
        out[f"{side}ankle"] = np.array([rng.uniform(-0.2, 0.5), 0.0, 0.0])
    return out, np.zeros(3)


def _one_after_another(*turns: tuple[float, float, float]) -> np.ndarray:
    """(3,) the rotation vector of several, the first of which acts first."""
    q = from_rotvec(np.array(turns[0], float))
    for turn in turns[1:]:
        q = multiply(from_rotvec(np.array(turn, float)), q)
    half = np.arccos(np.clip(q[0], -1, 1))
    return 2 * half * q[1:] / max(float(np.linalg.norm(q[1:])), 1e-9)


def _lying(rng: np.random.Generator) -> Posture:
    out = upper_body(rng, 0.0)
    for side in "lr":
        bent = rng.beta(0.7, 1.8)
        out[f"{side}hip"] = np.array([-1.3 * bent + rng.normal(0, 0.1), -rng.uniform(0, 0.4), rng.normal(0, 0.2)])
        out[f"{side}knee"] = np.array([0.05 + 1.9 * bent, 0.0, 0.0])
        out[f"{side}ankle"] = np.array([rng.uniform(0, 0.7), 0.0, 0.0])
    # On the back, the belly or a side.
    ways = [(-1.5, 0, 0), (1.5, 0, 0), (0, 1.5, 0), (0, -1.5, 0)]
    return out, np.array(ways[rng.choice(4, p=[0.5, 0.16, 0.17, 0.17])]) + rng.normal(0, 0.12, 3)


def _bent(rng: np.random.Generator) -> Posture:
    lean = rng.uniform(0.1, 0.9)
    out = upper_body(rng, lean)
    out["chest"][0] = rng.uniform(0.0, 0.7)
    for side in "lr":
        out[f"{side}shoulder"] = np.array([-lean - rng.uniform(0.1, 0.9), -rng.uniform(0, 0.3), rng.normal(0.2, 0.3)])
        out[f"{side}elbow"] = np.array([-rng.uniform(0.1, 1.4), 0.0, 0.0])
        bent = abs(rng.normal(0, 0.25))
        out[f"{side}hip"] = np.array([-lean - bent, -rng.uniform(0, 0.2), rng.normal(0, 0.1)])
        out[f"{side}knee"] = np.array([0.05 + 2 * bent, 0.0, 0.0])
        out[f"{side}ankle"] = np.array([-bent, 0.0, 0.0])
    return out, np.zeros(3)


def _riding(rng: np.random.Generator) -> Posture:
    """On a bicycle or a motorcycle: hands before, one leg lower than the other."""
    lean = rng.uniform(0.0, 0.6)
    out = upper_body(rng, lean)
    out["chest"], low = np.array([rng.uniform(0.1, 0.4), 0.0, 0.0]), rng.choice(["l", "r"])
    look_ahead(rng, out)
    reach, bent = -1.0 - lean + rng.normal(0, 0.1), -rng.uniform(0.3, 0.7)
    for side in "lr":
        out[f"{side}shoulder"] = np.array([reach + 0.3, -0.2, 0.1])
        out[f"{side}elbow"] = np.array([bent, 0.0, 0.0])
        thigh, shin = (rng.uniform(0.5, 0.8), 0.1) if side == low else (rng.uniform(0.9, 1.4), rng.uniform(-0.2, 0.3))
        out[f"{side}hip"] = np.array([-thigh - lean, -rng.uniform(0.1, 0.25), 0.0])
        out[f"{side}knee"] = np.array([thigh + shin, 0.0, 0.0])
        out[f"{side}ankle"] = np.array([-shin, 0.0, 0.0])
    return out, np.zeros(3)
