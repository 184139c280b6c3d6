"""Surroundings: environments and their light, rooms with furniture, grounds, pictures, occluders."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from thfm_ros.synth.assets import Assets
from thfm_ros.synth.furniture import Piece, make_piece
from thfm_ros.synth.materials import SURFACES, Material, linear, random_colour
from thfm_ros.synth.placing import Placed


@dataclass
class Surroundings:
    """Everything but the people. Materials: floor, wall, ceiling first, then one a piece."""

    room: bool
    low: np.ndarray
    high: np.ndarray
    environment: str
    environment_yaw: float
    environment_gain: float
    sun: np.ndarray
    sun_colour: np.ndarray
    harmonics: np.ndarray  # (9, 3)
    exposure: float
    skirting: float
    far: float
    surfaces: list[Material] = field(default_factory=list)  # floor, wall, ceiling
    pieces: list[Piece] = field(default_factory=list)
    pictures: list[tuple[int, tuple[float, float, float, float], int]] = field(default_factory=list)
    plates: np.ndarray | None = None  # (1 or T, H, W, 3) uint8: photographs that stand behind everything
    things: list[Placed] = field(default_factory=list)
    textures: np.ndarray | None = None  # (N, 256, 256, 3) uint8: photographs on things; None: the artefact's pictures


def harmonics(image: np.ndarray) -> np.ndarray:
    """(9, 3) real spherical-harmonic coefficients of an equirectangular radiance image (H, W, 3)."""
    h, w = image.shape[:2]
    theta = (0.5 - (np.arange(h) + 0.5) / h) * np.pi
    phi = ((np.arange(w) + 0.5) / w - 0.5) * 2 * np.pi
    z = np.sin(theta)[:, None] + 0 * phi
    x, y = np.cos(theta)[:, None] * np.sin(phi), -np.cos(theta)[:, None] * np.cos(phi)
    weight = np.cos(theta)[:, None] * (np.pi / h) * (2 * np.pi / w)
    basis = np.stack(
        [
            0.282095 + 0 * x,
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ]
    )
    return np.einsum("khw,hwc,hw->kc", basis, image, weight)


def rotate_harmonics(c: np.ndarray, yaw: float) -> np.ndarray:
    """Coefficients (9, 3) of the image turned about z by `yaw` radians (counter-clockwise seen from above)."""
    s, k = np.sin(yaw), np.cos(yaw)
    s2, k2 = np.sin(2 * yaw), np.cos(2 * yaw)
    out = c.copy()
    out[3], out[1] = k * c[3] - s * c[1], s * c[3] + k * c[1]
    out[7], out[5] = k * c[7] - s * c[5], s * c[7] + k * c[5]
    out[8], out[4] = k2 * c[8] - s2 * c[4], s2 * c[8] + k2 * c[4]
    return out


@lru_cache(maxsize=512)
def _light_of(assets: Assets, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Harmonics, direction and colour of the brightest spot of an environment."""
    image = assets.environments[name]
    luminance = image.mean(-1)
    h, w = luminance.shape
    clamp = np.percentile(luminance, 99.5)
    soft = np.minimum(luminance, clamp)
    c = harmonics(image * (soft / np.maximum(luminance, 1e-6))[..., None])
    smooth = np.stack([np.roll(np.minimum(luminance, 50 * clamp), s, 1) for s in range(-4, 5)]).mean(0)
    row, column = np.unravel_index(np.argmax(smooth[: h * 5 // 9]), smooth[: h * 5 // 9].shape)
    theta, phi = (0.5 - (row + 0.5) / h) * np.pi, ((column + 0.5) / w - 0.5) * 2 * np.pi
    direction = np.array([np.cos(theta) * np.sin(phi), -np.cos(theta) * np.cos(phi), np.sin(theta)])
    spot = image[max(row - 6, 0) : row + 7, max(column - 6, 0) : column + 7].reshape(-1, 3).mean(0)
    return c, direction, spot / max(spot.mean(), 1e-6)


def _rotz(v: np.ndarray, yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([c * v[0] - s * v[1], s * v[0] + c * v[1], v[2]])


def make_surroundings(
    rng: np.random.Generator,
    assets: Assets,
    cameras: np.ndarray,
    joints: np.ndarray,
    outdoor: float,
    occluders: float,
    pictures: int,
    spreads: np.ndarray,
) -> Surroundings:
    """Surroundings for camera positions (T, 3) and joints (T, N, 3), all of which stay free of walls and furniture;
    spreads (T,): tangents of half the cameras' fields of view."""
    is_room = rng.random() > outdoor
    names = list(assets.environments)
    name = names[rng.integers(len(names))]
    yaw = rng.uniform(0, 2 * np.pi)
    sh, sun, tint = _light_of(assets, name)
    sh, sun = rotate_harmonics(sh, yaw), _rotz(sun, yaw)
    tint = 0.6 + 0.4 * tint
    sun = sun + np.array([0, 0, 0.25])
    sun = sun / np.linalg.norm(sun)
    points = np.concatenate([cameras, joints.reshape(-1, 3)])
    low, high = points.min(0) - rng.uniform(0.7, 3.0, 3), points.max(0) + rng.uniform(0.7, 3.0, 3)
    low[2], high[2] = 0.0, max(rng.uniform(2.3, 3.6), points[:, 2].max() + 0.3)
    if is_room:
        warm = linear(np.array([1.0, rng.uniform(0.88, 1.0), rng.uniform(0.72, 1.05)]))
        sh = np.zeros((9, 3))
        sh[0] = 3.2 * warm
        sh[1:4] = rng.normal(0, 0.5, (3, 1)) * warm
        sh[2] += rng.uniform(0.1, 0.9) * warm
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.3)
        sun = np.array([np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height)])
        tint = linear(np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.65, 1.05)]))
    ambient = float((sh[0].mean()) * 0.282)
    strength = ambient * rng.uniform(0.2, 2.2)
    level = ambient + 0.35 * strength
    surfaces = [_surface(rng, "room" if is_room else "ground"), _surface(rng, "wall"), _surface(rng, "ceiling")]
    out = Surroundings(
        room=is_room,
        low=low,
        high=high,
        environment=name,
        environment_yaw=-yaw / (2 * np.pi),
        environment_gain=1.0,
        sun=sun,
        sun_colour=strength * tint,
        harmonics=sh,
        exposure=float(rng.uniform(0.42, 0.85) / max(level, 1e-4)),
        skirting=float(rng.choice([0.0, 0.08, 0.12])),
        far=float(rng.uniform(25, 70)),
        surfaces=surfaces,
    )
    # The sky is brighter than what it lights; photographers expose for both.
    brightness = float(np.minimum(assets.environments[name][:150], 3 * ambient).mean())
    out.environment_gain = float(min(1.1, rng.uniform(0.4, 0.95) / (out.exposure * max(brightness, 1e-4))))
    if is_room:
        out.pictures = _pictures(rng, out, pictures)
    _furnish(rng, out, cameras, joints, occluders, spreads)
    return out


