"""Warp kernel that turns the z-buffer into colour and ground truth, one thread a pixel.

All ground truth is evaluated at the pixel's centre, on the plane of the triangle chosen among the pixel's samples;
colour is shaded once for every material in the pixel and weighted by its samples (as MSAA does).
"""

# ruff: noqa: UP018, RUF046 - in a kernel float(0.0) and int(0) declare variables that a loop may change
from __future__ import annotations

from typing import Any

import warp as wp

from thfm_ros.synth.raster import EMPTY

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.struct
class Materials:
    kind: wp.array(dtype=int)
    pattern: wp.array(dtype=int)
    a: wp.array(dtype=wp.vec3)
    b: wp.array(dtype=wp.vec3)
    c: wp.array(dtype=wp.vec3)
    scale: wp.array(dtype=float)
    folds: wp.array(dtype=float)
    gloss: wp.array(dtype=float)
    sharpness: wp.array(dtype=float)
    extra: wp.array(dtype=float)
    photo: wp.array(dtype=int)
    decal: wp.array(dtype=int)  # rows of Textures.cloth, which follow the patterns
    place: wp.array(dtype=wp.vec4)
    trim: wp.array(dtype=int)  # materials.TRIMS


@wp.struct
class Textures:
    cloth: wp.array3d(dtype=wp.vec3)  # (N, 511, 256): mip levels below each other
    surface: wp.array3d(dtype=wp.vec2)
    noise: wp.array2d(dtype=wp.vec4)  # (256, 256)
    picture: wp.array3d(dtype=wp.vec3)  # (N, 511, 256), linear
    environment: wp.array2d(dtype=wp.vec3)  # (256, 512)
    photo: wp.array3d(dtype=wp.vec3)  # (N, 511, 256), linear: surfaces of things and prints on cloth


@wp.struct
class Scene:
    room: int  # 1: an axis-aligned box; 0: a ground plane under the environment
    low: wp.vec3
    high: wp.vec3
    floor: int  # rows of the scene's materials
    wall: int
    ceiling: int
    skirting: float  # metres
    pictures: int
    picture_wall: wp.array(dtype=int)  # 0: x low, 1: x high, 2: y low, 3: y high
    picture_box: wp.array(dtype=wp.vec4)  # along-wall start, z start, width, height
    picture_image: wp.array(dtype=int)
    far: float  # where the ground fades out
    environment_yaw: float
    environment_gain: float
    sun: wp.vec3  # towards it
    sun_colour: wp.vec3
    harmonics: wp.array(dtype=wp.vec3)  # (9,) radiance
    exposure: float
    world_to_light: wp.mat44
    light_size: int
    shadow_bias: float
    spheres: wp.array2d(dtype=wp.vec4)  # (T, N) occluders of the sky: centre, radius
    bounds: wp.array(dtype=wp.vec4)  # (T,) outside of this sphere they do not count
    blobs: wp.array(dtype=wp.vec3)  # x, y, radius of what stands on the floor and darkens it
    human_faces: int  # triangles below this index belong to people
    person_ends: wp.array(dtype=int)  # (P,) the index after each person's last triangle
    plates: wp.array2d(dtype=wp.vec3)  # (1 or T, H * W) linear: a photograph in the place of room, ground and sky
    plated: int


@wp.func
def mip(texel: float):
    """Level of a 256-texel texture whose pixel footprint is `texel` texels."""
    return wp.clamp(int(wp.log2(wp.max(texel, 1.0)) + 0.4), 0, 7)


@wp.func
def texel(images: wp.array3d(dtype=Any), k: int, u: float, v: float, level: int):
    """Bilinear lookup in a mip level of a tileable texture, u and v in tiles."""
    size = 256 >> level
    base = 512 - (512 >> level)
    x = (u - wp.floor(u)) * float(size) - 0.5
    y = (v - wp.floor(v)) * float(size) - 0.5
    xf = wp.floor(x)
    yf = wp.floor(y)
    fx = x - xf
    fy = y - yf
    x0 = (int(xf) + size) & (size - 1)
    y0 = (int(yf) + size) & (size - 1)
    x1 = (x0 + 1) & (size - 1)
    y1 = (y0 + 1) & (size - 1)
    a = images[k, base + y0, x0] * (1.0 - fx) + images[k, base + y0, x1] * fx
    b = images[k, base + y1, x0] * (1.0 - fx) + images[k, base + y1, x1] * fx
    return a * (1.0 - fy) + b * fy


