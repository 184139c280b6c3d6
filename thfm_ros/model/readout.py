"""What turns the keypoint tokens into keypoints: the paper's MLP, or what the tokens ask of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.agreement import Agreement
from thfm_ros.model.precision import exact
from thfm_ros.model.pyramid import Pyramid, silent, stack

CHANNELS = 6  # a joint: 2 image coordinates, 3 space coordinates, 1 visibility logit


class Keypoints(NamedTuple):
    """Keypoints of one person in every frame, joints in the order of the checkpoint's joint set.

    xy: (B, T, K, 2) normalised image coordinates, 0 = left/top edge, 1 = right/bottom edge.
    xyz: (B, T, K, 3) metres relative to the pelvis, axes of the camera (x right, y down, z forward).
    visibility: (B, T, K) logits of "visible in the image".
    """

    xy: Tensor
    xyz: Tensor
    visibility: Tensor


class TokenReadout(nn.Sequential):
    """The paper's MLP: (B, N, D) tokens -> (B, N, CHANNELS * joints) in float32."""

    def __init__(self, dim: int, joints: int) -> None:
        super().__init__(
            FP32LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, CHANNELS * joints)
        )
        _quiet(self[-1])

    def forward(self, tokens: Tensor) -> Tensor:
        *layers, last = self
        hidden = tokens.to(last.weight.dtype)
        for layer in layers:
            hidden = layer(hidden)
        return exact(last, hidden).float()


