"""Plants and animals as simple solids: leaves any way about a stem, coats of one colour with a photograph's detail."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.clutter import Maker, coloured, joined, lump, photographed, rod, turned
from thfm_ros.synth.mesh import Mesh


def _foliage(make: Maker, centre: np.ndarray, radii: np.ndarray, leaves: int, size: float) -> None:
    """Leaves all about inside an ellipsoid: bent quadrangles that look any way, in two greens."""
    rng = make.rng
    for _ in range(2):
        way = rng.normal(size=(leaves, 3))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        middle = centre + way * radii * rng.uniform(0.3, 1.0, (leaves, 1)) ** 0.5
        a, b = rng.normal(size=(2, leaves, 3))
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b -= a * (a * b).sum(1, keepdims=True)
        b /= np.linalg.norm(b, axis=1, keepdims=True)
        reach = size * rng.uniform(0.5, 1.5, (leaves, 1))
        corners = np.stack(
            [middle - a * reach, middle + b * reach * 0.4, middle + a * reach, middle - b * reach * 0.4], 1
        )
        faces = (
            (np.arange(leaves)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3).astype(np.int32)
        )
        uv = np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size, (leaves, 1))
        hue = [(0.25, 0.4, 0.12), (0.35, 0.42, 0.2), (0.2, 0.32, 0.2), (0.5, 0.4, 0.15), (0.6, 0.25, 0.35)]
        colour = coloured(rng, hue[int(rng.choice(5, p=[0.4, 0.25, 0.2, 0.1, 0.05]))])
        colour.extra = float(rng.uniform(0.1, 0.6))
        make.add((Mesh(corners.reshape(-1, 3).astype(np.float32), faces), uv), colour)


def plant(make: Maker) -> None:
    rng, u = make.rng, make.rng.uniform
    r, h = u(0.1, 0.3), u(0.15, 0.5)
    make.add(turned([(0, 0), (r * 0.7, 0), (r, h), (r * 0.9, h), (0, h * 0.9)]), photographed(rng))
    tall, wide = u(0.2, 0.8), u(0.2, 0.5)
    _foliage(
        make, np.array([0, 0, h + tall * 0.7]), np.array([wide, wide, tall]), int(rng.integers(40, 110)), u(0.05, 0.16)
    )


def tree(make: Maker) -> None:
    rng, u = make.rng, make.rng.uniform
    h, r = u(1.2, 3.5), u(0.05, 0.25)
    lean = np.array([*rng.normal(0, 0.15, 2), h])
    make.add(rod([0, 0, 0], lean, r, r * 0.6), coloured(rng, (0.35, 0.27, 0.2)))
    for _ in range(int(rng.integers(0, 4))):
        start = lean * u(0.4, 0.95)
        make.add(
            rod(start, start + rng.normal(0, 0.5, 3) + [0, 0, 0.5], r * 0.5, r * 0.2), coloured(rng, (0.35, 0.27, 0.2))
        )
    if rng.random() < 0.8:
        _foliage(make, lean + np.array([0, 0, 0.4]), u(0.5, 1.4, 3), int(rng.integers(120, 260)), u(0.1, 0.3))


def bush(make: Maker) -> None:
    wide, tall = make.rng.uniform(0.3, 1.1), make.rng.uniform(0.25, 0.7)
    make.add(lump((wide * 0.7, wide * 0.7, tall * 0.8), (0, 0, tall * 0.8)), coloured(make.rng, (0.12, 0.18, 0.08)))
    _foliage(make, np.array([0, 0, tall]), np.array([wide, wide, tall]), 150, make.rng.uniform(0.05, 0.15))


def animal(make: Maker) -> None:
    """A dog, cat, sheep, cow, horse or elephant, along x; or a toy bear that sits."""
    rng, u = make.rng, make.rng.uniform
    coats = [(0.45, 0.3, 0.18), (0.1, 0.09, 0.09), (0.8, 0.77, 0.7), (0.5, 0.5, 0.5), (0.75, 0.6, 0.4)]
    coat = coloured(rng, coats[rng.integers(5)], 0.05)
    coat.extra = float(rng.uniform(0.05, 0.6))
    coat.scale = float(rng.uniform(1, 8))
    dark = coloured(rng, (0.08, 0.07, 0.07))
    if rng.random() < 0.15:
        s = u(0.15, 0.5)
        make.add(
            joined(
                [
                    lump((s * 0.5, s * 0.4, s * 0.6), (0, 0, s * 0.6)),
                    lump((s * 0.42, s * 0.4, s * 0.4), (0, 0, s * 1.45)),
                ]
            ),
            coat,
        )
        limbs = [lump((s * 0.16, s * 0.35, s * 0.16), (x * s * 0.4, -s * 0.5, s * 0.2)) for x in (-1, 1)]
        limbs += [lump((s * 0.14, s * 0.2, s * 0.3), (x * s * 0.55, -s * 0.1, s * 0.75)) for x in (-1, 1)]
        limbs += [lump((s * 0.15, s * 0.08, s * 0.15), (x * s * 0.33, 0, s * 1.8), 8) for x in (-1, 1)]
        make.add(joined(limbs), coat)
        make.add(joined([lump((s * 0.05,) * 3, (x * s * 0.15, -s * 0.38, s * 1.52), 6) for x in (-1, 0, 1)]), dark)
        return
    leg, girth = u(0.15, 1.0), u(0.25, 0.6)
    long = leg * u(0.6, 0.9) + 0.15
    body = long * girth + 0.05
    top = leg + body
    make.add(lump((long, body * 0.8, body), (0, 0, top), 12), coat)
    neck = np.array([long + body * u(0.3, 1.0), 0, top + body * u(0.2, 1.8)])
    make.add(rod([long * 0.7, 0, top + body * 0.2], neck, body * 0.6, body * 0.4), coat)
    head = body * u(0.4, 0.7)
    make.add(lump((head * u(1.0, 1.8), head * 0.7, head * 0.8), (neck[0] + head * 0.5, 0, neck[2])), coat)
    ears = [
        lump((head * 0.2, head * 0.15, head * u(0.3, 0.9)), (neck[0], y * head * 0.6, neck[2] + head * 0.7), 8)
        for y in (-1, 1)
    ]
    legs = []
    for x, y in ((-0.7, -1), (-0.7, 1), (0.7, -1), (0.7, 1)):
        foot = np.array([x * long + rng.normal(0, 0.12) * leg, y * body * 0.45, 0])
        legs.append(rod([x * long, y * body * 0.45, top], foot, body * 0.32, body * 0.14 + 0.01))
    tail = rod(
        [-long, 0, top + body * 0.3],
        [-long - body * u(0.2, 1), rng.normal(0, 0.1), top + body * u(-1.5, 1.0)],
        0.03 + body * 0.05,
        0.02,
    )
    make.add(joined([*ears, *legs, tail]), coat)
    eyes = [lump((head * 0.1,) * 3, (neck[0] + head * 0.8, y * head * 0.55, neck[2] + head * 0.3), 6) for y in (-1, 1)]
    make.add(joined([*eyes, lump((head * 0.2,) * 3, (neck[0] + head * 1.7, 0, neck[2]), 6)]), dark)


def horse(make: Maker) -> np.ndarray:
    """A horse with a saddle, along x; returns the middle of the saddle (3,)."""
    rng, u = make.rng, make.rng.uniform
    coats = [(0.4, 0.24, 0.13), (0.1, 0.08, 0.08), (0.82, 0.8, 0.76), (0.5, 0.48, 0.46), (0.6, 0.42, 0.24)]
    coat, dark = coloured(rng, coats[rng.integers(5)], 0.1), coloured(rng, (0.07, 0.06, 0.06))
    leg, long = u(0.75, 0.95), u(0.6, 0.75)
    top = leg + 0.3
    nose = np.array([long + u(0.55, 0.8), rng.normal(0, 0.1), top + u(0.0, 0.55)])
    poll = np.array([long + u(0.3, 0.45), nose[1] * 0.5, top + u(0.35, 0.65)])
    make.add(lump((long, 0.26, 0.3), (0, 0, top), 12), coat)
    make.add(joined([lump((0.3, 0.25, 0.31), (x * long * 0.65, 0, top), 10) for x in (-1, 1)]), coat)
    make.add(rod([long * 0.75, 0, top + 0.05], poll, 0.2, 0.11), coat)
    make.add(joined([rod(poll, nose, 0.12, 0.07), lump((0.14, 0.1, 0.12), tuple(poll), 8)]), coat)
    ears = [lump((0.03, 0.025, 0.09), tuple(poll + np.array([-0.02, y * 0.06, 0.14])), 6) for y in (-1, 1)]
    legs = []
    for x, y in ((-0.75, -1), (-0.75, 1), (0.7, -1), (0.7, 1)):
        swing = rng.normal(0, 0.18)
        knee = np.array([x * long + swing * 0.6, y * 0.15, leg * 0.52])
        legs += [
            rod([x * long, y * 0.15, top], knee, 0.13, 0.06),
            rod(knee, [knee[0] + swing * u(-1, 1), y * 0.15, 0], 0.055, 0.05),
        ]
    make.add(joined([*ears, *legs]), coat)
    mane = [
        lump((0.07, 0.035, 0.12), tuple(poll + (np.array([long * 0.75, 0, top + 0.25]) - poll) * t), 8)
        for t in np.linspace(0, 1, 5)
    ]
    make.add(
        joined([*mane, rod([-long - 0.02, 0, top + 0.15], [-long - 0.2, rng.normal(0, 0.1), top - 0.6], 0.06, 0.03)]),
        dark,
    )
    make.add(lump((0.28, 0.29, 0.12), (0.05, 0, top + 0.24), 10), photographed(rng, (0.0, 0.4)))
    bridle = [rod(nose + (poll - nose) * 0.25, [0.25, y * 0.12, top + 0.4], 0.008, segments=4) for y in (-1, 1)]
    make.add(joined(bridle), dark)
    return np.array([0.05, 0.0, top + 0.34])
