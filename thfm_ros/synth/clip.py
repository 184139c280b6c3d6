"""generate_clip: from (config, seed, index) to one clip with all its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Action, make_action
from thfm_ros.synth.assets import Assets
from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.camera import Camera, make_camera
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.materials import Material
from thfm_ros.synth.outfit import Dressed, dress
from thfm_ros.synth.render import Geometry, Rendered, render, resources
from thfm_ros.synth.sample import Clip, Person
from thfm_ros.synth.scene import Surroundings, make_surroundings
from thfm_ros.synth.sensor import compress, develop_frames
from thfm_ros.synth.wardrobe import Wardrobe

JOINTS = JOINT_SETS["thfm32"].joints
# Joints whose spheres shade the surroundings, with radii in metres.
SPHERES = {
    "pelvis": 0.16,
    "spine2": 0.17,
    "spine3": 0.18,
    "head": 0.12,
    "left_knee": 0.08,
    "right_knee": 0.08,
    "left_foot": 0.08,
    "right_foot": 0.08,
    "left_ankle": 0.07,
    "right_ankle": 0.07,
    "left_hand": 0.06,
    "right_hand": 0.06,
}


@dataclass(frozen=True)
class Studio:
    """What all clips share."""

    assets: Assets
    body: Body
    wardrobe: Wardrobe
    canon_low: np.ndarray
    canon_scale: float


@lru_cache(maxsize=2)
def _studio(digest: str) -> Studio:
    assets = _ASSETS[digest]
    body = Body(assets)
    points = body.template[np.unique(body.faces["body"])]
    low, high = points.min(0) - 0.05, points.max(0) + 0.05  # room for clothes and hair
    middle, edge = (low + high) / 2, float((high - low).max())
    return Studio(assets, body, Wardrobe(body), middle - edge / 2, 1 / edge)


_ASSETS: dict[str, Assets] = {}


def studio(assets: Assets) -> Studio:
    """Cached by the artefact's digest."""
    _ASSETS[assets.digest] = assets
    return _studio(assets.digest)


@lru_cache(maxsize=16)
def _person(digest: str, key: tuple[int, ...], split: str) -> tuple[Identity, Dressed]:
    rng = np.random.default_rng(key)
    s = _studio(digest)
    identity = s.body.identity(rng)
    return identity, dress(s.body, s.wardrobe, identity, rng, split)


def _geometry(
    s: Studio, people: list[tuple[Identity, Dressed, Action]], surroundings: Surroundings, frames: int
) -> Geometry:
    """People and furniture as one mesh; the last bone is the world itself."""
    joints = len(s.body.bones)
    blocks: dict[str, list[np.ndarray]] = {
        k: [] for k in ("rest", "bones", "weights", "canon", "aux", "cut", "faces", "parts", "material", "flags")
    }
    materials: list[Material] = []
    count = 0

    def add(**arrays: np.ndarray) -> None:
        nonlocal count
        arrays["faces"] = arrays["faces"] + count
        arrays["material"] = arrays["material"] + len(materials)
        for k, v in arrays.items():
            blocks[k].append(v)
        count += arrays["rest"].shape[-2]

    moving = any(a.rest is not None for _, _, a in people)
    for n, (_, d, action) in enumerate(people):
        fray = np.array([m.fray for m in d.materials])[d.material]
        reach = d.cut[d.faces].min(1)
        flags = np.where(reach <= fray * 1.6, 1, 0) | np.where((fray > 0) & (reach <= fray * 1.6), 2, 0)
        rest = d.rest[None] if action.rest is None else action.rest
        rest = np.broadcast_to(rest, (frames if moving else 1, *rest.shape[1:]))
        add(
            rest=rest,
            bones=s.body.weight_bones[d.source] + n * joints,
            weights=s.body.weights[d.source],
            canon=d.canon,
            aux=d.aux,
            cut=d.cut,
            faces=d.faces,
            parts=d.parts,
            material=d.material,
            flags=flags,
        )
        materials += d.materials
    human_faces = sum(len(f) for f in blocks["faces"])
    for piece in surroundings.pieces:
        for mesh, material, local in zip(piece.meshes, piece.materials, piece.local, strict=True):
            v, f = len(mesh.vertices), len(mesh.faces)
            world_bone = np.zeros((v, 4), np.int32) + len(people) * joints
            add(
                rest=np.broadcast_to(mesh.vertices, (frames if moving else 1, v, 3)),
                bones=world_bone,
                weights=np.tile(np.array([1, 0, 0, 0], np.float32), (v, 1)),
                canon=local,
                aux=np.zeros((v, 3), np.float32),
                cut=np.ones(v, np.float32),
                faces=mesh.faces,
                parts=np.zeros(f, np.int32),
                material=np.zeros(f, np.int32),
                flags=np.zeros(f, np.int32),
            )
            materials.append(material)
    if count == 0:  # an empty scene without furniture still needs one (degenerate, invisible) triangle
        add(
            rest=np.zeros((1, 3, 3), np.float32),
            bones=np.zeros((3, 4), np.int32),
            weights=np.tile(np.array([1, 0, 0, 0], np.float32), (3, 1)),
            canon=np.zeros((3, 3)),
            aux=np.zeros((3, 3)),
            cut=-np.ones(3),
            faces=np.array([[0, 1, 2]]),
            parts=np.zeros(1, np.int32),
            material=np.zeros(1, np.int32),
            flags=np.ones(1, np.int32),
        )
    materials += surroundings.surfaces
    eye = np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1, 1))
    deltas = np.concatenate([a.deltas for _, _, a in people] + [eye], 1)
    offsets = np.concatenate([a.offsets for _, _, a in people] + [np.zeros((frames, 1, 3), np.float32)], 1)
    cat = {k: np.concatenate(v, 1 if k == "rest" else 0) for k, v in blocks.items()}
    return Geometry(deltas=deltas, offsets=offsets, materials=materials, human_faces=human_faces, **cat)


