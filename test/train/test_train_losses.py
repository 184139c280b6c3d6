"""Losses against closed forms and their invariances."""

import math

import pytest
import torch

from thfm_ros.model.readout import Keypoints
from thfm_ros.train.losses import (
    aligned_loss,
    dense_loss,
    keypoint_loss,
    l2_loss,
    masked_mean,
    masked_median,
    normal_loss,
    overlap_loss,
    place_loss,
    procrustes,
    ssi_loss,
    standardise,
)

SHAPE = (2, 1, 3, 4, 5)


def clip(seed: int, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, 3, 4, 5, generator=generator)


def some(seed: int = 9, chance: float = 0.4) -> torch.Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) < chance


def test_masked_median_is_the_median_of_what_the_mask_keeps() -> None:
    x, mask = clip(0) + 5, some()
    expected = torch.stack([x[i][mask[i]].median() for i in range(2)])
    assert torch.equal(masked_median(x, mask), expected)
    assert not torch.allclose((x * mask).flatten(1).median(1).values, expected)  # the tempting wrong way


def test_empty_masks_give_zero_and_finite_gradients() -> None:
    x = clip(0).requires_grad_()
    nothing = torch.zeros(SHAPE, dtype=torch.bool)
    loss = (
        ssi_loss(x, clip(1), nothing)
        + masked_mean(x, nothing)
        + normal_loss(x.expand(-1, 3, -1, -1, -1), clip(2, 3), nothing)
    )
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert torch.isfinite(x.grad).all()


def test_standard_form_has_zero_median_and_unit_deviation() -> None:
    mask = some()
    x = standardise(3 * clip(0) + 7, mask)
    assert masked_median(x, mask).abs().max() < 1e-6
    assert torch.allclose(masked_mean(x.abs(), mask), torch.ones(2), atol=1e-5)


def test_depth_loss_ignores_scale_shift_and_masked_pixels() -> None:
    prediction, target, mask = clip(0), clip(1), some()
    loss = ssi_loss(prediction, target, mask)
    assert torch.allclose(ssi_loss(2.5 * prediction - 3, 0.2 * target + 9, mask), loss, atol=1e-4)
    assert torch.equal(ssi_loss(torch.where(mask, prediction, 100.0), target, mask), loss)
    assert torch.allclose(ssi_loss(4 * target + 1, target, mask), torch.zeros(2), atol=1e-5)


def test_scale_and_shift_are_shared_by_the_whole_clip() -> None:
    """A prediction that is right in every frame alone, but with a scale of its own, is not right (section 1.3)."""
    target, mask = clip(1), torch.ones(SHAPE, dtype=torch.bool)
    per_frame = target * torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1, 1)
    assert ssi_loss(per_frame, target, mask).min() > 0.05


def test_depth_loss_by_hand() -> None:
    target = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 3, 1, 1)  # median 1, deviation 2/3: -1.5, 0, 1.5
    prediction = torch.tensor([0.0, 0.0, 3.0]).view(1, 1, 3, 1, 1)  # median 0, deviation 1: 0, 0, 3
    loss = ssi_loss(prediction, target, torch.ones(1, 1, 3, 1, 1, dtype=torch.bool))
    assert loss.item() == pytest.approx((1.5 + 0 + 1.5) / 3)


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
def test_normal_loss_of_two_unit_vectors(degrees: float) -> None:
    angle = math.radians(degrees)
    target = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1, 1)
    prediction = torch.tensor([math.sin(angle), 0.0, -math.cos(angle)]).view(1, 3, 1, 1, 1)
    loss = normal_loss(prediction, target, torch.ones(1, 1, 1, 1, 1, dtype=torch.bool))
    assert loss.item() == pytest.approx(2 * math.sin(angle / 2) + 1 - math.cos(angle), abs=1e-5)


def test_normal_loss_at_zero_and_at_the_target_has_finite_gradients() -> None:
    target = torch.nn.functional.normalize(clip(3, 3), dim=1)
    for start in (torch.zeros_like(target), target.clone()):
        prediction = start.requires_grad_()
        normal_loss(prediction, target, torch.ones(SHAPE, dtype=torch.bool)).sum().backward()
        assert torch.isfinite(prediction.grad).all()


