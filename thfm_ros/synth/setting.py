"""Sets a scene up: cameras, photographs behind the people, things about them.

What came after the first clips draws from random streams of its own, so that clips without it stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Action
from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.camera import (
    Camera,
    make_camera,
    make_close_camera,
    make_crowd_camera,
    make_rows_camera,
    make_shoulder_camera,
    make_still_camera,
)
from thfm_ros.synth.casting import Cast
from thfm_ros.synth.clutter import PHOTOGRAPHS
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.figures import poster
from thfm_ros.synth.furniture import Piece
from thfm_ros.synth.places import textures, views
from thfm_ros.synth.placing import (
    Shot,
    furniture_of,
    in_hand,
    out_of_the_way,
    place_piece,
    place_things,
    still_life,
    under_feet,
)
from thfm_ros.synth.scene import Surroundings
from thfm_ros.synth.things import SEATS

PICTURES = 24  # of people, for posters
UNDER = (*SEATS, "two-wheeler", "wheelchair", "horse", "pram")  # what carries somebody, and so stays where they are
JOINTS = JOINT_SETS["thfm32"].joints
# What may show the photographs' textures.
PHOTOGRAPHED = ("things", "rest", "held", "worn", "sport", "rides", "still", "posters")

AWAY = (np.log(1.5), np.log(6.0))  # of how many times as far away as usual a camera may be


def photographer(config: SynthConfig, seed: int, index: int) -> np.random.Generator:
    """Gives the random stream of what photographs decide. The scene's own stays the same with and without them."""
    return np.random.default_rng([seed, index, int(config.digest(), 16), 1])


def make_shots(
    rng: np.random.Generator,
    actions: list[Action],
    crowded: bool,
    cast: Cast,
    times: np.ndarray,
    config: SynthConfig,
    stills: bool,
) -> list[tuple[Camera, str]]:
    """One camera for a clip, or one a still, and its framing: of the first person, or of a crowd; `close` of them cut
    through that person, or look at the others past somebody's shoulder."""
    groups = [slice(i, i + 1) for i in range(len(times))] if stills else [slice(None)]
    if cast.still:
        middle = actions[0].joints.mean((0, 1))
        return [make_still_camera(rng, middle, times[g], config.height, config.width) for g in groups]
    size, main = (config.height, config.width), actions[0]
    head = main.joints[:, [JOINTS.index("head"), JOINTS.index("head_top")]]

    def shot(g: slice) -> tuple[Camera, str]:
        everyone = [a.joints[g] for a in actions]
        if config.close and rng.random() < config.close:
            if len(actions) > 1 and (crowded or rng.random() < 0.5):
                return make_shoulder_camera(rng, everyone, times[g], *size)
            return make_close_camera(rng, main.joints[g], times[g], *size)
        if cast.rows is not None:
            return make_rows_camera(rng, everyone, cast.rows.yaw, times[g], *size)
        if crowded:
            return make_crowd_camera(rng, np.concatenate(everyone, 1), times[g], *size)
        away = float(np.exp(rng.uniform(*AWAY))) if config.far and rng.random() < config.far else 1.0
        return make_camera(rng, main.joints[g], head[g], times[g], *size, main.yaw, away)

    return [shot(g) for g in groups]


def set_plates(
    config: SynthConfig, seed: int, index: int, surroundings: Surroundings, frames: int, stills: bool
) -> list[str]:
    """Photographs behind the people of `composed` of the clips; their names. Each still has one of its own."""
    if config.backgrounds is None:
        return []
    rng = photographer(config, seed, index)
    rng.random()  # whether this one shows nobody
    if rng.random() >= config.composed:
        return []
    shape = (config.height, config.width)
    count, each = (frames, 1) if stills else (1, frames)
    made = [views(rng, config.backgrounds, each, *shape) for _ in range(count)]
    surroundings.plates = np.concatenate([plate for plate, _ in made])
    return [name for _, name in made]


def set_things(
    config: SynthConfig,
    seed: int,
    index: int,
    body: Body,
    surroundings: Surroundings,
    people: list[tuple[Identity, Dressed, Action]],
    shots: list[tuple[Camera, str]],
    everyone: np.ndarray,
    still: bool,
) -> None:
    """What people sit on and hold, and things near the people of `things` of the clips, or where they would be."""
    rng = np.random.default_rng([seed, index, int(config.digest(), 16), 2])
    scattered = rng.random() < config.things
    if config.backgrounds is not None and any(getattr(config, name) for name in PHOTOGRAPHED):
        surroundings.textures = textures(rng, config.backgrounds, PHOTOGRAPHS)
    if still:
        surroundings.things += still_life(rng, config.split, everyone.mean((0, 1)), len(everyone))
        return
    seen = _seen(config, people, shots, everyone)
    for _, _, action in people:
        furniture = furniture_of(rng, action)
        surroundings.things += [t if t.piece.name in UNDER else out_of_the_way(rng, t, seen) for t in furniture]
        surroundings.things += in_hand(rng, body, action) + under_feet(rng, action)
    if scattered:
        surroundings.things += place_things(rng, config.split, seen, len(everyone))


def _seen(
    config: SynthConfig,
    people: list[tuple[Identity, Dressed, Action]],
    shots: list[tuple[Camera, str]],
    everyone: np.ndarray,
) -> list[Shot]:
    """Each shot with who is in its frames."""
    main = people[0][2].joints if people else everyone
    head = main[:, [JOINTS.index("head"), JOINTS.index("head_top")]]
    ends = np.cumsum([len(camera.intrinsics) for camera, _ in shots])
    own = [slice(end - len(camera.intrinsics), end) for end, (camera, _) in zip(ends, shots, strict=True)]
    size = (config.height, config.width)
    return [Shot(c, everyone[s], main[s], head[s], size) for s, (c, _) in zip(own, shots, strict=True)]


def set_likenesses(
    config: SynthConfig,
    seed: int,
    index: int,
    surroundings: Surroundings,
    people: list[tuple[Identity, Dressed, Action]],
    shots: list[tuple[Camera, str]],
    everyone: np.ndarray,
    model: Callable[[np.random.Generator], Piece],
    picture: Callable[[int], np.ndarray],
) -> None:
    """A statue, made by `model`, in `statues` of the clips, and in `posters` of them one or two flat things that show
    `picture(k)`, (256, 256, 3) uint8, k < PICTURES."""
    if not config.statues and not config.posters:
        return
    rng = np.random.default_rng([seed, index, int(config.digest(), 16), 7])
    seen = _seen(config, people, shots, everyone)
    if rng.random() < config.statues:
        surroundings.things.append(place_piece(rng, model(rng), seen, len(everyone), rng.random() < 0.3))
    if rng.random() < config.posters:
        base = surroundings.textures
        if base is None:  # things go on to show what they did
            base = np.zeros((PHOTOGRAPHS, 256, 256, 3), np.uint8) + rng.integers(
                60, 200, (PHOTOGRAPHS, 1, 1, 3), np.uint8
            )
        shown = [picture(int(rng.integers(PICTURES))) for _ in range(int(rng.integers(1, 3)))]
        surroundings.textures = np.concatenate([base, np.stack(shown)])
        for k in range(len(shown)):
            piece = poster(rng, len(base) + k)
            surroundings.things.append(place_piece(rng, piece, seen, len(everyone)))
