"""Throw-away heads that answer all tasks straight from the encoder's latents, to teach the encoder cheaply."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thfm_ros.model.keypoints import CHANNELS, Keypoints
from thfm_ros.tasks import get_task

PATCH = 4  # dense answers a latent cell, along each side


class LatentHeads(nn.Module):
    """Every cell of the latents of a still image answers for itself: what it can tell is what the latents hold.

    Dense tasks are PATCH x PATCH pixels of RGB a cell. For each joint a cell says how likely the joint lies there, with
    offset, 3D position and visibility; the answer is the expectation over the cells (integral regression, Sun et al.,
    ECCV 2018).

    Args:
        channels: of the latents. tasks: names of those asked for. joints: K. width: of the hidden layer.
    """

    def __init__(self, channels: int, tasks: list[str], joints: int, width: int = 256) -> None:
        super().__init__()
        self.dense = [task for task in tasks if get_task(task).kind == "dense"]
        self.joints = joints
        self.hidden = nn.Linear(channels, width)
        # One layer for all: each batch reaches all its weights, which is what DistributedDataParallel wants.
        self.answer = nn.Linear(width, len(self.dense) * 3 * PATCH**2 + joints * (CHANNELS + 1))

    def forward(self, latents: Tensor) -> tuple[dict[str, Tensor], Keypoints]:
        """(B, C, 1, h, w) -> (B, 3, 1, PATCH h, PATCH w) in the RGB code of every dense task; keypoints of 1 frame."""
        cells = latents[:, :, 0].permute(0, 2, 3, 1)  # (B, h, w, C)
        out = self.answer(F.gelu(self.hidden(cells))).float()
        joints = out[..., -self.joints * (CHANNELS + 1) :].unflatten(-1, (self.joints, CHANNELS + 1))
        pictures = out[..., : -joints[0, 0, 0].numel()].permute(0, 3, 1, 2)
        small = F.pixel_shuffle(pictures, PATCH).unflatten(1, (-1, 3))
        return {task: small[:, i, :, None] for i, task in enumerate(self.dense)}, _expected(joints)


class Enlarge(nn.Module):
    """In the place of the decoder: losses look at the dense answers as they are, others at the size of the image.

    factor: between the two sizes.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, small: Tensor) -> Tensor:
        """(B, 3, 1, h, w) -> (B, 3, 1, factor h, factor w) in [-1, 1]."""
        large = F.interpolate(small[:, :, 0], scale_factor=float(self.factor), mode="bilinear")
        return large[:, :, None].clamp(-1, 1)

    def unclamped(self, small: Tensor) -> Tensor:
        return small

    def at_rest(self, small: Tensor, frame: int) -> Tensor:
        return small


def _expected(cells: Tensor) -> Keypoints:
    """(B, h, w, K, 7): logit of the cell, offset from its centre (cells), xyz (metres), visibility logit."""
    height, width = cells.shape[1:3]
    chance = cells[..., 0].flatten(1, 2).softmax(1).unsqueeze(-1)  # (B, h w, K, 1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = torch.stack((x, y), -1).to(cells)[:, :, None] + 0.5
    place = (centre + cells[..., 1:3]) / cells.new_tensor([width, height])
    values = torch.cat((place, cells[..., 3:]), -1).flatten(1, 2)
    mean = (chance * values).sum(1)[:, None]  # (B, 1, K, 6)
    return Keypoints(mean[..., :2], mean[..., 2:5], mean[..., 5])
