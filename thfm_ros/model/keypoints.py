"""Learnable keypoint tokens: their 3D RoPE angles and what turns them into keypoints (paper section 1.1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import FrozenDict
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from thfm_ros.errors import UserError

ROPE_THETA = 10000.0  # WanRotaryPosEmbed's default, which no Wan checkpoint changes
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


def rope_dims(head_dim: int) -> tuple[int, int, int]:
    """How WanRotaryPosEmbed splits a head between time, height and width."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def rope_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin (1, N, 1, head_dim) of real-valued positions (N, 3) along time, height and width (equation 1).

    The pairs are repeat-interleaved as in the stock class, and equal it at integer positions. Differentiable.
    """
    angles = []
    for axis, dim in enumerate(rope_dims(head_dim)):
        frequencies = [ROPE_THETA ** (-2 * i / dim) for i in range(dim // 2)]
        angles.append(positions[:, axis, None] * positions.new_tensor(frequencies))
    angle = torch.cat(angles, 1)
    angle = torch.stack((angle, angle), -1).flatten(-2)[None, :, None]
    return angle.cos(), angle.sin()


def frames_of(latents: int, first: int = 0) -> int:
    """Video frames behind `latents` latent frames: the stream's very first one stands for 1, every other for 4."""
    return 4 * latents - (3 if first == 0 else 0)


def frame_index(latent: int) -> int:
    """The video frame at which a latent frame begins, counted from the start of the stream."""
    return max(0, 4 * latent - 3)


class KeypointTokens(nn.Module):
    """T learnable tokens for T frames, appended to the video tokens, and the head that reads keypoints out of them.

    Frame t of a stream uses row t of a table of `token_frames` rows; beyond the table its rows 1, 2, ... repeat.
    `token_frames` = T is the paper's "T learnable tokens"; `token_frames` = 5 has one row for the first frame and one
    for each of the 4 frames that a latent stands for, which makes the model invariant to shifts in time: what a stream
    of any length needs. Temporal positions are interpolated into the latent range, t / 4 (position interpolation);
    spatial ones are learned, in normalised image coordinates, so that a checkpoint works at any size.

    `tokens_per_frame` = n > 1 gives every frame n tokens, each of which predicts K / n consecutive joints.

    Args:
        dim: width of the transformer. head_dim: of one attention head. num_joints: K.
        readout: `token`, the paper's MLP of the token; or `patches`, where the token asks the patches (`PatchReadout`).
    """

    def __init__(
        self,
        dim: int,
        head_dim: int,
        num_joints: int = 32,
        tokens_per_frame: int = 1,
        token_frames: int = 81,
        readout: str = "token",
    ) -> None:
        super().__init__()
        if tokens_per_frame < 1 or num_joints % tokens_per_frame:
            raise UserError(
                f"tokens_per_frame must divide the number of joints ({num_joints}), found {tokens_per_frame}"
            )
        if token_frames < 5 or token_frames % 4 != 1:
            raise UserError(f"token_frames must be 4k + 1 with k >= 1 (5, 9, ... 81), found {token_frames}")
        self.head_dim, self.num_joints = head_dim, num_joints
        self.tokens_per_frame, self.token_frames = tokens_per_frame, token_frames
        self.embedding = nn.Parameter(torch.randn(token_frames, tokens_per_frame, dim) * 0.02)
        self.position = nn.Parameter(spread(tokens_per_frame).repeat(token_frames, 1, 1))
        self.read_from(readout)

    @classmethod
    def of(cls, config: FrozenDict) -> KeypointTokens:
        """Of a `THFMTransformer3DModel` with that config."""
        return cls(
            config.num_attention_heads * config.attention_head_dim,
            config.attention_head_dim,
            config.num_joints,
            config.tokens_per_frame,
            config.token_frames,
            config.readout,
        )

    def read_from(self, readout: str) -> None:
        """A fresh head of that kind."""
        dim = self.embedding.shape[-1]
        if readout == "token":
            self.head: nn.Module = TokenReadout(dim, self.num_joints // self.tokens_per_frame)
        elif readout == "patches" and self.tokens_per_frame == 1:
            self.head = PatchReadout(dim, self.num_joints)
        else:
            raise UserError(
                "readout must be token, or patches with tokens_per_frame 1; "
                f"found '{readout}' with tokens_per_frame {self.tokens_per_frame}"
            )

    def _rows(self, latents: int, first: int) -> list[int]:
        start = frame_index(first)
        frames = range(start, start + frames_of(latents, first))
        return [t if t < self.token_frames else 1 + (t - 1) % (self.token_frames - 1) for t in frames]

    def tokens(self, latents: int, first: int = 0) -> Tensor:
        """(T * n, D) embeddings of the frames behind latent frames first, ..., first + latents - 1 of a stream."""
        return self.embedding[self._rows(latents, first)].flatten(0, 1)

    def rope(self, latents: int, first: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """cos, sin (1, T * n, 1, head_dim) of those frames' tokens, positions relative to latent frame `first`.

        grid: height and width in patches; patch i has position i, so the image spans [-0.5, size - 0.5].
        """
        rows = self._rows(latents, first)
        space = self.position[rows].float() * self.position.new_tensor(grid, dtype=torch.float32) - 0.5
        start = frame_index(first)
        time = torch.arange(start, start + len(rows), device=space.device, dtype=torch.float32) / 4 - first
        time = time[:, None, None].expand(-1, self.tokens_per_frame, 1)
        return rope_angles(torch.cat((time, space), -1).flatten(0, 1), self.head_dim)

    def forward(self, tokens: Tensor, video: Tensor, first: int = 0) -> Keypoints:
        """What leaves the last block -> keypoints of T frames, in float32 also under autocast.

        tokens: (B, T * n, D). video: (B, T', h, w, D), the patches of latent frames first, first + 1, ... of a stream.
        """
        kind = tokens.device.type
        if torch.is_autocast_enabled(kind):  # bf16 would round coordinates to 1/256 of the image
            with torch.autocast(kind, enabled=False):
                return self._read(tokens.float(), video.float(), first)
        return self._read(tokens, video, first)

    def _read(self, tokens: Tensor, video: Tensor, first: int) -> Keypoints:
        if isinstance(self.head, TokenReadout):
            out = self.head(tokens).reshape(len(tokens), -1, self.num_joints, CHANNELS)
            return Keypoints(out[..., :2] + 0.5, out[..., 2:5], out[..., 5])
        return self.head(tokens, video, [frames_of(1, first + i) for i in range(video.shape[1])])


class TokenReadout(nn.Sequential):
    """The paper's MLP: (B, N, D) tokens -> (B, N, CHANNELS * joints) in float32."""

    def __init__(self, dim: int, joints: int) -> None:
        super().__init__(
            FP32LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, CHANNELS * joints)
        )
        _quiet(self[-1])

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.to(self[1].weight.dtype)).float()


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

    def forward(self, tokens: Tensor, video: Tensor, frames: list[int]) -> Keypoints:
        """tokens (B, T, D), video (B, T', h, w, D), frames: video frames behind each latent frame, T in all."""
        weight = self.answer.weight
        asked = self.token(self.norm_token(tokens).to(weight.dtype))[:, :, None, None]
        known = self.patch(self.norm_patch(video).to(weight.dtype))
        known = torch.cat([known[:, i : i + 1].expand(-1, n, -1, -1, -1) for i, n in enumerate(frames)], 1)
        return expected(self.answer(F.gelu(asked + known, approximate="tanh")).float().unflatten(-1, (self.joints, -1)))


