"""Augmented clips keep true ground truth: mirrors, windows and colours."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from train_fakes import Discs, tiny

from thfm_ros.errors import UserError
from thfm_ros.skeleton import get_joint_set
from thfm_ros.train.augment import View, _seen, _seen_near, around_one, augment, augmented
from thfm_ros.train.config import AppearanceConfig, AugmentConfig, WindowConfig
from thfm_ros.train.data import draw
from thfm_ros.train.samples import ClipBatch, TrainingClip
from thfm_ros.train.trainer import Trainer

SAME = View(False, 1.0, 0.5, 0.5, (1.0, 1.0, 1.0), 1.0)
MIRROR = SAME._replace(mirror=True)


@pytest.fixture
def batch() -> ClipBatch:
    made = ClipBatch.of([Discs()(i) for i in range(3)])
    points = made.keypoints
    generator = torch.Generator().manual_seed(0)
    xy, xyz = (torch.rand(x.shape, generator=generator) for x in (points.xy, points.xyz))
    return replace(made, keypoints=points._replace(xy=xy, xyz=xyz))


def test_the_view_of_everything_changes_little_but_the_range_of_disparity(batch: ClipBatch) -> None:
    seen = augment(batch, [SAME] * 3)
    for name in ("rgb", "alpha", "dense_pose", "normals"):
        assert_close(getattr(seen, name), getattr(batch, name), atol=1e-4, rtol=0)
    for value, before in zip(seen.keypoints, batch.keypoints, strict=True):
        assert_close(value, before)
    for task in ("scene_depth", "human_depth"):
        inside, mask = seen.target(task)[:, :1], seen.mask(task)
        low, high = (torch.stack([f(v[m]) for v, m in zip(inside, mask, strict=True)]) for f in (torch.min, torch.max))
        assert_close(low, -torch.ones(3))
        assert_close(high, torch.ones(3))


def test_two_mirrors_are_none(batch: ClipBatch) -> None:
    once = augment(batch, [MIRROR] * 3)
    assert_close(once.rgb, batch.rgb.flip(-1), atol=1e-4, rtol=0)
    assert_close(once.normals[:, 0], -batch.normals.flip(-1)[:, 0], atol=1e-4, rtol=0)
    twice = augment(once, [MIRROR] * 3)
    for name in ("rgb", "alpha", "normals", "dense_pose"):
        assert_close(getattr(twice, name), getattr(batch, name), atol=1e-3, rtol=0)
    for value, before in zip(twice.keypoints, batch.keypoints, strict=True):
        assert_close(value, before)


def test_a_mirror_swaps_the_sides_of_the_body(batch: ClipBatch) -> None:
    joints = get_joint_set("thfm32").joints
    left, right = joints.index("left_wrist"), joints.index("right_wrist")
    before, after = batch.keypoints, augment(batch, [MIRROR] * 3).keypoints
    assert_close(after.xy[:, :, left, 0], 1 - before.xy[:, :, right, 0])
    assert_close(after.xy[:, :, left, 1], before.xy[:, :, right, 1])
    assert_close(after.xyz[:, :, left] * torch.tensor([-1.0, 1.0, 1.0]), before.xyz[:, :, right])
    pose, alpha = batch.dense_pose[:, 0], batch.alpha[:, 0]
    body = alpha.flip(-1) > 0.99
    mirrored = augment(batch, [MIRROR] * 3).dense_pose[:, 0]
    assert_close(mirrored[body], 1 - pose.flip(-1)[body], atol=1e-3, rtol=0)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_window_shows_the_same_thing_at_every_keypoint(mirror: bool) -> None:
    still = Discs(frames=1)
    batch = ClipBatch.of([still(i) for i in range(4)])  # every joint lies at the centre of the disc
    views = [SAME._replace(mirror=mirror, zoom=0.75, x=x, y=0.5) for x in (0.4, 0.45, 0.55, 0.6)]
    seen = augment(batch, views)
    height, width = seen.rgb.shape[-2:]
    inside = 0
    for i, points in enumerate(seen.keypoints.xy[:, 0, 0]):
        x, y = (points * torch.tensor([width, height])).long().tolist()
        if 0 <= x < width and 0 <= y < height:
            inside += 1
            assert seen.alpha[i, 0, 0, y, x] == 1
            assert seen.normals[i, 2, 0, y, x] < -0.9  # the middle of the disc looks at the camera
    assert inside >= 2
    growth = seen.alpha.flatten(1).mean(1) / batch.alpha.flatten(1).mean(1)
    assert growth.max() == pytest.approx(1 / 0.75**2, abs=0.15)  # of a disc that the window does not cut


def test_a_rolled_camera_turns_what_it_sees_and_what_is_known_of_it(batch: ClipBatch) -> None:
    height, width = batch.rgb.shape[-2:]
    square, left = batch.rgb[..., width - height :], 1 - height / width
    view = SAME._replace(roll=torch.pi / 2, x=1 - height / width / 2)
    seen = augment(batch, [view] * 3, height)
    assert_close(seen.rgb, square.rot90(-1, (-1, -2)), atol=1e-3, rtol=0)
    x, y = batch.normals[:, 0, ..., width - height :], batch.normals[:, 1, ..., width - height :]
    turned = torch.stack((y, -x), 1).rot90(-1, (-1, -2))
    assert_close(seen.normals[:, :2], turned, atol=1e-3, rtol=0)
    before, after = batch.keypoints, seen.keypoints
    assert_close(after.xyz, torch.stack((before.xyz[..., 1], -before.xyz[..., 0], before.xyz[..., 2]), -1))
    inside_square = (before.xy[..., 0] - left) * width / height
    assert_close(after.xy, torch.stack((before.xy[..., 1], 1 - inside_square), -1))


@pytest.mark.parametrize("mirror", [False, True])
def test_a_camera_rolled_there_and_back_sees_what_it_saw(batch: ClipBatch, mirror: bool) -> None:
    there, back = (SAME._replace(mirror=mirror, roll=roll) for roll in (0.4, 0.4 if mirror else -0.4))
    twice = augment(augment(batch, [there] * 3), [back] * 3)
    known = twice.keypoints.visibility > 0
    for value, before in zip(twice.keypoints[:2], batch.keypoints[:2], strict=True):
        assert_close(value, before)
    assert known.any()
    middle = (..., slice(12, 20), slice(18, 30))
    assert_close(twice.normals[middle], batch.normals[middle], atol=0.35, rtol=0)  # "nearest", twice


def test_joints_outside_the_window_are_outside_and_unknown_ones_stay_unknown(batch: ClipBatch) -> None:
    visibility = batch.keypoints.visibility.clone()
    visibility[:, :, 5] = -1
    batch = replace(batch, keypoints=batch.keypoints._replace(visibility=visibility), alpha=0 * batch.alpha)
    seen = augment(batch, [SAME._replace(zoom=0.5, x=0.25, y=0.25)] * 3).keypoints
    gone = (batch.keypoints.xy > 0.5).any(-1)
    known = visibility >= 0
    assert (seen.visibility[gone & known] == 0).all()
    assert (seen.visibility[~gone & known] == 1).all()
    assert (seen.visibility[~known] == -1).all()


def test_joints_are_unknown_where_most_of_them_are_cut_away_and_somebody_is_seen(batch: ClipBatch) -> None:
    alpha = torch.ones_like(batch.alpha)
    alpha[2] = 0
    quarter, most = (SAME._replace(zoom=zoom, x=zoom / 2, y=zoom / 2) for zoom in (0.5, 0.9))
    seen = augment(replace(batch, alpha=alpha), [quarter, most, quarter]).keypoints.visibility
    assert (seen[0] == -1).all()
    assert (seen[1:] >= 0).all()
    assert 0 < (seen[2] > 0).float().mean() < 0.5  # nobody else is there who might be meant


def test_colours_change_the_picture_alone(batch: ClipBatch) -> None:
    seen = augment(batch, [SAME._replace(gains=(0.5, 1.0, 1.0), gamma=2.0)] * 3)
    before = batch.rgb / 2 + 0.5
    assert_close(seen.rgb[:, 0] / 2 + 0.5, (before[:, 0] / 2) ** 2, atol=1e-3, rtol=0)
    assert_close(seen.alpha, batch.alpha, atol=1e-4, rtol=0)


def test_views_are_a_function_of_their_key() -> None:
    config = AugmentConfig(mirror=0.5, zoom=0.7, colour=0.2)
    views = [View.draw(config, 1, 2, clip) for clip in range(200)]
    assert views == [View.draw(config, 1, 2, clip) for clip in range(200)]
    assert 60 < sum(v.mirror for v in views) < 140
    for view in views:
        assert 0.7 <= view.zoom <= 1
        assert view.zoom / 2 <= view.x <= 1 - view.zoom / 2
    assert View.draw(AugmentConfig(), 3) == SAME


def test_training_sees_other_views_and_kept_latents_refuse_them(tmp_path) -> None:
    def loss(name: str, **kwargs) -> float:
        trainer = Trainer(tiny(stage="pixel", steps=1, **kwargs), tmp_path / name, Discs())
        values, _ = trainer._step(trainer._batches([Discs()(c) for c in trainer._draw(0).clips]))
        return float(values.mean())

    views = {"mirror": 1.0, "zoom": 0.6, "colour": 0.3}
    assert loss("plain") == loss("again")
    assert loss("views", augment=views) != loss("plain2")
    with pytest.raises(UserError, match="kept ones know one view"):
        Trainer(tiny(latents="memory", augment=views), tmp_path / "latent", Discs())


@pytest.mark.parametrize("mirror", [False, True])
def test_a_window_that_is_not_zoomed_is_as_sharp_as_the_image(batch: ClipBatch, mirror: bool) -> None:
    width = batch.rgb.shape[-1]
    views = [SAME._replace(mirror=mirror, x=0.25 + i / 48) for i in range(3)]
    seen = augment(batch, views, width // 2)
    for view, window, whole in zip(views, seen.rgb, batch.rgb, strict=True):
        left = round((view.x - 0.25) * width)
        part = whole[..., left : left + width // 2]
        assert_close(window, part.flip(-1) if mirror else part, atol=1e-4, rtol=0)
    assert len({view.x for view in views}) > 1


def two_people(frames: int = 2, height: int = 72, width: int = 120) -> TrainingClip:
    """A tall person at x = 30 and a small one at x = 90; every joint of each lies in their middle."""
    rgb = np.zeros((frames, height, width, 3), np.uint8)
    ids = np.zeros((frames, height, width), np.uint8)
    ids[:, 10:60, 20:40], ids[:, 30:50, 84:96] = 1, 2
    rgb[..., 0], rgb[..., 1] = ids * 100, (ids == 0) * 80
    middles = np.array([[30 / width, 35 / height], [90 / width, 40 / height]], np.float32)
    xy = np.tile(middles[None, :, None], (frames, 1, 32, 1))
    xyz = np.tile(np.linspace(0, 1, 32)[:, None], (frames, 2, 1, 3)) + np.array([0, 5])[:, None, None]
    visibility = np.ones((frames, 2, 32), np.float32)
    alpha = np.where(ids > 0, 255, 0).astype(np.uint8)
    return TrainingClip(
        rgb=rgb,
        alpha=alpha,
        dense_pose=np.repeat(alpha[..., None], 3, -1),
        normals=np.zeros_like(rgb, dtype=np.int8) + np.array([0, 0, -127], np.int8),
        scene_disparity=np.zeros(alpha.shape, np.float16),
        human_disparity=(alpha / 255).astype(np.float16),
        xy=xy[:, 0],
        xyz=xyz[:, 0].astype(np.float32),
        visibility=visibility[:, 0],
        instances=ids,
        people_xy=xy,
        people_xyz=xyz.astype(np.float32),
        people_visibility=visibility,
    )


def window_of(clip: TrainingClip, config: WindowConfig, key: int, size: tuple[int, int] = (56, 72)):
    """The drawn view, who is meant (0 or 1), and the batch that the window shows."""
    chosen, view = around_one(SAME, clip, config, size, key)
    person = int(chosen.xyz[0, 0, 0] > 2)
    return view, person, augment(ClipBatch.of([chosen]), [view], *size)


def test_a_window_around_one_person_holds_them_in_the_middle_with_their_own_joints() -> None:
    plain = WindowConfig(share=1.0, place=0.0, scale=(1.0, 1.0), tilt=0.0, part=0.0)
    clip, meant = two_people(), []
    for key in range(30):
        _, person, seen = window_of(clip, plain, key)
        meant.append(person)
        assert seen.rgb.shape == (1, 3, 2, 72, 56)
        inside = seen.instances == person + 1
        whole = int((clip.instances == person + 1).sum())
        scale = 72 / (1.25 * (50, 20)[person])  # from the image to the window
        assert inside.sum() == pytest.approx(whole * scale**2, rel=0.12)
        assert_close(seen.keypoints.xy, torch.full_like(seen.keypoints.xy, 0.5), atol=1e-4, rtol=0)
        assert (seen.keypoints.visibility == 1).all()
        assert torch.equal(seen.instances > 0, seen.human)
    assert 5 < sum(meant) < 25


def test_windows_jitter_in_place_and_scale_and_tilt_and_stay_true() -> None:
    config, clip, views = WindowConfig(share=1.0, part=0.0), two_people(), []
    for key in range(60):
        view, person, seen = window_of(clip, config, key)
        views.append(view.zoom * 72 / (1.25 * (50, 20)[person]))
        x, y = (seen.keypoints.xy[0, 0, 0] * torch.tensor([56, 72])).long().tolist()
        if 0 <= x < 56 and 0 <= y < 72:
            assert seen.instances[0, 0, 0, y, x] == person + 1
    assert min(views) == pytest.approx(0.7, abs=0.08)
    assert max(views) == pytest.approx(1.5, abs=0.15)
    again = window_of(clip, config, 7)[0]
    assert again == window_of(clip, config, 7)[0] != window_of(clip, config, 8)[0]


def test_pictures_end_within_people_and_what_lies_beyond_is_not_there() -> None:
    config = WindowConfig(share=1.0, part=1.0, place=0.0, scale=(1.0, 1.0), tilt=0.0)
    clip, sides, dark = two_people(), set(), 0
    for key in range(40):
        view, person, seen = window_of(clip, config, key)
        left, top, right, bottom = view.edges
        sides |= {n for n, (edge, end) in enumerate(zip(view.edges, (0.0, 0.0, 1.0, 1.0), strict=True)) if edge != end}
        joint = clip.people_xy[0, person, 0]
        inside = left <= joint[0] <= right and top <= joint[1] <= bottom
        assert (
            seen.keypoints.visibility == (1 if inside else 0)
        ).all()  # never unknown: the one in the middle is meant
        kept = (min(right, 1) - left) * 120, (min(bottom, 1) - top) * 72
        assert min(kept) > 0
        if view.dark:
            dark += 1
            assert (seen.rgb == -1).all(1).any()
            nothing = (seen.rgb == -1).all(1, keepdim=True)
            assert not (seen.human & nothing).any()
    assert sides == {0, 1, 2, 3}
    assert 24 <= dark < 40  # else the edge is repeated


def test_no_camera_made_what_lies_beyond_its_image() -> None:
    windows = {"share": 1.0, "width": 56, "height": 72, "scale": [1.5, 1.5], "margin": 1.5}
    looks = {"share": 1.0, "noise": 1.0, "contrast": 1.0}
    config = tiny(augment={"windows": windows, "appearance": looks}, data={"height": 72, "width": 120})
    part = draw(config, 0)
    seen = augmented([two_people() for _ in part.clips], part, config, torch.device("cpu"))
    beyond = seen.normals[:, 2] == 0  # everything in the image faces the camera
    assert (beyond.flatten(1).float().mean(1) > 0.15).sum() >= 2
    black = (seen.rgb == -1).all(1)
    assert black[beyond].float().mean() > 0.97  # but for pixels that the edge runs through
    plain = replace(config, augment=replace(config.augment, appearance=AppearanceConfig()))
    before = augmented([two_people() for _ in part.clips], part, plain, torch.device("cpu"))
    assert torch.equal(before.rgb.movedim(1, -1)[beyond], seen.rgb.movedim(1, -1)[beyond])


def test_a_window_where_nobody_is_has_no_joints() -> None:
    clip = two_people()
    clip.instances[:] = 0
    seen = window_of(clip, WindowConfig(share=1.0), 0)[2].keypoints
    assert (seen.visibility == 0).all()
    assert (seen.xyz == 0).all()


def test_windows_elsewhere_show_nobody_and_are_mostly_small() -> None:
    clip, zooms = two_people(), []
    for key in range(40):
        view, _, seen = window_of(clip, WindowConfig(share=1.0, tilt=0.0, elsewhere=1.0), key)
        if (seen.keypoints.visibility == 0).all():  # else a few draws found no such window
            zooms.append(view.zoom)
            assert not seen.human.any()
    assert len(zooms) > 30
    assert np.median(zooms) < 0.4


def test_a_larger_window_in_fewer_pixels_shows_their_mean() -> None:
    clip = two_people(1, 144, 240)
    clip.rgb[:] = np.indices((144, 240)).sum(0)[..., None] % 2 * 255
    batch = ClipBatch.of([clip])
    seen = augment(batch, [SAME._replace(zoom=1.0)], 120, 72)
    assert seen.rgb.shape == (1, 3, 1, 72, 120)
    assert seen.rgb.abs().mean() < 0.05


@pytest.mark.parametrize("augmentation", [{}, {"colour": 0.1}])
def test_whole_images_of_a_generator_that_renders_larger_ones_are_their_means(augmentation) -> None:
    clip = two_people(1, 144, 240)
    clip.rgb[:] = np.indices((144, 240)).sum(0)[..., None] % 2 * 255
    config = tiny(augment=augmentation, data={"height": 72, "width": 120, "oversample": 2})
    part = replace(draw(config, 0), clips=(0,), width=None, height=None)
    seen = augmented([clip], part, config, torch.device("cpu"))
    assert seen.rgb.shape == (1, 3, 1, 72, 120)
    assert seen.rgb.std() < 0.05
    assert_close(seen.keypoints.xy, ClipBatch.of([clip]).keypoints.xy)


def test_steps_with_windows_have_as_many_more_clips_as_these_are_smaller() -> None:
    config = tiny(augment={"windows": {"share": 0.5, "width": 16, "height": 32}}, data={"height": 32, "width": 48})
    drawn = [draw(config, step) for step in range(40)]
    windows = [part for part in drawn if part.height]
    assert 10 < len(windows) < 30
    assert {(p.width, p.height, len(p.clips)) for p in windows} == {(16, 32, 3 * config.batch)}
    assert {(p.width, len(p.clips)) for p in drawn if not p.height} == {(None, config.batch)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"share": 2.0}, "share"),
        ({"scale": (1.5, 0.7)}, "two factors"),
        ({"width": 2}, "8 pixels"),
        ({"part": -1}, "part"),
        ({"joints": 1.5}, "joints"),
        ({"tilt": -1}, "tilt"),
    ],
)
def test_bad_windows_are_named(wrong, message) -> None:
    with pytest.raises(UserError, match=message):
        WindowConfig(**wrong)


@pytest.mark.parametrize("roll", [0.0, 0.6])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.05, 0.9)])
def test_a_window_is_the_same_when_only_the_pixels_around_it_are_looked_at(
    roll: float, place: tuple[float, float]
) -> None:
    clip = Discs(frames=1)(3)
    rng = np.random.default_rng(0)
    clip = replace(clip, xy=rng.random(clip.xy.shape, np.float32), xyz=rng.random(clip.xyz.shape, np.float32))
    edges, middle = (0.0, 0.1, 0.7, 1.0), (place[0], place[1])
    view = SAME._replace(mirror=True, zoom=0.5, x=middle[0], y=middle[1], roll=roll, edges=edges, dark=True, meant=True)
    whole, beyond = _seen(ClipBatch.of([clip]), [view], 16, 24)
    near, dark = _seen_near(clip, view, 16, 24, torch.device("cpu"))
    assert (dark == beyond).all()
    for field in fields(ClipBatch):
        for a, b in zip(
            *(v if isinstance(v, tuple) else (v,) for v in (getattr(near, field.name), getattr(whole, field.name))),
            strict=True,
        ):
            assert_close(a, b, atol=1e-4, rtol=0)


def test_windows_for_joints_alone_show_the_same_pictures_and_joints() -> None:
    clip = Discs(frames=1)(3)
    view = SAME._replace(mirror=True, zoom=0.5, roll=0.2, dark=True, meant=True)
    (whole, beyond), (alone, dark) = (_seen_near(clip, view, 16, 24, torch.device("cpu"), j) for j in (False, True))
    assert_close(dark, beyond)
    for name in ("rgb", "alpha", "scene"):
        assert_close(getattr(alone, name), getattr(whole, name))
    for a, b in zip(alone.keypoints, whole.keypoints, strict=True):
        assert_close(a, b)
    for name in ("dense_pose", "normals", "scene_disparity"):
        assert getattr(alone, name).shape == getattr(whole, name).shape


def test_some_steps_with_windows_learn_joints_alone_of_twice_as_many() -> None:
    windows = WindowConfig(share=1.0, width=32, height=32, joints=0.5, tasks={"foreground": 1.0, "instances": 1.0})
    config = replace(tiny(stage="latent"), tasks_per_clip=2, augment=AugmentConfig(windows=windows))
    draws = [draw(config, step) for step in range(40)]
    alone = [d for d in draws if d.joints_alone]
    assert 10 < len(alone) < 30
    assert {len(tasks) for d in alone for tasks in d.tasks} == {1}
    assert {task for d in draws for tasks in d.tasks for task in tasks} == {
        "keypoints_2d", "keypoints_3d", "foreground", "instances"
    }  # fmt: skip
    assert {len(d.clips) for d in alone} == {2 * len(d.clips) for d in draws if not d.joints_alone}


def test_windows_of_stages_that_know_no_joints_paint_and_refuse_joints() -> None:
    windows = WindowConfig(share=1.0, width=32, height=32)
    config = replace(tiny(stage="vae"), tasks={"rgb": 1.0}, augment=AugmentConfig(windows=windows))
    assert not draw(config, 0).joints_alone
    config = replace(config, augment=AugmentConfig(windows=replace(windows, joints=1.0)))
    with pytest.raises(UserError, match="stage vae knows dense tasks and 'rgb', found 'keypoints_2d'"):
        draw(config, 0)


def test_windows_may_have_tasks_of_their_own() -> None:
    windows = WindowConfig(share=0.5, width=32, height=32, tasks={"keypoints_2d": 1.0})
    config = replace(
        tiny(stage="latent"), tasks={"foreground": 1.0}, tasks_per_clip=1, augment=AugmentConfig(windows=windows)
    )
    draws = [draw(config, step) for step in range(30)]
    assert {(d.height, task) for d in draws for tasks in d.tasks for task in tasks} == {
        (32, "keypoints_2d"),
        (None, "foreground"),
    }
