"""Small things of daily life, with photographs on them: what lies on tables and shelves, and what hands hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thfm_ros.synth.furniture import Piece
from thfm_ros.synth.materials import Material, linear, random_colour
from thfm_ros.synth.mesh import Mesh, box, grid, lathe, merge

PHOTOGRAPHS = 3  # crops of photographs that the things of a clip share


@dataclass
class Maker:
    """Collects the meshes of one thing, each with its material and the place (metres) of each vertex on its texture."""

    rng: np.random.Generator
    meshes: list[Mesh] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)
    places: list[np.ndarray] = field(default_factory=list)

    def add(self, part: tuple[Mesh, np.ndarray], material: Material) -> None:
        mesh, uv = part
        self.meshes.append(mesh)
        self.materials.append(material)
        shift = self.rng.random(2)  # no two parts show the same piece of a photograph
        self.places.append(np.concatenate([uv + shift, np.zeros((len(uv), 1))], 1).astype(np.float32))

    def piece(self, name: str) -> Piece:
        return Piece(name, self.meshes, self.materials, self.places)


def photographed(rng: np.random.Generator, strength: tuple[float, float] | None = None) -> Material:
    """A surface that shows part of a photograph, wholly, faintly over a colour, or (rarely) hardly at all."""
    if strength is None:
        roll = rng.random()
        strength = (0.75, 1.0) if roll < 0.5 else (0.2, 0.5) if roll < 0.85 else (0.0, 0.1)
    colour = random_colour(rng)
    return Material(
        "object",
        colour,
        colour,
        colour,
        photo=int(rng.integers(PHOTOGRAPHS)),
        extra=float(rng.uniform(*strength)),
        scale=float(np.exp(rng.uniform(np.log(0.4), np.log(3.0)))),
        gloss=float(rng.choice([0.0, 0.1, 0.5])),
        sharpness=float(rng.uniform(10, 60)),
    )


def coloured(rng: np.random.Generator, srgb: tuple[float, float, float], gloss: float = 0.1) -> Material:
    """A surface of about that colour, with a little of a photograph's light and dark."""
    material = photographed(rng, (0.0, 0.25))
    colour = linear(np.clip(np.array(srgb) * rng.uniform(0.6, 1.3) + rng.normal(0, 0.03, 3), 0.02, 0.98))
    material.a = material.b = material.c = colour
    material.gloss = gloss
    return material


def cuboid(size: tuple[float, float, float], centre: tuple[float, float, float], detail: int = 2):
    """An axis-aligned box and its texture places, a side at a time."""
    mesh = box(np.array(size), np.array(centre), detail)
    axis = np.repeat([0, 0, 1, 1, 2, 2], (detail + 1) ** 2)  # that each side's normal is along
    v = mesh.vertices
    uv = np.where((axis == 0)[:, None], v[:, [1, 2]], np.where((axis == 1)[:, None], v[:, [0, 2]], v[:, [0, 1]]))
    return mesh, uv


def cuboids(*items) -> tuple[Mesh, np.ndarray]:
    """Several boxes (size, centre) as one mesh."""
    return joined([cuboid(size, centre, 1) for size, centre in items])


def joined(parts: list[tuple[Mesh, np.ndarray]]) -> tuple[Mesh, np.ndarray]:
    return merge([m for m, _ in parts]), np.concatenate([uv for _, uv in parts])


def turned(profile: list[tuple[float, float]], centre: tuple[float, float, float] = (0, 0, 0), segments: int = 12):
    """A solid of revolution of (radius, height), and its texture places around and along it."""
    p = np.array(profile, float)
    mesh = lathe(p, segments)
    around = np.linspace(0, 2 * np.pi, segments + 1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(around * p[:, 0].max(), along[:, None]), -1).reshape(-1, 2)
    return Mesh((mesh.vertices + np.asarray(centre)).astype(np.float32), mesh.faces), uv


def lump(radii: tuple[float, float, float], centre: tuple[float, float, float], segments: int = 10):
    """An ellipsoid."""
    t = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 2)
    mesh, uv = turned(list(zip(np.cos(t), np.sin(t), strict=True)), segments=segments)
    radii_ = np.asarray(radii)
    return Mesh((mesh.vertices * radii_ + np.asarray(centre)).astype(np.float32), mesh.faces), uv * radii_.mean()