def _surface(rng: np.random.Generator, where: str) -> Material:
    choices = {
        "room": "flat planks planks tiles carpet boards herringbone marble concrete",
        "ground": "grass gravel dirt concrete stone brick tiles planks",
        "wall": "flat flat flat wallpaper brick boards concrete marble stone",
        "ceiling": "flat flat boards",
    }[where].split()
    name = choices[rng.integers(len(choices))]
    a = random_colour(rng, 0.2) * 0.8 + 0.05
    if where in ("wall", "ceiling") and rng.random() < 0.55:
        a = linear(np.clip(rng.uniform(0.6, 0.95) + rng.normal(0, 0.04, 3), 0.3, 0.97))
    if name in ("planks", "boards", "herringbone"):
        a = linear(np.array([0.55, 0.38, 0.24]) * rng.uniform(0.5, 1.5) + rng.normal(0, 0.03, 3))
    if name == "grass":
        a = linear(np.array([0.25, 0.38, 0.12]) * rng.uniform(0.6, 1.4))
    if name in ("gravel", "dirt", "stone", "concrete"):
        a = linear(np.array([0.52, 0.48, 0.43]) * rng.uniform(0.6, 1.5) + rng.normal(0, 0.03, 3))
    if name == "brick":
        a = linear(np.array([0.6, 0.32, 0.24]) * rng.uniform(0.7, 1.3) + rng.normal(0, 0.04, 3))
    a = np.clip(a, 0.01, 0.9)
    b = np.clip(a * rng.uniform(0.45, 1.4) + rng.normal(0, 0.02, 3), 0.01, 0.95)
    if name == "wallpaper":
        b = random_colour(rng)
    return Material(
        "object",
        a,
        b,
        linear(np.full(3, rng.uniform(0.5, 0.95))),
        pattern=SURFACES.index(name),
        scale=float(rng.uniform(0.35, 1.1)),
        gloss=float(rng.choice([0.0, 0.05, 0.2])),
        sharpness=30.0,
    )


