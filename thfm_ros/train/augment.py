"""More views of the clips there are: mirrored, cropped, rolled, in other colours, with ground truth that stays true.

A rolled camera sees what lies beyond the image's edges too, where nothing was rendered: the edge is repeated there.
Cropping moves the principal point, which normals and 3D keypoints do not hear of: a zoom of 0.75 moves it by an eighth
of the image at the most, which is 8 degrees where the view is 60 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.model.readout import Keypoints
from thfm_ros.skeleton import DEFAULT_JOINT_SET, JOINT_SETS
from thfm_ros.train.config import AugmentConfig
from thfm_ros.train.samples import ClipBatch

ROLL = 0.9  # standard deviation of a rolled camera's angle, radians: a trunk that lies is within two
FLIPPED = list(JOINT_SETS[DEFAULT_JOINT_SET].flip)


class View(NamedTuple):
    """What one clip becomes: mirrored or not; the window of `zoom` x the image around (x, y), in parts of the image;
    gains of red, green and blue, and an exponent, on values in [0, 1]; radians by which the camera is rolled
    (positive: what it sees turns from y to x)."""

    mirror: bool
    zoom: float
    x: float
    y: float
    gains: tuple[float, float, float]
    gamma: float
    roll: float = 0.0

    @classmethod
    def draw(cls, config: AugmentConfig, *key: int) -> View:
        """A function of the config and the key (seed, step, clip) alone."""
        rng = np.random.default_rng(key)
        zoom = float(rng.uniform(config.zoom, 1))
        x, y = (float(rng.uniform(zoom / 2, 1 - zoom / 2)) for _ in range(2))
        light = rng.normal(0, config.colour, 2)
        red, green, blue = (float(g) for g in np.exp(light[0] + rng.normal(0, config.colour / 3, 3)))
        return cls(bool(rng.random() < config.mirror), zoom, x, y, (red, green, blue), float(np.exp(light[1])))

    def around(self, alpha: Tensor, share: float, *key: int) -> View:
        """With a window that is narrower by `share`, somewhere over the person (alpha (1, T, H, W)): all of them inside
        where they are narrow enough, nothing but them where they are wide; anywhere where nobody is seen. It begins
        between two pixels, so that what is not zoomed stays sharp."""
        columns = torch.nonzero(alpha.amax((0, 1, 2)) > 0.5).flatten()
        half = self.zoom * share / 2
        ends = (half, 1 - half)
        if len(columns):
            left, right = (float(edge) / alpha.shape[-1] for edge in (columns[0], columns[-1] + 1))
            ends = tuple(min(max(end, half), 1 - half) for end in sorted((left + half, right - half)))
        x, pixels = float(np.random.default_rng(key).uniform(*ends)), alpha.shape[-1]
        return self._replace(x=round((x - half) * pixels) / pixels + half)

    def rolled(self, chance: float, *key: int) -> View:
        """By a random angle, small ones the likelier, or not at all."""
        rng = np.random.default_rng(key)
        return self._replace(roll=float(rng.normal(0, ROLL))) if rng.random() < chance else self


def augment(batch: ClipBatch, views: Sequence[View], width: int | None = None) -> ClipBatch:
    """Each clip of the batch as its view shows it; width: of what is seen, in pixels (None: the clips')."""
    device = batch.rgb.device
    share = (width or batch.rgb.shape[-1]) / batch.rgb.shape[-1]
    mirror = torch.tensor([v.mirror for v in views], device=device)
    window = torch.tensor([[v.zoom * share * (-1 if v.mirror else 1), v.zoom] for v in views], device=device)  # x, y
    centre = torch.tensor([[v.x, v.y] for v in views], device=device)
    angle = torch.tensor([v.roll for v in views], device=device)
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).unflatten(-1, (2, 2))  # view to clip
    aspect = turn.new_tensor([batch.rgb.shape[-1], batch.rgb.shape[-2]])
    linear = turn * aspect / aspect[:, None] * window[:, None]  # a turn of pixels, in parts of the image

    theta = torch.cat((linear, (2 * centre - 1)[..., None]), 2)
    seen = _resample(batch, ("rgb",), theta, "bilinear", width)
    surfaces = ("alpha", "dense_pose", "normals", "scene_disparity", "human_disparity")  # all end where the person does
    seen |= _resample(batch, surfaces, theta, "nearest", width)
    flip = mirror.view(-1, 1, 1, 1)
    pose, normals, alpha = seen["dense_pose"], seen["normals"], seen["alpha"]
    # Canonical x runs from one side of the body to the other over [0, 1]; there is no body at (0, 0, 0).
    body = pose.sum(1) > 0
    pose[:, 0] = torch.where(flip & body, 1 - pose[:, 0], pose[:, 0])
    normals[:, :2] = torch.einsum("bji,bj...->bi...", turn, normals[:, :2])
    normals[:, 0] = torch.where(flip, -normals[:, 0], normals[:, 0])
    return ClipBatch(
        rgb=_colours(seen["rgb"], views),
        alpha=alpha,
        dense_pose=pose,
        normals=normals,
        scene_disparity=_stretch(seen["scene_disparity"], torch.ones_like(alpha, dtype=torch.bool)),
        human_disparity=_stretch(seen["human_disparity"], alpha > 0.5),
        keypoints=_keypoints(batch.keypoints, mirror, turn, linear, centre, (alpha > 0.5).flatten(1).any(1)),
    )


