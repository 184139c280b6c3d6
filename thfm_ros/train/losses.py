"""The losses of paper section 1.3: one value a sample, (B,), averaged over what the mask keeps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.model.readout import Keypoints

EPS = 1e-6


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (B, ...) over mask (same shape, bool or weights), (B,); 0 where a sample's mask is empty."""
    weight = mask.to(x.dtype).flatten(1)
    return (x.flatten(1) * weight).sum(1) / weight.sum(1).clamp_min(EPS)


def masked_median(x: Tensor, mask: Tensor) -> Tensor:
    """Lower median of x (B, ...) over the True of mask, (B,): masked values take no part; 0 for an empty mask."""
    values = torch.where(mask, x, x.new_full((), float("nan"))).flatten(1)
    return values.nanmedian(1).values.nan_to_num(0.0)


def normal_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Equation 3: ||y - y^||_2 + (1 - cos(y, y^)).

    prediction, target: (B, 3, T, H, W), not necessarily of unit length; mask (B, 1, T, H, W) bool.
    """
    difference = (prediction - target).square().sum(1, keepdim=True)
    distance = (difference + EPS**2).sqrt()
    squares = prediction.square().sum(1, keepdim=True) * target.square().sum(1, keepdim=True)
    cosine = (prediction * target).sum(1, keepdim=True) / squares.clamp_min(EPS**2).sqrt()
    return masked_mean(distance + 1 - cosine, mask)


def standardise(disparity: Tensor, mask: Tensor) -> Tensor:
    """Equation 5: (d - t) / s, t the median and s the mean absolute deviation from it, over the whole masked clip."""
    shape = (-1, *[1] * (disparity.ndim - 1))
    shifted = disparity - masked_median(disparity, mask).view(shape)
    return shifted / masked_mean(shifted.abs(), mask).clamp_min(1e-3).view(shape)


def ssi_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Equation 4, scale-and-shift-invariant: mean |d* - d^*| over the clip, all (B, 1, T, H, W)."""
    return masked_mean((standardise(prediction, mask) - standardise(target, mask)).abs(), mask)


