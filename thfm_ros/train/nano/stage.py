"""One stage for all of nano: features once per image, then every row's task through transformer, decoder or head.

The paper's two stages exist because backpropagation through Wan's decoder is dear. Nano's is cheap, and its latents
have no autoencoder of their own: what they hold is what the tasks need.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.nano import HeatmapHead, NanoCodec
from thfm_ros.model.nano.codec import Features
from thfm_ros.model.nano.heads import HeatmapKeypoints
from thfm_ros.model.nano.layers import StandardConv2d
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.data import Draw
from thfm_ros.train.losses import keypoint_loss, place_loss
from thfm_ros.train.samples import ClipBatch
from thfm_ros.train.stages import PixelStage, Rows, _index, _split

STRIDE_4 = -3  # of the features at strides (2,) 4, 8, 16


class NanoStage(PixelStage):
    """Trains codec, transformer and head together, the image encoder from `freeze_blocks` on."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        if not isinstance(checkpoint.vae, NanoCodec) or config.stream:
            raise UserError("stage nano: expected a NanoCodec checkpoint and stream: 0; preset: nano")
        nn.Module.__init__(self)
        self.config = config
        self.vae, self.transformer = checkpoint.vae, checkpoint.transformer
        self.requires_grad_(True)
        self.vae.image_encoder.freeze(config.freeze_blocks)
        self.prompts = nn.Module()
        for name, prompt in checkpoint.prompts.items():
            self.prompts.register_buffer(name, prompt, persistent=False)
        if not isinstance(self.transformer.keypoint_tokens.head, HeatmapHead):
            raise UserError("stage nano: expected keypoints read from features; transformer: {readout: features}")
        for module in self.modules():
            if isinstance(module, StandardConv2d):
                module.normalise_()

    def compile_networks(self) -> None:
        for network in (self.vae, self.transformer):
            network.compile()

    def slow_parameters(self) -> list[nn.Parameter]:
        """Return the image encoder's: what photographs taught it is to last."""
        return list(self.vae.image_encoder.parameters())

    def encode(self, video: Tensor) -> Tensor:
        """Return the latents of (B, 3, T, H, W)."""
        return self.vae.encode(self.vae.features(video))

    def pictures(self, latents: Tensor, video: Tensor) -> Tensor:
        """Return what the decoder paints, clamped."""
        return self.vae.decode(latents, self.vae.features(video)).clamp(-1, 1)

    def transform(
        self, latents: Tensor, rows: Rows, draw: Draw, video: Tensor
    ) -> tuple[Tensor, HeatmapKeypoints | None]:
        """Predict rows that are all dense or all sparse; see `TaskStage.transform`."""
        if not _split(rows)[1]:
            return self._dense_latents(latents[rows.clips], rows, draw), None
        return latents, self._keypoints(latents[rows.clips], rows, draw, self.vae.features(video))

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        with _attention(batch.rgb.device.type):
            return self._losses(batch, draw)

    def _losses(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        rows = Rows.of(draw)
        dense, sparse = _split(rows)
        features = self.vae.features(batch.rgb, finest=bool(dense))
        latents = self.vae.encode(features)
        loss = latents.new_zeros(len(rows.tasks), dtype=torch.float32)
        if dense:
            chosen = _of(rows, dense)
            guide = tuple(f[chosen.clips] for f in features)
            video = self.vae.decode(self._dense_latents(latents[chosen.clips], chosen, draw), guide).float()
            target = self.targets(batch, rows, dense)
            frames = slice(0, video.shape[2])
            loss = loss.index_put((_index(dense, loss),), self._dense(video, target, batch, rows, dense, frames))
        if sparse:
            chosen = _of(rows, sparse)
            points = self._keypoints(latents[chosen.clips], chosen, draw, tuple(f[chosen.clips] for f in features))
            loss = loss.index_put((_index(sparse, loss),), self._keypoint_rows(points, batch, chosen))
        return loss * loss.new_tensor([self.config.loss_weights.get(task, 1.0) for task in rows.tasks]), rows

    def _dense_latents(self, latents: Tensor, rows: Rows, draw: Draw) -> Tensor:
        out = self.transformer(latents, self._prompt(rows, latents), attention=draw.attention)
        return -out.sample

    def _keypoints(self, latents: Tensor, rows: Rows, draw: Draw, features: Features) -> HeatmapKeypoints:
        prompt = self._prompt(rows, latents)
        out = self.transformer(latents, prompt, keypoints=True, attention=draw.attention, features=features[STRIDE_4])
        return out.keypoints

    def _prompt(self, rows: Rows, like: Tensor) -> Tensor:
        pairs = zip(rows.tasks, rows.prompts, strict=True)
        return torch.stack([getattr(self.prompts, task)[p] for task, p in pairs]).to(like.dtype)

    def _keypoint_rows(self, points: HeatmapKeypoints, batch: ClipBatch, rows: Rows) -> Tensor:
        truth = batch.select(rows.clips).keypoints
        xy, xyz, visibility, place = (*self.config.keypoints, 0.0)[:4]
        predicted = HeatmapKeypoints(*(p.float() for p in points))
        loss = keypoint_loss(predicted, truth, (xy, xyz, visibility), self.config.aligned)
        return loss + place * place_loss(predicted.heatmaps, truth) if place else loss


def _attention(device: str) -> AbstractContextManager[object]:
    """Attention in its parts on CPUs, whose fused one takes ten times as long backward over so few tokens."""
    return sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()


def _of(rows: Rows, which: list[int]) -> Rows:
    return Rows(*([column[r] for r in which] for column in rows))
