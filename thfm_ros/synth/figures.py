"""Likenesses of people that are nobody: statues, busts, figurines, and people on posters, screens and canvases.

A statue differs from a person by its material, which is one and the same from hair to shoes. A picture of people
differs by its frame, its flatness and the light upon it.
"""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.action import Action
from thfm_ros.synth.body import PARTS, Body
from thfm_ros.synth.clutter import cuboid, cuboids, photographed, turned
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.furniture import Piece
from thfm_ros.synth.materials import SURFACES, Material, linear
from thfm_ros.synth.mesh import Mesh

# sRGB, surface, gloss: bronze, patina, marble, sandstone, granite, gilt, plaster, dark plastic, wood, cast iron.
MATTERS = (
    ((0.3, 0.21, 0.13), "flat", 0.9),
    ((0.3, 0.45, 0.38), "concrete", 0.3),
    ((0.88, 0.87, 0.84), "marble", 0.3),
    ((0.66, 0.58, 0.45), "stone", 0.0),
    ((0.45, 0.45, 0.46), "concrete", 0.05),
    ((0.75, 0.58, 0.2), "flat", 1.2),
    ((0.92, 0.92, 0.91), "flat", 0.1),
    ((0.08, 0.08, 0.09), "flat", 0.8),
    ((0.5, 0.33, 0.2), "boards", 0.1),
    ((0.17, 0.18, 0.19), "concrete", 0.3),
)
HEADS = tuple(PARTS.index(p) for p in ("head", "hair", "torso"))


def matter(rng: np.random.Generator) -> Material:
    """What a statue is made of."""
    srgb, surface, gloss = MATTERS[rng.integers(len(MATTERS))]
    colour = linear(np.clip(np.array(srgb) * rng.uniform(0.8, 1.15) + rng.normal(0, 0.015, 3), 0.02, 0.97))
    other = np.clip(colour * rng.uniform(0.6, 1.2), 0.005, 0.95)
    scale, sharp = float(rng.uniform(0.8, 3.0)), float(rng.uniform(15, 60))
    return Material(
        "object", colour, other, colour, pattern=SURFACES.index(surface), scale=scale, gloss=gloss, sharpness=sharp
    )


def statue(rng: np.random.Generator, body: Body, dressed: Dressed, action: Action) -> Piece:
    """Somebody's first pose in one matter, around the origin on z = 0: whole on the ground or a plinth, a bust on a
    pillar, or as small as a figurine."""
    bust = rng.random() < 0.2
    points = _posed(body, dressed, action)
    shown = (dressed.cut[dressed.faces.T] > 0).all(0)
    if bust:
        high = dressed.canon[:, 2] > rng.uniform(0.4, 0.55)
        shown &= np.isin(dressed.parts, HEADS) & high[dressed.faces.T].all(0)
    used = np.unique(dressed.faces[shown])
    row = np.zeros(len(points), np.int32)
    row[used] = np.arange(len(used))
    points = points[used] - [*((points[used].min(0) + points[used].max(0)) / 2)[:2], points[used, 2].min()]
    size = rng.uniform(0.15, 0.5) if rng.random() < 0.25 else rng.uniform(0.7, 1.5)
    if bust or rng.random() < 0.6:
        rise = rng.uniform(0.8, 1.4) if bust else rng.uniform(0.1, 1.2)
    else:
        rise = 0.0
    points = points * size + [0, 0, rise]
    material = matter(rng)
    meshes = [Mesh(points.astype(np.float32), row[dressed.faces[shown]])]
    materials, local = [material], [(dressed.canon[used] * size).astype(np.float32)]
    if rise:
        wide = float(np.abs(points[points[:, 2] < rise + 0.1 * size, :2]).max()) + rng.uniform(0.02, 0.2)
        if rng.random() < 0.3:
            under = turned([(0, 0), (wide, 0), (wide * 0.85, rise), (0, rise)], segments=16)[0]
        else:
            under = cuboid((2 * wide, 2 * wide, rise), (0, 0, rise / 2))[0]
        meshes.append(under)
        materials.append(material if rng.random() < 0.5 else matter(rng))
        local.append(under.vertices.astype(np.float32))
    return Piece("statue", meshes, materials, local)


def _posed(body: Body, dressed: Dressed, action: Action) -> np.ndarray:
    """(V, 3) the dressed person's vertices in the first frame."""
    rest = dressed.rest if action.rest is None else action.rest[0]
    bones, weights = body.weight_bones[dressed.source], body.weights[dressed.source]
    turn = np.einsum("vk,vkab->vab", weights, action.deltas[0][bones])
    return np.einsum("vab,vb->va", turn, rest) + np.einsum("vk,vka->va", weights, action.offsets[0][bones])


def poster(rng: np.random.Generator, row: int) -> Piece:
    """A flat picture that faces -y and shows the photograph number `row`: framed, on legs, as high as a wall, or on a
    screen."""
    u = rng.uniform
    kind = str(rng.choice(["framed", "board", "wall", "screen"], p=[0.4, 0.25, 0.15, 0.2]))
    wide = {"framed": u(0.3, 1.0), "board": u(0.6, 1.4), "wall": u(1.8, 3.5), "screen": u(0.4, 1.3)}[kind]
    high = wide * (u(0.5, 0.65) if kind == "screen" else u(0.7, 1.5))
    low = {"framed": u(0.7, 1.5), "board": u(0.3, 0.9), "wall": u(0.0, 0.5), "screen": u(0.5, 1.2)}[kind]
    frame = u(0.01, 0.06) if kind in ("framed", "screen") else 0.0
    # The part of the picture that it shows: the whole width or less of it, at the picture's own proportions.
    part = u(0.6, 1.0) * np.array([min(1.0, wide / high), min(1.0, high / wide)])
    start = rng.uniform(0, 1 - part)
    corners = [(-1, 1), (1, 1), (-1, -1), (1, -1)]  # top left first, as pictures are read
    points = np.array([(x * wide / 2, -0.021, low + high / 2 + z * high / 2) for x, z in corners])
    places = np.array([(*(start + part * [(x + 1) / 2, (1 - z) / 2]), 0.0) for x, z in corners])
    face = Mesh(points.astype(np.float32), np.array([[0, 1, 2], [1, 3, 2]], np.int32))
    shown = Material("object", photo=row, extra=1.0, scale=1.0, gloss=float(rng.choice([0.0, 0.3])), sharpness=40.0)
    back = photographed(rng, (0.0, 0.1))
    board = cuboid((wide + 2 * frame, 0.04, high + 2 * frame), (0, 0, low + high / 2), 1)
    meshes, materials, local = [face, board[0]], [shown, back], [places.astype(np.float32), _flat(board[1])]
    if kind in ("board", "screen"):
        legs = cuboids(*[((0.04, 0.04, low), (x * wide * 0.4, 0.03, low / 2)) for x in (-1, 1)])
        meshes.append(legs[0])
        materials.append(back)
        local.append(_flat(legs[1]))
    return Piece("poster", meshes, materials, local)


def _flat(places: np.ndarray) -> np.ndarray:
    return np.concatenate([places, np.zeros((len(places), 1))], 1).astype(np.float32)
