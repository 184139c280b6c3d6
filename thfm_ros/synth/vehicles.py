"""Cars, vans, buses, bicycles and motorcycles as simple solids."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.clutter import Maker, about_z, coloured, cuboid, joined, lump, moved, photographed, rod, sheet
from thfm_ros.synth.mesh import torus


def _wheel(make: Maker, x: float, y: float, r: float, width: float) -> None:
    tyre = rod([x, y - width / 2, r], [x, y + width / 2, r], r, segments=14)
    hub = rod([x, y - width * 0.55, r], [x, y + width * 0.55, r], r * 0.6, segments=10)
    make.add(tyre, coloured(make.rng, (0.07, 0.07, 0.08)))
    make.add(hub, coloured(make.rng, (0.55, 0.55, 0.58), 0.5))


def vehicle(make: Maker) -> None:
    """A car, van or bus, along x."""
    rng, u = make.rng, make.rng.uniform
    long, wide, high = u(2.6, 5.0), u(1.4, 1.9), u(1.3, 2.4)
    sill, belt = 0.3, u(0.7, 0.95) if high < 1.8 else high * 0.55
    nose = u(0.6, 0.75) if high < 1.8 else u(0.85, 0.99)
    tail = -u(0.7, 0.98)
    paint = photographed(rng, (0.0, 0.35) if rng.random() < 0.7 else (0.6, 1.0))
    paint.gloss = 0.6
    profile = np.array(
        [
            (-1, sill),
            (-1, belt * 0.95),
            (tail * 0.9, belt),
            (tail * 0.75, high),
            (nose * 0.45, high),
            (nose * 0.8, belt),
            (1, belt * 0.85),
            (1, sill),
            (-1, sill),
        ]
    )
    profile[:, 0] *= long / 2
    inset = np.where(profile[:, 1] > belt + 0.01, 0.82, 1.0)
    sides = [np.stack([profile[:, 0], side * wide / 2 * inset, profile[:, 1]], 1) for side in (-1, 1)]
    make.add(sheet(np.stack([sides[0], sides[1]])), paint)
    for side in sides:  # a fan about the middle closes each side
        make.add(sheet(np.stack([side, side * [0.3, 0.99, 0] + [0, 0, belt * 0.7]])), paint)
    glass = coloured(rng, (0.1, 0.12, 0.14), 0.9)
    window = (profile[5, 0] * 0.8 - profile[2, 0] * 0.85, wide * 0.93, (high - belt) * 0.7)
    make.add(cuboid(window, ((profile[5, 0] * 0.8 + profile[2, 0] * 0.85) / 2, 0, (high + belt) / 2), 2), glass)
    for x in (-0.62, 0.62):
        for side in (-1, 1):
            _wheel(make, x * long / 2, side * wide * 0.46, u(0.28, 0.38), 0.2)


def two_wheeler(make: Maker) -> np.ndarray:
    """A bicycle or a motorcycle, along x; returns the middle of its seat (3,)."""
    rng, u = make.rng, make.rng.uniform
    motor = rng.random() < 0.5
    r, tube, base = (u(0.26, 0.32), u(0.05, 0.08), u(0.65, 0.8)) if motor else (u(0.28, 0.36), 0.018, u(0.48, 0.55))
    dark, paint = coloured(rng, (0.08, 0.08, 0.09)), photographed(rng, (0.0, 0.4))
    paint.gloss = 0.6
    for x in (-base, base):
        ring = torus(r, tube, 16, 5)
        make.add((ring.moved(np.eye(3), np.array([x, 0, r + tube])), ring.vertices[:, [0, 2]]), dark)
        if motor:
            make.add(rod([x, -0.03, r + tube], [x, 0.03, r + tube], r * 0.6), coloured(rng, (0.5, 0.5, 0.55), 0.6))
    seat, bars = np.array([-0.2, 0, u(0.75, 1.0)]), np.array([base * 0.65, 0, u(0.9, 1.1)])
    pedal, hub = np.array([0, 0, 0.32]), np.array([-base, 0, r])
    frame = [(seat - [0, 0, 0.1], pedal), (pedal, bars - [0.05, 0, 0.2]), (seat - [0, 0, 0.15], bars - [0.05, 0, 0.15])]
    frame += [(hub, pedal), (hub, seat - [0, 0, 0.15]), (np.array([base, 0, r]), bars)]
    make.add(joined([rod(a, b, 0.03 if motor else 0.017, segments=6) for a, b in frame]), paint)
    make.add(rod(bars - [0, 0.3, 0], bars + np.array([0, 0.3, 0]), 0.016, segments=6), dark)
    make.add(lump((0.32 if motor else 0.13, 0.12 if motor else 0.07, 0.06), tuple(seat)), dark)
    if motor:
        make.add(lump((0.25, 0.15, 0.13), (0.15, 0, 0.85)), paint)
        make.add(lump((0.26, 0.2, 0.22), (0, 0, 0.45)), coloured(rng, (0.3, 0.3, 0.32), 0.6))
        make.add(lump((0.1, 0.12, 0.12), (base * 0.75, 0, 0.9)), coloured(rng, (0.6, 0.6, 0.62), 0.8))
    return seat


def _spoked(make: Maker, x: float, y: float, r: float, tube: float) -> None:
    """A wheel about the x axis at (x, y, r) on the floor: a ring and its hub."""
    turn = about_z(np.pi / 2)
    ring = torus(r, tube, 18, 5)
    at = np.array([x, y, r + tube])
    make.add((ring.moved(turn, at), ring.vertices[:, [0, 2]]), coloured(make.rng, (0.08, 0.08, 0.09)))
    make.add(rod([x - 0.02, y, r + tube], [x + 0.02, y, r + tube], r * 0.18), coloured(make.rng, (0.6, 0.6, 0.62), 0.6))
    spokes = [rod([x, y, r + tube], at + r * np.array([0, np.cos(a), np.sin(a)]), 0.004, segments=4) for a in range(6)]
    make.add(joined(spokes), coloured(make.rng, (0.6, 0.6, 0.62), 0.6))


def wheelchair(make: Maker, height: float) -> None:
    """A wheelchair with its seat at a height in metres; who sits in it faces -y."""
    u, h = make.rng.uniform, height
    frame, cover = coloured(make.rng, (0.3, 0.3, 0.32), 0.5), photographed(make.rng, (0.0, 0.4))
    w, back = u(0.42, 0.5), u(0.4, 0.55)
    make.add(cuboid((w, 0.44, 0.05), (0, 0.0, h - 0.03), 2), cover)
    make.add(cuboid((w, 0.04, back), (0, 0.24, h + back / 2), 2), cover)
    for side in (-1, 1):
        x = side * (w / 2 + 0.05)
        _spoked(make, x, 0.12, u(0.27, 0.31), 0.014)
        _spoked(make, side * w * 0.42, -0.38, 0.07, 0.02)
        bars = [([x, 0.24, h + back], [x, 0.38, h + back]), ([x, 0.24, 0.3], [x, 0.24, h + back])]
        bars += [([x, 0.2, h + 0.2], [x, -0.18, h + 0.2]), ([x, -0.18, h + 0.2], [x, -0.2, h])]
        bars += [([x * 0.8, -0.2, h], [x * 0.8, -0.42, 0.12]), ([x * 0.8, -0.42, 0.12], [x * 0.3, -0.46, 0.1])]
        make.add(joined([rod(a, b, 0.013, segments=6) for a, b in bars]), frame)


def pram(make: Maker) -> None:
    """A pram, a pushchair or a shopping cart whose handle is at the origin; it stretches along -y."""
    rng, u = make.rng, make.rng.uniform
    long, wide, low, high = u(0.6, 0.85), u(0.36, 0.5), u(0.35, 0.5), u(0.75, 0.9)
    cloth, metal = photographed(rng, (0.0, 0.5)), coloured(rng, (0.25, 0.25, 0.27), 0.4)
    middle = -0.25 - long / 2
    kind = rng.random()
    if kind < 0.45:  # a carrycot with a hood over half of it
        make.add(lump((wide / 2, long / 2, 0.2), (0, middle, low + 0.2)), cloth)
        make.add(lump((wide / 2, long * 0.3, 0.3), (0, middle - long * 0.2, low + 0.3)), cloth)
    elif kind < 0.75:  # a seat under a canopy
        make.add(moved(cuboid((wide, 0.06, 0.55), (0, 0, 0), 2), np.eye(3), [0, middle + 0.1, low + 0.3]), cloth)
        make.add(cuboid((wide, 0.4, 0.06), (0, middle - 0.1, low), 2), cloth)
        make.add(lump((wide * 0.55, 0.25, 0.12), (0, middle, low + 0.62)), cloth)
    else:  # a basket of bars, laden
        bars = [
            ([x, middle - long / 2, z], [x, middle + long / 2, z]) for x in (-wide / 2, wide / 2) for z in (low, high)
        ]
        ends = np.linspace(middle - long / 2, middle + long / 2, 7)
        bars += [([x, y, low], [x, y, high]) for x in (-wide / 2, wide / 2) for y in ends]
        make.add(joined([rod(a, b, 0.008, segments=4) for a, b in bars]), metal)
        for _ in range(int(rng.integers(2, 6))):
            s = u(0.06, 0.16, 3)
            place = (u(-0.12, 0.12), middle + u(-0.3, 0.3) * long, low + s[2] + u(0, 0.15))
            make.add(
                lump(tuple(s), place, 8) if rng.random() < 0.5 else cuboid(tuple(s * 1.6), place, 1), photographed(rng)
            )
    for x in (-wide / 2, wide / 2):
        for y in (middle - long * 0.35, middle + long * 0.4):
            _spoked(make, x, y, u(0.07, 0.13), 0.018)
        sticks = [([x, 0, 1.0], [x, middle - long * 0.3, low]), ([x, 0, 0.8], [x, middle + long * 0.4, 0.15])]
        make.add(joined([rod(a, b, 0.012, segments=6) for a, b in sticks]), metal)
    make.add(rod([-wide / 2, 0, 1.0], [wide / 2, 0, 1.0], 0.015), metal)
