"""Furniture-like solids: tables, chairs, shelves, sofas, lamps, plants, pillars, boxes and balls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thfm_ros.synth.materials import SURFACES, Material, linear, random_colour
from thfm_ros.synth.mesh import Mesh, box, ellipsoid, lathe, merge


@dataclass(frozen=True)
class Piece:
    """Meshes standing on z = 0 around the origin, one material each; local: texture coordinates stay with it."""

    name: str
    meshes: list[Mesh]
    materials: list[Material]
    local: list[np.ndarray]

    @property
    def radius(self) -> float:
        return float(max(np.linalg.norm(m.vertices[:, :2], axis=1).max() for m in self.meshes))

    @staticmethod
    def radius_of(mesh: Mesh) -> float:
        """Gives the radius of the part near the floor."""
        low = mesh.vertices[mesh.vertices[:, 2] < 0.3, :2]
        return float(np.linalg.norm(low - mesh.vertices[:, :2].mean(0), axis=1).max()) + 0.03

    def placed(self, position: np.ndarray, yaw: float) -> Piece:
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        shift = np.array([position[0], position[1], 0.0])
        return Piece(self.name, [m.moved(turn, shift) for m in self.meshes], self.materials, self.local)


def _material(rng: np.random.Generator, names: str) -> Material:
    choices = names.split()
    name = choices[rng.integers(len(choices))]
    a = random_colour(rng)
    if name in ("boards", "planks"):
        a = linear(np.clip(np.array([0.55, 0.36, 0.22]) * rng.uniform(0.5, 1.6), 0, 1))
    b = np.clip(a * rng.uniform(0.5, 1.5), 0, 0.95)
    return Material(
        "object",
        a,
        b,
        a,
        pattern=SURFACES.index(name),
        scale=float(rng.uniform(0.6, 2.5)),
        gloss=float(rng.choice([0.0, 0.1, 0.4])),
        sharpness=float(rng.uniform(10, 50)),
    )


def _boxes(*items: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Mesh:
    return merge([box(np.array(size), np.array(centre)) for size, centre in items])


def _legs(
    w: float, d: float, h: float, t: float
) -> list[tuple[tuple[float, float, float], tuple[float, float, float]]]:
    return [((t, t, h), (sx * (w - t) / 2, sy * (d - t) / 2, h / 2)) for sx in (-1, 1) for sy in (-1, 1)]


def make_piece(rng: np.random.Generator, occluder: bool = False) -> Piece:
    """A random piece; as an occluder one that hides part of a person in front of which it stands."""
    names = (
        "table chair pillar plant lamp crate ball"
        if occluder
        else "table chair shelf sofa lamp plant crate crate ball pillar cabinet vase"
    )
    choices = names.split()
    name = choices[rng.integers(len(choices))]
    u = rng.uniform
    wood = "boards planks flat flat marble"
    meshes: list[Mesh]
    materials: list[Material]
    if name == "table":
        w, d, h = u(0.6, 1.5), u(0.5, 0.9), u(0.42, 0.8)
        meshes = [_boxes(((w, d, 0.04), (0, 0, h))), _boxes(*_legs(w, d, h, 0.05))]
        materials = [_material(rng, wood), _material(rng, wood)]
        if rng.random() < 0.7:
            stack = [
                ((u(0.05, 0.3), u(0.05, 0.3), s), (u(-0.3, 0.3) * w, u(-0.3, 0.3) * d, h + 0.02 + s / 2))
                for s in u(0.03, 0.3, 4)
            ]
            meshes.append(_boxes(*stack))
            materials.append(_material(rng, "flat wallpaper boards"))
    elif name == "chair":
        s, h, back = u(0.38, 0.5), u(0.4, 0.48), u(0.35, 0.6)
        slats = [((s * 0.12, 0.02, back), (x * s, s / 2, h + back / 2)) for x in (-0.44, -0.15, 0.15, 0.44)]
        meshes = [_boxes(((s, s, 0.05), (0, 0, h)), *slats), _boxes(*_legs(s, s, h, 0.04))]
        materials = [_material(rng, wood + " carpet"), _material(rng, wood)]
    elif name in ("shelf", "cabinet"):
        w, h, d = u(0.5, 1.4), u(0.8, 2.1), u(0.28, 0.45)
        rows = int(rng.integers(3, 6))
        if name == "cabinet":
            meshes, materials = [_boxes(((w, d, h), (0, 0, h / 2)))], [_material(rng, wood)]
            meshes.append(
                _boxes(*[((w * 0.46, 0.015, h * 0.9), (x * w * 0.24, -d / 2 - 0.008, h / 2)) for x in (-1, 1)])
            )
            materials.append(_material(rng, wood))
        else:
            boards = [((w, d, 0.025), (0, 0, h * k / rows + 0.0125)) for k in range(rows + 1)]
            sides = [((0.025, d, h), (x * w / 2, 0, h / 2)) for x in (-1, 1)]
            meshes, materials = [_boxes(*boards, *sides, ((w, 0.01, h), (0, d / 2, h / 2)))], [_material(rng, wood)]
            for _colour in range(3):
                books = []
                for _book in range(6):
                    t, tall, k = u(0.02, 0.06), u(0.12, 0.8 * h / rows), int(rng.integers(rows))
                    books.append(((t, d * 0.7, tall), (u(-0.42, 0.42) * w, 0, h * k / rows + 0.025 + tall / 2)))
                meshes.append(merge([box(np.array(a), np.array(b), 1) for a, b in books]))
                materials.append(_material(rng, "flat"))
    elif name == "sofa":
        w, d = u(0.8, 2.0), u(0.75, 0.95)
        meshes = [
            _boxes(
                ((w, d, 0.42), (0, 0, 0.21)),
                ((w, 0.2, 0.8), (0, d / 2, 0.4)),
                ((0.18, d, 0.6), (-w / 2, 0, 0.3)),
                ((0.18, d, 0.6), (w / 2, 0, 0.3)),
            )
        ]
        materials = [_material(rng, "carpet flat wallpaper")]
        pillows = [
            ellipsoid(np.array([0.2, 0.1, 0.18]), np.array([u(-0.3, 0.3) * w, d * 0.25, 0.58])) for _ in range(2)
        ]
        meshes.append(merge(pillows))
        materials.append(_material(rng, "flat wallpaper carpet"))
    elif name == "lamp":
        h, r = u(1.1, 1.8), u(0.12, 0.25)
        meshes = [
            lathe(np.array([[0, 0.02], [0.14, 0.02], [0.015, 0.05], [0.015, h], [0, h]])),
            lathe(np.array([[r, h - 0.2], [r * 0.6, h + 0.1]])),
        ]
        shade = Material("object", linear([1.0, 0.93, 0.8]) * 1.6, linear([1.0, 0.9, 0.75]) * 1.6, np.ones(3))
        materials = [_material(rng, "flat"), shade]
    elif name == "plant":
        r, h = u(0.1, 0.22), u(0.15, 0.4)
        pot = lathe(np.array([[0, 0.0], [r * 0.7, 0], [r, h], [r * 0.9, h], [0, h * 0.9]]))
        meshes, materials = [pot, _leaves(rng, h, u(0.25, 0.6), u(0.4, 1.2))], [_material(rng, "flat marble boards")]
        green = linear(np.array([0.25, 0.42, 0.15]) * u(0.5, 1.3))
        materials.append(
            Material("object", green, green * 0.5, green, pattern=SURFACES.index("dirt"), scale=2.0, gloss=0.2)
        )
    elif name == "vase":
        h = u(0.3, 0.9)
        z = np.linspace(0, 1, 9)
        profile = np.stack([h * (0.14 + 0.16 * np.sin(np.pi * z * u(0.8, 1.1)) * u(0.5, 1.2)), z * h], 1)
        meshes, materials = [lathe(profile)], [_material(rng, "flat marble wallpaper")]
    elif name == "pillar":
        r, h = u(0.06, 0.2), u(2.0, 3.4)
        round_ = rng.random() < 0.5
        meshes = [
            lathe(np.array([[r, 0], [r, h / 2], [r, h], [0, h]]))
            if round_
            else _boxes(((2 * r, 2 * r, h), (0, 0, h / 2)))
        ]
        materials = [_material(rng, "concrete brick marble boards flat stone")]
    elif name == "ball":
        r = u(0.1, 0.4)
        meshes, materials = (
            [ellipsoid(np.full(3, r), np.array([0, 0, r]), 20)],
            [_material(rng, "flat tiles wallpaper marble")],
        )
    else:
        w, d, h = u(0.25, 0.9), u(0.25, 0.9), u(0.25, 1.1)
        meshes, materials = (
            [_boxes(((w, d, h), (0, 0, h / 2)))],
            [_material(rng, "boards flat concrete planks wallpaper")],
        )
        if rng.random() < 0.5:
            meshes.append(_boxes(((w * 0.6, d * 0.6, h * 0.5), (0.05, 0, h * 1.25))))
            materials.append(_material(rng, "boards flat concrete"))
    return Piece(name, meshes, materials, [m.vertices for m in meshes])


def _leaves(rng: np.random.Generator, base: float, spread: float, tall: float) -> Mesh:
    """Bent pointed leaves that start at the pot."""
    leaves = []
    for _ in range(int(rng.integers(14, 34))):
        angle, lean, length, width = (
            rng.uniform(0, 6.28),
            rng.uniform(0.2, 1.0),
            rng.uniform(0.5, 1.0),
            rng.uniform(0.03, 0.09),
        )
        t = np.linspace(0, 1, 6)
        out = spread * lean * length * t**1.4
        up = base + tall * length * (t - 0.45 * lean * t * t)
        half = width * np.sin(np.pi * (0.08 + 0.92 * t)) ** 0.7
        c, s = np.cos(angle), np.sin(angle)
        left = np.stack([c * out - s * half, s * out + c * half, up], 1)
        right = np.stack([c * out + s * half, s * out - c * half, up], 1)
        v = np.stack([left, right], 1).reshape(-1, 3)
        i = np.arange(5)[:, None] * 2
        leaves.append(
            Mesh(
                v.astype(np.float32),
                np.concatenate([i + np.array([0, 1, 3]), i + np.array([0, 3, 2])]).astype(np.int32),
            )
        )
    return merge(leaves)