def expected(patches: Tensor) -> Keypoints:
    """Of what every patch says, (B, T, h, w, K, 1 + CHANNELS): logit of the joint being there, its offset from the
    patch's centre (in patches), xyz (metres), visibility logit."""
    height, width = patches.shape[2:4]
    chance = patches[..., 0].flatten(2, 3).softmax(2).unsqueeze(-1)  # (B, T, h w, K, 1)
    y, x = torch.meshgrid(*(torch.arange(n, device=patches.device) for n in (height, width)), indexing="ij")
    centre = torch.stack((x, y), -1).to(patches)[:, :, None] + 0.5
    place = (centre + patches[..., 1:3]) / patches.new_tensor([width, height])
    values = torch.cat((place, patches[..., 3:]), -1).flatten(2, 3)
    mean = (chance * values).sum(2)  # (B, T, K, 6)
    return Keypoints(mean[..., :2], mean[..., 2:5], mean[..., 5])


def _quiet(last: nn.Linear) -> None:
    """A last layer that says little at first: the centre of the image, the pelvis."""
    nn.init.normal_(last.weight, std=0.1 / math.sqrt(last.in_features))
    nn.init.zeros_(last.bias)


def spread(count: int) -> Tensor:
    """(count, 2) points (height, width) in [0, 1] that cover the image evenly; the centre for one."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    index = torch.arange(count)
    row, column = index // columns, index % columns
    in_row = torch.where(row == rows - 1, count - (rows - 1) * columns, columns)
    return torch.stack(((row + 0.5) / rows, (column + 0.5) / in_row), -1)
