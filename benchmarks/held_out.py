"""Options, clips at the checkpoint's own size, and its predictions: what the benchmarks of held-out clips share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from thfm_ros.model.checkpoint import Checkpoint, load_checkpoint
from thfm_ros.model.codecs import decode_clip, encode_clip
from thfm_ros.model.readout import Keypoints
from thfm_ros.synth.sample import Clip
from thfm_ros.tasks import get_task
from thfm_ros.train.config import DataConfig
from thfm_ros.train.data import HELD_OUT, Generator
from thfm_ros.train.heldout import dense_metrics, keypoint_metrics
from thfm_ros.train.samples import ClipBatch

FRAMES = 5


def open_benchmark(doc: str | None, clips: int) -> tuple[argparse.Namespace, Checkpoint, Iterator[Clip]]:
    """What the command line says, the checkpoint it names, and its held-out clips of FRAMES, each rendered when it is
    asked for. clips: how many by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("weights/nano"))
    parser.add_argument("--clips", type=int, default=clips)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    checkpoint = load_checkpoint(given.checkpoint)
    size = checkpoint.config
    data = DataConfig(height=size.height, width=size.width, frames=FRAMES, fps=size.fps)
    source = Generator(data, "cpu")
    return given, checkpoint, (source.clip(HELD_OUT + index) for index in range(given.clips))


class Prediction(NamedTuple):
    """To one task: video (B, 3, T, H, W) in its RGB code, or keypoints."""

    task: str
    video: Tensor | None
    keypoints: Keypoints | None

    def metrics(self, batch: ClipBatch, frame: int | None = None) -> dict[str, Tensor]:
        """Returns training's held-out metrics, one value a clip. frame: which of the prediction's frames is the batch's
        only one; None: all."""
        which = slice(None) if frame is None else slice(frame, frame + 1)
        if self.video is not None:
            return dense_metrics(self.task, self.video[:, :, which], batch)
        assert self.keypoints is not None
        return keypoint_metrics({k: v[:, which] for k, v in self.keypoints._asdict().items()}, batch, self.task)


@torch.no_grad()
def predictions(checkpoint: Checkpoint, batch: ClipBatch, tasks: Sequence[str]) -> Iterator[Prediction]:
    """Of whole clips, encoded once."""
    latents, features = encode_clip(checkpoint.vae, batch.rgb)
    fine = features[1] if checkpoint.transformer.keypoint_tokens.needs_features else None
    for task in tasks:
        prompt = checkpoint.prompts[task][:1].float().expand(len(batch), -1, -1)
        sparse = get_task(task).kind == "sparse"
        out = checkpoint.transformer(latents, prompt, keypoints=sparse, features=fine)
        video = None if sparse else decode_clip(checkpoint.vae, -out.sample, features, narrow=checkpoint.decoder)
        yield Prediction(task, video, out.keypoints)
