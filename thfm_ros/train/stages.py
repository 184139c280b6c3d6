"""What one step computes, for each of the stages: a module that maps (clips, draw) to one loss a row.

A row is one (clip, task) pair. All stages average over rows, so that any split of a batch over processes or
accumulation parts gives the same gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.readout import Keypoints
from thfm_ros.model.vae import FlatDecoder, FlatEncoder
from thfm_ros.tasks import get_task
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.data import Draw
from thfm_ros.train.latent_cache import LatentCache
from thfm_ros.train.losses import dense_loss, keypoint_loss, l2_loss, overlap_loss
from thfm_ros.train.networks import add_lora
from thfm_ros.train.samples import ClipBatch


class Rows(NamedTuple):
    """(clip, task) pairs: index of the clip in the batch, task, paraphrase, and the loss (R,) once it is known."""

    clips: list[int]
    tasks: list[str]
    prompts: list[int]

    @classmethod
    def of(cls, draw: Draw) -> Rows:
        pairs = [
            (i, task, prompt)
            for i, (tasks, prompts) in enumerate(zip(draw.tasks, draw.prompts, strict=True))
            for task, prompt in zip(tasks, prompts, strict=True)
        ]
        return cls(*(list(column) for column in zip(*pairs, strict=True)))

    def of_task(self, task: str) -> list[int]:
        return [row for row, name in enumerate(self.tasks) if name == task]


class Stage(nn.Module):
    """Base: holds both networks; `forward` gives the loss of every row (R,) and the rows themselves."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.config = config
        self.vae, self.transformer = checkpoint.vae, checkpoint.transformer
        self.encode = FlatEncoder(self.vae, config.gradient_checkpointing)
        self.decode: FlatDecoder | NarrowDecoder = FlatDecoder(self.vae, config.gradient_checkpointing)
        self.requires_grad_(False)

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        raise NotImplementedError

    def slow_parameters(self) -> list[nn.Parameter]:
        """Return parameters that move at `encoder_rate` of the learning rate."""
        return []

    def pictures(self, latents: Tensor, video: Tensor) -> Tensor:
        """Decode latents to the size of the video that they are of, in [-1, 1]."""
        return self.decode(latents)

    def reference(self, latents: Tensor, video: Tensor) -> Tensor:
        """What decoded latents of a video are compared with on held-out clips."""
        return video

    def compile_networks(self) -> None:
        self.encode.compile()
        self.transformer.compile()
        self.decode.unclamped = torch.compile(self.decode.unclamped)  # what the losses look at

    def targets(self, batch: ClipBatch, rows: Rows, which: list[int]) -> Tensor:
        """(len(which), 3, T, H, W) RGB targets of dense rows."""
        out: list[Tensor | None] = [None] * len(which)
        for task in dict.fromkeys(rows.tasks[r] for r in which):
            places = [i for i, r in enumerate(which) if rows.tasks[r] == task]
            made = batch.select([rows.clips[which[i]] for i in places]).target(task)
            for place, target in zip(places, made, strict=True):
                out[place] = target
        return torch.stack([target for target in out if target is not None])


