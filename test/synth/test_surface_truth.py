"""Ground truth on the body's surface, point by point: dense pose over time, softness along the hair."""

import numpy as np
import pytest

from thfm_ros.synth.body import PARTS
from thfm_ros.synth.clip import stage, studio
from thfm_ros.synth.config import SynthConfig

SIZE, FRAMES = 128, 3


@pytest.fixture(scope="module")
def staged(assets, calm):
    """Six rendered scenes whose vertices' screen positions are still known."""
    config = SynthConfig(frames=FRAMES, height=SIZE, width=SIZE, samples=3, empty=0.0, sensor=False, fps=10)
    with calm():
        return [stage(config, 11, i, i, assets, "cpu", np.arange(FRAMES) / 10, False).rendered for i in range(6)]


def maps(rendered, name: str) -> np.ndarray:
    array = getattr(rendered, name).numpy()
    return array.reshape(FRAMES, SIZE, SIZE, *array.shape[2:])


def at_vertices(rendered, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Dense pose (V, 3) at every vertex's own sub-pixel position, and whether the person's surface shows it there:
    all four pixels around are a person at the vertex's depth."""
    screen = rendered.screen.numpy()[t]
    corner = np.floor(screen[:, :2] - 0.5)
    shown = ((corner >= 0) & (corner < SIZE - 1)).all(1) & (screen[:, 2] > 0.05)
    x, y = np.where(shown[:, None], corner, 0).astype(int).T
    fx, fy = (screen[:, :2] - 0.5 - corner).T[..., None]
    pose, depth, alpha = (maps(rendered, n)[t] for n in ("canon", "depth", "alpha"))
    around = [(y + dy, x + dx) for dy in (0, 1) for dx in (0, 1)]
    for pixel in around:
        shown &= (alpha[pixel] > 0.5) & (np.abs(depth[pixel] - screen[:, 2]) < 0.02)
    a, b, c, d = (pose[pixel] for pixel in around)
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy, shown


def test_dense_pose_of_a_surface_point_stays_while_it_moves(staged, assets):
    """Thousands of vertices that two frames show: the same canonical coordinates, though body and camera moved."""
    scale, moves = studio(assets).canon_scale, []
    for rendered in staged:
        for t in range(FRAMES - 1):
            (first, shown), (second, still) = at_vertices(rendered, t), at_vertices(rendered, t + 1)
            both = shown & still
            assert both.sum() > 500
            gap = np.linalg.norm(first - second, axis=1)[both] / scale  # metres of the template
            assert np.median(gap) < 0.003
            assert np.quantile(gap, 0.95) < 0.012
            screen = rendered.screen.numpy()
            moves.append(np.median(np.linalg.norm(screen[t + 1, both, :2] - screen[t, both, :2], axis=1)))
    assert max(moves) > 3  # pixels: the points did move


@pytest.mark.parametrize("where", ["hair", "elsewhere"])
def test_the_matte_is_soft_along_the_persons_edge(staged, where):
    """Where the matte falls from the person to nothing it passes through values strictly between 0 and 1."""
    hard = crossings = 0
    for rendered in staged:
        alpha, parts = maps(rendered, "alpha"), maps(rendered, "part")
        own = (parts > 0) & ((parts == PARTS.index("hair")) == (where == "hair"))
        for axis in (1, 2):
            for order in (1, -1):
                a, s = (np.flip(m, axis) if order < 0 else m for m in (alpha, own))
                here, there = (np.take(a, range(k, SIZE - 1 + k), axis) for k in (0, 1))
                edge = np.take(s, range(SIZE - 1), axis) & (here > 0.5) & (there <= 0.5)
                crossings += edge.sum()
                hard += (edge & (here == 1) & (there == 0)).sum()
    assert crossings > 500
    assert hard < 0.15 * crossings