class PatchReadout(nn.Module):
    """A frame's token asks every patch of the image where the joints lie; the answer is what they say on average.

    Not of the paper, whose transformer is large and has seen the world: a small one learns places sooner where
    they are read (integral regression, Sun et al., ECCV 2018) than where one token has to recite all of them.
    """

    def __init__(self, dim: int, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.norm_token, self.norm_patch = FP32LayerNorm(dim), FP32LayerNorm(dim)
        self.token, self.patch = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.answer = nn.Linear(dim, joints * (CHANNELS + 1))
        _quiet(self.answer)
        self.said = nn.Identity()  # what training listens to: logits (B, T, K, rows, columns) of where joints are

    def forward(self, tokens: Tensor, video: Tensor, frames: list[int], image: Tensor | None = None) -> Keypoints:
        """tokens (B, T, D), video (B, T', h, w, D), frames: video frames behind each latent frame, T in all."""
        patches = self._answers(self._told(tokens, video, frames))
        return expected(patches, self.said(own_places(patches)))

    def _told(self, tokens: Tensor, video: Tensor, frames: list[int], seen: Tensor | float = 0.0) -> Tensor:
        """What each patch has to say to each frame's question, (B, T, h, w, D); seen: likewise, of the image."""
        weight = self.answer.weight
        asked = self.token(self.norm_token(tokens).to(weight.dtype))[:, :, None, None]
        known = self.patch(self.norm_patch(video).to(weight.dtype))
        known = torch.cat([known[:, i : i + 1].expand(-1, n, -1, -1, -1) for i, n in enumerate(frames)], 1)
        return F.gelu(asked + known + seen, approximate="tanh")

    def _answers(self, told: Tensor) -> Tensor:
        """(B, T, h, w, K, 1 + CHANNELS): see `expected`."""
        return exact(self.answer, told).float().unflatten(-1, (self.joints, -1))


class HeatmapReadout(PatchReadout):
    """A `PatchReadout` that looks at the image once more: each patch's chance of holding a joint is divided among its
    cells of 4x4 pixels by what a `Pyramid` sees there, in the frame's own image.

    Patches of 16x16 pixels that stand for four frames know roughly where a hand is; a heatmap has it to the pixel
    (Newell et al., ECCV 2016, join coarse and fine features likewise). Joints may then agree on where they are
    (`Agreement`), and where they are found in the image corrects where they are in space (`Lift`). A fresh one changes
    nothing yet, but that of several places where patches think a joint to be it tells the likeliest and not their
    middle (`focused`), and the same person's for all joints (`one_person`), in space too.

    Args:
        blocks: of the `Pyramid`. width: channels of the image's features at half its size; twice as many at a
            quarter, and so on. agree_blocks: of the `Agreement`; 0: there is none.
    """

    CELLS = 4  # a patch, along each side

    def __init__(
        self, dim: int, joints: int, blocks: Sequence[int] = (), width: int = 24, agree_blocks: int = 0
    ) -> None:
        super().__init__(dim, joints)
        # Of 2x2 pixels: from one feature a cell to one a patch.
        self.look = Pyramid(12, width, 4, finest=1, blocks=blocks)
        _, fine, _, coarse = self.look.widths
        self.deep = nn.Conv2d(coarse, dim, 1)
        self.spread = nn.Linear(dim, self.CELLS**2 * width)
        self.join = stack(width + fine, fine)
        self.cell = nn.Conv2d(fine, joints, 1)
        silent(self.deep)
        silent(self.cell)
        self.lift = Lift(joints)
        self.agreement: Agreement | None = None
        if agree_blocks:
            self.agree(agree_blocks)

    def agree(self, blocks: int) -> None:
        """Let joints agree from now on, through so many blocks, those that there are already before fresh ones."""
        if self.agreement is None:
            self.agreement = Agreement(self.token.in_features, self.joints, self.CELLS, 0)
        self.agreement.deepen(blocks)

    def forward(self, tokens: Tensor, video: Tensor, frames: list[int], image: Tensor | None = None) -> Keypoints:
        """image (B, 3, T, H, W) in [-1, 1], the frames that the patches were made of, or one that stands for all."""
        b, t, (h, w) = *tokens.shape[:2], video.shape[2:4]
        side = 4 * self.CELLS
        if image is None or image.shape[3:] != (side * h, side * w) or image.shape[2] not in (1, t):
            found = "none" if image is None else tuple(image.shape)
            raise UserError(f"readout heatmap: expected an image (B, 3, {t}, {side * h}, {side * w}), found {found}")
        pixels = patchify(image.to(self.cell.weight.dtype), 2)
        maps = self.look(pixels.transpose(1, 2).flatten(0, 1))
        seen, deep = (x.unflatten(0, (b, -1)).expand(-1, t, -1, -1, -1) for x in (maps[0], self.deep(maps[-1])))
        told = self._told(tokens, video, frames, deep.permute(0, 1, 3, 4, 2))
        patches = self._answers(told)
        coarse = F.pixel_shuffle(self.spread(told).flatten(0, 1).permute(0, 3, 1, 2), self.CELLS)
        cells = exact(self.cell, self.join(torch.cat((coarse, seen.flatten(0, 1)), 1))).float()
        places = cells.unflatten(0, (b, t)) + repeat(own_places(patches), self.CELLS)
        if self.agreement is not None:
            places = places + self.agreement(places, told)
        places = self.said(places)
        choice = one_person(places, self.CELLS)
        heard = places + HEARD * choice
        points = self.lift(expected(patches, heard), w / h)
        return focused(points, places, self.CELLS, choice, heard)


class Lift(nn.Module):
    """Corrects the 3D joints of a frame by its 2D joints seen together (Martinez et al., ICCV 2017, lift likewise).

    Nothing of it flows back into the 2D joints, which have a loss of their own.
    """

    def __init__(self, joints: int, width: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(CHANNELS * joints + 3, width),
            nn.GELU(approximate="tanh"),
            nn.Linear(width, width),
            nn.GELU(approximate="tanh"),
            nn.Linear(width, 3 * joints),
        )
        silent(self.net[-1])

    def forward(self, points: Keypoints, aspect: float) -> Keypoints:
        """aspect: width of the image over its height."""
        place = points.xy.detach() * points.xy.new_tensor([aspect, 1.0])
        centre = place.mean(2, keepdim=True)
        offset = place - centre
        size = offset.square().sum(-1).mean(2).sqrt().clamp_min(0.02)[..., None]  # of the body, in heights of the image
        known = (offset / size.unsqueeze(-1), points.xyz.detach(), points.visibility.detach().sigmoid())
        told = torch.cat((*(x.flatten(2) for x in known), centre[:, :, 0], size), -1)
        change = exact(self.net, told.to(self.net[0].weight.dtype)).float()
        return points._replace(xyz=points.xyz + change.unflatten(-1, (-1, 3)))


def own_places(patches: Tensor) -> Tensor:
    """Of what patches say (B, T, h, w, K, 1 + CHANNELS) the logits of joints lying there, (B, T, K, h, w)."""
    return patches[..., 0].permute(0, 1, 4, 2, 3)


def expected(patches: Tensor, places: Tensor | None = None) -> Keypoints:
    """The mean of what patches say, each heard as much as a joint is likely to lie there.

    patches: (B, T, h, w, K, 1 + CHANNELS): a logit, offset from the patch's centre (in patches), xyz (metres),
    visibility logit. places: logits (B, T, K, n h, n w) of the joint being in a cell, n a side of each patch; None: the
    patches' own.
    """
    places = own_places(patches) if places is None else places
    height, width = patches.shape[2:4]
    cells = places.shape[3] // height
    chance = _chance(places)
    held = chance.unflatten(4, (width, cells)).unflatten(3, (height, cells)).sum((4, 6))  # (B, T, K, h, w)
    mean = (held.permute(0, 1, 3, 4, 2).unsqueeze(-1) * patches[..., 1:]).sum((2, 3))  # (B, T, K, 6)
    xy = (_mean(chance, cells) + mean[..., :2]) / patches.new_tensor([width, height])
    return Keypoints(xy, mean[..., 2:5], mean[..., 5])


FREEDOM = 3.0  # degrees of freedom of the t-distribution: a limb may be far out
SCALE = 1.0  # patches, of the smallest person's joints
REACH = 2.5  # of a person's scale in median distances from the middle: feet belong to it
ROUNDS = 3  # of choosing a person
CLOSE = 2.0  # patches, within which joints are close to one another
STRENGTH = 2.0  # the choice counts for more than its density, or faces would be told that are clearer elsewhere
HEARD = 0.25  # of the choice, in means over all places: more would pull in the limbs of who is alone


def one_person(places: Tensor, cells: int) -> Tensor:
    """What the joints of a frame, taken together, say of each cell: log-probabilities (B, T, 1, n h, n w), to be added
    to those of each joint. Chosen apart, joints of two people who look alike would be now the one's, now the other's.

    Each joint is at its likeliest place. Where joints are closest to all the others is a person's middle, and the
    median distance from it tells the person's scale along x and y: half of the joints suffice for both, and those who
    lie at another person count little, were they nearly as many. A t-distribution of that middle and scale says where
    a person is, and joints are looked for again.

    places: logits (B, T, K, n h, n w), from which no gradient comes back. cells: n.
    """
    said = places.detach()
    prior = torch.zeros_like(said[:, :, :1])
    for _ in range(ROUNDS):
        joints = _mean(_chance(SHARP * (said + prior)), cells)  # (B, T, K, 2)
        apart = (joints[:, :, :, None] - joints[:, :, None]).square().sum(-1)
        cost = torch.log1p(apart / (FREEDOM * CLOSE**2)).sum(-1)  # far ones hardly count more than those aside
        middle = ((-cost / 2).softmax(2).unsqueeze(-1) * joints).sum(2, keepdim=True)  # (B, T, 1, 2)
        scale = ((REACH * _median((joints - middle).abs())).square() + SCALE**2).sqrt()
        away = _apart(middle, scale, said, cells)
        prior = -STRENGTH * (FREEDOM + 2) / 2 * torch.log1p(away / FREEDOM)
    return prior


SHARP = 8.0  # the chance to this power has its mean at the likeliest place
HILL = 1.0  # patches, within which the top of the same hill lies
NEAR = 0.5  # patches, the standard deviation of what counts as the same place


def focused(
    points: Keypoints, places: Tensor, cells: int, prior: Tensor | float = 0.0, heard: Tensor | None = None
) -> Keypoints:
    """The mean of a heatmap lies between two people, or between two hands: 2D joints are told where the likeliest of
    such places is instead, by the mean of what is near it. The gradient stays that of the mean over all.

    points, places: as `expected` gives and takes them; cells: n. prior: of `one_person`, which chooses between places
    and moves none. heard: what points are the mean over, where that is not `places`.
    """
    mean = _mean(_chance(places if heard is None else heard), cells)
    likeliest = _mean(_chance(SHARP * (places + prior)), cells)
    summit = _mean(_chance(SHARP * _about(places, cells, likeliest, HILL)), cells)  # without the prior's pull
    near = _mean(_chance(_about(places, cells, summit, NEAR)), cells)
    height, width = (n / cells for n in places.shape[3:])
    return points._replace(xy=points.xy + (near - mean).detach() / near.new_tensor([width, height]))


def _about(said: Tensor, cells: int, place: Tensor, width: float) -> Tensor:
    """Logits (B, T, K, n h, n w), their chances multiplied by a Gaussian of that standard deviation, in patches, around
    places (B, T, K, 2)."""
    return said - _apart(place, torch.full_like(place, math.sqrt(2) * width), said, cells)


def _chance(places: Tensor) -> Tensor:
    """Logits (B, T, K, n h, n w) -> chances over all cells of a joint's map."""
    return places.flatten(3).softmax(3).view_as(places)


def _mean(chance: Tensor, cells: int) -> Tensor:
    """Chances (B, T, K, n h, n w) -> the place expected, in patches, (B, T, K, 2). No matrix product, which autocast
    would round."""
    x, y = _centres(chance, cells)
    return torch.stack(((chance.sum(3) * x).sum(3), (chance.sum(4) * y).sum(3)), -1)


def _median(x: Tensor) -> Tensor:
    """Of joints (B, T, K, 2), the lower one of two in the middle: (B, T, 1, 2). `Tensor.median` has no form in ONNX."""
    return x.transpose(2, 3).topk((x.shape[2] + 1) // 2, largest=False).values[..., -1].unsqueeze(2)


def _apart(place: Tensor, scale: Tensor, places: Tensor, cells: int) -> Tensor:
    """Squared distances of the middles of cells of `places` from `place` (B, T, K, 2), in patches, x and y divided by
    `scale` (B, T, K, 2): (B, T, K, n h, n w)."""
    x, y = (((c - place[..., i, None]) / scale[..., i, None]).square() for i, c in enumerate(_centres(places, cells)))
    return x.unsqueeze(3) + y.unsqueeze(4)


def _centres(places: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """x (n w,) and y (n h,) of the middles of cells, in patches."""
    rows, columns = ((torch.arange(n, device=places.device).to(places) + 0.5) / cells for n in places.shape[3:])
    return columns, rows


def repeat(x: Tensor, n: int) -> Tensor:
    """(B, T, K, h, w) -> (B, T, K, n h, n w), every value in its n x n cells."""
    *size, h, w = x.shape
    return x[..., None, :, None].expand(*size, h, n, w, n).reshape(*size, n * h, n * w)


def _quiet(last: nn.Linear) -> None:
    """A last layer that says little at first: the centre of the image, the pelvis."""
    nn.init.normal_(last.weight, std=0.1 / math.sqrt(last.in_features))
    nn.init.zeros_(last.bias)