def l2_loss(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of (B, C, ...), over mask (B, 1, ...) where one is given."""
    square = (prediction - target).square().mean(1, keepdim=True)
    return square.flatten(1).mean(1) if mask is None else masked_mean(square, mask)


def offset_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Distance of two channels of offsets over mask (B, 1, ...), and L2 of the third, centre-ness, everywhere, (B,).

    Offsets are small numbers on few pixels: an L2 over the image hardly sees them (Cheng et al., CVPR 2020, take L1).
    """
    off = (prediction - target)[:, :2].abs().sum(1, keepdim=True)
    return masked_mean(off, mask) + l2_loss(prediction[:, 2:], target[:, 2:])


def overlap_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - IoU of soft masks in RGB space (B, 3, T, H, W): mean of the frames that show somebody, 0 without any, (B,).

    A small person counts as much as a large one, as in what a mask is measured by; by L2 its pixels are few (soft IoU,
    Rahman and Wang, ISVC 2016). What lies outside [-1, 1] is cut off and learns from the L2 alone.
    """
    found, truth = (x.mean(1).mul(0.5).add(0.5).clamp(0, 1).flatten(2) for x in (prediction, target))
    shared = (found * truth).sum(-1)
    iou = shared / (found.sum(-1) + truth.sum(-1) - shared).clamp_min(EPS)
    return masked_mean(1 - iou, truth.amax(-1) > 0.5)


def dense_loss(
    kind: str, prediction: Tensor, target: Tensor, mask: Tensor, human: bool, anchor: float, background: float
) -> Tensor:
    """The loss of one dense task in RGB space, (B,).

    Args:
        kind: `Task.loss`. prediction: (B, 3, T, H, W) decoded and not clamped; target: in [-1, 1].
        mask: (B, 1, T, H, W) bool, pixels where the target is defined (for human tasks: the person).
        anchor: weight of L2 on depth, whose own loss is blind to the range. background: weight of L2 off the mask.
    """
    if kind == "l2":
        return l2_loss(prediction, target)
    if kind == "offsets":
        return offset_loss(prediction, target, mask)
    if kind == "normal":
        loss = normal_loss(prediction, target, mask)
    else:  # the three channels repeat one quantity; 2 d - 1 has the same standard form as d
        loss = ssi_loss(prediction.mean(1, keepdim=True), target[:, :1], mask)
        loss = loss + anchor * l2_loss(prediction, target, mask)
    return loss + background * l2_loss(prediction, target, ~mask) if human else loss


def keypoint_loss(
    prediction: Keypoints, target: Keypoints, weights: tuple[float, float, float], aligned: float = 0.0
) -> Tensor:
    """L2 (Euclidean distance, joint by joint) on 2D and 3D plus cross-entropy on visibility, (B,).

    target.visibility: 1 visible, 0.5 hidden but inside the image, 0 outside (no 2D loss there), negative: unknown
    joint (no loss at all). Where nobody is (visibility 0, all joints in one point) visibility alone has a loss.
    aligned: weight of `aligned_loss`.
    """
    known = target.visibility >= 0
    inside = target.visibility > 0
    located = known & (target.xyz.abs().amax((2, 3)) > 0).unsqueeze(-1)
    xy = masked_mean(_distance(prediction.xy, target.xy), inside)
    xyz = masked_mean(_distance(prediction.xyz, target.xyz), located)
    seen = F.binary_cross_entropy_with_logits(
        prediction.visibility, (target.visibility > 0.75).to(prediction.visibility.dtype), reduction="none"
    )
    loss = weights[0] * xy + weights[1] * xyz + weights[2] * masked_mean(seen, known)
    return loss + aligned * aligned_loss(prediction.xyz, target.xyz, located) if aligned else loss


def aligned_loss(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Distance of 3D joints after each frame's similarity alignment, (B,): what PA-MPJPE measures.

    Which way the body faces, and how large it is, outweighs in a plain distance how its limbs stand to one another.
    Turn and scale pass on no gradient: the distance is close to its least in both.
    prediction, target: (B, T, K, 3). known: (B, T, K) bool, joints that are aligned and measured.
    """
    return masked_mean(_distance(procrustes(prediction, target, known), target), known)


def procrustes(x: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor:
    """x (..., K, 3) after the similarity transform that brings it closest to y, by the joints known (..., K) (None:
    all). Turn and scale pass on no gradient."""
    weight = torch.ones_like(x[..., :1]) if known is None else known.unsqueeze(-1).to(x.dtype)
    weight = weight / weight.sum(-2, keepdim=True).clamp_min(EPS)
    mx, my = ((weight * v).sum(-2, keepdim=True) for v in (x, y))
    with torch.no_grad():
        a, b = (x - mx).double(), (y - my).double()
        u, s, v = torch.linalg.svd(a.transpose(-1, -2) @ (weight * b))
        sign = torch.ones_like(s)
        sign[..., -1] = torch.linalg.det(u @ v).sign()
        scale = (s * sign).sum(-1) / (weight * a.square()).sum((-1, -2)).clamp_min(1e-12)
        turn = (scale[..., None, None] * (u * sign[..., None, :]) @ v).to(x.dtype)
    # No matrix product: autocast would round it to bfloat16, which is millimetres.
    return ((x - mx).unsqueeze(-1) * turn.unsqueeze(-3)).sum(-2) + my


def place_loss(heatmaps: Tensor, target: Keypoints) -> Tensor:
    """Cross-entropy of which cell a joint inside the image lies in, (B,); between cells it is shared (bilinear).

    An expectation alone is content with the middle of two doubtful places (Sun et al., ECCV 2018, add such a term too).
    heatmaps: (B, T, K, h, w) logits of the cells.
    """
    chance = heatmaps.flatten(3).log_softmax(3).view_as(heatmaps)
    maps = chance.flatten(0, 2).unsqueeze(1)  # (B T K, 1, h, w)
    places = (2 * target.xy - 1).view(-1, 1, 1, 2)
    found = F.grid_sample(maps, places, padding_mode="border", align_corners=False)
    return masked_mean(-found.view_as(target.visibility), target.visibility > 0)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b).square().sum(-1) + EPS**2).sqrt()
