"""Runs the kernels over a clip: uploads once, renders all frames in one batch on one device (CPU or CUDA)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import warp as wp

from thfm_ros.synth import raster, resolve
from thfm_ros.synth.assets import Assets
from thfm_ros.synth.camera import Camera
from thfm_ros.synth.materials import Material, cloth_patterns, decals, linear, noise_texture, surface_textures
from thfm_ros.synth.outfit import material_rows
from thfm_ros.synth.scene import Surroundings
from thfm_ros.synth.shade import Materials, Scene, Textures

SHADOW_SIZE = 384


def mip_chain(images: np.ndarray) -> np.ndarray:
    """(N, 256, 256, C) to (N, 511, 256, C): level l (256 >> l wide) starts at row 512 - (512 >> l)."""
    out = np.zeros((len(images), 511, 256, images.shape[-1]), np.float32)
    level = images.astype(np.float32)
    for k in range(9):
        size = 256 >> k
        start = 512 - (512 >> k)
        if start >= 511 or size < 1:
            break
        out[:, start : start + size, :size] = level[:, : min(size, 511 - start)]
        if size > 1:
            level = level.reshape(len(level), size // 2, 2, size // 2, 2, -1).mean((2, 4))
    return out


_LINEAR = linear(np.arange(256) / 255.0).astype(np.float32)


def _linear_mip_chain(images: np.ndarray) -> np.ndarray:
    """`mip_chain` of linear radiance from (N, 256, 256, 3) uint8 sRGB; sums of slices take a third of means' time."""
    level = _LINEAR[images]
    out = np.zeros((len(images), 511, 256, 3), np.float32)
    for k in range(8):
        start, size = 512 - (512 >> k), 256 >> k
        out[:, start : start + size, :size] = level
        rows = level[:, ::2] + level[:, 1::2]
        level = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return out


@dataclass
class Resources:
    """Textures on one device."""

    cloth: wp.array
    surface: wp.array
    noise: wp.array
    picture: wp.array
    environments: dict[str, wp.array]
    pictures: int


@lru_cache(maxsize=4)
def resources(assets: Assets, device: str) -> Resources:
    """Textures, noise and environments on the device, uploaded once."""
    pictures = []
    for name in sorted(k for k in assets.textures if k.startswith("picture.")):
        image = assets.textures[name]
        ys, xs = (np.minimum((np.arange(256) + 0.5) * n / 256, n - 1).astype(int) for n in image.shape[:2])
        pictures.append(linear(image[ys][:, xs] / 255.0))
    upload = lambda x, t: wp.array(np.ascontiguousarray(x, np.float32), dtype=t, device=device)  # noqa: E731
    return Resources(
        upload(mip_chain(np.concatenate([cloth_patterns(), decals()])), wp.vec3),
        upload(mip_chain(surface_textures(assets)), wp.vec2),
        upload(noise_texture(), wp.vec4),
        upload(mip_chain(np.stack(pictures)), wp.vec3),
        {
            k: upload(np.minimum(v, 7.0 * np.median(v.max(-1)) + 2.0 * v.mean()), wp.vec3)
            for k, v in assets.environments.items()
        },
        len(pictures),
    )


@dataclass
class Geometry:
    """All triangles of a clip. People first (`human_faces` of them), then furniture.

    rest (1 or T, V, 3), bones (V, 4), weights (V, 4) over deltas (T, J, 3, 3) and offsets (T, J, 3); canon and aux
    (V, 3); cut (V,); faces (F, 3), parts (F,), material (F,) rows of `materials`, flags (F,) as raster.rasterise.
    person_ends: (P,) the index after each person's last triangle; person_vertices: those of each that are not cut away.
    """

    rest: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    deltas: np.ndarray
    offsets: np.ndarray
    canon: np.ndarray
    aux: np.ndarray
    cut: np.ndarray
    faces: np.ndarray
    parts: np.ndarray
    material: np.ndarray
    flags: np.ndarray
    materials: list[Material]
    human_faces: int
    person_ends: list[int]
    person_vertices: list[np.ndarray]


