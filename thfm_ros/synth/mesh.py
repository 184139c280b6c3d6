"""Triangle meshes as numpy arrays, and the few solids that furniture and accessories are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """vertices (V, 3) float32 metres, faces (F, 3) int32, counter-clockwise seen from outside."""

    vertices: np.ndarray
    faces: np.ndarray

    def moved(self, rotation: np.ndarray, translation: np.ndarray) -> Mesh:
        return Mesh((self.vertices @ np.asarray(rotation, np.float32).T + translation).astype(np.float32), self.faces)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) area-weighted unit normals."""
    x = np.ascontiguousarray(vertices.T)[:, faces.T]  # (3, 3, F): coordinate, corner; columns are faster than rows
    b, c = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]
    corner = faces.T.ravel()
    out = np.empty((3, len(vertices)))
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        out[k] = np.bincount(corner, np.tile(b[i] * c[j] - b[j] * c[i], 3), len(vertices))
    length = np.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2])
    return np.ascontiguousarray((out / np.maximum(length, 1e-12)).T.astype(np.float32))


def nearest(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N,) index of the target (M, 3) nearest to each point (N, 3); one matrix product, without N x M x 3 numbers."""
    a, b = np.asarray(points, np.float64), np.asarray(targets, np.float64)
    return np.argmin((b * b).sum(1) - 2 * (a @ b.T), 1)


def merge(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]).astype(np.int32),
    )


@lru_cache(maxsize=64)
def grid(rows: int, columns: int) -> np.ndarray:
    """Faces (2 (rows-1) (columns-1), 3) of a rows x columns lattice."""
    i = np.arange((rows - 1) * columns).reshape(rows - 1, columns)[:, :-1].ravel()
    return np.concatenate(
        [np.stack([i, i + 1, i + columns + 1], 1), np.stack([i, i + columns + 1, i + columns], 1)]
    ).astype(np.int32)


@lru_cache(maxsize=8)
def _unit_box(detail: int) -> Mesh:
    """From -1/2 to 1/2; faces are lattices so that no triangle covers too much of the image on a GPU."""
    s = np.linspace(-0.5, 0.5, detail + 1, dtype=np.float32)
    u, v = (x.ravel() for x in np.meshgrid(s, s, indexing="ij"))
    half = np.full_like(u, 0.5)
    f = grid(detail + 1, detail + 1)
    sides = [
        Mesh(np.roll(np.stack([sign * half, u, v], 1), axis, 1), f if sign > 0 else f[:, ::-1])
        for axis in range(3)
        for sign in (-1, 1)
    ]
    return merge(sides)


def box(size: np.ndarray, centre: np.ndarray, detail: int = 4) -> Mesh:
    """Axis-aligned box of a size (3,) around a centre (3,)."""
    unit = _unit_box(detail)
    return Mesh((unit.vertices * np.asarray(size) + centre).astype(np.float32), unit.faces)


def lathe(profile: np.ndarray, segments: int = 20) -> Mesh:
    """Solid of revolution about z: profile (N, 2) of (radius, height) from bottom to top."""
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    profile = np.asarray(profile, float)
    x, y = profile[:, :1] * np.cos(angle), profile[:, :1] * np.sin(angle)
    z = np.broadcast_to(profile[:, 1:], x.shape)
    faces = grid(len(profile), segments + 1)
    return Mesh(np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32), faces)


def ellipsoid(radii: np.ndarray, centre: np.ndarray, segments: int = 14) -> Mesh:
    t = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 2)
    m = lathe(np.stack([np.cos(t), np.sin(t)], 1), segments)
    return Mesh((m.vertices * np.asarray(radii) + centre).astype(np.float32), m.faces)


def torus(radius: float, tube: float, segments: int = 18, sides: int = 6) -> Mesh:
    """Ring in the x-z plane."""
    a, b = np.linspace(0, 2 * np.pi, segments + 1), np.linspace(0, 2 * np.pi, sides + 1)
    aa, bb = np.meshgrid(a, b, indexing="ij")
    r = radius + tube * np.cos(bb)
    v = np.stack([r * np.cos(aa), tube * np.sin(bb), r * np.sin(aa)], -1).reshape(-1, 3)
    return Mesh(v.astype(np.float32), grid(segments + 1, sides + 1))
