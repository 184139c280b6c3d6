"""generate_clip: from (config, seed, index) to one clip with all its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Action, Part, make_action, spread_out
from thfm_ros.synth.assembly import assemble
from thfm_ros.synth.assets import Assets
from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.camera import Camera
from thfm_ros.synth.casting import Cast, make_cast, placed, player, recoloured
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.figures import statue
from thfm_ros.synth.furniture import Piece
from thfm_ros.synth.gaze import set_gaze
from thfm_ros.synth.light import set_light
from thfm_ros.synth.outfit import dress
from thfm_ros.synth.places import PictureFolder, nobody, with_environments
from thfm_ros.synth.posture import standing_motion
from thfm_ros.synth.render import Rendered, render, resources
from thfm_ros.synth.sample import Clip, Person
from thfm_ros.synth.scene import make_surroundings
from thfm_ros.synth.sensor import compress, develop_frames
from thfm_ros.synth.setting import make_shots, photographer, set_likenesses, set_plates, set_things
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
# Metres that joints lie under what shows of a body, at the most: those of hips and shoulders lie deepest.
UNDER_SKIN = np.array([{"pelvis": 0.25, "hip": 0.25, "shoulder": 0.2}.get(j.split("_")[-1], 0.16) for j in JOINTS])


@dataclass(frozen=True)
class Studio:
    """What all clips share."""

    assets: Assets
    body: Body
    wardrobe: Wardrobe
    canon_low: np.ndarray
    canon_scale: float


@lru_cache(maxsize=2)
def studio(assets: Assets) -> Studio:
    """Body and wardrobe of these assets, made once."""
    body = Body(assets)
    points = body.template[np.unique(body.faces["body"])]
    low, high = points.min(0) - 0.05, points.max(0) + 0.05  # room for clothes and hair
    middle, edge = (low + high) / 2, float((high - low).max())
    return Studio(assets, body, Wardrobe(body), middle - edge / 2, 1 / edge)


@lru_cache(maxsize=16)
def _person(
    assets: Assets, key: tuple[int, ...], split: str, worn: float, prints: float, age: str | None
) -> tuple[Identity, Dressed]:
    rng = np.random.default_rng(key)
    s = studio(assets)
    identity = s.body.identity(rng, age)
    return identity, dress(s.body, s.wardrobe, identity, rng, split, worn, prints)


def _visibility(pixels: np.ndarray, points: np.ndarray, depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, K): 1 visible, 0.5 inside the image but hidden, 0 outside. Joints lie under the skin (`UNDER_SKIN`)."""
    frames = np.arange(len(pixels))[:, None]
    inside = (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height) & (points[..., 2] > 0.05)
    x = np.clip(pixels[..., 0].astype(int), 0, width - 1)
    y = np.clip(pixels[..., 1].astype(int), 0, height - 1)
    front = points[..., 2] - depth[frames, y, x] < UNDER_SKIN
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
    if config.environments is not None:
        assets = with_environments(assets, config.environments)
    studio(assets)
    if config.backgrounds is not None:
        rng = photographer(config, seed, index)
        if rng.random() < config.nobody:
            clip = nobody(rng, config.backgrounds, config.frames, config.height, config.width, config.fps)
            clip.meta |= {"seed": seed, "config": config.digest(), "split": config.split, "index": index}
            return clip
    if config.frames == 1 and config.identities > 1:
        group, member = divmod(index, config.identities)
        return _stills(config, seed, group, assets, device)[member]
    s = _scene(
        config, seed, index, index // config.identities, assets, device, np.arange(config.frames) / config.fps, False
    )
    return s.clip(slice(None), index)


