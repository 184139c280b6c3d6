"""Warp kernels: skinning, normals, projection and a supersampled z-buffer with per-pixel cuts. CPU and CUDA alike.

Coordinates: world z up; camera x right, y down, z forward; screen positions in pixels (continuous, pixel i covers
[i, i + 1)). A z-buffer entry packs depth (15 um steps) above the triangle's index, so that an atomic minimum keeps
the nearest triangle, the same one on every device.
"""

# ruff: noqa: UP018, RUF046 - in a kernel float(0.0) and int(0) declare variables that a loop may change
from __future__ import annotations

import warp as wp

from thfm_ros.paths import cache_folder, user_cache_is_writable

# The greeting and the notes on loaded modules would go to standard output, among a command's own results.
if hasattr(wp, "LOG_WARNING"):
    wp.config.log_level = wp.LOG_WARNING
else:  # older versions
    wp.config.quiet = True
if not wp.config.kernel_cache_dir and not user_cache_is_writable():
    wp.config.kernel_cache_dir = str(cache_folder("warp"))
wp.set_module_options({"enable_backward": False, "fast_math": True})

EMPTY = wp.constant(wp.int64(2**62))
NEAR = wp.constant(0.05)


@wp.kernel
def skin(
    rest: wp.array2d(dtype=wp.vec3),  # (1 or T, V)
    bones: wp.array2d(dtype=int),  # (V, 4)
    weights: wp.array2d(dtype=float),  # (V, 4)
    deltas: wp.array2d(dtype=wp.mat33),  # (T, J)
    offsets: wp.array2d(dtype=wp.vec3),  # (T, J)
    world_to_camera: wp.array(dtype=wp.mat44),  # (T,)
    intrinsics: wp.array(dtype=wp.vec4),  # (T,) fx fy cx cy
    world_to_light: wp.mat44,
    world: wp.array2d(dtype=wp.vec3),
    screen: wp.array2d(dtype=wp.vec3),
    light: wp.array2d(dtype=wp.vec3),
):
    t, v = wp.tid()
    r = rest[wp.min(t, rest.shape[0] - 1), v]
    p = wp.vec3()
    for k in range(4):
        w = weights[v, k]
        if w > 0.0:
            b = bones[v, k]
            p += w * (deltas[t, b] * r + offsets[t, b])
    world[t, v] = p
    c = wp.transform_point(world_to_camera[t], p)
    k4 = intrinsics[t]
    z = wp.max(c[2], 1.0e-3)
    screen[t, v] = wp.vec3(k4[0] * c[0] / z + k4[2], k4[1] * c[1] / z + k4[3], c[2])
    light[t, v] = wp.transform_point(world_to_light, p)


@wp.kernel
def accumulate_normals(
    world: wp.array2d(dtype=wp.vec3), faces: wp.array(dtype=wp.vec3i), normals: wp.array2d(dtype=wp.vec3)
):
    t, f = wp.tid()
    i = faces[f]
    a = world[t, i[0]]
    n = wp.cross(world[t, i[1]] - a, world[t, i[2]] - a)
    wp.atomic_add(normals, t, i[0], n)
    wp.atomic_add(normals, t, i[1], n)
    wp.atomic_add(normals, t, i[2], n)


@wp.func
def strand(noise: wp.array2d(dtype=wp.vec4), c: wp.vec3, scale: float):
    """Noise in [-1, 1] that is long along the body's vertical: strands, fibres."""
    x = int(wp.floor((c[0] * 1.9 + c[1] * 1.3) * scale * 40.0)) & 255
    y = int(wp.floor((c[2] + 0.6 * c[1]) * scale * 3.0)) & 255
    return (noise[y, x][3] - 0.5) * 3.0


@wp.func
def line(ax: float, ay: float, bx: float, by: float, side: float):
    """The line from a to b: its direction, and the end that offsets are measured from. That end and all roundings are
    the same whichever triangle asks, so that the two sides of a shared edge get exactly opposite values: no sample
    falls between them, however large they are."""
    back = bx < ax
    return wp.vec4((bx - ax) * side, (by - ay) * side, wp.where(back, bx, ax), wp.where(back, by, ay))