def _visibility(pixels: np.ndarray, points: np.ndarray, depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, K): 1 visible, 0.5 inside the image but hidden, 0 outside. Joints lie under the skin, hence a tolerance."""
    frames = np.arange(len(pixels))[:, None]
    inside = (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height) & (points[..., 2] > 0.05)
    x = np.clip(pixels[..., 0].astype(int), 0, width - 1)
    y = np.clip(pixels[..., 1].astype(int), 0, height - 1)
    front = points[..., 2] - depth[frames, y, x] < 0.16
    return np.where(inside, np.where(front, 1.0, 0.5), 0.0).astype(np.float32)


def seen_size(person: Person, height: int, width: int) -> float:
    """Pixels that show a person, about: the box of the joints inside the image, by the share that nothing hides."""
    inside = np.clip(person.keypoints_2d, 0, [width, height])
    return float((np.ptp(inside, axis=1).prod(-1) * (person.visibility == 1).mean(1)).mean())


def generate_clip(config: SynthConfig, seed: int, index: int, assets: Assets, device: str = "cpu") -> Clip:
    """The clip number `index` of the stream that (config, seed) defines; the same whatever was generated before.

    With config.identities = N > 1, N indices in a row share a person; single frames (config.frames = 1) are then
    rendered N at a time as stills of one motion and place under N cameras, which is far cheaper: ask for them in order.

    Args:
        seed, index: >= 0. device: a Warp device, "cpu" or "cuda:0".
    """
    studio(assets)
    if config.frames == 1 and config.identities > 1:
        group, member = divmod(index, config.identities)
        return _stills(config, seed, group, assets.digest, device)[member]
    s = _scene(
        config, seed, index, index // config.identities, assets, device, np.arange(config.frames) / config.fps, False
    )
    return s.clip(slice(None), index)


@lru_cache(maxsize=2)
def _stills(config: SynthConfig, seed: int, group: int, digest: str, device: str) -> list[Clip]:
    count = config.identities
    rng = np.random.default_rng([seed, group, 7])
    times = np.cumsum(rng.uniform(0.25, 0.9, count))
    scene = _scene(config, seed, group, group, _ASSETS[digest], device, times, True)
    return [scene.clip(slice(i, i + 1), group * count + i) for i in range(count)]


@dataclass(frozen=True)
class _Rendered:
    """All frames of a scene on the host, of which clips are slices."""

    rgb: np.ndarray
    truth: dict[str, np.ndarray]
    persons: list[Person]
    camera: Camera
    fps: float
    meta: dict

    def clip(self, frames: slice, index: int) -> Clip:
        cut = [Person(p.keypoints_2d[frames], p.keypoints_3d[frames], p.visibility[frames]) for p in self.persons]
        cut.sort(key=lambda p: -seen_size(p, *self.rgb.shape[1:3]))
        k, t = len(JOINTS), len(self.rgb[frames])
        nothing = Person(
            np.full((t, k, 2), np.nan, np.float32), np.full((t, k, 3), np.nan, np.float32), np.zeros((t, k), np.float32)
        )
        first = cut[0] if cut else nothing
        return Clip(
            rgb=self.rgb[frames],
            **{n: v[frames] for n, v in self.truth.items()},
            keypoints_2d=first.keypoints_2d,
            keypoints_3d=first.keypoints_3d,
            visibility=first.visibility,
            intrinsics=self.camera.matrices[frames].astype(np.float32),
            world_to_camera=self.camera.world_to_camera[frames].astype(np.float32),
            fps=self.fps,
            people=cut,
            meta=self.meta | {"index": index},
        )


@dataclass(frozen=True)
class Staged:
    """A rendered scene whose pixels are still on the device, and the generator of the sensor's randomness."""

    rendered: Rendered
    camera: Camera
    actions: list[Action]
    times: np.ndarray
    meta: dict
    rng: np.random.Generator