@lru_cache(maxsize=2)
def _stills(config: SynthConfig, seed: int, group: int, assets: Assets, device: str) -> list[Clip]:
    count = config.identities
    rng = np.random.default_rng([seed, group, 7])
    times = np.cumsum(rng.uniform(0.25, 0.9, count))
    scene = _scene(config, seed, group, group, assets, device, times, True)
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
    photographs: list[str]

    def clip(self, frames: slice, index: int) -> Clip:
        cut = [p.cut(frames) for p in self.persons]
        order = sorted(range(len(cut)), key=lambda n: -seen_size(cut[n], *self.rgb.shape[1:3]))
        cut = [cut[n] for n in order]
        photograph = {"photograph": self.photographs[frames][0]} if self.photographs else {}
        truth = {n: v[frames] for n, v in self.truth.items()}
        number = np.zeros(len(order) + 1, np.uint8)  # of the people as they are ordered now
        number[[n + 1 for n in order]] = np.arange(1, len(order) + 1)
        truth["instances"] = number[truth["instances"]]
        k, t = len(JOINTS), len(self.rgb[frames])
        nothing = Person(
            np.full((t, k, 2), np.nan, np.float32), np.full((t, k, 3), np.nan, np.float32), np.zeros((t, k), np.float32)
        )
        first = cut[0] if cut else nothing
        return Clip(
            rgb=self.rgb[frames],
            **truth,
            keypoints_2d=first.keypoints_2d,
            keypoints_3d=first.keypoints_3d,
            visibility=first.visibility,
            intrinsics=self.camera.matrices[frames].astype(np.float32),
            world_to_camera=self.camera.world_to_camera[frames].astype(np.float32),
            fps=self.fps,
            has_scene=not self.photographs,
            people=cut,
            meta=self.meta | {"index": index} | photograph,
        )


@dataclass(frozen=True)
class Staged:
    """A rendered scene whose pixels are still on the device, the generator of the sensor's randomness, each person's
    vertices, and the photographs behind them (one a still, else one or none)."""

    rendered: Rendered
    camera: Camera
    actions: list[Action]
    times: np.ndarray
    meta: dict
    rng: np.random.Generator
    vertices: list[np.ndarray]
    photographs: list[str]


def _people(
    rng: np.random.Generator,
    config: SynthConfig,
    key: tuple[int, int, int],
    cast: Cast,
    crowded: bool,
    times: np.ndarray,
    assets: Assets,
) -> list[tuple[Identity, Dressed, Action]]:
    """Everybody of a cast, dressed and where they act; one person where there is nobody."""
    body = studio(assets).body
    people: list[tuple[Identity, Dressed, Action]] = []
    for n, (part, age) in enumerate(zip(cast.parts, cast.ages, strict=True)):
        who = n % config.people  # rows have more people than there are bodies and outfits
        identity, dressed = _person(assets, (*key, who), config.split, config.worn, config.prints, age)
        if who != n:
            dressed = recoloured(rng, dressed)
        apart = not crowded and cast.rows is None
        others = [a.joints for _, _, a in people] if apart else []
        people.append(
            (identity, dressed, make_action(rng, body, identity, dressed, times, assets, config, others, part))
        )
    actions = [a for _, _, a in people]
    actions = spread_out(rng, actions) if crowded else placed(cast, actions)
    return [(i, d, a) for (i, d, _), a in zip(people, actions, strict=True)]


def _statue(config: SynthConfig, key: tuple[int, int, int], assets: Assets, rng: np.random.Generator) -> Piece:
    """Somebody in stone, who stands or plays."""
    body = studio(assets).body
    identity, dressed = _person(assets, (*key, 1000), config.split, config.worn, config.prints, None)
    part = player(rng) if rng.random() < 0.3 else Part(standing_motion, holds=False)
    action = make_action(rng, body, identity, dressed, np.zeros(1), assets, config, [], part)
    return statue(rng, body, dressed, action)


@lru_cache(maxsize=64)
def _picture(assets: Assets, split: str, backgrounds: PictureFolder | None, device: str, number: int) -> np.ndarray:
    """(256, 256, 3) uint8 of one or two people, for posters; the same for all clips of a split."""
    chances = {"worn": 0.4, "prints": 0.5, "sport": 0.3, "hard": 0.3, "empty": 0.0, "nobody": 0.0}
    config = SynthConfig(1, 256, 256, people=2, split=split, backgrounds=backgrounds, **chances)
    return generate_clip(config, 7_000_000 + number, 0, assets, device).rgb[0]


