"""Stages of training that are not the paper's: one part of the network alone, under throw-away heads.

A large encoder knows the world before it is fine-tuned; where everything starts from nothing, these show one part
several times as many images an hour as the whole network would see. Every image may answer all tasks at once.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.readout import HeatmapReadout, Keypoints
from thfm_ros.model.vae import is_guided
from thfm_ros.tasks import get_task
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.data import Draw, task_weights
from thfm_ros.train.grow import eyes_alike
from thfm_ros.train.heads import PATCH, Enlarge, LatentHeads, PyramidHeads
from thfm_ros.train.samples import ClipBatch
from thfm_ros.train.stages import PixelStage, Rows


class HeadStage(PixelStage):
    """Base: `answers` in the place of the transformer, `Enlarge` in that of the decoder."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint, factor: int) -> None:
        moving = {
            "train_encoder": config.stage == "encoder",
            "train_decoder": False,
            "train_transformer": True,
            "lora": 0,
        }
        super().__init__(replace(config, **moving), checkpoint)
        self.transformer.requires_grad_(False)
        self.decode = Enlarge(factor)

    def answers(self, latents: Tensor, rows: Rows, video: Tensor) -> tuple[dict[str, Tensor], Keypoints]:
        """Of every clip: small pictures (B, 3, T, h, w) by dense task, and keypoints."""
        raise NotImplementedError

    def pictures(self, latents: Tensor, video: Tensor, frame: int | None = None) -> Tensor:
        return self.decode(latents)  # of a still at rest, one frame stands for all 4

    def transform(self, latents: Tensor, rows: Rows, draw: Draw, video: Tensor) -> tuple[Tensor, Keypoints | None]:
        answers, points = self.answers(latents, rows, video)
        if draw.stream:  # a still at rest: all 4 frames of a later latent are alike
            points = Keypoints(*(p.repeat_interleave(4, 1) for p in points))
        pictures = {task: told.unbind() for task, told in answers.items()}  # one gradient a task, not one a row
        some = next(iter(pictures.values()), None)
        blank = latents.new_zeros(3, 1, 1, 1) if some is None else torch.zeros_like(some[0])
        chosen = [pictures[t][c] if t in pictures else blank for c, t in zip(rows.clips, rows.tasks, strict=True)]
        asked = any(get_task(task).kind == "sparse" for task in rows.tasks)
        return torch.stack(chosen), Keypoints(*(p[rows.clips] for p in points)) if asked else None


class EncoderStage(HeadStage):
    """The encoder, by heads on its latents."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        if config.data.frames != 1 and config.stream:
            raise UserError("stream: stage encoder knows the middle of streams with still images only; stream: 0")
        super().__init__(config, checkpoint, checkpoint.vae.config.scale_factor_spatial // PATCH)
        joints = checkpoint.transformer.config.num_joints
        self.heads = LatentHeads(checkpoint.vae.config.z_dim, list(task_weights(config)), joints)

    def _listen(self) -> None:
        raise UserError("keypoints: a fourth weight wants readout patches or heatmap and not stage encoder; give three")

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        return super().forward(batch.shrunk(self.decode.factor), draw)

    def answers(self, latents: Tensor, rows: Rows, video: Tensor) -> tuple[dict[str, Tensor], Keypoints]:
        first = [rows.clips.index(clip) for clip in range(max(rows.clips) + 1)]  # every clip has a row
        return self.heads(latents[first])


class GuideStage(HeadStage):
    """The decoder's guide, by heads on its pyramid; the eyes of a `HeatmapReadout`, where it has the same, are one
    with it as long as this lasts. What the decoder makes of it has to follow in stage `pixel`."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        if not is_guided(checkpoint.vae):
            raise UserError("stage guide: expected a VAE with a guide, found one without; vae: {guide_dim: 24}")
        if config.stream:
            raise UserError("stream: the guide looks at single frames, wherever they stand; stream: 0")
        super().__init__(config, checkpoint, 1)
        guide, head = checkpoint.vae.guide, checkpoint.transformer.keypoint_tokens.head
        guide.pyramid.requires_grad_(True)
        if isinstance(head, HeatmapReadout) and eyes_alike(head, guide):
            head.look.see_as(guide.pyramid)
        joints = checkpoint.transformer.config.num_joints
        self.heads = PyramidHeads(guide.pyramid.widths, guide.patch, list(task_weights(config)), joints)
        self.encode = _Frames()

    def compile_networks(self) -> None:
        self.vae.guide.pyramid.compile()

    def _listen(self) -> None:
        """The heads' own places are heard, not the readout's."""

    def answers(self, latents: Tensor, rows: Rows, video: Tensor) -> tuple[dict[str, Tensor], Keypoints]:
        pictures, points, places = self.heads(self.vae.guide.maps(video), len(video))
        sparse = [c for c, task in zip(rows.clips, rows.tasks, strict=True) if get_task(task).kind == "sparse"]
        self.said = places[sparse] if len(self.config.keypoints) > 3 else None
        return pictures, points


class _Frames(nn.Module):
    """In the place of the encoder: no latents, but where each frame is one."""

    def forward(self, video: Tensor) -> Tensor:
        return video[:, :, :, :1, :1]
