"""The z-buffer: no gaps between triangles that share an edge, however large, and the right one on each side."""

import numpy as np
import pytest
import warp as wp

from thfm_ros.synth import raster

WIDTH, HEIGHT = 96, 64


def drawn(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(HEIGHT, WIDTH) number of the nearest triangle, -1 where none; points (V, 3): pixels and depth."""
    up = lambda x, t, d: wp.array(np.ascontiguousarray(x, d), dtype=t, device="cpu")  # noqa: E731
    buffer = wp.full((1, WIDTH * HEIGHT), value=2**62, dtype=wp.int64, device="cpu")
    zeros, none = np.zeros(len(points)), np.zeros(len(faces))
    wp.launch(
        raster.rasterise,
        (1, len(faces)),
        device="cpu",
        inputs=[
            up(points[None], wp.vec3, np.float32),
            up(faces, wp.vec3i, np.int32),
            up(none, int, np.int32),
            up(none, int, np.int32),
            up([0.0], float, np.float32),
            up([1.0], float, np.float32),
            up(zeros, float, np.float32),
            up(np.zeros((len(points), 3)), wp.vec3, np.float32),
            up(np.zeros((1, 1, 4)), wp.vec4, np.float32),
            1.0,
            1,
            WIDTH,
            HEIGHT,
            buffer,
        ],
    )
    keys = buffer.numpy().reshape(HEIGHT, WIDTH)
    return np.where(keys < 2**62, keys & (2**28 - 1), -1)


def fan(rng: np.random.Generator, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Triangles around a point of the image that together reach `size` pixels beyond it."""
    count = int(rng.integers(4, 9))
    angle = np.sort((np.arange(count) + rng.uniform(0.1, 0.9, count)) * 2 * np.pi / count)
    hub = rng.uniform([5, 5], [WIDTH - 5, HEIGHT - 5])
    rim = hub + 4 * size * np.stack([np.cos(angle), np.sin(angle)], 1)
    flat = np.concatenate([hub[None], rim])
    k = np.arange(count)
    faces = np.stack([np.zeros(count, int), 1 + k, 1 + (k + 1) % count], 1)
    faces[::2] = faces[::2, ::-1]  # both windings
    return np.concatenate([flat, np.full((len(flat), 1), 2.0)], 1), faces


@pytest.mark.parametrize("size", [300.0, 3e3, 1e5, 3e6])
def test_triangles_that_share_edges_leave_no_gap(size):
    rng = np.random.default_rng(int(size))
    for _ in range(60):
        points, faces = fan(rng, size)
        assert (drawn(points, faces) >= 0).all()


def test_every_sample_belongs_to_the_triangle_around_it():
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    for _ in range(20):
        points, faces = fan(rng, 300.0)
        found = drawn(points, faces)
        for t, f in enumerate(faces):
            (x0, y0), (x1, y1), (x2, y2) = (points[v, :2] for v in f)
            side = np.sign((x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0))
            inside = np.full(x.shape, np.inf)
            for ax, ay, bx, by in ((x0, y0, x1, y1), (x1, y1, x2, y2), (x2, y2, x0, y0)):
                distance = side * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / np.hypot(bx - ax, by - ay)
                inside = np.minimum(inside, distance)
            assert (found[inside > 0.01] == t).all()
            assert (found[inside < -0.01] != t).all()