def rod(a: np.ndarray, b: np.ndarray, ra: float, rb: float | None = None, segments: int = 8):
    """A round bar from a to b, of radius ra and rb at its ends, which are closed."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    length = float(np.linalg.norm(b - a))
    rb = ra if rb is None else rb
    mesh, uv = turned([(0, 0), (ra, 0), (rb, length), (0, length)], segments=segments)
    return Mesh((mesh.vertices @ _towards(b - a).T + a).astype(np.float32), mesh.faces), uv


def _towards(way: np.ndarray) -> np.ndarray:
    """(3, 3) that turns z towards a direction."""
    z = way / max(float(np.linalg.norm(way)), 1e-9)
    x = np.cross([0.0, 1, 0] if abs(z[1]) < 0.9 else [1.0, 0, 0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], 1)


def moved(part: tuple[Mesh, np.ndarray], rotation: np.ndarray, shift: np.ndarray) -> tuple[Mesh, np.ndarray]:
    return part[0].moved(rotation, np.asarray(shift, float)), part[1]


def about_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def sheet(points: np.ndarray) -> tuple[Mesh, np.ndarray]:
    """A surface through a lattice of points (rows, columns, 3)."""
    rows, columns = points.shape[:2]
    along = np.linalg.norm(np.diff(points, axis=1), axis=-1).cumsum(1)
    down = np.linalg.norm(np.diff(points, axis=0), axis=-1).cumsum(0)
    u, v = np.pad(along, ((0, 0), (1, 0))), np.pad(down, ((1, 0), (0, 0)))
    uv = np.stack([u, v], -1).reshape(-1, 2)
    return Mesh(points.reshape(-1, 3).astype(np.float32), grid(rows, columns)), uv


def small_thing(rng: np.random.Generator) -> tuple[list[tuple[tuple[Mesh, np.ndarray], Material]], float]:
    """Something that stands on a table, around the origin on z = 0, with materials; and its radius in metres."""
    u = rng.uniform
    kind = str(rng.choice(["plate", "cup", "bottle", "bowl", "box", "books", "fruit", "screen", "glass", "heap"]))
    if kind == "plate":
        r = u(0.08, 0.17)
        parts = [(turned([(0, 0.004), (r * 0.6, 0), (r, 0.02), (r * 0.6, 0.008), (0, 0.008)]), _china(rng))]
        food = turned([(r * 0.75, 0.012), (r * 0.7, 0.012 + u(0.005, 0.04)), (0, 0.02 + u(0.005, 0.05))])
        return [*parts, (food, photographed(rng, (0.6, 1.0)))][: 1 + (rng.random() < 0.7)], r
    if kind in ("cup", "glass"):
        r, h = u(0.025, 0.05), u(0.07, 0.16)
        material = _china(rng) if kind == "cup" else coloured(rng, (0.75, 0.8, 0.8), 0.8)
        return [(turned([(0, 0), (r * u(0.6, 1), 0), (r, h), (r * 0.85, h), (0, h * 0.9)]), material)], r
    if kind == "bottle":
        r, h = u(0.025, 0.05), u(0.18, 0.34)
        shape = [(0, 0), (r, 0), (r, h * 0.6), (r * 0.35, h * 0.8), (r * 0.35, h), (0, h)]
        glass = coloured(
            rng, [(0.1, 0.25, 0.12), (0.3, 0.18, 0.08), (0.8, 0.85, 0.85), (0.7, 0.1, 0.1)][rng.integers(4)]
        )
        glass.gloss = 0.8
        label = turned([(r * 1.02, h * 0.15), (r * 1.02, h * 0.5)])
        return [(turned(shape), glass), (label, photographed(rng, (0.7, 1.0)))], r
    if kind == "bowl":
        r = u(0.08, 0.18)
        parts = [(turned([(0, 0), (r * 0.5, 0), (r, r * 0.55), (r * 0.9, r * 0.5), (0, r * 0.4)]), _china(rng))]
        for _ in range(int(rng.integers(2, 6))):
            s = r * u(0.25, 0.45)
            parts.append((lump((s, s, s), (*(rng.normal(0, 0.3, 2) * r), r * 0.55), 8), photographed(rng)))
        return parts, r
    if kind == "books":
        w, d, parts = u(0.12, 0.24), u(0.16, 0.3), []
        z = 0.0
        for _ in range(int(rng.integers(1, 6))):
            t = u(0.01, 0.05)
            parts.append(
                (
                    moved(cuboid((w, d, t), (0, 0, z + t / 2), 1), about_z(rng.normal(0, 0.2)), np.zeros(3)),
                    photographed(rng),
                )
            )
            z += t
        return parts, d
    if kind == "fruit":
        parts = []
        for _ in range(int(rng.integers(1, 6))):
            s = u(0.03, 0.06)
            colour = [(0.8, 0.15, 0.1), (0.9, 0.75, 0.15), (0.4, 0.6, 0.15), (0.9, 0.5, 0.1)][rng.integers(4)]
            shape = (s, s * u(0.8, 3.0), s)
            parts.append(
                (
                    moved(lump(shape, (0, 0, s), 8), about_z(u(0, 6)), [*rng.normal(0, 0.07, 2), 0]),
                    coloured(rng, colour, 0.3),
                )
            )
        return parts, 0.15
    if kind == "screen":
        w, h = u(0.25, 0.6), u(0.18, 0.35)
        base = cuboid((w, h * 0.8, 0.02), (0, -0.4 * h, 0.01), 1)
        return [
            (base, coloured(rng, (0.2, 0.2, 0.22))),
            (cuboid((w, 0.015, h), (0, 0.02, h / 2 + 0.02), 1), photographed(rng, (0.6, 1.0))),
        ], w / 2
    if kind == "heap":
        parts = []
        for _ in range(int(rng.integers(3, 8))):
            s = u(0.04, 0.12, 3)
            parts.append((lump(tuple(s), (*rng.normal(0, 0.1, 2), s[2] * u(0.6, 1.4)), 8), photographed(rng)))
        return parts, 0.2
    w, d, h = u(0.06, 0.3), u(0.06, 0.25), u(0.04, 0.32)
    return [(moved(cuboid((w, d, h), (0, 0, h / 2), 1), about_z(u(0, 3)), np.zeros(3)), photographed(rng))], max(
        w, d
    ) / 2


def _china(rng: np.random.Generator) -> Material:
    return coloured(rng, (0.9, 0.88, 0.85), 0.5) if rng.random() < 0.6 else photographed(rng)


def strew(make: Maker, low: tuple[float, float], high: tuple[float, float], z: float, count: int) -> None:
    """Puts small things on a level surface between two corners, now and then into one another."""
    for _ in range(count):
        parts, _ = small_thing(make.rng)
        place = np.array([*make.rng.uniform(low, high), z])
        turn = about_z(make.rng.uniform(0, 2 * np.pi))
        for part, material in parts:
            make.add(moved(part, turn, place), material)


HOLDINGS = ("ball", "bottle", "phone", "stick", "racket", "board", "umbrella", "box", "bag", "cup")


def holding(rng: np.random.Generator, kinds: tuple[str, ...] = HOLDINGS) -> Piece:
    """Something of HOLDINGS as a hand holds it: the grip is the origin, and what is long goes along z."""
    make, u = Maker(rng), rng.uniform
    kind = kinds[rng.integers(len(kinds))]
    if kind == "ball":
        r = u(0.03, 0.13)
        make.add(lump((r, r, r), (0, 0, 0), 12), photographed(rng))
    elif kind in ("bottle", "cup"):
        h, r = (u(0.18, 0.3), u(0.025, 0.04)) if kind == "bottle" else (u(0.08, 0.14), u(0.03, 0.05))
        neck = 0.4 if kind == "bottle" else 1.0
        shape = [(0, -h / 2), (r, -h / 2), (r, h * 0.15), (r * neck, h * 0.35), (r * neck, h / 2), (0, h / 2)]
        make.add(turned(shape), photographed(rng))
    elif kind == "phone":
        make.add(cuboid((u(0.06, 0.09), 0.01, u(0.12, 0.17)), (0, 0, 0.04), 1), coloured(rng, (0.1, 0.1, 0.12), 0.5))
    elif kind == "stick":
        make.add(rod([0, 0, -u(0.1, 0.9)], [0, 0, u(0.4, 1.2)], u(0.008, 0.03), u(0.008, 0.04)), photographed(rng))
    elif kind == "racket":
        r, grip = u(0.1, 0.16), u(0.25, 0.4)
        make.add(rod([0, 0, -0.1], [0, 0, grip], 0.015), photographed(rng))
        make.add(lump((r * 0.8, 0.012, r), (0, 0, grip + r), 14), photographed(rng))
    elif kind == "board":
        w, h = u(0.2, 0.5), u(0.3, 1.6)
        make.add(cuboid((w, u(0.01, 0.06), h), (w * 0.45, 0, 0), 2), photographed(rng))
    elif kind == "umbrella":
        h, r = u(0.6, 0.9), u(0.35, 0.6)
        make.add(rod([0, 0, -0.15], [0, 0, h], 0.008), coloured(rng, (0.2, 0.2, 0.2)))
        make.add(turned([(r, h - 0.25), (r * 0.75, h - 0.1), (0, h)], segments=10), photographed(rng))
    elif kind == "box":
        w, d, h = u(0.1, 0.4, 3)
        make.add(cuboid((w, d, h), (0, -d / 2, 0), 2), photographed(rng))
    else:  # a bag or a case that hangs from the hand
        w, d, h = u(0.2, 0.5), u(0.08, 0.2), u(0.2, 0.5)
        make.add(lump((w / 2, d / 2, h / 2), (0, 0, -h / 2 - 0.12), 10), photographed(rng))
        make.add(
            cuboids(((0.02, 0.02, 0.16), (0.05, 0, -0.08)), ((0.02, 0.02, 0.16), (-0.05, 0, -0.08))), photographed(rng)
        )
    return make.piece(kind)
