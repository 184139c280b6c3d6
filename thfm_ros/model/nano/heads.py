"""What turns a keypoint token into the keypoints of its frame, with the frame's features in sight."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.nano.layers import Fuse, StandardConv2d, activate, small_init, zero_init
from thfm_ros.model.nano.soft_argmax import cell_centres, expectation, mode, probabilities
from thfm_ros.model.precision import exact

REACH = 1.5  # cells around a heatmap's peak that place a joint
PLACE = 4  # numbers that say where a cell is: x, y and their squares, as the logarithm of a Gaussian has them


class HeatmapKeypoints(NamedTuple):
    """xy (B, T, K, 2) normalised, xyz (B, T, K, 3) metres from the pelvis, visibility (B, T, K) logits, and the
    heatmaps' logits (B, T, K, h, w) that xy is read from."""

    xy: Tensor
    xyz: Tensor
    visibility: Tensor
    heatmaps: Tensor


class HeatmapHead(nn.Module):
    """Predicts a heatmap a joint at a quarter of the image's size, 3D joints from what lies under it, then it again.

    The frame's token and patches of the transformer say which person and where; the codec's features at stride 4 place
    joints to the pixel. Features under each heatmap make one token a joint; joints attend to one another before they
    give their 3D place and visibility. They also give each heatmap a log prior, which tells alike places apart: left
    ankles look like right ones, and which is which only the rest of the body says.

    Args:
        dim: width of the transformer. joints: K. fine: channels of the features at stride 4.
        widths: channels at strides 4, 8 and 16. joint_dim: width of a joint's token. layers: of joint attention.
    """

    def __init__(
        self,
        dim: int,
        joints: int,
        fine: int = 48,
        widths: tuple[int, int, int] = (64, 96, 160),
        joint_dim: int = 192,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.joints, self.fine = joints, fine
        self.norm_token, self.norm_patch = FP32LayerNorm(dim), FP32LayerNorm(dim)
        self.token, self.patch = nn.Linear(dim, widths[2]), nn.Linear(dim, widths[2])
        self.mix = StandardConv2d(widths[2], widths[2], 3)
        self.side8 = StandardConv2d(fine, widths[1], 3, stride=2)
        self.side4 = StandardConv2d(fine, widths[0])
        self.up8, self.up4 = Fuse(widths[2], widths[1]), Fuse(widths[1], widths[0])
        self.refine = StandardConv2d(widths[1], widths[1], 3)
        self.heatmap = nn.Conv2d(widths[0], joints, 1)
        small_init(self.heatmap)
        self.joint = nn.Linear(widths[0] + widths[1] + 4, joint_dim)
        self.joint_token = nn.Linear(dim, joint_dim)
        self.embedding = nn.Parameter(torch.randn(joints, joint_dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            joint_dim, 6, 2 * joint_dim, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True
        )
        self.relate = nn.TransformerEncoder(layer, layers, nn.LayerNorm(joint_dim), enable_nested_tensor=False)
        self.out = nn.Linear(joint_dim, 4)
        self.mean = nn.Parameter(torch.zeros(joints, 3))  # a mean skeleton, metres
        zero_init(self.out)
        self.prior = nn.Linear(joint_dim, widths[0] + PLACE)
        zero_init(self.prior)

    def forward(self, tokens: Tensor, video: Tensor, frames: list[int], fine: Tensor | None = None) -> HeatmapKeypoints:
        """Predict the keypoints of T frames.

        tokens: (B, T, dim). video: (B, T', h, w, dim), the transformer's patches. frames: video frames behind each
        latent frame, T in all. fine: (B, C, T, 4 h, 4 w), the codec's features at stride 4.
        """
        b, t, (h, w) = *tokens.shape[:2], video.shape[2:4]
        if fine is None or fine.shape != (b, self.fine, t, 4 * h, 4 * w):
            found = "none" if fine is None else tuple(fine.shape)
            raise UserError(f"expected features ({b}, {self.fine}, {t}, {4 * h}, {4 * w}) at stride 4, found {found}")
        asked = self.norm_token(tokens).to(self.token.weight.dtype)
        patches = self.patch(self.norm_patch(video).to(self.patch.weight.dtype))
        patches = torch.cat([patches[:, i : i + 1].expand(-1, n, -1, -1, -1) for i, n in enumerate(frames)], 1)
        x = (patches + self.token(asked)[:, :, None, None]).flatten(0, 1).permute(0, 3, 1, 2)
        side = fine.transpose(1, 2).flatten(0, 1)
        x16 = activate(x)
        x16 = activate(x16 + self.mix(x16))
        x8 = self.up8(x16, self.side8(side))
        x8 = activate(x8 + self.refine(x8))
        x4 = self.up4(x8, self.side4(side))
        heatmaps = exact(self.heatmap, x4).float()
        # What 3D joints want of the heatmaps is mostly noise, and would drown what 2D joints teach them.
        chance = probabilities(heatmaps).detach()
        hidden, middle, size = self._relate(chance, x4, x8, asked.flatten(0, 1), w / h)
        points = exact(self.out, hidden).float().unflatten(0, (b, t))
        heatmaps = heatmaps + self._log_prior(hidden, x4, middle, size, w / h)
        xy = mode(probabilities(heatmaps), REACH)
        xy, heatmaps = xy.unflatten(0, (b, t)), heatmaps.unflatten(0, (b, t))
        return HeatmapKeypoints(xy, points[..., :3] + self.mean, points[..., 3], heatmaps)

    def _relate(
        self, chance: Tensor, x4: Tensor, x8: Tensor, token: Tensor, aspect: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (N, K, joint_dim) of the features under each heatmap, and of all joints' places, in heights of the
        image: the middle (N, 1, 2) and the spread (N, 1, 1).

        Places are expectations here, not peaks: of two peaks as high as each other rounding would choose one.
        """
        coarse = F.avg_pool2d(chance, 2) * 4
        under = [
            (c.flatten(2).to(x.dtype) @ x.flatten(2).transpose(1, 2)).float() for c, x in ((chance, x4), (coarse, x8))
        ]
        place = expectation(chance) * chance.new_tensor([aspect, 1.0])
        middle = place.mean(1, keepdim=True)
        place = place - middle
        size = place.square().sum(-1).mean(1, keepdim=True).sqrt().clamp_min(0.02)[..., None]
        sure = chance.amax((-2, -1))[..., None]
        seen = torch.cat((*under, place / size, size.expand_as(sure), sure), -1)
        hidden = self.joint(seen.to(self.joint.weight.dtype)) + self.joint_token(token)[:, None] + self.embedding
        return self.relate(hidden), middle, size

    def _log_prior(self, hidden: Tensor, x4: Tensor, middle: Tensor, size: Tensor, aspect: float) -> Tensor:
        """Logits (N, K, h, w) for a joint's place, of what the other joints say: a Gaussian, and the features it wants.

        middle, size: of all joints, as `_relate` gives them.
        """
        x, y = cell_centres(x4.float())
        place = torch.stack(torch.broadcast_tensors(x * aspect, y[:, None])).flatten(1)  # (2, h w)
        place = (place - middle.transpose(1, 2)) / size
        cells = torch.cat((x4.float().flatten(2), place, place.square()), 1)
        asked = exact(self.prior, hidden).float()
        with torch.autocast(x4.device.type, enabled=False):
            return (asked @ cells).unflatten(2, x4.shape[-2:])