def _resample(batch: ClipBatch, names: Sequence[str], theta: Tensor, mode: str, width: int | None) -> dict[str, Tensor]:
    """Those videos (B, C, T, H, W) of the batch through one look-up."""
    videos = [getattr(batch, name) for name in names]
    stacked = torch.cat(videos, 1)
    b, c, t, h, w = stacked.shape
    grid = F.affine_grid(theta.to(stacked), [b, 1, h, width or w], align_corners=False)
    out = F.grid_sample(stacked.flatten(1, 2), grid, mode, "border", align_corners=False)
    return dict(zip(names, out.unflatten(1, (c, t)).split([v.shape[1] for v in videos], 1), strict=True))


def _colours(rgb: Tensor, views: Sequence[View]) -> Tensor:
    gains = rgb.new_tensor([v.gains for v in views]).view(-1, 3, 1, 1, 1)
    gamma = rgb.new_tensor([v.gamma for v in views]).view(-1, 1, 1, 1, 1)
    return (((rgb / 2 + 0.5) * gains).clamp(0, 1) ** gamma) * 2 - 1


def _stretch(disparity: Tensor, mask: Tensor) -> Tensor:
    """To [0, 1] over what the mask keeps of each clip, 0 elsewhere: as `normalise_disparity` leaves it."""
    flat = disparity.flatten(1)
    inside = mask.flatten(1)
    low = torch.where(inside, flat, torch.inf).amin(1)
    high = torch.where(inside, flat, -torch.inf).amax(1)
    shape = (-1, 1, 1, 1, 1)
    scaled = (disparity - low.view(shape)) / (high - low).clamp_min(1e-6).view(shape)
    return torch.where(mask, scaled, 0.0)


def _keypoints(
    points: Keypoints, mirror: Tensor, turn: Tensor, linear: Tensor, centre: Tensor, someone: Tensor
) -> Keypoints:
    """turn: (B, 2, 2) from the view's axes to the clip's; linear: the same in parts of the view and of the image;
    someone: (B,) whether the view shows anybody."""
    flip = mirror.view(-1, 1, 1)
    xy = torch.einsum("bij,btkj->btki", torch.linalg.inv(linear), points.xy - centre[:, None, None]) + 0.5
    seen = torch.einsum("bji,btkj->btki", turn, points.xyz[..., :2])
    xyz = torch.cat((seen, points.xyz[..., 2:]), -1)
    xyz = torch.where(flip[..., None], xyz * xyz.new_tensor([-1, 1, 1]), xyz)
    inside = ((xy >= 0) & (xy <= 1)).all(-1)
    visibility = torch.where(inside, points.visibility, points.visibility.clamp_max(0))
    # Mostly cut away, they may not be the most prominent person any more: who is seen may have other joints. (Alone,
    # their joints are not asked for either: nobody counts the people of a window.)
    left, before = ((v > 0).sum((1, 2), keepdim=True) for v in (visibility, points.visibility))
    visibility = torch.where((2 * left < before) & someone.view(-1, 1, 1), -1.0, visibility)

    def swap(x: Tensor) -> Tensor:
        return torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x[:, :, FLIPPED], x)

    return Keypoints(swap(xy), swap(xyz), swap(visibility))