def test_l2_is_the_mean_square() -> None:
    a, b, mask = clip(0, 3), clip(1, 3), some()
    assert torch.allclose(l2_loss(a, b), ((a - b) ** 2).flatten(1).mean(1))
    inside = mask.expand(-1, 3, -1, -1, -1)
    expected = torch.stack([((a - b) ** 2)[i][inside[i]].mean() for i in range(2)])
    assert torch.allclose(l2_loss(a, b, mask), expected)


def test_offsets_count_on_people_and_centre_ness_everywhere() -> None:
    target, mask = torch.zeros(1, 3, 1, 2, 2), torch.tensor([[[[[True, False], [False, False]]]]])
    on, off, centre = (target.clone() for _ in range(3))
    on[0, :2, 0, 0, 0] = torch.tensor([0.3, -0.1])
    off[0, :2, 0, 1, 1] = 0.5
    centre[0, 2] = 0.5
    values = [dense_loss("offsets", x, target, mask, True, 0.0, 0.0).item() for x in (target, on, off, centre)]
    assert values == pytest.approx([0.0, 0.4, 0.0, 0.25])


def test_overlap_is_one_minus_the_iou_of_frames_with_somebody() -> None:
    truth, told = -torch.ones(2, 3, 2, 6, 8), -torch.ones(2, 3, 2, 6, 8)
    truth[0, :, 0, 1:3, 1:3], told[0, :, 0, 1:3, 2:4] = 1, 1  # 2 of 6 pixels shared; nobody in the second frame
    told[1] = 1  # nobody at all
    assert torch.allclose(overlap_loss(told, truth), torch.tensor([2 / 3, 0.0]))
    assert overlap_loss(truth, truth).max() == 0


def test_overlap_counts_small_people_as_much_as_large_ones() -> None:
    truth = -torch.ones(2, 3, 1, 16, 16)
    truth[0, :, :, :2, :2], truth[1, :, :, :8, :8] = 1, 1
    told = truth.clone()
    told[0, :, :, 0, :2], told[1, :, :, :4, :8] = -1, -1  # half of each is missed
    assert torch.allclose(overlap_loss(told, truth), torch.tensor(0.5))
    small, large = l2_loss(told, truth).tolist()
    assert large > 10 * small


@pytest.mark.parametrize("kind", ["normal", "ssi_disparity"])
def test_human_tasks_learn_their_background(kind: str) -> None:
    target, mask = torch.nn.functional.normalize(clip(1, 3), dim=1), some()
    target = torch.where(mask, target[:, :1].expand(-1, 3, -1, -1, -1) if kind != "normal" else target, -1.0)
    wrong = torch.where(mask, target, 0.5)
    assert dense_loss(kind, target, target, mask, True, 0.1, 1.0).max() < 1e-4
    assert torch.allclose(dense_loss(kind, wrong, target, mask, True, 0.1, 1.0), torch.full((2,), 1.5**2), atol=1e-3)
    assert dense_loss(kind, wrong, target, mask, False, 0.1, 1.0).max() < 1e-4


def keypoints(seed: int, visibility: float) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    xy, xyz = (torch.rand(2, 3, 8, n, generator=generator) for n in (2, 3))
    return Keypoints(xy, xyz, torch.full((2, 3, 8), visibility))


def test_keypoints_are_euclidean_distances_and_cross_entropy() -> None:
    truth, predicted = keypoints(0, 1.0), keypoints(1, 0.0)
    loss = keypoint_loss(predicted, truth, (1.0, 10.0, 100.0))
    xy, xyz = (predicted.xy - truth.xy).norm(dim=-1), (predicted.xyz - truth.xyz).norm(dim=-1)
    expected = xy.flatten(1).mean(1) + 10 * xyz.flatten(1).mean(1) + 100 * math.log(2)
    assert torch.allclose(loss, expected, atol=1e-4)


def test_joints_outside_the_image_have_no_2d_loss_and_unknown_ones_none_at_all() -> None:
    predicted = keypoints(1, 0.0)
    outside, unknown = keypoints(0, 0.0), keypoints(0, -1.0)
    assert keypoint_loss(predicted, outside, (1.0, 0.0, 0.0)).max() == 0
    assert keypoint_loss(predicted, outside, (0.0, 1.0, 0.0)).min() > 0
    assert keypoint_loss(predicted, unknown, (1.0, 1.0, 1.0)).max() == 0