@wp.func
def cloud(noise: wp.array2d(dtype=wp.vec4), u: float, v: float):
    """Bilinear lookup of the tileable noise, u and v in tiles."""
    x = u * 256.0
    y = v * 256.0
    xf = wp.floor(x)
    yf = wp.floor(y)
    fx = x - xf
    fy = y - yf
    x0 = int(xf) & 255
    y0 = int(yf) & 255
    x1 = (x0 + 1) & 255
    y1 = (y0 + 1) & 255
    a = noise[y0, x0] * (1.0 - fx) + noise[y0, x1] * fx
    b = noise[y1, x0] * (1.0 - fx) + noise[y1, x1] * fx
    return a * (1.0 - fy) + b * fy


@wp.func
def blend(a: wp.vec3, b: wp.vec3, t: float):
    return a * (1.0 - t) + b * t


@wp.func
def object_albedo(m: Materials, tex: Textures, k: int, u: float, v: float, footprint: float):
    s = m.scale[k]
    t = texel(tex.surface, m.pattern[k], u * s, v * s, mip(footprint * s * 256.0))
    return blend(m.a[k], m.b[k], t[0]) * (2.0 * t[1])


@wp.func
def photographed(m: Materials, tex: Textures, k: int, base: wp.vec3, u: float, v: float, footprint: float):
    """Albedo with part of a photograph over it, u and v in metres; mirrored at its edges, which so have no seams."""
    s = m.scale[k]
    x = 1.0 - wp.abs(1.0 - 2.0 * wp.frac(wp.abs(u * s) * 0.5))
    y = 1.0 - wp.abs(1.0 - 2.0 * wp.frac(wp.abs(v * s) * 0.5))
    t = texel(tex.photo, m.photo[k] % tex.photo.shape[0], x, y, mip(footprint * s * 256.0))
    return blend(base, t, m.extra[k])


