"""The throw-away heads of the stages `encoder` and `guide`: expectation over cells, sizes, and batches made smaller."""

from __future__ import annotations

from dataclasses import replace

import torch
from train_fakes import Discs

from thfm_ros.train.heads import PATCH, Enlarge, LatentHeads, PyramidHeads
from thfm_ros.train.samples import ClipBatch


def test_heads_answer_every_task_at_their_size_and_reach_all_their_weights() -> None:
    heads = LatentHeads(6, ["foreground", "keypoints_2d", "scene_depth"], joints=5)
    pictures, points = heads(torch.randn(2, 6, 1, 3, 4))
    assert list(pictures) == ["foreground", "scene_depth"]
    assert {p.shape for p in pictures.values()} == {(2, 3, 1, 3 * PATCH, 4 * PATCH)}
    pictures["scene_depth"].sum().backward(retain_graph=True)
    assert all(p.grad is not None for p in heads.parameters())
    assert points.xyz.shape == (2, 1, 5, 3)


def test_heads_on_a_pyramid_answer_every_task_at_the_size_of_the_image() -> None:
    heads = PyramidHeads([4, 8, 16], 2, ["foreground", "keypoints_2d", "scene_depth"], joints=5)
    maps = [torch.randn(6, width, 16 // 2**level, 24 // 2**level) for level, width in enumerate([4, 8, 16])]
    pictures, points, places = heads(maps, 2)  # 2 clips of 3 frames
    assert {name: p.shape for name, p in pictures.items()} == dict.fromkeys(
        ["foreground", "scene_depth"], (2, 3, 3, 32, 48)
    )
    assert (points.xyz.shape, places.shape) == ((2, 3, 5, 3), (2, 3, 5, 8, 12))
    maps[0][4:] += 1  # the second clip's second and third frame
    again = heads(maps, 2)[0]["foreground"]
    assert [bool((again[b, :, t] != pictures["foreground"][b, :, t]).any()) for b in range(2) for t in range(3)] == [
        False, False, False, False, True, True,
    ]  # fmt: skip


def test_a_cell_answers_for_its_own_place() -> None:
    heads, latents = LatentHeads(6, ["foreground"], joints=1), torch.randn(1, 6, 1, 3, 4)
    other = latents.clone()
    other[..., 1, 2] += 1
    changed = (heads(latents)[0]["foreground"] != heads(other)[0]["foreground"]).flatten(0, 2).any(0)
    expected = torch.zeros(3 * PATCH, 4 * PATCH, dtype=torch.bool)
    expected[PATCH : 2 * PATCH, 2 * PATCH : 3 * PATCH] = True
    assert not changed[~expected].any()
    assert changed[expected].any()


def test_enlarging_undoes_shrinking_where_nothing_changes() -> None:
    small = torch.full((1, 3, 1, 2, 3), 0.5)
    assert torch.equal(Enlarge(4)(small), torch.full((1, 3, 1, 8, 12), 0.5))
    assert Enlarge(4).unclamped(small) is small


def test_a_shrunk_batch_keeps_means_video_and_keypoints() -> None:
    batch = ClipBatch.of([Discs(1)(i) for i in range(3)])
    small = batch.shrunk(4)
    assert small.alpha.shape == (3, 1, 1, 8, 12)
    torch.testing.assert_close(small.normals.mean((2, 3, 4)), batch.normals.mean((2, 3, 4)))
    assert small.rgb is batch.rgb
    assert small.keypoints is batch.keypoints
    assert small.target("human_normals").shape == (3, 3, 1, 8, 12)


def test_a_shrunk_person_has_the_mean_of_its_own_depth() -> None:
    batch = ClipBatch.of([Discs(1)(i) for i in range(3)])
    level = torch.where(batch.human, 0.75, 0.0)
    small = replace(batch, human_disparity=level).shrunk(4)
    assert (small.human & (small.alpha < 0.9)).any()  # cells on the edge
    torch.testing.assert_close(small.human_disparity[small.human], torch.full((int(small.human.sum()),), 0.75))