def test_where_nobody_is_visibility_alone_is_taught() -> None:
    predicted, nobody = keypoints(1, 0.0), keypoints(0, 0.0)
    nobody = nobody._replace(xyz=torch.zeros_like(nobody.xyz))
    assert keypoint_loss(predicted, nobody, (1.0, 1.0, 0.0), 1.0).max() == 0
    assert torch.allclose(keypoint_loss(predicted, nobody, (1.0, 1.0, 1.0)), torch.tensor(math.log(2)))


def turned(xyz: torch.Tensor) -> torch.Tensor:
    """Turned half a turn about an oblique axis, larger and elsewhere."""
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0)
    return 2.5 * xyz @ (2 * axis[:, None] * axis - torch.eye(3)) + torch.tensor([1.0, -2.0, 0.5])


def test_alignment_undoes_turn_scale_and_place_and_no_mirror() -> None:
    xyz = keypoints(0, 1.0).xyz
    assert torch.allclose(procrustes(turned(xyz), xyz), xyz, atol=1e-5)
    elsewhere = turned(xyz)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(procrustes(elsewhere, xyz), xyz, atol=1e-5)
    mirror = xyz * torch.tensor([-1.0, 1.0, 1.0])
    assert (procrustes(mirror, xyz) - xyz).norm(dim=-1).mean() > 0.1
    assert (procrustes(mirror, xyz) - xyz).square().sum() < (mirror - xyz).square().sum()


def test_aligned_loss_is_blind_to_similarities_and_hears_known_joints_alone() -> None:
    truth, predicted = keypoints(0, 1.0), keypoints(1, 1.0)
    known = torch.ones(2, 3, 8, dtype=torch.bool)
    known[..., 5:] = False
    loss = aligned_loss(predicted.xyz, truth.xyz, known)
    assert torch.allclose(aligned_loss(turned(predicted.xyz), truth.xyz, known), loss, atol=1e-5)
    wild = torch.where(known.unsqueeze(-1), predicted.xyz, 9.0)
    assert torch.allclose(aligned_loss(wild, truth.xyz, known), loss, atol=1e-5)
    assert torch.allclose(loss, aligned_loss(predicted.xyz[..., :5, :], truth.xyz[..., :5, :], known[..., :5]))
    assert aligned_loss(predicted.xyz, truth.xyz, ~known).max() > 0
    assert aligned_loss(predicted.xyz, truth.xyz, known & ~known).max() == 0
    both = keypoint_loss(predicted, truth, (0.0, 1.0, 0.0), 3.0) - keypoint_loss(predicted, truth, (0.0, 1.0, 0.0))
    assert torch.allclose(both, 3 * aligned_loss(predicted.xyz, truth.xyz, known | ~known), atol=1e-5)


def test_following_the_aligned_loss_finds_the_shape() -> None:
    truth = keypoints(0, 1.0).xyz
    known = torch.ones(2, 3, 8, dtype=torch.bool)
    told = keypoints(1, 1.0).xyz.requires_grad_()
    optimizer = torch.optim.Adam([told], 0.02)
    before = aligned_loss(told, truth, known).mean().item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = aligned_loss(told, truth, known).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * before


def at(xy: list[float], visibility: float = 1.0) -> Keypoints:
    shape = (1, 1, 1)
    return Keypoints(torch.tensor(xy).expand(*shape, 2), torch.zeros(*shape, 3), torch.full(shape, visibility))


def test_place_is_cross_entropy_at_a_patch_s_centre_and_shared_between_patches() -> None:
    said = torch.randn(1, 1, 1, 2, 4, generator=torch.Generator().manual_seed(0))  # 2 rows of 4 patches
    chance = said.flatten().log_softmax(0).view(2, 4)
    assert torch.allclose(place_loss(said, at([0.625, 0.75])), -chance[1, 2])
    assert torch.allclose(
        place_loss(said, at([0.75, 0.5])), -(chance[0, 2] + chance[1, 2] + chance[0, 3] + chance[1, 3]) / 4
    )
    for edge, patch in (([0.0, 0.0], (0, 0)), ([1.0, 1.0], (1, 3)), ([0.0, 1.0], (1, 0))):
        assert torch.allclose(place_loss(said, at(edge)), -chance[patch])


def test_place_knows_joints_in_the_image_alone() -> None:
    said = torch.randn(1, 1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    hidden, outside, unknown = (place_loss(said, at([0.4, 0.4], v)) for v in (0.5, 0.0, -1.0))
    assert hidden > 0
    assert outside == 0
    assert unknown == 0