@wp.func
def step(a: float, b: float, x: float):
    t = wp.clamp((x - a) / (b - a), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def irradiance(n: wp.vec3, c: wp.array(dtype=wp.vec3)):
    """Evaluates the radiance's harmonics, divided by pi (Ramamoorthi and Hanrahan 2001)."""
    x = n[0]
    y = n[1]
    z = n[2]
    e = c[0] * 0.282095
    e += (c[1] * y + c[2] * z + c[3] * x) * (0.488603 * 0.666667)
    e += (c[4] * (x * y) + c[5] * (y * z) + c[7] * (x * z)) * (1.092548 * 0.25)
    e += c[6] * (0.315392 * 0.25 * (3.0 * z * z - 1.0)) + c[8] * (0.546274 * 0.25 * (x * x - y * y))
    return wp.vec3(wp.max(e[0], 0.0), wp.max(e[1], 0.0), wp.max(e[2], 0.0))


@wp.func
def sky(d: wp.vec3, env: wp.array2d(dtype=wp.vec3), yaw: float):
    q = wp.normalize(d)
    h = env.shape[0]
    w = env.shape[1]
    u = wp.atan2(q[0], -q[1]) * 0.15915494 + 0.5 + yaw
    x = (u - wp.floor(u)) * float(w) - 0.5
    y = wp.clamp((0.5 - wp.asin(wp.clamp(q[2], -1.0, 1.0)) * 0.31830989) * float(h) - 0.5, 0.0, float(h) - 1.001)
    xf = wp.floor(x)
    fx = x - xf
    x0 = (int(xf) + w) % w
    x1 = (x0 + 1) % w
    y0 = int(y)
    fy = y - float(y0)
    a = env[y0, x0] * (1.0 - fx) + env[y0, x1] * fx
    b = env[y0 + 1, x0] * (1.0 - fx) + env[y0 + 1, x1] * fx
    return a * (1.0 - fy) + b * fy


@wp.func
def lit(s: Scene, shadows: wp.array2d(dtype=wp.int64), b: int, p: wp.vec3, n: wp.vec3):
    """Fraction of the sun that reaches p: 3x3 percentage-closer filtering."""
    q = wp.transform_point(s.world_to_light, p + n * s.shadow_bias)
    r = float(0.0)
    size = s.light_size
    x0 = int(wp.floor(q[0] - 0.5))
    y0 = int(wp.floor(q[1] - 0.5))
    fx = q[0] - 0.5 - float(x0)
    fy = q[1] - 0.5 - float(y0)
    if x0 < 1 or y0 < 1 or x0 >= size - 2 or y0 >= size - 2:
        return 1.0
    agree = int(0)  # most points are all lit or all dark: four corners tell
    for j in range(2):
        for i in range(2):
            k = shadows[b, (y0 - 1 + 3 * j) * size + x0 - 1 + 3 * i]
            if k >= EMPTY or float(k >> wp.int64(28)) * (1.0 / 65536.0) > q[2] - 0.01:
                agree += 1
    if agree == 4:
        return 1.0
    for j in range(-1, 3):
        for i in range(-1, 3):
            wx = float(1.0)
            wy = float(1.0)
            if i == -1:
                wx = 1.0 - fx
            if i == 2:
                wx = fx
            if j == -1:
                wy = 1.0 - fy
            if j == 2:
                wy = fy
            k = shadows[b, (y0 + j) * size + x0 + i]
            if k >= EMPTY or float(k >> wp.int64(28)) * (1.0 / 65536.0) > q[2] - 0.01:
                r += wx * wy
    return r / 9.0


@wp.func
def open_sky(s: Scene, b: int, p: wp.vec3, n: wp.vec3):
    """Ambient occlusion by the body's spheres."""
    r = float(1.0)
    bound = s.bounds[b]
    e = wp.vec3(bound[0], bound[1], bound[2]) - p
    if wp.dot(e, e) > bound[3] * bound[3]:
        return r
    for i in range(s.spheres.shape[1]):
        c = s.spheres[b, i]
        d = wp.vec3(c[0], c[1], c[2]) - p
        d2 = wp.dot(d, d)
        if d2 < 36.0 * c[3] * c[3]:
            cosine = wp.clamp(wp.dot(n, d) / wp.sqrt(d2) + 0.2, 0.0, 1.0)
            r *= 1.0 - 0.8 * cosine * wp.min(c[3] * c[3] / d2, 1.0)
    return r


@wp.func
def light_surface(
    s: Scene,
    shadows: wp.array2d(dtype=wp.int64),
    b: int,
    p: wp.vec3,
    n: wp.vec3,
    view: wp.vec3,
    albedo: wp.vec3,
    gloss: float,
    sharpness: float,
    wrap: wp.vec3,
    occlusion: float,
):
    """Radiance towards the viewer: harmonics, sun with shadow (wrapped for skin), one specular lobe."""
    nl = wp.dot(n, s.sun)
    visible = float(0.0)
    if nl > -wrap[0]:
        visible = lit(s, shadows, b, p, n)
    ambient = irradiance(n, s.harmonics) * occlusion
    e = ambient
    for k in range(3):
        d = wp.max((nl + wrap[k]) / (1.0 + wrap[k]), 0.0)
        e[k] = e[k] + s.sun_colour[k] * d * visible
    c = wp.cw_mul(albedo, e)
    if gloss > 0.0:
        grazing = 1.0 - wp.clamp(wp.dot(n, view), 0.0, 1.0)
        fresnel = grazing * grazing * grazing * grazing
        h = wp.normalize(s.sun + view)
        spec = wp.pow(wp.max(wp.dot(n, h), 0.0), sharpness) * (sharpness + 8.0) * 0.04 * visible * wp.max(nl, 0.0)
        c += s.sun_colour * (gloss * spec * 0.25)
        c += ambient * (gloss * (0.04 + 0.35 * fresnel))
    return c


@wp.func
def cloth_uv(part: int, p: wp.vec3):
    """Metres around and along the limb, from canonical coordinates."""
    u = float(0.0)
    v = p[2]
    if part >= 3 and part <= 8:
        side = wp.sign(p[0])
        d = wp.vec3(side * 0.633, -0.358, -0.686)
        q = p - wp.vec3(side * 0.187, -0.021, 0.652)
        v = wp.dot(q, d)
        q = q - d * v
        u = wp.atan2(q[1], side * q[0] * 0.686 + q[2] * 0.633) * 0.05
    elif part >= 9 and part <= 14:
        side = wp.sign(p[0])
        u = wp.atan2(p[0] - side * (0.132 - 0.0893 * p[2]), p[1] + 0.006) * 0.08
    else:
        u = wp.atan2(p[0], -(p[1] + 0.02)) * 0.15
    return wp.vec2(u, v)


@wp.func
def trimmed(m: Materials, tex: Textures, k: int, part: int, albedo: wp.vec3, p: wp.vec3, u: float, footprint: float):
    """Cloth with what is sewn and printed on it (materials.TRIMS); p: canonical position, u: as of `cloth_uv`."""
    bits = m.trim[k]
    out = albedo
    arm = part >= 3 and part <= 8
    leg = part >= 9 and part <= 14
    front = p[1] < -0.02
    if (bits & 4) != 0 and arm:
        out = m.c[k]
    if (bits & 8) != 0 and not arm:
        seam = float(0.2356)
        if leg:
            seam = float(0.1257)
        if wp.abs(wp.abs(u) - seam) < 0.02 and (not leg or u * p[0] > 0.0):
            out = m.c[k]
    if (bits & 16) != 0 and not arm and p[2] > 0.675 + 0.25 * wp.max(0.0, -p[1]) - 0.2 * wp.abs(p[0]):
        out = m.c[k]
    if (bits & 32) != 0 and front and not arm and not leg:
        if wp.abs(p[0] - 0.012) < 0.0022 + footprint * 0.5:
            out = out * 0.55
        if wp.abs(p[0]) < 0.006 and wp.abs(wp.frac(p[2] * 11.0) - 0.5) < 0.07:
            out = m.c[k]
    if (bits & 64) != 0 and not arm and wp.abs(p[2] - 0.215) < 0.02:
        out = wp.vec3(0.03, 0.025, 0.02)
    if ((front and (bits & 1) != 0) or (not front and (bits & 2) != 0)) and not arm:
        at = m.place[k]
        x = (p[0] - at[0]) / (2.0 * at[2]) + 0.5
        if not front:
            x = (at[0] - p[0]) / (2.0 * at[2]) + 0.5
        y = 0.5 - (p[2] - at[1]) / (2.0 * at[3])
        if x > 0.0 and x < 1.0 and y > 0.0 and y < 1.0:
            t = texel(tex.cloth, m.decal[k], x, y, mip(footprint / (2.0 * at[2]) * 256.0))
            out = blend(out, m.c[k], t[0])
    return out


@wp.func
def bump(x: float, y: float, wide: float, high: float):
    """A bell about (0, 0) of these deviations."""
    return wp.exp(-0.5 * (x * x / (wide * wide) + y * y / (high * high)))


@wp.func
def trunk_paint(m: Materials, k: int, base: wp.vec3, c: wp.vec3, fine: float):
    """What tells a bare chest from a bare back: nipples, navel, hair and the shade below the chest, or the spine's
    groove and the shoulder blades' edges."""
    ax = wp.abs(c[0])
    out = base
    if c[1] < 0.0:
        nipple = bump(ax - 0.095, c[2] - 0.5, 0.011, 0.011)
        out = blend(out, wp.cw_mul(base, wp.vec3(0.55, 0.38, 0.34)), wp.min(1.4 * nipple, 1.0))
        navel = bump(c[0], c[2] - 0.26, 0.007, 0.011)
        below = bump(ax - 0.08, c[2] - 0.455 - 0.9 * (ax - 0.08) * (ax - 0.08) * 4.0, 0.06, 0.012)
        middle = bump(c[0], c[2] - 0.42, 0.006, 0.12)
        collar = bump(ax - 0.08, c[2] - 0.7 - 0.15 * (ax - 0.08), 0.05, 0.007)
        out = out * (1.0 - 0.7 * navel) * (1.0 - 0.3 * below) * (1.0 - 0.25 * middle) * (1.0 - 0.2 * collar)
        if m.extra[k] > 0.0:
            hair = bump(ax - 0.05, c[2] - 0.53, 0.05, 0.06) + bump(c[0], c[2] - 0.3, 0.015, 0.09)
            out = blend(out, m.b[k], wp.min(m.extra[k] * hair * (0.1 + 0.7 * fine), 0.6))
    else:
        groove = bump(c[0], c[2] - 0.38, 0.011, 0.16)
        blade = bump(ax - 0.075 - 0.25 * (c[2] - 0.52), c[2] - 0.52, 0.008, 0.06)
        out = out * (1.0 - 0.35 * groove) * (1.0 - 0.25 * blade)
    return out


@wp.func
def skin_paint(m: Materials, k: int, c: wp.vec3, aux: wp.vec3, fine: float, soft: float):
    """Skin with brows, lips, blush, lids and stubble, and what a bare trunk shows; c: canonical position, soft: pixel
    footprint in metres."""
    base = m.a[k]
    red = wp.cw_mul(base, wp.vec3(1.0, 0.62, 0.6))
    ax = wp.abs(c[0])
    if c[2] > 0.76 and c[1] < -0.03:
        # Cheeks, nose tip, chin, brighter forehead.
        cheek = wp.exp(-((ax - 0.045) * (ax - 0.045) + (c[2] - 0.868) * (c[2] - 0.868)) * 1800.0)
        nose = wp.exp(-(ax * ax + (c[2] - 0.868) * (c[2] - 0.868)) * 5000.0)
        socket = wp.exp(-((ax - 0.0315) * (ax - 0.0315) * 0.6 + (c[2] - 0.902) * (c[2] - 0.902)) * 3500.0)
        base = blend(base, red, 0.45 * cheek + 0.4 * nose + 0.25 * socket)
        base = base * (1.0 - 0.22 * socket)
        # Beard shadow around mouth and jaw.
        if m.extra[k] > 0.0:
            jaw = step(0.862, 0.83, c[2] - 0.3 * wp.max(c[1] + 0.13, 0.0)) * step(0.76, 0.785, c[2])
            lip = step(0.004, 0.012, wp.abs(c[2] - 0.838)) + step(0.022, 0.03, ax)
            base = blend(base, m.b[k], m.extra[k] * 0.6 * jaw * wp.min(lip, 1.0) * (0.6 + 0.5 * fine))
        # Brows: an arch from above the nose to the temple, thinning outwards.
        if ax > 0.006 and ax < 0.062:
            t = (ax - 0.009) / 0.047
            arch = 0.9205 + 0.0085 * wp.sin(2.6 * t)
            thick = 0.0048 * (1.0 - 0.65 * t) + 0.0008
            edge = 0.0018 + soft
            d = wp.abs(c[2] - arch) - thick
            along = step(-0.06, 0.08, t) * step(1.04, 0.86, t)
            base = blend(base, m.b[k], 0.88 * step(edge, -edge, d + 0.002 * (fine - 0.5)) * along)
        # Dark line of the upper lid and lashes.
        lid = wp.clamp(aux[1], 0.0, 1.0)
        base = base * (1.0 - 0.45 * lid)
        base = blend(base, m.c[k], 0.85 * step(0.25, 0.75, aux[0]))
        # Line between the lips and the nostrils' shade.
        mouth = step(0.0022 + soft, 0.0, wp.abs(c[2] - 0.8295 - 0.8 * ax * ax)) * step(0.027, 0.02, ax)
        base = base * (1.0 - 0.5 * mouth * step(0.1, 0.6, aux[0]))
        nostril = wp.exp(-((ax - 0.0085) * (ax - 0.0085) + (c[2] - 0.8545) * (c[2] - 0.8545)) * 120000.0)
        base = base * (1.0 - 0.65 * nostril)
    elif m.pattern[k] > 0 and c[2] > 0.1 and ax < 0.22:
        base = trunk_paint(m, k, base, c, fine)
    if aux[1] > 1.2:
        base = wp.vec3(0.12, 0.03, 0.03)
    return blend(base, red, 0.3 * aux[2])
