"""Turns heads towards the camera, as many people in photographs look into it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Action
from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.camera import Camera
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.rotations import between

HEAD = JOINT_SETS["thfm32"].joints.index("head")
ASIDE, UP = 1.1, 0.6  # radians that necks turn the face from where the chest faces, at the most
STRAY = 0.08  # radians, about, by which a look misses the lens


def set_gaze(
    config: SynthConfig,
    seed: int,
    index: int,
    body: Body,
    people: list[tuple[Identity, Dressed, Action]],
    shots: list[tuple[Camera, str]],
) -> list[tuple[Identity, Dressed, Action]]:
    """The same people, of whom `gaze` look into the camera of a shot, if their necks allow it in all of its frames."""
    if not config.gaze:
        return people
    rng = np.random.default_rng([seed, index, int(config.digest(), 16), 8])
    return [(i, d, _looking(rng, config.gaze, body, i, action, shots)) for i, d, action in people]


def _looking(
    rng: np.random.Generator,
    share: float,
    body: Body,
    identity: Identity,
    action: Action,
    shots: list[tuple[Camera, str]],
) -> Action:
    centres = [camera.centres for camera, _ in shots]
    wanted = np.concatenate([np.full(len(c), rng.random() < share) for c in centres])
    stray = np.concatenate([np.tile(rng.normal(0, STRAY, 3), (len(c), 1)) for c in centres])
    towards = np.concatenate(centres) - action.joints[:, HEAD]
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True) + stray
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    chest = np.einsum("tba,tb->ta", action.deltas[:, body.index["spine01"]], towards)  # x left, y back, z up
    able = (np.abs(np.arctan2(chest[:, 0], -chest[:, 1])) < ASIDE) & (np.abs(np.arcsin(chest[:, 2])) < UP)
    ends = np.cumsum([len(c) for c in centres])
    able = np.concatenate([np.full(len(c), able[e - len(c) : e].all()) for c, e in zip(centres, ends, strict=True)])
    ahead = -action.deltas[:, body.index["head"], :, 1]
    looks = wanted & able
    if not looks.any():
        return action
    still = np.array([1.0, 0.0, 0.0, 0.0])
    turn = np.stack([between(a, t) if look else still for a, t, look in zip(ahead, towards, looks, strict=True)])
    deltas = body.turn_head(action.deltas, turn)
    root = action.deltas[:, 0] @ identity.heads[0] + action.offsets[:, 0]
    offsets, heads = body.pose(identity, deltas, root)
    joints = body.keypoints(identity, deltas, offsets, heads)
    return replace(action, deltas=deltas, offsets=offsets.astype(np.float32), joints=joints)