def _pictures(rng: np.random.Generator, s: Surroundings, count: int) -> list:
    out = []
    if rng.random() < 0.15:  # a photograph as wide as the wall
        wall = int(rng.integers(4))
        axis = 1 if wall < 2 else 0
        out.append((wall, (s.low[axis], 0.0, s.high[axis] - s.low[axis], s.high[2]), int(rng.integers(count))))
    for _ in range(int(rng.integers(0, 6))):
        wall = int(rng.integers(4))
        axis = 1 if wall < 2 else 0
        w, h = rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.0)
        room = s.high[axis] - s.low[axis] - w
        if room <= 0.2:
            continue
        out.append(
            (wall, (s.low[axis] + rng.uniform(0.1, room), rng.uniform(0.9, 1.5), w, h), int(rng.integers(count)))
        )
    return out[:6]


def _furnish(
    rng: np.random.Generator,
    s: Surroundings,
    cameras: np.ndarray,
    joints: np.ndarray,
    occluders: float,
    spreads: np.ndarray,
) -> None:
    """Pieces on the floor away from the person's way and the camera; now and then one between the two."""
    shot = int(rng.integers(len(cameras)))
    centre, eye = joints[shot].mean(0), cameras[shot]
    ways = joints[..., :2].reshape(-1, 2)
    clear_low, clear_high = ways.min(0) - 0.35, ways.max(0) + 0.35
    for _ in range(int(rng.integers(0, 8)) if s.room else int(rng.integers(0, 4))):
        piece = make_piece(rng)
        r = piece.radius
        for _attempt in range(6):
            if s.room:
                lo, hi = s.low[:2] + r * 0.8, s.high[:2] - r * 0.8
                if (hi <= lo).any():
                    break
                p = rng.uniform(lo, hi)
            else:
                forward = (centre - eye)[:2] / max(np.linalg.norm((centre - eye)[:2]), 1e-3)
                side = np.array([-forward[1], forward[0]])
                p = centre[:2] + forward * rng.uniform(0.0, 6.0) + side * rng.normal(0, 2.5)
            near = np.maximum(np.maximum(clear_low - p, p - clear_high), 0)
            ray = joints[..., :2].mean(1) - cameras[:, :2]
            t = np.clip(((p - cameras[:, :2]) * ray).sum(1) / np.maximum((ray * ray).sum(1), 1e-6), 0, 1)
            off = np.linalg.norm(p - cameras[:, :2] - t[:, None] * ray, axis=1).min()
            if np.linalg.norm(near) > r and off > r + 0.2:
                s.pieces.append(piece.placed(p, rng.uniform(0, 2 * np.pi)))
                break
    if rng.random() < occluders:
        gap = np.linalg.norm((centre - eye)[:2])
        share, sideways, yaw = rng.uniform(0.3, 0.65), rng.normal(0, 0.22), rng.uniform(0, 2 * np.pi)
        side = np.array([-(centre - eye)[1], (centre - eye)[0]]) / max(gap, 1e-3)
        p = eye[:2] + (centre - eye)[:2] * share + side * sideways * gap * 0.5
        for _attempt in range(4):  # until one leaves most of every view open
            piece = make_piece(rng, occluder=True)
            clear = min(share, 1 - share) * gap - 0.15 > piece.radius
            if clear and _leaves_open(p, piece.radius, cameras, joints, spreads):
                s.pieces.append(piece.placed(p, yaw))
                break


def _leaves_open(p: np.ndarray, radius: float, cameras: np.ndarray, joints: np.ndarray, spreads: np.ndarray) -> bool:
    """Whether a piece at p (2,) covers less than half of the width of every view that it falls into; spreads (T,):
    tangents of half the fields of view."""
    forward = (joints.mean(1) - cameras)[:, :2]
    forward = forward / np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-6)
    off = p - cameras[:, :2]
    depth = (off * forward).sum(1)
    lateral = np.abs(off[:, 0] * forward[:, 1] - off[:, 1] * forward[:, 0])
    seen = (depth > -radius) & (lateral < np.maximum(depth, 0) * spreads + radius)
    return not (seen & (radius > 0.4 * spreads * np.maximum(depth, 0.05))).any()