def stage(
    config: SynthConfig,
    seed: int,
    index: int,
    identity_index: int,
    assets: Assets,
    device: str,
    times: np.ndarray,
    stills: bool,
) -> Staged:
    """People, surroundings and cameras for one clip, or for a group of stills with a camera each; rendered."""
    s = studio(assets)
    code = int(config.digest(), 16)
    rng = np.random.default_rng([seed, index, code])
    frames, height, width = len(times), config.height, config.width
    empty = rng.random() < config.empty
    count = 0 if empty else (1 if config.people == 1 else int(rng.integers(1, config.people + 1)))
    people: list[tuple[Identity, Dressed, Action]] = []
    for n in range(max(count, 1)):
        identity, dressed = _person(assets.digest, (seed, identity_index, code, n), config.split)
        others = [a.joints for _, _, a in people]
        people.append((identity, dressed, make_action(rng, s.body, identity, dressed, times, assets, config, others)))
    main = people[0][2]
    head = main.joints[:, [JOINTS.index("head"), JOINTS.index("head_top")]]
    groups = [slice(i, i + 1) for i in range(frames)] if stills else [slice(None)]
    shots = [make_camera(rng, main.joints[g], head[g], times[g], height, width, main.yaw) for g in groups]
    camera = Camera(
        np.concatenate([c.intrinsics for c, _ in shots]), np.concatenate([c.world_to_camera for c, _ in shots])
    )
    people = people[:count]
    everyone = np.concatenate([a.joints for _, _, a in people], 1) if people else main.joints
    surroundings = make_surroundings(
        rng,
        assets,
        camera.centres,
        everyone,
        config.outdoor,
        config.occluders,
        resources(assets, device).pictures,
        0.5 * width / camera.intrinsics[:, 0],
    )
    geometry = _geometry(s, people, surroundings, frames)
    radii = np.tile(np.array(list(SPHERES.values()))[:, None], (frames, 1, 1))
    chosen = [JOINTS.index(k) for k in SPHERES]
    spheres = [np.concatenate([a.joints[:, chosen], radii], -1) for _, _, a in people] or [np.zeros((frames, 1, 4))]
    centre = everyone.mean((0, 1))
    reach = float(np.abs(everyone - centre).max()) + 0.7
    r = render(
        geometry,
        surroundings,
        camera,
        np.concatenate(spheres, 1),
        centre,
        reach,
        (s.canon_low, s.canon_scale),
        height,
        width,
        config.samples,
        assets,
        device,
    )
    meta = {
        "seed": seed,
        "config": config.digest(),
        "split": config.split,
        "motion": [a.name for _, _, a in people],
        "framing": [f for _, f in shots],
        "outfit": [d.tags for _, d, _ in people],
        "room": surroundings.room,
        "environment": surroundings.environment,
        "furniture": [p.name for p in surroundings.pieces],
    }
    return Staged(r, camera, [a for _, _, a in people], times, meta, rng)


def _scene(
    config: SynthConfig,
    seed: int,
    index: int,
    identity_index: int,
    assets: Assets,
    device: str,
    times: np.ndarray,
    stills: bool,
) -> _Rendered:
    """`stage`, developed and brought to the host."""
    st = stage(config, seed, index, identity_index, assets, device, times, stills)
    r, height, width = st.rendered, config.height, config.width
    shape = (len(times), height, width)
    truth = {
        "depth": r.depth.numpy().reshape(shape),
        "normals": r.normal.numpy().reshape(*shape, 3),
        "alpha": r.alpha.numpy().reshape(shape),
        "dense_pose": r.canon.numpy().reshape(*shape, 3),
        "parts": r.part.numpy().reshape(shape),
    }
    developed, settings = develop_frames(st.rng, r, config, times, stills, device)
    rgb, settings = compress(st.rng, developed.numpy().reshape(*shape, 3), config, settings)
    persons = [keypoints_of(a, st.camera, truth["depth"], height, width) for a in st.actions]
    return _Rendered(rgb, truth, persons, st.camera, config.fps, st.meta | {"sensor": settings})


def keypoints_of(action: Action, camera: Camera, depth: np.ndarray, height: int, width: int) -> Person:
    pixels, points = camera.project(action.joints)
    return Person(
        pixels.astype(np.float32), points.astype(np.float32), _visibility(pixels, points, depth, height, width)
    )
