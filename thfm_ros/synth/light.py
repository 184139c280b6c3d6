"""Light as photographs have it: a flash, a hard sun, darkness, and photographs in the light of who stands before them.

Each draws from a random stream of its own, so that clips without it stay as they were.
"""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.camera import Camera
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.materials import linear
from thfm_ros.synth.scene import Surroundings

DIFFUSE = 0.282  # of constant radiance's first harmonic coefficient: what a white surface sends back
GREY = 0.25  # what people and things reflect on average


def set_light(config: SynthConfig, seed: int, index: int, surroundings: Surroundings, camera: Camera) -> None:
    """Hard light on `hard` of the clips, then photographs `matched` to it, then less light for `dark` of the others."""
    code = int(config.digest(), 16)
    hard = False
    if config.hard:
        hard = _set_hard(np.random.default_rng([seed, index, code, 5]), config.hard, surroundings, camera)
    if config.matched and surroundings.plates is not None:
        _match_plates(np.random.default_rng([seed, index, code, 6]), config.matched, surroundings)
    if config.dark and not hard:
        _set_dark(np.random.default_rng([seed, index, code, 3]), config.dark, surroundings)


def _set_dark(rng: np.random.Generator, share: float, surroundings: Surroundings) -> None:
    """Less light; a photograph behind people stays bright or gets as dark."""
    if rng.random() >= share:
        return
    level = float(np.exp(rng.uniform(np.log(0.06), np.log(0.4))))
    surroundings.exposure *= level
    if surroundings.plates is not None and rng.random() < 0.6:
        surroundings.plates = (surroundings.plates * level ** (1 / 2.2)).astype(np.uint8)


def _set_hard(rng: np.random.Generator, share: float, surroundings: Surroundings, camera: Camera) -> bool:
    """A flash beside the lens, before which what is behind gets dark; or one light and little of all others. Returns
    whether it came to be."""
    if rng.random() >= share:
        return False
    s = surroundings
    ambient = float(s.harmonics[0].mean()) * DIFFUSE
    if rng.random() < 0.4:
        beside = rng.normal((0.0, 0.0, 0.1), 0.12)
        towards = -camera.world_to_camera[0, 2, :3] + beside
        s.sun = towards / np.linalg.norm(towards)
        s.sun_colour = ambient * rng.uniform(1.5, 6.0) * linear(np.array([1.0, rng.uniform(0.94, 1.0), 0.97]))
        s.harmonics = s.harmonics * rng.uniform(0.15, 0.6)
        if s.plates is not None and rng.random() < 0.7:
            s.plates = _graded(s.plates, np.full(3, rng.uniform(0.08, 0.6)))
    else:
        s.sun_colour = s.sun_colour * (rng.uniform(2.0, 5.0) * ambient / max(float(s.sun_colour.mean()), 1e-4))
        s.harmonics = s.harmonics * rng.uniform(0.3, 0.9)
    level = float(s.harmonics[0].mean()) * DIFFUSE + 0.35 * float(s.sun_colour.mean())
    s.exposure = float(rng.uniform(0.4, 0.9) / max(level, 1e-4))
    return True


def _match_plates(rng: np.random.Generator, share: float, surroundings: Surroundings) -> None:
    """Photographs as bright as what people reflect, and the people's light a little in the photographs' colour."""
    if rng.random() >= share:
        return
    s = surroundings
    assert s.plates is not None
    means = linear(s.plates[:, ::4, ::4] / 255.0).mean((1, 2))  # (1 or T, 3)
    shown = s.exposure * (s.harmonics[0] * DIFFUSE + 0.35 * s.sun_colour)
    target, strength = GREY * float(shown.mean()), rng.uniform(0.4, 0.9)
    gains = np.clip(target / np.maximum(means.mean(1), 0.02), 0.3, 3.0) ** strength
    s.plates = np.concatenate([_graded(p[None], np.full(3, g)) for p, g in zip(s.plates, gains, strict=True)])
    tint = means.mean(0) / max(float(means.mean()), 1e-4)
    tint = np.clip(tint, 0.5, 2.0) ** rng.uniform(0.1, 0.5)
    s.harmonics, s.sun_colour = s.harmonics * tint, s.sun_colour * tint


def _graded(plates: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Photographs (N, H, W, 3) uint8 times a gain (3,) of linear light, bright ones softly limited."""
    light = linear(np.arange(256) / 255.0)[:, None] * gain
    light = np.where(light > 0.7, 1 - 0.3 * np.exp(-np.maximum(light - 0.7, 0) / 0.3), light)
    table = np.clip(light ** (1 / 2.2) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.stack([table[plates[..., k], k] for k in range(3)], -1)
