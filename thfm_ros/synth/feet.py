"""Feet on the ground: people stand on z = 0, and what stands does not slide.

A retargeted motion slides for two reasons: other proportions than the actor's, and joints that vary. The root is
moved so that the lowest points of the soles rest; where both feet stand and the root cannot please both, the legs
bend (two-bone inverse kinematics) to hold each foot where it is, within a few centimetres.
"""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.body import PARTS, Body, Identity

TOUCH = 0.03  # metres above the ground: what is below stands
REACH = 0.12  # metres that a leg moves its foot at most
SLOW = (0.5, 1.0)  # metres a second: slower feet stand still, faster ones slide on purpose


def soles(body: Body, identity: Identity, deltas: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(T, 2, N, 3) posed points of the soles, left and right, spread from heel to toes."""
    sides = []
    for side in ("left", "right"):
        foot = np.flatnonzero(body.parts == PARTS.index(f"{side}_foot"))
        z = body.template[foot, 2]
        sole = foot[z < z.min() + 0.012]
        sole = sole[np.argsort(body.template[sole, 1], kind="stable")]
        sides.append(sole[np.linspace(0, len(sole) - 1, 32).astype(int)])
    points = body.skin_points(identity.vertices, np.concatenate(sides), deltas, offsets)
    return points.reshape(len(deltas), 2, -1, 3)


def _contact(height: np.ndarray, moved: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From heights (T, ..., N) and displacements (T - 1, ..., N, 2) of points: how far those that stand moved
    (T - 1, ..., 2) and how high they were (T - 1, ...), from one frame to the next."""
    pair = np.maximum(height[1:], height[:-1])
    # A swinging foot may graze the ground below the standing one: what moves counts as higher.
    score = pair + 0.04 * np.linalg.norm(moved, axis=-1) / seconds.reshape(-1, *[1] * (pair.ndim - 1))
    weight = np.exp(-(score - score.min(-1, keepdims=True)) / 0.004)
    weight /= weight.sum(-1, keepdims=True)
    return (weight[..., None] * moved).sum(-2), (weight * pair).sum(-1)


def ground_shift(points: np.ndarray, low: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T, 3) shift of the root that puts the lowest point on the ground, keeps jumps, and rests what stands.

    points: (T, 2, N, 3) of `soles`; low: (T,) lowest point of the body; times: (T,) seconds.
    """
    frames = len(points)
    floor = np.quantile(low, 0.2) if frames > 1 else low[0]
    jump = np.clip((low - floor - 0.08) / 0.1, 0, 1)
    shift = np.zeros((frames, 3))
    shift[:, 2] = -(low * (1 - jump) + floor * jump)
    if frames > 1:
        flat = points.reshape(frames, -1, 3)
        moved, height = _contact(flat[..., 2] + shift[:, 2:], np.diff(flat[..., :2], axis=0), _steps(times))
        # In a skip or a leap the lowest points are on the ground for a moment but nothing stands.
        speed = np.linalg.norm(moved, axis=-1) / _steps(times)
        share = np.clip(1 - (height - 0.05) / 0.06, 0, 1) * np.clip(2 - speed, 0, 1)
        shift[1:, :2] = np.cumsum(-share[:, None] * moved, 0)
    return shift


def _steps(times: np.ndarray) -> np.ndarray:
    return np.maximum(np.diff(times), 1e-3)


def plant(
    body: Body,
    identity: Identity,
    deltas: np.ndarray,
    heads: np.ndarray,
    points: np.ndarray,
    shift: np.ndarray,
    times: np.ndarray,
) -> np.ndarray:
    """Bone deltas (T, J, 3, 3) whose legs hold standing feet still; the feet keep their orientation.

    deltas, heads: (T, J, ...) of the pose; points, shift, times: as in `ground_shift`.
    """
    world = points + shift[:, None, None]
    moved, height = _contact(world[..., 2], np.diff(world[..., :2], axis=0), _steps(times))
    seconds = _steps(times)[:, None]
    speed = np.linalg.norm(moved, axis=-1) / seconds
    stands = np.clip((TOUCH - height) / (0.5 * TOUCH), 0, 1) * np.clip((SLOW[1] - speed) / (SLOW[1] - SLOW[0]), 0, 1)
    forget = 0.5 ** (seconds / 0.08)  # a lifted foot returns to the motion's own way
    held = np.zeros((len(points), 2, 2))
    for t in range(1, len(held)):
        keep = stands[t - 1] + (1 - stands[t - 1]) * forget[t - 1]
        held[t] = keep[:, None] * held[t - 1] - stands[t - 1][:, None] * moved[t - 1]
        far = np.linalg.norm(held[t], axis=-1, keepdims=True)
        held[t] *= np.minimum(1, REACH / np.maximum(far, 1e-9))
    out = deltas.copy()
    for k, side in enumerate("LR"):
        hip, knee, ankle = (heads[:, body.index[f"{n}.{side}"]] for n in ("upperleg01", "lowerleg01", "foot"))
        target = ankle + np.pad(held[:, k], ((0, 0), (0, 1)))
        lateral = deltas[:, body.index[f"upperleg01.{side}"], :, 0]
        upper, lower = bend(hip, knee, ankle, target, lateral)
        for name, turn in (("upperleg01", upper), ("upperleg02", upper), ("lowerleg01", lower), ("lowerleg02", lower)):
            j = body.index[f"{name}.{side}"]
            out[:, j] = turn @ deltas[:, j]
    return out


def bend(
    hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray, target: np.ndarray, lateral: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) of the thigh and of the shank that bring the ankle (T, 3) to the target, or as near as the
    leg is long; lateral (T, 3): where the knee's axis points when the leg is straight."""
    thigh, shank = knee - hip, ankle - knee
    a, b = np.linalg.norm(thigh, axis=1), np.linalg.norm(shank, axis=1)
    axis = np.cross(thigh, shank) + 0.02 * (a * b)[:, None] * lateral
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    now = np.linalg.norm(ankle - hip, axis=1)
    longest = np.maximum(0.998 * (a + b), now)  # a leg that is straighter already stays so
    wanted = np.minimum(np.linalg.norm(target - hip, axis=1), longest)
    inner = lambda d: np.arccos(np.clip((a * a + b * b - d * d) / (2 * a * b), -1, 1))  # noqa: E731
    fold = _about(axis, inner(now) - inner(wanted))
    reached = thigh + np.einsum("tij,tj->ti", fold, shank)
    swing = _shortest(reached, target - hip)
    return swing, swing @ fold


def _cross_matrix(v: np.ndarray) -> np.ndarray:
    out = np.zeros((len(v), 3, 3))
    out[:, 2, 1], out[:, 0, 2], out[:, 1, 0] = v.T
    return out - np.swapaxes(out, 1, 2)


def _about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    k = _cross_matrix(axis)
    return np.eye(3) + np.sin(angle)[:, None, None] * k + (1 - np.cos(angle))[:, None, None] * (k @ k)


def _shortest(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(T, 3, 3) shortest rotation of directions u to v, which differ by less than half a turn."""
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    k = _cross_matrix(np.cross(u, v))
    return np.eye(3) + k + k @ k / (1 + (u * v).sum(1))[:, None, None]
