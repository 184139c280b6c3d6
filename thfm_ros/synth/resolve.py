"""The kernel that resolves samples into pixels: see `shade` for its parts."""

# ruff: noqa: UP018, RUF046 - in a kernel float(0.0) and int(0) declare variables that a loop may change
from __future__ import annotations

import warp as wp

from thfm_ros.synth.raster import EMPTY, strand
from thfm_ros.synth.shade import (
    Materials,
    Scene,
    Textures,
    blend,
    cloth_uv,
    cloud,
    light_surface,
    mip,
    object_albedo,
    open_sky,
    photographed,
    skin_paint,
    sky,
    step,
    texel,
    trimmed,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def background_distance(s: Scene, o: wp.vec3, d: wp.vec3):
    """Distance along d (z = 1, so it is depth) to the room or the ground, 1e9 where none; and the side it hits."""
    side = int(-1)
    t = float(1.0e9)
    if s.room == 1:
        for k in range(3):
            if d[k] > 1.0e-7:
                x = (s.high[k] - o[k]) / d[k]
                if x < t:
                    t = x
                    side = 2 * k + 1
            elif d[k] < -1.0e-7:
                x = (s.low[k] - o[k]) / d[k]
                if x < t:
                    t = x
                    side = 2 * k
    elif d[2] < -1.0e-5:
        x = -o[2] / d[2]
        if x > 0.0 and x < s.far:
            t = x
            side = 4
    return t, side


@wp.func
def side_normal(side: int):
    n = wp.vec3()
    sign = float(1.0)
    if side % 2 == 1:
        sign = -1.0
    n[side / 2] = sign
    return n


@wp.func
def background_colour(
    s: Scene,
    m: Materials,
    tex: Textures,
    shadows: wp.array2d(dtype=wp.int64),
    b: int,
    o: wp.vec3,
    d: wp.vec3,
    t: float,
    side: int,
    pixel: float,
):
    if side < 0:
        return sky(d, tex.environment, s.environment_yaw) * s.environment_gain
    p = o + d * t
    n = side_normal(side)
    view = -wp.normalize(d)
    footprint = pixel * t / wp.max(wp.abs(wp.dot(n, view)), 0.15)
    k = s.wall
    u = p[0]
    v = p[1]
    if side == 4:
        k = s.floor
    elif side == 5:
        k = s.ceiling
    else:
        v = p[2]
        if side < 2:
            u = p[1]
    albedo = object_albedo(m, tex, k, u, v, footprint)
    gloss = m.gloss[k]
    if side < 4:
        if p[2] - s.low[2] < s.skirting:
            albedo = m.c[k]
        for i in range(s.pictures):
            if s.picture_wall[i] == side:
                r = s.picture_box[i]
                x = (u - r[0]) / r[2]
                y = 1.0 - (p[2] - r[1]) / r[3]
                if x > 0.0 and x < 1.0 and y > 0.0 and y < 1.0:
                    frame = wp.min(wp.min(x, 1.0 - x) * r[2], wp.min(y, 1.0 - y) * r[3])
                    if frame < 0.03 and r[2] < 2.0:
                        albedo = m.c[k] * 0.4
                    else:
                        albedo = texel(tex.picture, s.picture_image[i], x, y, mip(footprint / r[2] * 256.0))
    occlusion = open_sky(s, b, p, n)
    if side == 4:
        for i in range(s.blobs.shape[0]):
            q = s.blobs[i]
            reach = wp.length(wp.vec2(p[0] - q[0], p[1] - q[1]))
            if reach < 1.5 * q[2]:
                occlusion *= 1.0 - 0.6 * step(1.5 * q[2], 0.6 * q[2], reach)
    if s.room == 1:  # corners are darker
        e = float(10.0)
        for k3 in range(3):
            if k3 != side / 2:
                e = wp.min(e, wp.min(p[k3] - s.low[k3], s.high[k3] - p[k3]))
        occlusion *= 0.62 + 0.38 * step(0.0, 0.7, e)
    c = light_surface(s, shadows, b, p, n, view, albedo, gloss, m.sharpness[k], wp.vec3(), occlusion)
    if s.room == 0:
        haze = step(0.45 * s.far, s.far, t)
        c = blend(
            c,
            sky(wp.vec3(d[0], d[1], wp.length(d) * 0.02), tex.environment, s.environment_yaw) * s.environment_gain,
            haze,
        )
    return c


@wp.func
def seen_at(p: wp.vec3, camera_to_world: wp.mat44, k4: wp.vec4):
    """Pixel of a world point in a camera."""
    o = wp.vec3(camera_to_world[0, 3], camera_to_world[1, 3], camera_to_world[2, 3])
    c = wp.transform_vector(wp.transpose(camera_to_world), p - o)
    z = wp.max(c[2], 1.0e-3)
    return wp.vec2(k4[0] * c[0] / z + k4[2], k4[1] * c[1] / z + k4[3])


@wp.func
def weights_at(p0: wp.vec3, p1: wp.vec3, p2: wp.vec3, x: float, y: float):
    """Barycentric weights over depth of a screen triangle at a pixel's centre, which may lie just outside of it:
    divided by their sum they interpolate what is linear in space."""
    area = (p1[0] - p0[0]) * (p2[1] - p0[1]) - (p1[1] - p0[1]) * (p2[0] - p0[0])
    w0 = wp.clamp(((p2[0] - p1[0]) * (y - p1[1]) - (p2[1] - p1[1]) * (x - p1[0])) / area, 0.0, 1.0)
    w1 = wp.clamp(((p0[0] - p2[0]) * (y - p2[1]) - (p0[1] - p2[1]) * (x - p2[0])) / area, 0.0, 1.0)
    w2 = wp.clamp(1.0 - w0 - w1, 0.0, 1.0)
    return wp.vec3(w0 / p0[2], w1 / p1[2], w2 / p2[2])


# Pixels a thread: its many arguments are read once a strip, which saves a fifth of the time on a CPU.
STRIP = wp.constant(64)


@wp.kernel
def resolve(
    buffer: wp.array2d(dtype=wp.int64),
    shadows: wp.array2d(dtype=wp.int64),
    world: wp.array2d(dtype=wp.vec3),
    screen: wp.array2d(dtype=wp.vec3),
    normals: wp.array2d(dtype=wp.vec3),
    canon: wp.array(dtype=wp.vec3),
    aux: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    face_part: wp.array(dtype=int),
    face_material: wp.array(dtype=int),
    camera_to_world: wp.array(dtype=wp.mat44),
    intrinsics: wp.array(dtype=wp.vec4),
    m: Materials,
    tex: Textures,
    s: Scene,
    canon_low: wp.vec3,
    canon_scale: float,
    samples: int,
    width: int,
    out_colour: wp.array2d(dtype=wp.vec3),
    out_depth: wp.array2d(dtype=float),
    out_normal: wp.array2d(dtype=wp.vec3),
    out_alpha: wp.array2d(dtype=float),
    out_canon: wp.array2d(dtype=wp.vec3),
    out_part: wp.array2d(dtype=wp.uint8),
    out_person: wp.array2d(dtype=wp.uint8),  # whose pixel, from 1 on; 0: nobody's
    out_velocity: wp.array2d(dtype=wp.vec2),  # pixels a frame, by central differences
):
    b, strip = wp.tid()
    first_pixel = strip * STRIP
    for i in range(first_pixel, wp.min(first_pixel + STRIP, out_depth.shape[1])):
        k4 = intrinsics[b]
        px = float(i % width) + 0.5
        py = float(i / width) + 0.5
        cam = camera_to_world[b]
        o = wp.vec3(cam[0, 3], cam[1, 3], cam[2, 3])
        d = wp.transform_vector(cam, wp.vec3((px - k4[2]) / k4[0], (py - k4[3]) / k4[1], 1.0))
        pixel = wp.length(d) / k4[0]
        bg_t, bg_side = background_distance(s, o, d)
        if s.plated == 1:
            bg_t = float(1.0e9)
            bg_side = int(-1)

        total = samples * samples
        humans = int(0)
        best_human = int(-1)
        best_other = int(-1)
        human_near = float(1.0e9)
        other_near = float(1.0e9)
        background = int(0)
        colour = wp.vec3()
        wide = width * samples
        corner = (i / width) * samples * wide + (i % width) * samples
        for j in range(total):
            key = buffer[b, corner + (j / samples) * wide + j % samples]
            t = int(-1)
            if key < EMPTY and float(key >> wp.int64(28)) * (1.0 / 65536.0) < bg_t:
                t = int(key & wp.int64(268435455))
            if t < 0:
                background += 1
                continue
            ox = float(j % samples) + 0.5 - 0.5 * float(samples)
            oy = float(j / samples) + 0.5 - 0.5 * float(samples)
            near = ox * ox + oy * oy
            if t < s.human_faces:
                humans += 1
                if near < human_near:
                    human_near = near
                    best_human = t
            elif near < other_near:
                other_near = near
                best_other = t
            # Shade a material once, with the weight of its samples.
            count = int(1)
            first = int(1)
            for q in range(total):
                if q != j:
                    other = buffer[b, corner + (q / samples) * wide + q % samples]
                    solid = other < EMPTY and float(other >> wp.int64(28)) * (1.0 / 65536.0) < bg_t
                    if solid and face_material[int(other & wp.int64(268435455))] == face_material[t]:
                        if q < j:
                            first = 0
                        count += 1
            if first == 1:
                f = faces[t]
                w = weights_at(screen[b, f[0]], screen[b, f[1]], screen[b, f[2]], px, py)
                w = w / (w[0] + w[1] + w[2])
                p = world[b, f[0]] * w[0] + world[b, f[1]] * w[1] + world[b, f[2]] * w[2]
                n = wp.normalize(normals[b, f[0]] * w[0] + normals[b, f[1]] * w[1] + normals[b, f[2]] * w[2])
                view = -wp.normalize(d)
                if wp.dot(n, view) < 0.0:
                    n = -n
                c = canon[f[0]] * w[0] + canon[f[1]] * w[1] + canon[f[2]] * w[2]
                x = aux[f[0]] * w[0] + aux[f[1]] * w[1] + aux[f[2]] * w[2]
                k = face_material[t]
                kind = m.kind[k]
                z = wp.dot(p - o, wp.vec3(cam[0, 2], cam[1, 2], cam[2, 2]))
                footprint = pixel * z
                albedo = m.a[k]
                gloss = m.gloss[k]
                wrap = wp.vec3()
                occlusion = float(1.0)
                if kind == 0:  # skin
                    g = cloud(tex.noise, c[0] * 5.0 + c[1] * 3.0, c[2] * 5.0 - c[1] * 2.0)
                    g2 = cloud(tex.noise, c[0] * 31.0 + c[1] * 17.0, c[2] * 31.0)
                    albedo = skin_paint(m, k, c, x, g2[3], footprint) * (0.86 + 0.2 * g[2] + 0.08 * g2[2])
                    wrap = wp.vec3(0.3, 0.12, 0.08)
                elif kind == 1:  # cloth
                    uv = cloth_uv(face_part[t], c)
                    level = mip(footprint * m.scale[k] * 256.0)
                    h = texel(tex.cloth, m.pattern[k], uv[0] * m.scale[k], uv[1] * m.scale[k], level)
                    albedo = blend(blend(m.a[k], m.b[k], h[0]), m.c[k], h[1]) * (0.8 + 0.4 * h[2])
                    g = cloud(tex.noise, uv[0] * 1.3 + 0.1 * float(k), uv[1] * 1.3)
                    albedo = albedo * (0.85 + 0.3 * g[2])
                    if m.photo[k] >= 0:
                        albedo = photographed(m, tex, k, albedo, uv[0], uv[1], footprint)
                    if m.trim[k] > 0:
                        albedo = trimmed(m, tex, k, face_part[t], albedo, c, uv[0], footprint)
                    tangent = wp.normalize(wp.cross(n, wp.vec3(0.31, 0.2, 0.93)))
                    bitangent = wp.cross(n, tangent)
                    n = wp.normalize(n - (tangent * g[0] + bitangent * g[1]) * (m.folds[k] * 0.5))
                    wrap = wp.vec3(0.1, 0.1, 0.1)
                elif kind == 2:  # eye
                    r = wp.sqrt(x[0] * x[0] + x[2] * x[2])
                    if x[1] < 0.0 and r < 0.62:
                        g = cloud(tex.noise, wp.atan2(x[0], x[2]) * 0.6, r * 0.2)
                        iris = m.b[k] * (0.5 + 1.1 * g[3]) * (0.7 + 0.6 * step(0.2, 0.4, r))
                        iris = iris * (1.0 - 0.75 * step(0.4, 0.5, r))
                        iris = iris * step(0.16, 0.22, r)
                        albedo = blend(iris, m.a[k], step(0.46, 0.53, r))
                    else:
                        albedo = blend(m.a[k], wp.vec3(0.6, 0.25, 0.2), 0.25)
                    occlusion = 0.62 + 0.3 * step(0.5, -0.4, x[2])
                elif kind == 3:  # hair
                    fibre = strand(tex.noise, c, m.scale[k] * 0.5)
                    g2 = cloud(tex.noise, (c[0] * 1.9 + c[1] * 1.3) * m.scale[k] * 0.25, c[2] * 2.0)
                    albedo = blend(m.a[k], m.b[k], wp.clamp(0.4 + 0.35 * fibre + 1.2 * (g2[2] - 0.5), 0.0, 1.0))
                    tangent = wp.normalize(wp.cross(n, wp.vec3(0.0, 0.1, 1.0)))
                    n = wp.normalize(n + tangent * (0.35 * fibre + 0.5 * (g2[2] - 0.5)))
                    occlusion = 0.75
                    wrap = wp.vec3(0.2, 0.2, 0.2)
                elif kind == 4:  # shoes, frames
                    albedo = blend(m.b[k], m.a[k], step(-0.797, -0.793, c[2]))
                    if c[2] > -0.79 and c[1] < -0.06 and wp.abs(wp.frac(c[1] * 55.0) - 0.5) < 0.14 and c[2] > -0.765:
                        albedo = m.c[k]
                elif kind == 5:
                    albedo = blend(m.b[k], m.a[k], step(0.0, 0.2, 0.835 - 0.01 - wp.abs(c[2] - 0.831)))
                    occlusion = 0.45
                elif kind == 7:
                    an = wp.vec3(wp.abs(n[0]), wp.abs(n[1]), wp.abs(n[2]))
                    if m.photo[k] >= 0:
                        albedo = photographed(m, tex, k, albedo, c[0], c[1], footprint)
                    elif an[2] > an[0] and an[2] > an[1]:
                        albedo = object_albedo(m, tex, k, c[0], c[1], footprint)
                    elif an[0] > an[1]:
                        albedo = object_albedo(m, tex, k, c[1], c[2], footprint)
                    else:
                        albedo = object_albedo(m, tex, k, c[0], c[2], footprint)
                    occlusion = open_sky(s, b, p, n) * (0.7 + 0.3 * step(0.0, 0.4, p[2]))
                if kind < 5:
                    occlusion *= 0.72 + 0.28 * step(-0.9, 0.6, n[2]) * step(0.0, 0.35, p[2])
                colour += light_surface(
                    s, shadows, b, p, n, view, albedo, gloss, m.sharpness[k], wrap, occlusion
                ) * float(count)
        if background > 0 and s.plated == 1:
            colour += s.plates[wp.min(b, s.plates.shape[0] - 1), i] * (float(background) / s.exposure)
        elif background > 0:
            colour += background_colour(s, m, tex, shadows, b, o, d, bg_t, bg_side, pixel) * float(background)
        out_colour[b, i] = colour * (s.exposure / float(total))

        # Ground truth: of the person where more than half of the pixel is, else of what is behind or before.
        alpha = float(humans) / float(total)
        out_alpha[b, i] = alpha
        t = best_other
        if 2 * humans > total:
            t = best_human
        elif 2 * background >= total - humans:
            t = -1
        before = wp.max(b - 1, 0)
        after = wp.min(b + 1, buffer.shape[0] - 1)
        span = wp.max(float(after - before), 1.0)
        if t < 0:
            # Still scenery moves with the camera only; the sky as if it were far away.
            p = o + d * wp.min(bg_t, 1000.0)
            out_velocity[b, i] = (
                seen_at(p, camera_to_world[after], intrinsics[after])
                - seen_at(p, camera_to_world[before], intrinsics[before])
            ) / span
            if bg_side < 0:
                out_depth[b, i] = wp.inf
                out_normal[b, i] = wp.vec3()
            else:
                out_depth[b, i] = bg_t
                n = side_normal(bg_side)
                out_normal[b, i] = wp.transform_vector(wp.transpose(cam), n)
            if s.plated == 1:
                out_velocity[b, i] = wp.vec2()
            out_canon[b, i] = wp.vec3()
            out_part[b, i] = wp.uint8(0)
            out_person[b, i] = wp.uint8(0)
        else:
            f = faces[t]
            p0 = screen[b, f[0]]
            p1 = screen[b, f[1]]
            p2 = screen[b, f[2]]
            w = weights_at(p0, p1, p2, px, py)
            total_w = w[0] + w[1] + w[2]
            move = (
                (screen[after, f[0]] - screen[before, f[0]]) * w[0]
                + (screen[after, f[1]] - screen[before, f[1]]) * w[1]
                + (screen[after, f[2]] - screen[before, f[2]]) * w[2]
            )
            out_velocity[b, i] = wp.vec2(move[0], move[1]) / (total_w * span)
            out_depth[b, i] = (w[0] * p0[2] + w[1] * p1[2] + w[2] * p2[2]) / total_w
            n = normals[b, f[0]] * w[0] + normals[b, f[1]] * w[1] + normals[b, f[2]] * w[2]
            n = wp.normalize(wp.transform_vector(wp.transpose(cam), n))
            ray = wp.vec3((px - k4[2]) / k4[0], (py - k4[3]) / k4[1], 1.0)
            if wp.dot(n, ray) > 0.0:
                n = -n
            out_normal[b, i] = n
            if t < s.human_faces:
                c = (canon[f[0]] * w[0] + canon[f[1]] * w[1] + canon[f[2]] * w[2]) / total_w
                c = (c - canon_low) * canon_scale
                out_canon[b, i] = wp.vec3(wp.clamp(c[0], 0.0, 1.0), wp.clamp(c[1], 0.0, 1.0), wp.clamp(c[2], 0.0, 1.0))
                out_part[b, i] = wp.uint8(face_part[t])
                person = int(1)
                for q in range(s.person_ends.shape[0]):
                    if t >= s.person_ends[q]:
                        person += 1
                out_person[b, i] = wp.uint8(person)
            else:
                out_canon[b, i] = wp.vec3()
                out_part[b, i] = wp.uint8(0)
                out_person[b, i] = wp.uint8(0)
