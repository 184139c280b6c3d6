"""What training keeps of a generated clip agrees with the generator, pixels on the edge of a person included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from thfm_ros.instances import group
from thfm_ros.quantities import INSTANCES
from thfm_ros.synth.assets import load_assets
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip
from thfm_ros.train.augment import View, augment
from thfm_ros.train.losses import dense_loss
from thfm_ros.train.samples import ClipBatch, TrainingClip


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    assets = load_assets()
    config = SynthConfig(frames=1, height=64, width=96, empty=0.0)
    return [generate_clip(config, 2, index, assets) for index in range(4)]


def test_the_person_is_where_the_generator_says(clips: list[Clip]) -> None:
    batch = ClipBatch.of([TrainingClip.of(clip) for clip in clips])
    truth = np.stack([clip.human_mask for clip in clips])
    assert any((clip.alpha == 0.5).any() for clip in clips)  # half a person: where rounding would tell
    assert np.array_equal(batch.human[:, 0].numpy(), truth)
    body = batch.dense_pose.sum(1) > 0
    assert (body == batch.human[:, 0]).float().mean() > 0.999


def test_human_disparity_spans_its_range_on_the_person_alone(clips: list[Clip]) -> None:
    batch = ClipBatch.of([TrainingClip.of(clip) for clip in clips])
    for disparity, human in zip(batch.human_disparity, batch.human, strict=True):
        inside = disparity[human]
        assert inside.min() == 0
        assert inside.max() == 1
        assert (inside == 0).float().mean() < 0.01  # the farthest point, not an edge of background
        assert (disparity[~human] == 0).all()


def test_every_task_has_a_target_of_the_image_s_size_within_its_range(clips: list[Clip]) -> None:
    batch = ClipBatch.of([TrainingClip.of(clip) for clip in clips])
    for task in ("rgb", "scene_depth", "human_depth", "scene_normals", "human_normals", "foreground", "dense_pose"):
        target = batch.target(task)
        assert target.shape == batch.rgb.shape
        assert torch.isfinite(target).all()
        assert target.abs().max() <= 1.001


@pytest.mark.parametrize("zoom", [1.0, 0.83, 0.7])
def test_augmented_people_end_where_their_surface_does(clips: list[Clip], zoom: float) -> None:
    batch = ClipBatch.of([TrainingClip.of(clip) for clip in clips])
    view = View(True, zoom, 0.5, 0.45 if zoom < 0.9 else 0.5, (1.0, 1.0, 1.0), 1.0)
    seen = augment(batch, [view] * len(clips))
    human = seen.human[:, 0]
    assert human.any()
    assert torch.equal(seen.dense_pose.sum(1) > 0, human)
    assert (seen.human_disparity[seen.human] == 0).float().mean() < 0.01


def test_everyone_has_joints_and_a_number_and_the_largest_is_the_main_one() -> None:
    assets = load_assets()
    config = SynthConfig(frames=2, height=64, width=96, empty=0.0, people=3, occluders=0.0)
    made = [generate_clip(config, 2, index, assets) for index in range(6)]
    assert max(len(c.people) for c in made) > 1
    for clip in made:
        kept = TrainingClip.of(clip)
        assert kept.people_xy.shape == (2, len(clip.people), 32, 2)
        assert np.array_equal(kept.instances > 0, clip.human_mask)
        for n in range(len(clip.people)):
            one = kept.meaning(n)
            assert np.allclose(one.xy * [96, 64], clip.people[n].keypoints_2d, atol=1e-3)
            assert np.allclose(one.xyz[:, 0], 0)
        assert np.array_equal(kept.meaning(0).xy, kept.xy)
        window = kept.window(1, 1)
        assert window.people_xy.shape == (1, len(clip.people), 32, 2)
        assert window.scene.shape == (1,)


def test_nobody_has_no_visible_joint_and_no_place_in_space() -> None:
    clip = generate_clip(SynthConfig(frames=1, height=32, width=32, empty=1.0), 0, 0, load_assets())
    kept = TrainingClip.of(clip)
    assert (kept.visibility == 0).all()
    assert (kept.xyz == 0).all()


def test_scene_tasks_take_no_part_where_their_truth_is_not_known(clips: list[Clip]) -> None:
    kept = [TrainingClip.of(replace(clip, has_scene=n % 2 == 0)) for n, clip in enumerate(clips)]
    batch = ClipBatch.of(kept)
    known = torch.tensor([n % 2 == 0 for n in range(len(clips))])
    for task in ("scene_depth", "scene_normals"):
        assert torch.equal(batch.valid(task), known)
        assert torch.equal(batch.mask(task).flatten(1).any(1), known)
        weight = dense_loss(
            "normal" if "normals" in task else "ssi_disparity",
            torch.rand_like(batch.rgb),
            batch.target(task),
            batch.mask(task),
            human=False,
            anchor=0.1,
            background=1.0,
        )
        assert torch.equal(weight > 0, known)
    for task in ("rgb", "human_depth", "foreground", "keypoints_2d"):
        assert batch.valid(task).all()
    assert torch.equal(batch.select([1, 0]).scene, known[[1, 0]])


def test_the_target_of_instances_gives_people_back(clips: list[Clip]) -> None:
    batch = ClipBatch.of([TrainingClip.of(clip) for clip in clips])
    target = batch.target("instances")
    assert target.shape == batch.rgb.shape
    assert target.abs().max() <= 1
    for rgb, ids in zip(target.permute(0, 2, 3, 4, 1).numpy(), batch.instances[:, 0].numpy(), strict=True):
        found = group(INSTANCES.from_rgb(rgb[0]))
        large = [n for n in np.unique(ids[ids > 0]) if (ids == n).sum() >= 12]
        assert len(found) == len(large)
