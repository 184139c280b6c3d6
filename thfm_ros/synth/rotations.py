"""Quaternions (w, x, y, z) and rotation matrices in plain numpy, batched over leading axes."""

from __future__ import annotations

import numpy as np


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., 4) product: b first, then a."""
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = aw * bw - ax * bx - ay * by - az * bz
    out[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    out[..., 2] = aw * by + ay * bw + az * bx - ax * bz
    out[..., 3] = aw * bz + az * bw + ax * by - ay * bx
    return out


def from_rotvec(v: np.ndarray) -> np.ndarray:
    """(..., 3) axis times angle in radians to (..., 4)."""
    angle = np.sqrt((v * v).sum(-1, keepdims=True))
    scale = np.where(angle > 1e-8, np.sin(angle / 2) / np.maximum(angle, 1e-8), 0.5)
    return np.concatenate([np.cos(angle / 2), v * scale], -1)


def to_matrix(q: np.ndarray) -> np.ndarray:
    """(..., 4) of any non-zero length to (..., 3, 3)."""
    q = q / np.sqrt((q * q).sum(-1, keepdims=True))
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    out = np.empty((*q.shape[:-1], 3, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return out


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Normalised linear blend along the short way, t (...) or (..., 1) in [0, 1]; ample between dense frames."""
    sign = np.where((a * b).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    t = np.asarray(t)
    t = t[..., None] if t.ndim and t.shape[-1:] != (1,) else t
    q = a * (1 - t) + sign * b * t
    return q / np.sqrt((q * q).sum(-1, keepdims=True))


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(4,) shortest rotation that takes direction a (3,) to direction b (3,)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis, dot = np.cross(a, b), float(np.clip(a @ b, -1, 1))
    norm = np.linalg.norm(axis)
    if norm < 1e-8:
        return np.array([1.0, 0, 0, 0]) if dot > 0 else from_rotvec(np.pi * np.array([1.0, 0, 0]))
    return from_rotvec(axis / norm * np.arccos(dot))


def smooth_noise(rng: np.random.Generator, times: np.ndarray, channels: int, period_s: float) -> np.ndarray:
    """(len(times), channels) smooth unit-variance noise: cubic interpolation of random knots every period_s."""
    knots = rng.normal(0, 1, (int(np.ceil(times.max() / period_s)) + 5, channels))
    phase = times / period_s + 1 + rng.random()
    i = np.floor(phase).astype(int)
    t = (phase - i)[:, None]
    p0, p1, p2, p3 = knots[i - 1], knots[i], knots[i + 1], knots[i + 2]
    return p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
