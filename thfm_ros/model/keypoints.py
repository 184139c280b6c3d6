"""Learnable keypoint tokens: their 3D RoPE angles and what turns them into keypoints (paper section 1.1)."""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.nano import HeatmapHead
from thfm_ros.model.readout import CHANNELS, Keypoints, TokenReadout

ROPE_THETA = 10000.0  # WanRotaryPosEmbed's default, which no Wan checkpoint changes


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
        readout: `token`, the paper's MLP of the token; or `features`, nano's `HeatmapHead`, which takes the codec's
            features of each frame too.
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
        self.head: nn.Module
        if readout == "token":
            self.head = TokenReadout(dim, num_joints // tokens_per_frame)
        elif readout == "features" and tokens_per_frame == 1:
            self.head = HeatmapHead(dim, num_joints)
        else:
            raise UserError(
                "readout must be token, or features with tokens_per_frame 1; "
                f"found '{readout}' with tokens_per_frame {tokens_per_frame}"
            )

    @classmethod
    def of(cls, config: FrozenDict) -> KeypointTokens:
        """Makes the tokens of a `THFMTransformer3DModel` with that config."""
        return cls(
            config.num_attention_heads * config.attention_head_dim,
            config.attention_head_dim,
            config.num_joints,
            config.tokens_per_frame,
            config.token_frames,
            config.readout,
        )

    @property
    def needs_features(self) -> bool:
        """Whether the head takes the codec's features of the frames."""
        return isinstance(self.head, HeatmapHead)

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

    def forward(self, tokens: Tensor, video: Tensor, first: int = 0, features: Tensor | None = None) -> Keypoints:
        """Read the keypoints of T frames from what leaves the last block; coordinates are float32 under autocast too.

        tokens: (B, T * n, D). video: (B, T', h, w, D), the patches of latent frames first, first + 1, ... of a stream.
        features: (B, C, T, 4 h, 4 w) of the frames behind them, where the head `needs_features`.
        """
        if isinstance(self.head, TokenReadout):
            out = self.head(tokens).reshape(len(tokens), -1, self.num_joints, CHANNELS)
            return Keypoints(out[..., :2] + 0.5, out[..., 2:5], out[..., 5])
        return self.head(tokens, video, [frames_of(1, first + i) for i in range(video.shape[1])], features)


def spread(count: int) -> Tensor:
    """(count, 2) points (height, width) in [0, 1] that cover the image evenly; the centre for one."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    index = torch.arange(count)
    row, column = index // columns, index % columns
    in_row = torch.where(row == rows - 1, count - (rows - 1) * columns, columns)
    return torch.stack(((row + 0.5) / rows, (column + 0.5) / in_row), -1)
