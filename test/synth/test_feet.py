"""People stand on the ground: feet neither slide nor sink nor float."""

import numpy as np
import pytest

from thfm_ros.synth import feet, motion
from thfm_ros.synth.action import place_on_ground
from thfm_ros.synth.clip import studio
from thfm_ros.synth.outfit import dress

TIMES = np.arange(25) / 24


@pytest.fixture(scope="module")
def shared(assets):
    return studio(assets)


def walked(shared, assets, name: str, seed: int):
    """Sole points (T, 2, N, 3) in the motion's own world and in the clip's, where they stood in the former (T - 1,
    2), and the body's lowest point (T,) in the latter above its soles."""
    body, rng = shared.body, np.random.default_rng(seed)
    person = body.identity(rng)
    dressed = dress(body, shared.wardrobe, person, np.random.default_rng(seed))  # looks do not change the motion
    m = motion.from_humanoid(name, assets.motions[name].astype(float), bool(assets.motions[f"{name}.loop"]))
    rotations, root = motion.sample(m, rng.uniform(0, max(m.duration - TIMES[-1], 0)) + TIMES)
    rotations = motion.joint_noise(rng, rotations, TIMES, 0.03)
    deltas = body.bone_deltas(person, rotations, np.zeros((len(TIMES), 2, 8)))
    root = root * body.leg_length(person.heads)
    before = feet.soles(body, person, deltas, body.pose(person, deltas, root)[0])
    planted, offsets, _, shift = place_on_ground(body, person, dressed, deltas, root, TIMES)
    offsets = offsets + shift[:, None]
    after = feet.soles(body, person, planted, offsets)
    low = body.skin_points(person.vertices, np.unique(body.faces["body"])[::4], planted, offsets)[..., 2].min(1)
    lowest = before[..., 2].min((1, 2))
    height = before[..., 2].max(2) - lowest[:, None]  # of the whole sole: flat on the ground
    speed = np.linalg.norm(np.diff(before[..., :2].mean(2), axis=0), axis=-1) * 24
    stood = (np.maximum(height[1:], height[:-1]) < 0.05) & (speed < 0.2)
    return after, stood, low - dressed.sole * 0.98


@pytest.mark.parametrize("name", ["walk", "run", "jump"])
def test_a_foot_that_stands_in_the_motion_stands_on_the_ground(shared, assets, name):
    speeds, heights = [], []
    for seed in range(8):
        soles, stood, low = walked(shared, assets, name, seed)
        speeds.append(np.linalg.norm(np.diff(soles, axis=0)[..., :2].mean(2), axis=-1)[stood] * 24)
        heights.append(low[1:][stood.any(1)])
        assert low.min() > -0.02
    speeds = np.concatenate(speeds)
    assert len(speeds) > 4
    assert np.median(speeds) < 0.05  # metres a second
    assert np.quantile(speeds, 0.95) < 0.2  # the last moment of a step may still slip
    assert np.abs(np.concatenate(heights)).max() < 0.02


def test_legs_reach_their_target_and_keep_their_length():
    rng = np.random.default_rng(0)
    hip = rng.normal(size=(200, 3))
    flexion = rng.uniform(0.0, 1.5, 200)
    knee = hip + np.array([0, 0, -0.45])
    shank = 0.42 * np.stack([np.zeros(200), np.sin(flexion), -np.cos(flexion)], 1)
    target = knee + shank + rng.uniform(-0.06, 0.06, (200, 3))
    upper, lower = feet.bend(hip, knee, knee + shank, target, np.tile([1.0, 0, 0], (200, 1)))
    assert np.allclose(upper @ np.swapaxes(upper, 1, 2), np.eye(3), atol=1e-9)
    assert np.allclose(lower @ np.swapaxes(lower, 1, 2), np.eye(3), atol=1e-9)
    found = hip + np.einsum("tij,tj->ti", upper, knee - hip) + np.einsum("tij,tj->ti", lower, shank)
    reach = np.linalg.norm(target - hip, axis=1)
    within = reach < 0.998 * 0.87
    assert 50 < within.sum() < 200
    assert np.allclose(found[within], target[within], atol=1e-9)
    # Beyond its length a leg points there, straight.
    assert np.allclose(np.cross(found - hip, target - hip)[~within], 0, atol=1e-9)
    assert np.linalg.norm(found - hip, axis=1).max() <= 0.87 + 1e-9
