"""Throw-away heads that answer all tasks straight from one part of the network, to teach it cheaply."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thfm_ros.model.readout import CHANNELS, Keypoints, expected, own_places, repeat
from thfm_ros.tasks import get_task

PATCH = 4  # dense answers a latent cell, along each side


class LatentHeads(nn.Module):
    """Every cell of the latents answers for itself: what it can tell is what the latents hold.

    A clip's first latent frame answers for 1 frame, later ones for 4: each reads the latent in its own way, and what
    was read is answered alike. Dense tasks are PATCH x PATCH pixels of RGB a cell. For each joint a cell says how
    likely the joint lies there, with offset, 3D position and visibility; the answer is the expectation over the cells
    (integral regression, Sun et al., ECCV 2018).

    Args:
        channels: of the latents. tasks: names of those asked for. joints: K. width: of the hidden layer.
    """

    def __init__(self, channels: int, tasks: list[str], joints: int, width: int = 256) -> None:
        super().__init__()
        self.dense = [task for task in tasks if get_task(task).kind == "dense"]
        self.joints = joints
        self.first = nn.Linear(channels, width)
        # One layer for all: each batch reaches all its weights, which is what DistributedDataParallel wants.
        self.answer = nn.Linear(width, len(self.dense) * 3 * PATCH**2 + joints * (CHANNELS + 1))
        self.later = nn.Linear(channels, 4 * width)  # drawn last: what stills start from does not depend on it

    def forward(self, latents: Tensor) -> tuple[dict[str, Tensor], Keypoints]:
        """(B, C, T', h, w) -> (B, 3, T, PATCH h, PATCH w) in the RGB code of every dense task, T = 4 T' - 3; keypoints
        of T frames."""
        cells = latents.permute(0, 2, 3, 4, 1)  # (B, T', h, w, C)
        later = self.later(cells[:, 1:]).unflatten(-1, (4, -1)).movedim(-2, 2).flatten(1, 2)
        out = self.answer(F.gelu(torch.cat((self.first(cells[:, :1]), later), 1))).float()  # (B, T, h, w, answers)
        joints = out[..., -self.joints * (CHANNELS + 1) :].unflatten(-1, (self.joints, CHANNELS + 1))
        pictures = out[..., : -joints[0, 0, 0, 0].numel()].permute(0, 1, 4, 2, 3)
        small = F.pixel_shuffle(pictures, PATCH).unflatten(2, (-1, 3)).movedim(1, 3)  # (B, tasks, 3, T, H, W)
        return {task: small[:, i] for i, task in enumerate(self.dense)}, expected(joints)


class PyramidHeads(nn.Module):
    """Every pixel of a pyramid's finest map answers the dense tasks for itself; its second map says where joints are,
    the smallest where they are in space: as `HeatmapReadout` does.

    Args:
        widths: channels of the maps, the finest first. patch: pixels of the image in one of the finest map, along each
        side. tasks: names of those asked for. joints: K. width: of the hidden layer of the dense tasks.
    """

    def __init__(self, widths: list[int], patch: int, tasks: list[str], joints: int, width: int = 96) -> None:
        super().__init__()
        self.dense = [task for task in tasks if get_task(task).kind == "dense"]
        self.patch, self.joints, self.cells = patch, joints, 2 ** (len(widths) - 2)
        self.hidden = nn.Conv2d(widths[0], width, 1)
        self.picture = nn.Conv2d(width, 3 * patch**2 * len(self.dense), 1)
        self.cell = nn.Conv2d(widths[1], joints, 1)
        self.joint = nn.Conv2d(widths[-1], joints * (CHANNELS + 1), 1)

    def forward(self, maps: list[Tensor], batch: int) -> tuple[dict[str, Tensor], Keypoints, Tensor]:
        """(B T, C, h, w) of `Guide.maps` -> (B, 3, T, H, W) in the RGB code of every dense task; keypoints; logits
        (B, T, K, rows, columns) of the cells that they lie in."""

        def told(layer: nn.Conv2d, seen: Tensor) -> Tensor:  # (B, T, C, rows, columns)
            return layer(seen).float().unflatten(0, (batch, -1))

        pixels = F.pixel_shuffle(self.picture(F.silu(self.hidden(maps[0]))).float(), self.patch)
        pictures = pixels.unflatten(1, (-1, 3)).unflatten(0, (batch, -1)).movedim(1, 3)  # (B, tasks, 3, T, H, W)
        joints = told(self.joint, maps[-1]).permute(0, 1, 3, 4, 2).unflatten(-1, (self.joints, CHANNELS + 1))
        places = told(self.cell, maps[1]) + repeat(own_places(joints), self.cells)
        return {task: pictures[:, i] for i, task in enumerate(self.dense)}, expected(joints, places), places


class Enlarge(nn.Module):
    """In the place of the decoder: losses look at the dense answers as they are, others at the size of the image.

    factor: between the two sizes.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, small: Tensor) -> Tensor:
        """(B, 3, T, h, w) -> (B, 3, T, factor h, factor w) in [-1, 1]."""
        scale = (1.0, float(self.factor), float(self.factor))
        return F.interpolate(small, scale_factor=scale, mode="trilinear").clamp(-1, 1)

    def unclamped(self, small: Tensor, guides: tuple[Tensor, ...] = ()) -> Tensor:
        return small

    def at_rest(self, small: Tensor, frame: int, guides: tuple[Tensor, ...] = ()) -> Tensor:
        return small

    def look(self, image: Tensor) -> tuple[Tensor, ...]:
        return ()