class VaeStage(Stage):
    """Autoencoder of video and of the modalities: L1 + 0.5 MSE, fixed noise on the latents instead of a posterior."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        super().__init__(config, checkpoint)
        self.vae.requires_grad_(True)

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        rows = Rows.of(draw)
        video = self.targets(batch, rows, list(range(len(rows.tasks))))
        latents = _noisy(self.encode(video), self.config.latent_noise, draw, rows)
        difference = (self.decode.unclamped(latents).float() - video).flatten(1)
        return difference.abs().mean(1) + 0.5 * difference.square().mean(1), rows


class DecoderStage(Stage):
    """The narrow decoder learns what the autoencoder's own decoder paints (distillation): L1 + MSE to its pictures.

    Latents are those of the video and of every modality, with fixed noise, which both decoders get: what a transformer
    predicts is no encoding of any picture.
    """

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        super().__init__(config, checkpoint)
        assert checkpoint.decoder is not None
        self.teacher, self.decode = self.decode, checkpoint.decoder
        self.decode.requires_grad_(True)

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        rows = Rows.of(draw)
        with torch.no_grad():
            latents = self.encode(self.targets(batch, rows, list(range(len(rows.tasks)))))
            latents = _noisy(latents, self.config.latent_noise, draw, rows)
            painted = self.teacher(latents).float()
        difference = (self.decode.unclamped(latents).float() - painted).flatten(1)
        return difference.abs().mean(1) + difference.square().mean(1), rows

    def reference(self, latents: Tensor, video: Tensor) -> Tensor:
        return self.teacher(latents)

    def compile_networks(self) -> None:
        super().compile_networks()
        self.teacher.compile()


class TaskStage(Stage):
    """Common to stages 1 and 2: one pass of the transformer over all rows of a batch."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        super().__init__(config, checkpoint)
        self.prompts = nn.Module()
        for name, prompt in checkpoint.prompts.items():
            self.prompts.register_buffer(name, prompt, persistent=False)
        if config.lora:
            add_lora(self.transformer, config.lora)
        else:
            self.transformer.requires_grad_(True)
        if config.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        if len(config.keypoints) > 3:
            raise UserError("keypoints: a fourth weight is of heatmaps, which stage nano has; give three")

    def transform(self, latents: Tensor, rows: Rows, draw: Draw, video: Tensor) -> tuple[Tensor, Keypoints | None]:
        """Predict latents (the negated output) and keypoints of the latents (R, C, T', h, w) of the rows.

        video: (B, 3, T, H, W) of the clips, whose features nano's head takes; not needed here.
        """
        prompt = torch.stack([getattr(self.prompts, task)[p] for task, p in zip(rows.tasks, rows.prompts, strict=True)])
        sparse = torch.tensor([get_task(t).kind == "sparse" for t in rows.tasks], device=latents.device)
        has_sparse = any(get_task(t).kind == "sparse" for t in rows.tasks)
        out = self.transformer(
            latents,
            prompt.to(latents.dtype),
            keypoints=sparse if has_sparse else False,
            frames=4 * latents.shape[2] if draw.stream else None,
            attention=draw.attention,
        )
        return -out.sample, out.keypoints

    def keypoint_rows(self, predicted: Keypoints, batch: ClipBatch, rows: Rows, which: list[int], skip: int) -> Tensor:
        """Keypoint loss of sparse rows; `skip` frames at the start have no prediction (middle of a stream)."""
        truth = batch.select([rows.clips[r] for r in which]).keypoints
        xy, xyz, visibility = self.config.keypoints
        chosen = Keypoints(*(p[which].float() for p in predicted))
        target = Keypoints(*(t[:, skip:].expand_as(p) for t, p in zip(truth, chosen, strict=True)))
        return keypoint_loss(chosen, target, (xy, xyz, visibility), self.config.aligned)