@wp.kernel
def rasterise(
    screen: wp.array2d(dtype=wp.vec3),  # (T, V), z > 0 in front
    faces: wp.array(dtype=wp.vec3i),
    flags: wp.array(dtype=int),  # (F,) 1: has a cut, 2: cut with strands, 4: backfaces culled
    face_material: wp.array(dtype=int),
    fray: wp.array(dtype=float),
    strand_scale: wp.array(dtype=float),
    cut: wp.array(dtype=float),
    canon: wp.array(dtype=wp.vec3),
    noise: wp.array2d(dtype=wp.vec4),
    scale: float,  # samples a pixel along each axis
    perspective: int,
    width: int,  # in samples
    height: int,
    buffer: wp.array2d(dtype=wp.int64),  # (T, height * width)
):
    b, t = wp.tid()
    f = faces[t]
    p0 = screen[b, f[0]]
    p1 = screen[b, f[1]]
    p2 = screen[b, f[2]]
    if perspective == 1 and (p0[2] < NEAR or p1[2] < NEAR or p2[2] < NEAR):
        return
    x0 = p0[0] * scale
    y0 = p0[1] * scale
    x1 = p1[0] * scale
    y1 = p1[1] * scale
    x2 = p2[0] * scale
    y2 = p2[1] * scale
    left = wp.max(int(wp.ceil(wp.min(x0, wp.min(x1, x2)) - 0.5)), 0)
    right = wp.min(int(wp.floor(wp.max(x0, wp.max(x1, x2)) - 0.5)), width - 1)
    top = wp.max(int(wp.ceil(wp.min(y0, wp.min(y1, y2)) - 0.5)), 0)
    bottom = wp.min(int(wp.floor(wp.max(y0, wp.max(y1, y2)) - 0.5)), height - 1)
    if left > right or top > bottom:
        return
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    if wp.abs(area) < 1.0e-9:
        return
    if (flags[t] & 4) != 0 and area > 0.0:
        return
    inv = 1.0 / wp.abs(area)
    side = wp.sign(area)
    l0 = line(x1, y1, x2, y2, side)
    l1 = line(x2, y2, x0, y0, side)
    l2 = line(x0, y0, x1, y1, side)
    r0 = 1.0
    r1 = 1.0
    r2 = 1.0
    if perspective == 1:
        r0 = 1.0 / p0[2]
        r1 = 1.0 / p1[2]
        r2 = 1.0 / p2[2]
    for y in range(top, bottom + 1):
        cy = float(y) + 0.5
        row0 = l0[0] * (cy - l0[3])
        row1 = l1[0] * (cy - l1[3])
        row2 = l2[0] * (cy - l2[3])
        for x in range(left, right + 1):
            cx = float(x) + 0.5
            e0 = row0 - l0[1] * (cx - l0[2])
            e1 = row1 - l1[1] * (cx - l1[2])
            e2 = row2 - l2[1] * (cx - l2[2])
            if e0 >= 0.0 and e1 >= 0.0 and e2 >= 0.0:
                w0 = e0 * inv
                w1 = e1 * inv
                w2 = 1.0 - w0 - w1
                z = float(0.0)
                if perspective == 1:
                    z = 1.0 / (w0 * r0 + w1 * r1 + w2 * r2)
                else:
                    z = w0 * p0[2] + w1 * p1[2] + w2 * p2[2]
                keep = int(1)
                if (flags[t] & 1) != 0:
                    q0 = w0 * r0
                    q1 = w1 * r1
                    q2 = w2 * r2
                    s = 1.0 / (q0 + q1 + q2)
                    value = (cut[f[0]] * q0 + cut[f[1]] * q1 + cut[f[2]] * q2) * s
                    if (flags[t] & 2) != 0:
                        m = face_material[t]
                        c = (canon[f[0]] * q0 + canon[f[1]] * q1 + canon[f[2]] * q2) * s
                        value += fray[m] * strand(noise, c, strand_scale[m])
                    if value < 0.0:
                        keep = 0
                if keep == 1:
                    wp.atomic_min(buffer, b, y * width + x, (wp.int64(z * 65536.0) << wp.int64(28)) | wp.int64(t))
