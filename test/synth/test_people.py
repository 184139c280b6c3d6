"""Whose pixel it is, everybody's boxes and joints, and crowds."""

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip

CROWD = {"height": 96, "width": 160, "people": 6, "crowd": 1.0, "empty": 0.0, "sensor": False}


@pytest.fixture(scope="module")
def stills(assets) -> list[Clip]:
    config = SynthConfig(frames=1, identities=4, **CROWD)
    return [generate_clip(config, 4, i, assets) for i in range(16)]


def test_every_pixel_of_people_is_somebodys(stills) -> None:
    for clip in stills:
        assert np.array_equal(clip.instances > 0, clip.human_mask)
        assert clip.instances.max() <= len(clip.people)


def test_a_pixel_is_theirs_whose_joints_are_nearest_to_it_in_space(stills) -> None:
    right = total = 0
    for clip in stills:
        rows, columns = np.nonzero(clip.instances[0])
        if not len(rows):
            continue
        z, k = clip.depth[0, rows, columns], clip.intrinsics[0]
        points = np.stack([(columns + 0.5 - k[0, 2]) / k[0, 0] * z, (rows + 0.5 - k[1, 2]) / k[1, 1] * z, z], -1)
        gaps = [np.linalg.norm(points[:, None] - p.keypoints_3d[0][None], axis=-1).min(1) for p in clip.people]
        right += (np.argmin(gaps, 0) + 1 == clip.instances[0, rows, columns]).sum()
        total += len(rows)
    assert right > 0.97 * total > 0


def test_boxes_hold_people_whole_and_what_shows_of_them(stills) -> None:
    seen = hidden = 0
    for clip in stills:
        for number, person in enumerate(clip.people, 1):
            mask = clip.instances[0] == number
            assert np.isnan(person.visible_box[0]).all() == (not mask.any())
            if not mask.any():
                hidden += 1
                continue
            seen += 1
            rows, columns = np.nonzero(mask)
            assert person.visible_box[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # What shows lies within the whole; hair and wide hems may stand out by a little.
            assert (person.box[0, :2] <= person.visible_box[0, :2] + 2).all()
            assert (person.box[0, 2:] >= person.visible_box[0, 2:] - 2).all()
            behind = person.keypoints_3d[0, :, 2] < 0.1
            if not behind.any():
                assert (person.keypoints_2d[0] >= person.box[0, :2] - 1).all()
                assert (person.keypoints_2d[0] <= person.box[0, 2:] + 1).all()
    assert seen > 20
    assert hidden > 0


def test_crowds_are_two_to_six_from_near_to_far_and_hide_one_another(stills) -> None:
    assert {len(c.people) for c in stills} <= set(range(2, 7))
    depths = [p.keypoints_3d[0, 0, 2] for c in stills for n, p in enumerate(c.people, 1) if (c.instances == n).any()]
    assert min(depths) < 3 < 6 < max(depths) < 14
    occluded = 0
    for clip in stills:
        for number, person in enumerate(clip.people, 1):
            x, y = person.keypoints_2d[0].T.astype(int)
            inside = (x >= 0) & (x < 160) & (y >= 0) & (y < 96)
            whose = clip.instances[0, y[inside], x[inside]]
            deeper = person.keypoints_3d[0, inside, 2] - clip.depth[0, y[inside], x[inside]] > 0.2
            others = (whose > 0) & (whose != number) & deeper
            assert (person.visibility[0, inside][others] == 0.5).all()
            occluded += others.sum()
    assert occluded > 20


def test_people_in_moving_crowds_keep_their_numbers(assets) -> None:
    config = SynthConfig(frames=3, fps=12, **CROWD)
    moved = []
    for index in range(3):
        clip = generate_clip(config, 4, index, assets)
        for number in range(1, len(clip.people) + 1):
            before, after = clip.instances[0] == number, clip.instances[1] == number
            if min(before.sum(), after.sum()) > 60:
                centres = [np.array([np.nonzero(m)[1].mean(), np.nonzero(m)[0].mean()]) for m in (before, after)]
                moved.append(np.linalg.norm(centres[1] - centres[0]))
    assert len(moved) > 3
    assert np.median(moved) < 12


def test_crowds_are_off_by_default_and_need_people() -> None:
    assert "crowd" not in SynthConfig(people=6).settings()
    assert SynthConfig(people=6).digest() != SynthConfig(people=6, crowd=0.5).digest()
    with pytest.raises(UserError, match="at least 2 people"):
        SynthConfig(crowd=0.5)
    with pytest.raises(UserError, match="share in 0"):
        SynthConfig(people=2, crowd=1.5)