class LatentStage(TaskStage):
    """Stage 1: mean squared error between the negated output and the target's latents; keypoints in their own space."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        super().__init__(config, checkpoint)
        self.cache = LatentCache(config.latents, self.vae, config.data)

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        rows = Rows.of(draw)
        source = self._encoded(batch, draw, [(i, "rgb") for i in range(len(draw.clips))])[rows.clips]
        dense, sparse = _split(rows)
        target = self._encoded(batch, draw, [(rows.clips[r], rows.tasks[r]) for r in dense]) if dense else None
        skip = 1 if draw.stream else 0
        predicted, points = self.transform(source[:, :, skip:], rows, draw, batch.rgb[:, :, skip:])
        loss = predicted.new_zeros(len(rows.tasks), dtype=torch.float32)
        if target is not None:
            loss = loss.index_put((_index(dense, loss),), l2_loss(predicted[dense].float(), target[:, :, skip:]))
        if points is not None:
            keypoints = self.keypoint_rows(points, batch, rows, sparse, skip)
            loss = loss.index_put((_index(sparse, loss),), keypoints)
        return loss, rows

    @torch.no_grad()
    def _encoded(self, batch: ClipBatch, draw: Draw, wanted: list[tuple[int, str]]) -> Tensor:
        """(len(wanted), C, T', h, w) of (clip in the batch, task or rgb)."""
        keys = [(draw.clips[i], task) for i, task in wanted]
        missing = [n for n, key in enumerate(keys) if key not in self.cache]
        if missing:
            rows = Rows([wanted[n][0] for n in missing], [wanted[n][1] for n in missing], [])
            made = self.encode(self.targets(batch, rows, list(range(len(missing)))))
            fresh = {keys[n]: z for n, z in zip(missing, made.float(), strict=True)}
            self.cache.update(fresh)
        else:
            fresh = {}
        return torch.stack([fresh[k] if k in fresh else self.cache[k].to(batch.rgb) for k in keys])


class PixelStage(TaskStage):
    """Stage 2: through the decoder, with the losses of each task in RGB space."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        super().__init__(config, checkpoint)
        if config.train_encoder:
            self.vae.encoder.requires_grad_(True)
            self.vae.quant_conv.requires_grad_(True)
        if config.train_decoder:
            self.vae.decoder.requires_grad_(True)
            self.vae.post_quant_conv.requires_grad_(True)

    def forward(self, batch: ClipBatch, draw: Draw) -> tuple[Tensor, Rows]:
        rows = Rows.of(draw)
        skip = 1 if draw.stream else 0  # the latent that stands for the stream's first frame
        with torch.set_grad_enabled(self.config.train_encoder and torch.is_grad_enabled()):
            source = self.encode(batch.rgb)[rows.clips, :, skip:]
        dense, sparse = _split(rows)
        predicted, points = self.transform(source, rows, draw, batch.rgb[:, :, skip:])
        loss = predicted.new_zeros(len(rows.tasks), dtype=torch.float32)
        if dense:
            target = self.targets(batch, rows, dense)
            video, frames = self._decoded(predicted[dense], target, draw)
            loss = loss.index_put((_index(dense, loss),), self._dense(video, target, batch, rows, dense, frames))
        if points is not None:
            keypoints = self.keypoint_rows(points, batch, rows, sparse, skip)
            loss = loss.index_put((_index(sparse, loss),), keypoints)
        return loss * loss.new_tensor([self.config.loss_weights.get(task, 1.0) for task in rows.tasks]), rows

    def _decoded(self, latents: Tensor, target: Tensor, draw: Draw) -> tuple[Tensor, slice]:
        """The frames that the losses look at, and which of the clip's they are."""
        if draw.stream:  # the decoder's history: the target's own first latent
            with torch.no_grad():
                history = self.encode(target[:, :, :1])
            latents = torch.cat((history.to(latents), latents), 2)
        low, high, frames = self._run(latents.shape[2], draw)
        video = self.decode.unclamped(latents[:, :, low:high]).float()
        if draw.stream and low == 0:
            return video[:, :, 1:], slice(1, frames.stop)
        if low > 0:  # a run from the middle starts with a latent that the decoder takes for one frame
            return video[:, :, 1:], slice(frames.start + 4, frames.stop)
        return video, frames

    def _run(self, latents: int, draw: Draw) -> tuple[int, int, slice]:
        """Which latent frames to decode, [low, high), and the video frames that they cover."""
        count = self.config.decode_latents
        if count == 0 or count >= latents:
            return 0, latents, slice(0, 4 * latents - 3)
        count = max(2, count)
        low = min(int(draw.first * (latents - count + 1)), latents - count)
        return low, low + count, slice(max(0, 4 * low - 3), 4 * (low + count) - 3)

    def _dense(
        self, video: Tensor, target: Tensor, batch: ClipBatch, rows: Rows, dense: list[int], frames: slice
    ) -> Tensor:
        loss = video.new_zeros(len(dense))
        for name in dict.fromkeys(rows.tasks[r] for r in dense):
            which = [i for i, r in enumerate(dense) if rows.tasks[r] == name]
            task = get_task(name)
            mask = batch.select([rows.clips[dense[i]] for i in which]).mask(name)[:, :, frames]
            value = dense_loss(
                task.loss,
                video[which],
                target[which][:, :, frames],
                mask,
                task.human,
                self.config.anchor,
                self.config.background,
            )
            if name == "foreground" and self.config.overlap:
                value = value + self.config.overlap * overlap_loss(video[which], target[which][:, :, frames])
            loss = loss.index_put((_index(which, loss),), value)
        return loss


def _noisy(latents: Tensor, deviation: float, draw: Draw, rows: Rows) -> Tensor:
    """Latents with noise that depends on (step, clip, task) alone."""
    if not deviation:
        return latents
    noise = [torch.randn(z.shape, generator=_generator(draw, rows, i)) for i, z in enumerate(latents)]
    return latents + deviation * torch.stack(noise).to(latents)


def _split(rows: Rows) -> tuple[list[int], list[int]]:
    sparse = [r for r, task in enumerate(rows.tasks) if get_task(task).kind == "sparse"]
    return [r for r in range(len(rows.tasks)) if r not in sparse], sparse


def _index(rows: list[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, device=like.device)


def _generator(draw: Draw, rows: Rows, row: int) -> torch.Generator:
    """Noise of a row, the same however the batch is split: from (step, clip, task)."""
    task = sum(ord(c) * 31**i for i, c in enumerate(rows.tasks[row])) % 10007
    seed = (draw.step * 1_000_003 + draw.clips[rows.clips[row]]) * 10_007 + task
    return torch.Generator().manual_seed(seed % (2**63))
