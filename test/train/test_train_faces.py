"""Faces that cannot be read: where covers lie, and what they leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from train_fakes import Discs, tiny

from thfm_ros.model.readout import Keypoints
from thfm_ros.train.augment import augmented
from thfm_ros.train.data import draw
from thfm_ros.train.faces import FACE, HEAD, JOINTS, covered

KEYS = [(0, i) for i in range(40)]
PLACES = {"head_top": (0.5, 0.1), "neck": (0.5, 0.4), "nose": (0.5, 0.27), "left_eye": (0.55, 0.22)}
PLACES |= {"right_eye": (0.45, 0.22), "left_ear": (0.6, 0.24), "right_ear": (0.4, 0.24)}


@pytest.fixture
def videos() -> Tensor:
    """(40, 3, 2, 96, 80): noise, which no cover resembles."""
    return torch.rand(1, 3, 1, 96, 80, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).repeat(40, 1, 2, 1, 1)


def person(seen: list[int], frames: int = 2) -> Keypoints:
    """Someone whose head fills the upper middle, with those joints visible, forty times."""
    xy, visibility = torch.full((len(JOINTS.joints), 2), 0.9), torch.zeros(len(JOINTS.joints))
    for name, place in PLACES.items():
        xy[JOINTS.index(name)] = torch.tensor(place)
    visibility[seen] = 1.0
    xy, visibility = xy.repeat(40, frames, 1, 1), visibility.repeat(40, frames, 1)
    return Keypoints(xy, torch.zeros(*xy.shape[:3], 3), visibility)


def changed(before: Tensor, after: Tensor) -> Tensor:
    """(B, T, H, W) bool."""
    return (before != after).any(1)


def test_covers_lie_on_the_face_and_nowhere_else(videos: Tensor) -> None:
    differs = changed(videos, covered(videos, person(FACE + HEAD), KEYS, 1.0))
    assert differs.any((1, 2, 3)).all()
    around = differs.any((0, 1))
    assert around[int(0.25 * 96), 40]
    assert not around[int(0.6 * 96) :].any()
    assert not around[:, :8].any()


def test_a_share_of_the_videos_is_covered_as_the_keys_say(videos: Tensor) -> None:
    some = covered(videos, person(FACE), KEYS, 0.5)
    count = int(changed(videos, some).any((1, 2, 3)).sum())
    assert 10 < count < 30
    assert torch.equal(some, covered(videos, person(FACE), KEYS, 0.5))
    assert torch.equal(videos, covered(videos, person(FACE), KEYS, 0.0))


def test_a_head_from_behind_is_covered_now_and_then_and_one_out_of_sight_never(videos: Tensor) -> None:
    ear = JOINTS.index("left_ear")
    behind = changed(videos, covered(videos, person([ear]), KEYS, 1.0)).any((1, 2, 3))
    assert 0 < int(behind.sum()) < 25
    assert torch.equal(videos, covered(videos, person([]), KEYS, 1.0))


def test_a_face_is_covered_in_the_frames_that_show_it(videos: Tensor) -> None:
    points = person(FACE)
    points.visibility[:, 1] = 0.0
    differs = changed(videos, covered(videos, points, KEYS, 1.0)).any((2, 3))
    assert differs[:, 0].any()
    assert not differs[:, 1].any()


def test_training_covers_faces_and_keeps_the_truth() -> None:
    top, neck = JOINTS.index("head_top"), JOINTS.index("neck")
    clips = [Discs()(i) for i in range(4)]
    for clip in clips:
        clip.xy[:, top, 1] -= 0.2
        clip.xy[:, neck, 1] += 0.2
    plain, hidden = (tiny(seed=3, augment={"mirror": 0.5, "faces": share}) for share in (0.0, 1.0))
    before, after = (augmented(clips, draw(config, 3), config, torch.device("cpu")) for config in (plain, hidden))
    assert changed(before.rgb, after.rgb).any((1, 2, 3)).all()
    assert torch.equal(before.alpha, after.alpha)
    for a, b in zip(before.keypoints, after.keypoints, strict=True):
        assert torch.equal(a, b)