def _spheres(actions: list[Action], frames: int) -> np.ndarray:
    """(T, N, 4) centres and radii of what shades the surroundings of people."""
    radii = np.tile(np.array(list(SPHERES.values()))[:, None], (frames, 1, 1))
    chosen = [JOINTS.index(k) for k in SPHERES]
    found = [np.concatenate([a.joints[:, chosen], radii], -1) for a in actions]
    return np.concatenate(found or [np.zeros((frames, 1, 4))], 1)


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
    crowded = bool(config.crowd) and rng.random() < config.crowd and not empty
    count = 0 if empty else (1 if config.people == 1 else int(rng.integers(1 + crowded, config.people + 1)))
    cast = make_cast(config, seed, index, count)
    crowded = crowded and cast.rows is None
    count, people = cast.count, _people(rng, config, (seed, identity_index, code), cast, crowded, times, assets)
    shots = make_shots(rng, [a for _, _, a in people], crowded, cast, times, config, stills)
    camera = Camera(
        np.concatenate([c.intrinsics for c, _ in shots]), np.concatenate([c.world_to_camera for c, _ in shots])
    )
    people = set_gaze(config, seed, index, s.body, people, shots)
    everyone = np.concatenate([a.joints for _, _, a in people], 1)  # where one would be, if nobody is
    people = people[:count]
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
    photographs = set_plates(config, seed, index, surroundings, frames, stills)
    set_things(config, seed, index, s.body, surroundings, people, shots, everyone, cast.still)
    model = partial(_statue, config, (seed, identity_index, code), assets)
    picture = partial(_picture, assets, config.split, config.backgrounds, device)
    set_likenesses(config, seed, index, surroundings, people, shots, everyone, model, picture)
    set_light(config, seed, index, surroundings, camera)
    geometry = assemble(s.body, people, surroundings, frames)
    centre = everyone.mean((0, 1))
    reach = float(np.abs(everyone - centre).max()) + 0.7
    r = render(
        geometry,
        surroundings,
        camera,
        _spheres([a for _, _, a in people], frames),
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
    if surroundings.things:
        meta["things"] = [t.piece.name for t in surroundings.things]
    return Staged(r, camera, [a for _, _, a in people], times, meta, rng, geometry.person_vertices, photographs)


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
        "instances": r.person.numpy().reshape(shape),
    }
    developed, settings = develop_frames(st.rng, r, config, times, stills, device)
    rgb, settings = compress(st.rng, developed.numpy().reshape(*shape, 3), config, settings)
    persons = [keypoints_of(a, st.camera, truth["depth"], height, width) for a in st.actions]
    screen = r.screen.numpy()
    for n, (person, vertices) in enumerate(zip(persons, st.vertices, strict=True)):
        person.box = box_of_points(screen[:, vertices])
        person.visible_box = box_of_mask(truth["instances"] == n + 1)
    return _Rendered(rgb, truth, persons, st.camera, config.fps, st.meta | {"sensor": settings}, st.photographs)


def box_of_points(points: np.ndarray) -> np.ndarray:
    """(T, 4) left, top, right, bottom of screen positions (T, V, 3), of those before the camera; NaN without any."""
    ahead = points[..., 2] > 0.05
    out = np.full((len(points), 4), np.nan, np.float32)
    there = ahead.any(1)
    for k in range(2):  # along rows of memory: a fifth of the time of both at once
        along = np.ascontiguousarray(points[..., k])
        out[there, k] = np.where(ahead, along, np.inf).min(1)[there]
        out[there, k + 2] = np.where(ahead, along, -np.inf).max(1)[there]
    return out


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """(T, 4) left, top, right, bottom of the True pixels of (T, H, W), outer edges; NaN without any."""
    out = np.full((len(mask), 4), np.nan, np.float32)
    for t, frame in enumerate(mask):
        columns, rows = np.flatnonzero(frame.any(0)), np.flatnonzero(frame.any(1))
        if len(columns):
            out[t] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return out


def keypoints_of(action: Action, camera: Camera, depth: np.ndarray, height: int, width: int) -> Person:
    pixels, points = camera.project(action.joints)
    return Person(
        pixels.astype(np.float32), points.astype(np.float32), _visibility(pixels, points, depth, height, width)
    )