@dataclass
class Rendered:
    """Device arrays of (T, H * W): linear colour, ground truth (person: whose pixel, from 1 on) and motion in
    pixels a frame; world and screen positions of vertices (T, V)."""

    colour: wp.array
    depth: wp.array
    normal: wp.array
    alpha: wp.array
    canon: wp.array
    part: wp.array
    person: wp.array
    velocity: wp.array
    world: wp.array
    screen: wp.array


def light_matrix(sun: np.ndarray, centre: np.ndarray, reach: float) -> np.ndarray:
    """(4, 4) world to shadow-map pixels and metres of depth, all positive within `reach` of the centre."""
    side = np.cross(sun, [0.0, 0.0, 1.0] if abs(sun[2]) < 0.95 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, sun)
    scale = SHADOW_SIZE / 2 / reach
    out = np.eye(4)
    out[0, :3], out[1, :3], out[2, :3] = side * scale, up * scale, -sun
    out[:3, 3] = -out[:3, :3] @ centre + np.array([SHADOW_SIZE / 2, SHADOW_SIZE / 2, 30.0])
    return out


def render(
    geometry: Geometry,
    surroundings: Surroundings,
    camera: Camera,
    spheres: np.ndarray,
    centre: np.ndarray,
    reach: float,
    canon_box: tuple[np.ndarray, float],
    height: int,
    width: int,
    samples: int,
    assets: Assets,
    device: str,
) -> Rendered:
    """All frames of a clip. spheres: (T, N, 4) that occlude the sky; centre, reach: what the shadow map covers."""
    g, s, res = geometry, surroundings, resources(assets, device)
    frames, vertices, faces = len(g.deltas), len(g.canon), len(g.faces)
    up = lambda x, t, d=np.float32: wp.array(np.ascontiguousarray(x, d), dtype=t, device=device)  # noqa: E731
    # Everything but the sums below is written in full by its kernel, so that clearing it first were wasted time.
    empty = lambda shape, t: wp.empty(shape, dtype=t, device=device)  # noqa: E731
    lm = light_matrix(s.sun, centre, reach)
    light = wp.mat44(*lm.ravel().tolist())
    w2c = up(camera.world_to_camera, wp.mat44)
    k4 = up(camera.intrinsics, wp.vec4)
    world, screen, shadow = (empty((frames, vertices), wp.vec3) for _ in range(3))
    wp.launch(
        raster.skin,
        (frames, vertices),
        device=device,
        inputs=[
            up(g.rest, wp.vec3),
            up(g.bones, int, np.int32),
            up(g.weights, float),
            up(g.deltas, wp.mat33),
            up(g.offsets, wp.vec3),
            w2c,
            k4,
            light,
        ],
        outputs=[world, screen, shadow],
    )
    face_array, flags = up(g.faces, wp.vec3i, np.int32), up(g.flags, int, np.int32)
    normals = wp.zeros((frames, vertices), dtype=wp.vec3, device=device)
    wp.launch(raster.accumulate_normals, (frames, faces), device=device, inputs=[world, face_array], outputs=[normals])
    rows = material_rows(g.materials)
    face_material, cut, canon = up(g.material, int, np.int32), up(g.cut, float), up(g.canon, wp.vec3)
    fray, strand_scale = up(rows["fray"], float), up(rows["scale"], float)

    def draw(points: wp.array, scale: float, perspective: int, w: int, h: int) -> wp.array:
        buffer = wp.full((frames, w * h), value=2**62, dtype=wp.int64, device=device)
        wp.launch(
            raster.rasterise,
            (frames, faces),
            device=device,
            inputs=[
                points,
                face_array,
                flags,
                face_material,
                fray,
                strand_scale,
                cut,
                canon,
                res.noise,
                scale,
                perspective,
                w,
                h,
                buffer,
            ],
        )
        return buffer

    shadows = draw(shadow, 1.0, 0, SHADOW_SIZE, SHADOW_SIZE)
    buffer = draw(screen, float(samples), 1, width * samples, height * samples)

    m = Materials()
    for name, kind, dtype in (
        ("kind", int, np.int32),
        ("pattern", int, np.int32),
        ("a", wp.vec3, np.float32),
        ("b", wp.vec3, np.float32),
        ("c", wp.vec3, np.float32),
        ("scale", float, np.float32),
        ("folds", float, np.float32),
        ("gloss", float, np.float32),
        ("sharpness", float, np.float32),
        ("extra", float, np.float32),
        ("photo", int, np.int32),
        ("decal", int, np.int32),
        ("place", wp.vec4, np.float32),
        ("trim", int, np.int32),
    ):
        setattr(m, name, up(rows[name], kind, dtype))
    tex = Textures()
    tex.cloth, tex.surface, tex.noise, tex.picture = res.cloth, res.surface, res.noise, res.picture
    tex.environment = res.environments[s.environment]
    tex.photo = res.picture if s.textures is None else up(_linear_mip_chain(s.textures), wp.vec3)
    first = len(g.materials) - len(s.surfaces)
    scene = Scene()
    scene.room, scene.low, scene.high = int(s.room), wp.vec3(*s.low.tolist()), wp.vec3(*s.high.tolist())
    scene.floor, scene.wall, scene.ceiling = first, first + 1, first + 2
    scene.skirting, scene.far = s.skirting, s.far
    scene.pictures = len(s.pictures)
    padded = s.pictures or [(9, (0.0, 0.0, 1.0, 1.0), 0)]
    scene.picture_wall = up([p[0] for p in padded], int, np.int32)
    scene.picture_box = up([p[1] for p in padded], wp.vec4)
    scene.picture_image = up([p[2] for p in padded], int, np.int32)
    scene.environment_yaw, scene.environment_gain = s.environment_yaw, s.environment_gain
    scene.sun, scene.sun_colour = wp.vec3(*s.sun.tolist()), wp.vec3(*s.sun_colour.tolist())
    scene.harmonics, scene.exposure = up(s.harmonics, wp.vec3), s.exposure
    scene.world_to_light, scene.light_size, scene.shadow_bias = light, SHADOW_SIZE, 3.0 * reach / SHADOW_SIZE
    middle = spheres[..., :3].mean(1)
    around = np.linalg.norm(spheres[..., :3] - middle[:, None], axis=-1).max(1) + 0.75
    scene.bounds = up(np.concatenate([middle, around[:, None]], 1), wp.vec4)
    footprints = [
        (*m.vertices[:, :2].mean(0), p.radius_of(m)) for p in s.pieces for m in p.meshes if m.vertices[:, 2].min() < 0.1
    ]
    scene.blobs = up(footprints or [(1e6, 1e6, 0.1)], wp.vec3)
    scene.spheres, scene.human_faces = up(spheres, wp.vec4), g.human_faces
    scene.person_ends = up(g.person_ends, int, np.int32)
    scene.plated = int(s.plates is not None)
    plates = np.zeros((1, 1, 3)) if s.plates is None else linear(s.plates.reshape(len(s.plates), -1, 3) / 255.0)
    scene.plates = up(plates, wp.vec3)

    pixels = (frames, height * width)
    out = [empty(pixels, t) for t in (wp.vec3, float, wp.vec3, float, wp.vec3, wp.uint8, wp.uint8, wp.vec2)]
    wp.launch(
        resolve.resolve,
        (frames, -(-height * width // resolve.STRIP)),
        device=device,
        inputs=[
            buffer,
            shadows,
            world,
            screen,
            normals,
            canon,
            up(g.aux, wp.vec3),
            face_array,
            up(g.parts, int, np.int32),
            face_material,
            up(np.linalg.inv(camera.world_to_camera), wp.mat44),
            k4,
            m,
            tex,
            scene,
            wp.vec3(*canon_box[0].tolist()),
            canon_box[1],
            samples,
            width,
        ],
        outputs=out,
    )
    return Rendered(*out, world, screen)
