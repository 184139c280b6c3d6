"""Things that stand out and are nobody: laid tables, seats, shelves, plants, vehicles, animals, curtains, piles.

They stand on z = 0 around the origin and face -y, as people do; photographs are their surfaces. None of them is ever
part of a person's mask.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thfm_ros.synth import nature, vehicles
from thfm_ros.synth.clutter import (
    Maker,
    about_z,
    cuboid,
    cuboids,
    joined,
    lump,
    moved,
    photographed,
    rod,
    sheet,
    small_thing,
    strew,
    turned,
)
from thfm_ros.synth.furniture import Piece

SEATS = ("chair", "armchair", "stool", "bench", "crate")


def make_thing(rng: np.random.Generator, split: str, front: bool = False) -> Piece:
    """A random thing; front: one that people stand or sit behind. Those of HELD_OUT are in the split "test" alone."""
    names = [n for n in (FRONT if front else MAKERS) if (n in HELD_OUT) <= (split == "test")]
    weight = np.array([MAKERS[n][1] for n in names])
    name = names[rng.choice(len(names), p=weight / weight.sum())]
    make = Maker(rng)
    MAKERS[name][0](make)
    return make.piece(name)


def make_seat(rng: np.random.Generator, height: float) -> Piece:
    """A chair, stool, armchair, bench or box to sit on at a height in metres; who sits on it faces -y."""
    make = Maker(rng)
    name = str(rng.choice(SEATS, p=[0.4, 0.3, 0.1, 0.1, 0.1]))
    _seat(make, name, height)
    return make.piece(name)


def make_ride(rng: np.random.Generator) -> tuple[Piece, np.ndarray]:
    """A bicycle or a motorcycle along x, and the middle of its seat."""
    make = Maker(rng)
    seat = vehicles.two_wheeler(make)
    return make.piece("two-wheeler"), seat


def make_wheelchair(rng: np.random.Generator, height: float) -> Piece:
    """A wheelchair with its seat at a height in metres; who sits in it faces -y."""
    make = Maker(rng)
    vehicles.wheelchair(make, height)
    return make.piece("wheelchair")


def make_horse(rng: np.random.Generator) -> tuple[Piece, np.ndarray]:
    """A horse along x, and the middle of its saddle."""
    make = Maker(rng)
    saddle = nature.horse(make)
    return make.piece("horse"), saddle


def make_pram(rng: np.random.Generator) -> Piece:
    """A pram, a pushchair or a cart along -y, its handle at the origin."""
    make = Maker(rng)
    vehicles.pram(make)
    return make.piece("pram")


def make_table(rng: np.random.Generator) -> Piece:
    """A laid table."""
    make = Maker(rng)
    _table(make)
    return make.piece("table")


def _legs(w: float, d: float, h: float, t: float) -> list:
    return [((t, t, h), (sx * (w - t) / 2, sy * (d - t) / 2, h / 2)) for sx in (-1, 1) for sy in (-1, 1)]


def _table(make: Maker) -> None:
    """Laid or covered with work, with legs, a cloth that hangs down, or closed as a counter."""
    rng, u = make.rng, make.rng.uniform
    w, d, h = u(0.8, 2.4), u(0.5, 1.1), u(0.62, 0.95)
    top = photographed(rng)
    make.add(cuboid((w, d, 0.04), (0, 0, h - 0.02), 4), top)
    under = rng.random()
    if under < 0.45:
        make.add(cuboids(*_legs(w * 0.95, d * 0.9, h - 0.04, u(0.03, 0.09))), photographed(rng))
    else:
        drop = u(0.1, 0.5) if under < 0.75 else h - 0.04
        make.add(
            cuboid((w * 0.99, d * 0.99, drop), (0, 0, h - 0.04 - drop / 2), 3),
            top if under < 0.75 else photographed(rng),
        )
    strew(make, (-0.45 * w, -0.42 * d), (0.45 * w, 0.42 * d), h, int(rng.integers(3, 14)))


def _seat(make: Maker, name: str, h: float) -> None:
    rng, u = make.rng, make.rng.uniform
    cover = photographed(rng)
    if name == "armchair":
        w, d, arm, back = u(0.55, 0.7), u(0.55, 0.7), u(0.1, 0.2), u(0.4, 0.75)
        make.add(cuboid((w, d, h), (0, 0.05, h / 2), 2), cover)
        make.add(lump((w / 2 + arm * 0.6, u(0.1, 0.16), back * 0.75), (0, d / 2 + 0.08, h + back * 0.35), 12), cover)
        for side in (-1, 1):
            make.add(lump((arm * 0.7, d * 0.55, 0.16), (side * (w / 2 + arm / 2), 0.05, h + 0.1), 10), cover)
    elif name == "chair":
        s, back = u(0.4, 0.52), u(0.35, 0.65)
        make.add(cuboid((s, s, 0.05), (0, 0.03, h - 0.025), 2), cover)
        make.add(cuboids(*_legs(s, s, h - 0.05, u(0.02, 0.05))), photographed(rng))
        rest = [((s, 0.04, back * u(0.3, 0.9)), (0, s / 2 + 0.03, h + back * 0.55))]
        make.add(
            cuboids(*rest, *[((0.04, 0.04, back), (x * s * 0.45, s / 2 + 0.04, h + back / 2)) for x in (-1, 1)]), cover
        )
    elif name == "stool":
        r = u(0.15, 0.22)
        make.add(turned([(0, 0), (r * 0.9, 0), (0.04, 0.05), (0.04, h - 0.06), (r, h - 0.05), (r, h), (0, h)]), cover)
    else:
        w = u(1.0, 2.2) if name == "bench" else u(0.4, 0.7)
        make.add(
            cuboid(
                (w, u(0.35, 0.5), 0.06 if name == "bench" else h), (0, 0, h - 0.03 if name == "bench" else h / 2), 2
            ),
            cover,
        )
        if name == "bench":
            make.add(cuboids(*_legs(w * 0.9, 0.35, h - 0.06, 0.06)), photographed(rng))


def _chair(make: Maker) -> None:
    _seat(make, str(make.rng.choice(["chair", "armchair", "armchair", "bench", "stool"])), make.rng.uniform(0.38, 0.55))


def _sofa(make: Maker) -> None:
    rng, u = make.rng, make.rng.uniform
    w, d, h, cover = u(1.3, 2.3), u(0.7, 0.95), u(0.38, 0.48), photographed(rng)
    make.add(cuboid((w, d, h), (0, 0, h / 2), 3), cover)
    make.add(cuboid((w, 0.22, u(0.35, 0.55)), (0, d / 2, h + 0.2), 2), cover)
    make.add(joined([lump((0.12, d / 2, 0.18), (x * w / 2, 0, h + 0.1)) for x in (-1, 1)]), cover)
    for _ in range(int(rng.integers(1, 6))):
        place = (u(-0.4, 0.4) * w, d * u(0.0, 0.25), h + 0.15)
        make.add(lump((u(0.15, 0.3), u(0.08, 0.14), u(0.12, 0.24)), place), photographed(rng))


def _shelf(make: Maker) -> None:
    rng, u = make.rng, make.rng.uniform
    w, d, h, rows = u(0.6, 2.0), u(0.25, 0.45), u(1.0, 2.3), int(rng.integers(2, 6))
    wood = photographed(rng)
    boards = [((w, d, 0.03), (0, 0, h * k / rows + 0.015)) for k in range(rows + 1)]
    make.add(
        cuboids(*boards, *[((0.03, d, h), (x * w / 2, 0, h / 2)) for x in (-1, 1)], ((w, 0.02, h), (0, d / 2, h / 2))),
        wood,
    )
    for k in range(rows):
        strew(make, (-0.44 * w, -0.3 * d), (0.44 * w, 0.2 * d), h * k / rows + 0.03, int(rng.integers(1, 5)))


def _curtain(make: Maker) -> None:
    """Cloth that hangs in folds, a towel on a line, or a flag."""
    rng, u = make.rng, make.rng.uniform
    w, high, low = u(0.4, 2.2), u(1.6, 2.8), u(0.0, 1.2)
    x, z = np.linspace(-w / 2, w / 2, 36), np.linspace(high, low, 8)
    depth, folds, phase = u(0.02, 0.1), u(10, 40), u(0, 6)
    points = np.zeros((8, 36, 3))
    points[..., 0], points[..., 2] = x, z[:, None]
    swing = np.linspace(0.4, 1.2, 8)[:, None]
    points[..., 1] = swing * depth * (np.sin(folds * x + phase) + 0.4 * np.sin(2.3 * folds * x + z[:, None]))
    make.add(sheet(points), photographed(rng))


def _pile(make: Maker) -> None:
    """Clothes, bags, boxes and bundles in a heap."""
    rng, u = make.rng, make.rng.uniform
    spread = u(0.2, 0.6)
    for _ in range(int(rng.integers(4, 14))):
        s, place = u(0.08, 0.35, 3), rng.normal(0, spread, 2)
        z = max(spread * 1.2 - np.linalg.norm(place), 0) * u(0.2, 1.2)
        turn = about_z(u(0, 6))
        part = lump(tuple(s), (0, 0, 0), 10) if rng.random() < 0.6 else cuboid(tuple(s * 1.3), (0, 0, 0), 1)
        make.add(moved(part, turn, [*place, z + s[2] * 0.6]), photographed(rng))


def _post(make: Maker) -> None:
    """A sign, a parking meter, a hydrant, a lamp post, a coat stand: as high as people, on one leg."""
    rng, u = make.rng, make.rng.uniform
    h, r = u(0.6, 2.2), u(0.02, 0.12)
    make.add(turned([(r * 1.8, 0), (r, 0.08), (r, h), (0, h)]), photographed(rng))
    head = u(0.1, 0.35)
    place = (0, 0, h + head * 0.5)
    make.add(
        lump((head, head * 0.6, head), place)
        if rng.random() < 0.4
        else cuboid((head * 2, 0.05 + head * u(0, 1), head * u(1, 3)), place),
        photographed(rng),
    )
    if rng.random() < 0.3:  # coats on a stand
        for _ in range(int(rng.integers(1, 4))):
            make.add(lump((0.16, 0.12, u(0.3, 0.5)), (*rng.normal(0, 0.12, 2), h - 0.35)), photographed(rng))


def _rail(make: Maker) -> None:
    """A fence, a banister, a barrier: bars side by side."""
    rng, u = make.rng, make.rng.uniform
    w, h, count = u(1.0, 3.0), u(0.6, 1.2), int(rng.integers(3, 16))
    paint = photographed(rng)
    bars = [((u(0.02, 0.08), 0.03, h), (x, 0, h / 2)) for x in np.linspace(-w / 2, w / 2, count)]
    make.add(cuboids(*bars, ((w, 0.05, 0.06), (0, 0, h)), ((w, 0.04, 0.05), (0, 0, h * 0.3))), paint)


def _stove(make: Maker) -> None:
    """A cupboard, a machine, a refrigerator: closed boxes beside each other with things on top."""
    rng, u = make.rng, make.rng.uniform
    x = 0.0
    for _ in range(int(rng.integers(1, 4))):
        w, d, h = u(0.4, 1.0), u(0.4, 0.7), u(0.6, 1.2) if rng.random() < 0.7 else u(1.4, 2.0)
        make.add(cuboid((w, d, h), (x + w / 2, 0, h / 2), 3), photographed(rng))
        door = ((w * 0.85, 0.02, h * 0.4), (x + w / 2, -d / 2 - 0.01, h * 0.7))
        make.add(cuboid(*door, 1), photographed(rng))
        if h < 1.3:
            strew(make, (x + 0.1, -d * 0.35), (x + w - 0.1, d * 0.35), h, int(rng.integers(1, 5)))
        x += w
    make.meshes = [m.moved(np.eye(3), np.array([-x / 2, 0, 0])) for m in make.meshes]


def _small(make: Maker) -> None:
    """One small thing, close to the camera."""
    for part, material in small_thing(make.rng)[0]:
        make.add(part, material)


def _barrel(make: Maker) -> None:
    r, h = make.rng.uniform(0.2, 0.45), make.rng.uniform(0.4, 1.2)
    make.add(
        turned([(0, 0), (r * 0.8, 0), (r, h * 0.3), (r, h * 0.7), (r * 0.8, h), (0, h)], segments=16),
        photographed(make.rng),
    )


def _tent(make: Maker) -> None:
    """A parasol or a tent over a pole."""
    r, h = make.rng.uniform(0.5, 1.4), make.rng.uniform(1.2, 2.4)
    make.add(rod([0, 0, 0], [0, 0, h], 0.025), photographed(make.rng))
    make.add(turned([(r, h - 0.5), (r * 0.6, h - 0.2), (0, h)], segments=10), photographed(make.rng))


# By name: the maker, and how common it is.
MAKERS: dict[str, tuple[Callable[[Maker], object], float]] = {
    "table": (_table, 4),
    "seat": (_chair, 3),
    "sofa": (_sofa, 1.5),
    "shelf": (_shelf, 1.2),
    "stove": (_stove, 1.2),
    "plant": (nature.plant, 1.5),
    "bush": (nature.bush, 1),
    "tree": (nature.tree, 1),
    "vehicle": (vehicles.vehicle, 1),
    "two-wheeler": (vehicles.two_wheeler, 1.5),
    "animal": (nature.animal, 2.5),
    "curtain": (_curtain, 1.2),
    "pile": (_pile, 1.5),
    "post": (_post, 1.2),
    "rail": (_rail, 0.8),
    "small": (_small, 0.0),
    "barrel": (_barrel, 1),
    "tent": (_tent, 1),
}
FRONT = ("table", "table", "seat", "stove", "plant", "bush", "animal", "two-wheeler", "pile", "rail", "post", "barrel")
HELD_OUT = ("barrel", "tent")  # kinds of the split "test" alone
