"""Heads that turn towards the camera."""

import numpy as np
import pytest

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Part, make_action
from thfm_ros.synth.camera import Camera, look_at
from thfm_ros.synth.clip import studio
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.gaze import set_gaze
from thfm_ros.synth.outfit import dress
from thfm_ros.synth.posture import standing_motion

JOINTS = JOINT_SETS["thfm32"].joints


@pytest.fixture(scope="module")
def standing(assets):
    """Somebody who stands for three frames and faces -y."""
    shared, rng = studio(assets), np.random.default_rng(4)
    identity = shared.body.identity(rng)
    dressed = dress(shared.body, shared.wardrobe, identity, rng)
    times = np.arange(3) / 12
    action = make_action(
        rng, shared.body, identity, dressed, times, assets, SynthConfig(), [], Part(standing_motion, 0)
    )
    return shared.body, identity, dressed, action


def seen_from(standing, bearing: float):
    """The same one before a camera of that bearing, radians to the person's left, and the camera's place."""
    body, identity, dressed, action = standing
    middle = action.joints[:, JOINTS.index("head")]
    eye = middle + 3 * np.array([np.sin(bearing), -np.cos(bearing), 0.05])
    shot = (Camera(np.ones((3, 4)), look_at(eye, middle)), "full")
    (_, _, turned), *_ = set_gaze(SynthConfig(gaze=1.0), 0, 0, body, [(identity, dressed, action)], [shot])
    return turned, eye


def missed(body, action, eye) -> float:
    """Degrees between where the face looks and the camera."""
    ahead = -action.deltas[:, body.index["head"], :, 1]
    towards = eye - action.joints[:, JOINTS.index("head")]
    return float(np.degrees(np.arccos((ahead * towards).sum(1) / np.linalg.norm(towards, axis=1))).max())


@pytest.mark.parametrize("bearing", [-0.5, 0.2, 0.5])
def test_a_face_turns_to_a_camera_before_it_and_the_body_stays(standing, bearing):
    body, _, _, action = standing
    turned, eye = seen_from(standing, bearing)
    assert missed(body, turned, eye) < 15
    trunk = [JOINTS.index(j) for j in ("pelvis", "spine3", "left_wrist", "right_ankle")]
    assert np.allclose(turned.joints[:, trunk], action.joints[:, trunk], atol=1e-4)
    assert missed(body, turned, eye) < missed(body, action, eye)
    nose = JOINTS.index("nose")
    assert np.linalg.norm(turned.joints[:, nose] - action.joints[:, nose], axis=-1).min() > 0.005


def test_necks_do_not_turn_to_the_back(standing):
    turned, _ = seen_from(standing, 2.5)
    assert turned is standing[3]
