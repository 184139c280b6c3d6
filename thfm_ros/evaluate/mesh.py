"""Depth and normal maps of scanned meshes, by the project's own rasteriser (thfm_ros.synth.raster)."""

from __future__ import annotations

import numpy as np

from thfm_ros.geometry import Intrinsics, pixel_rays

_TRIANGLE = (1 << 28) - 1  # the low bits of a z-buffer entry


def render_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    intrinsics: Intrinsics,
    world_to_camera: np.ndarray | None = None,
    vertex_normals: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One sample at every pixel centre.

    Args:
        vertices: (V, 3) metres. faces: (F, 3), either winding. world_to_camera: (3 or 4, 4), None: identity.
        vertex_normals: (V, 3) in the vertices' frame; None: area-weighted means of the faces.
    Returns:
        depth (H, W) float32 along z, inf where nothing is; normals (H, W, 3) float32 unit vectors in the camera
        frame, interpolated between the vertices and turned to the camera, 0 where nothing is.
    """
    from thfm_ros.synth import raster
    from thfm_ros.synth.mesh import vertex_normals as area_weighted

    width, height = intrinsics.width, intrinsics.height
    faces = np.ascontiguousarray(faces, np.int32)
    pose = np.eye(4)[:3] if world_to_camera is None else np.asarray(world_to_camera, float)[:3]
    points = np.asarray(vertices, float) @ pose[:, :3].T + pose[:, 3]
    depth = np.full((height, width), np.inf, np.float32)
    normals = np.zeros((height, width, 3), np.float32)
    if len(faces) == 0:
        return depth, normals
    given = area_weighted(points, faces) if vertex_normals is None else np.asarray(vertex_normals) @ pose[:, :3].T

    z = np.maximum(points[:, 2], 1e-3)
    screen = np.stack(
        [
            intrinsics.fx * points[:, 0] / z + intrinsics.cx,
            intrinsics.fy * points[:, 1] / z + intrinsics.cy,
            points[:, 2],
        ],
        -1,
    )
    entries = _nearest(screen, faces, width, height)
    hit = np.flatnonzero(entries != int(raster.EMPTY))
    corners = faces[entries[hit] & _TRIANGLE]

    # The ray through the pixel's centre meets the triangle's plane: exact depth and weights, unlike the z-buffer's.
    rays = pixel_rays(intrinsics).reshape(-1, 3)[hit]
    a, b, c = (points[corners[:, k]] for k in range(3))
    plane = np.cross(b - a, c - a)
    slope = (plane * rays).sum(1)
    distance = (plane * a).sum(1) / np.where(np.abs(slope) > 1e-12, slope, 1e-12)
    position = rays * distance[:, None]
    area = np.maximum((plane * plane).sum(1), 1e-24)
    wa = (np.cross(b - position, c - position) * plane).sum(1) / area
    wb = (np.cross(c - position, a - position) * plane).sum(1) / area
    n = wa[:, None] * given[corners[:, 0]] + wb[:, None] * given[corners[:, 1]]
    n += (1 - wa - wb)[:, None] * given[corners[:, 2]]
    n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12)
    n *= np.where((n * rays).sum(1) > 0, -1.0, 1.0)[:, None]
    depth.reshape(-1)[hit] = distance
    normals.reshape(-1, 3)[hit] = n
    return depth, normals


def _nearest(screen: np.ndarray, faces: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H * W,) z-buffer of faces (F, 3) over screen (V, 3): pixels and depth."""
    import warp as wp

    from thfm_ros.synth import raster

    device = wp.get_preferred_device()
    with wp.ScopedDevice(device):
        buffer = wp.full((1, height * width), value=raster.EMPTY, dtype=wp.int64)
        plain = wp.zeros(len(faces), dtype=int)  # no cuts, no culling: scans have holes and either winding
        nothing = wp.zeros(1, dtype=float)
        wp.launch(
            raster.rasterise,
            dim=(1, len(faces)),
            inputs=[
                wp.array(screen[None].astype(np.float32), dtype=wp.vec3),
                wp.array(faces, dtype=wp.vec3i),
                plain,
                plain,
                nothing,
                nothing,
                nothing,
                wp.zeros(1, dtype=wp.vec3),
                wp.zeros((1, 1), dtype=wp.vec4),
                1.0,
                1,
                width,
                height,
                buffer,
            ],
        )
        return buffer.numpy()[0]
