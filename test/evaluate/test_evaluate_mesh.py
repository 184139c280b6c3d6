"""Maps rendered from meshes against what geometry says."""

import numpy as np
import pytest

from thfm_ros.evaluate.mesh import render_mesh
from thfm_ros.geometry import Intrinsics, normals_from_depth, pixel_rays

CAMERA = Intrinsics(60.0, 60.0, 24.13, 16.07, 48, 32)  # no edge runs through the pixel centres


def slanted_plane() -> tuple[np.ndarray, np.ndarray]:
    """z = 2 + 0.3 x, far beyond the image."""
    x, y = np.array([-5, 5, 5, -5.0]), np.array([-5, -5, 5, 5.0])
    return np.stack([x, y, 2 + 0.3 * x], -1), np.array([[0, 1, 2], [0, 2, 3]])


def test_plane_has_its_exact_depth_and_normal() -> None:
    depth, normals = render_mesh(*slanted_plane(), CAMERA)
    x_over_z = pixel_rays(CAMERA)[..., 0]
    assert depth == pytest.approx(2 / (1 - 0.3 * x_over_z), rel=1e-5)
    expected = np.array([0.3, 0, -1]) / np.linalg.norm([0.3, 0, -1])
    assert normals == pytest.approx(np.broadcast_to(expected, normals.shape), abs=1e-5)


def test_winding_does_not_matter_and_the_nearer_surface_wins() -> None:
    vertices, faces = slanted_plane()
    near = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1.0]])
    both = np.concatenate([vertices, near]), np.concatenate([faces[:, ::-1], faces + 4])
    depth, normals = render_mesh(*both, CAMERA)
    assert depth[16, 24] == pytest.approx(1)
    assert normals[16, 24] == pytest.approx([0, 0, -1], abs=1e-6)
    assert (normals[..., 2] < 0).all()


def test_world_to_camera_moves_the_mesh() -> None:
    vertices, faces = slanted_plane()
    angle = 0.4
    pose = np.array([[np.cos(angle), 0, np.sin(angle), 0.1], [0, 1, 0, 0.2], [-np.sin(angle), 0, np.cos(angle), 0.3]])
    world = (vertices - pose[:, 3]) @ pose[:, :3]
    moved, still = render_mesh(world, faces, CAMERA, pose), render_mesh(vertices, faces, CAMERA)
    assert moved[0] == pytest.approx(still[0], rel=1e-4)
    assert moved[1] == pytest.approx(still[1], abs=1e-4)


def test_sphere_agrees_with_the_normals_of_its_depth() -> None:
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 65)[:-1], np.linspace(0.02, np.pi - 0.02, 49), indexing="ij")
    points = np.stack([np.sin(v) * np.cos(u), np.cos(v), np.sin(v) * np.sin(u)], -1)
    i = np.arange(64 * 49).reshape(64, 49)
    a, b, c, d = (np.roll(i, -k, 0)[:, s].ravel() for k in (0, 1) for s in (slice(None, -1), slice(1, None)))
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    points = points.reshape(-1, 3)
    middle = np.array([0, 0, 2.0])
    for given, tolerance in ((points, 0.1), (None, 1.5)):
        depth, normals = render_mesh(points * 0.5 + middle, faces, CAMERA, vertex_normals=given)
        hit = np.isfinite(depth)
        assert 300 < hit.sum() < 1200
        outward = pixel_rays(CAMERA)[hit] * depth[hit][:, None] - middle
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        assert np.degrees(np.arccos((outward * normals[hit]).sum(-1).clip(-1, 1))).max() < tolerance
    inner = np.zeros_like(hit)
    inner[12:20, 20:28] = True
    from_depth = normals_from_depth(depth, CAMERA)
    assert (from_depth[inner] * normals[inner]).sum(-1).min() > 0.98


def test_empty_mesh_and_mesh_behind_the_camera_show_nothing() -> None:
    vertices, faces = slanted_plane()
    for mesh in ((vertices, faces[:0]), (vertices - [0, 0, 10], faces)):
        depth, normals = render_mesh(*mesh, CAMERA)
        assert np.isinf(depth).all()
        assert not normals.any()
