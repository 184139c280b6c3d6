"""Postures of people who play, ride boards and slide: what photographs of sports show and motion capture seldom has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thfm_ros.synth.motion import Motion
from thfm_ros.synth.posture import Posture, held_still, look_ahead, upper_body

Legs = tuple[float, float, float, float]  # how far a thigh is raised, the knee bent, the leg out and turned; radians


def sport_motion(rng: np.random.Generator, duration: float, name: str) -> Motion:
    """A moment of one of SPORTS, held with small movements."""
    out, base = SPORTS[name][0](rng)
    return held_still(rng, duration, name, (out if name == "serving" else look_ahead(rng, out), base))


def _legs(out: dict[str, np.ndarray], lean: float, left: Legs, right: Legs) -> None:
    """Legs below hips that lean forward; soles as level as ankles allow."""
    for side, (raised, bent, apart, turned) in (("l", left), ("r", right)):
        out[f"{side}hip"] = np.array([-raised - lean, -apart, turned])
        out[f"{side}knee"] = np.array([max(bent, 0.05), 0.0, 0.0])
        out[f"{side}ankle"] = np.array([np.clip(raised - bent, -0.6, 0.7), 0.0, 0.0])


def _arm(out: dict[str, np.ndarray], side: str, raised: float, out_: float, turned: float, bent: float) -> None:
    """An arm raised forward and outward, turned about itself, bent; radians."""
    out[f"{side}shoulder"] = np.array([-raised, -out_, turned])
    out[f"{side}elbow"] = np.array([-max(bent, 0.06), 0.0, 0.0])


def _swing(rng: np.random.Generator) -> Posture:
    """Both hands on a bat, a club or a racket, beside the body, behind the shoulder or across the chest."""
    u = rng.uniform
    lean = u(0.0, 0.5)
    out = upper_body(rng, lean)
    twist = u(-0.9, 0.9)
    out["root"] = np.array([lean, 0.0, twist * 0.4])
    out["chest"], out["neck"] = np.array([u(0, 0.3), u(-0.2, 0.2), twist]), np.array([u(-0.2, 0.3), 0.0, -twist])
    high = u(0.6, 2.2)
    _arm(out, "l", high + rng.normal(0, 0.15), u(-0.5, 0.0), u(-0.3, 0.6), u(0.2, 1.6))
    _arm(out, "r", high + rng.normal(0, 0.15), u(-0.5, 0.1), u(-0.3, 0.6), u(0.2, 1.6))
    bent, apart = u(0.1, 0.6), u(0.15, 0.5)
    _legs(out, lean, (bent * u(0.4, 0.8), bent, apart, 0.2), (bent * u(0.3, 0.7), bent, apart, u(-0.2, 0.5)))
    return out, np.zeros(3)


def _serve(rng: np.random.Generator) -> Posture:
    """One arm up to hit, throw or catch, the other one for balance; the back bent backwards or forwards."""
    u = rng.uniform
    lean = u(-0.3, 0.5)
    out = upper_body(rng, lean)
    out["chest"], out["neck"] = np.array([u(-0.4, 0.3), u(-0.4, 0.4), u(-0.7, 0.7)]), np.array([u(-0.7, 0.1), 0.0, 0.0])
    _arm(out, "l", u(1.7, 3.0), u(-0.1, 0.5), u(-0.5, 0.8), u(0.06, 2.0))
    _arm(out, "r", u(-0.5, 1.8), u(0.0, 1.2), u(-0.5, 0.8), u(0.1, 1.4))
    step = u(0.2, 0.9)
    back = (-step * u(0.2, 0.8), u(0.1, 0.9), u(0, 0.3), 0.0)
    _legs(out, lean, (step, step * u(0.6, 1.5), u(0, 0.3), 0.0), back)
    return out, np.zeros(3)


def _ski(rng: np.random.Generator) -> Posture:
    """Both knees bent, the trunk before them, hands ahead as on poles."""
    u = rng.uniform
    lean, thigh = u(0.2, 1.1), u(0.15, 1.1)
    out = upper_body(rng, lean)
    out["root"], out["chest"] = np.array([lean, 0.0, 0.0]), np.array([u(0.0, 0.5), 0.0, u(-0.3, 0.3)])
    out["neck"] = np.array([-u(0.2, 0.8) * lean, 0.0, u(-0.4, 0.4)])
    for side in "lr":
        _arm(out, side, lean + u(-0.3, 0.7), u(0.1, 0.7), u(0.0, 0.5), u(0.4, 1.5))
    legs = (thigh, thigh * u(1.3, 1.8), u(0.02, 0.2), 0.0)
    _legs(out, lean, legs, (thigh * u(0.8, 1.2), legs[1], u(0.02, 0.2), 0.0))
    return out, np.array([0.0, rng.normal(0, 0.15), 0.0])


def _board(rng: np.random.Generator) -> Posture:
    """On a board across its way: feet apart, knees bent, arms out for balance, the head over a shoulder."""
    u = rng.uniform
    lean, thigh = u(0.1, 0.9), u(0.2, 1.2)
    out = upper_body(rng, lean)
    out["root"], out["chest"] = np.array([lean, 0.0, 0.0]), np.array([u(0.0, 0.4), rng.normal(0, 0.25), u(-0.8, 0.8)])
    out["neck"] = np.array([-0.3 * lean, 0.0, rng.choice([-1, 1]) * u(0.2, 1.0)])
    for side in "lr":
        _arm(out, side, u(-0.2, 1.0), u(0.4, 1.6), u(-0.3, 0.5), u(0.1, 1.2))
    apart = u(0.25, 0.6)
    for_one = (thigh, thigh * u(1.2, 1.9), apart, u(0.0, 0.4))
    _legs(out, lean, for_one, (thigh * u(0.7, 1.2), thigh * u(1.2, 1.9), apart, u(0.0, 0.4)))
    return out, np.array([0.0, rng.normal(0, 0.2), 0.0])


def _squat(rng: np.random.Generator) -> Posture:
    """Deep on bent knees, as who catches, waits or lifts; or on one knee."""
    u = rng.uniform
    lean, thigh = u(0.1, 0.9), u(1.2, 2.1)
    out = upper_body(rng, lean)
    out["root"] = np.array([lean, 0.0, 0.0])
    out["neck"] = np.array([-0.5 * lean, 0.0, u(-0.4, 0.4)])
    for side in "lr":
        _arm(out, side, lean + u(0.0, 1.2), u(0.0, 0.5), u(0.0, 0.5), u(0.2, 1.6))
    apart = u(0.1, 0.7)
    left = (thigh, thigh * u(1.05, 1.25), apart, u(0.1, 0.6))
    kneeling = (u(-0.2, 0.2), u(1.4, 1.8), 0.1, 0.0)
    _legs(out, lean, left, kneeling if rng.random() < 0.3 else (thigh * u(0.85, 1.0), left[1], apart, u(0.1, 0.6)))
    return out, np.zeros(3)


def _lunge(rng: np.random.Generator) -> Posture:
    """A long step with the trunk over the front leg and an arm stretched out, as who reaches for a ball or fences."""
    u = rng.uniform
    lean, front = u(0.1, 1.0), u(0.6, 1.4)
    out = upper_body(rng, lean)
    out["root"], out["chest"] = np.array([lean, 0.0, 0.0]), np.array([u(0.0, 0.4), u(-0.3, 0.3), u(-0.7, 0.7)])
    out["neck"] = np.array([-0.6 * lean, 0.0, u(-0.3, 0.3)])
    _arm(out, "l", u(0.6, 2.0), u(0.0, 1.2), u(-0.4, 0.4), u(0.06, 0.7))
    _arm(out, "r", u(-1.0, 0.8), u(0.1, 1.3), u(-0.4, 0.4), u(0.1, 1.5))
    _legs(out, lean, (front, front * u(0.6, 1.2), u(0, 0.4), 0.0), (-u(0.2, 0.7), u(0.1, 0.8), u(0, 0.4), 0.0))
    return out, np.zeros(3)


def _jump(rng: np.random.Generator) -> Posture:
    """In the air: legs drawn up, spread or stretched, arms out or up, the body tilted."""
    u = rng.uniform
    lean = u(-0.3, 0.8)
    out = upper_body(rng, lean)
    for side in "lr":
        _arm(out, side, u(-0.6, 2.8), u(0.1, 1.5), u(-0.4, 0.6), u(0.06, 1.3))
    legs = [(u(-0.5, 1.7), u(0.1, 2.0), u(0.0, 0.8), u(-0.1, 0.5)) for _ in "lr"]
    _legs(out, lean, legs[0], legs[0] if rng.random() < 0.4 else legs[1])
    return out, np.array([rng.normal(0, 0.25), rng.normal(0, 0.25), 0.0])


# By name: the posture, and how common it is.
SPORTS: dict[str, tuple[Callable[[np.random.Generator], Posture], float]] = {
    "swinging": (_swing, 0.2),
    "serving": (_serve, 0.16),
    "skiing": (_ski, 0.16),
    "boarding": (_board, 0.16),
    "squatting": (_squat, 0.12),
    "lunging": (_lunge, 0.1),
    "jumping": (_jump, 0.1),
}
EQUIPPED = ("swinging", "serving", "skiing")  # a hand holds what the game needs
