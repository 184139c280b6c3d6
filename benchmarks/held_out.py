"""What the benchmarks of held-out clips share: their options, the checkpoint, and clips at its own size."""

from __future__ import annotations

import argparse
from pathlib import Path

from thfm_ros.model.checkpoint import Checkpoint, load_checkpoint
from thfm_ros.train.config import DataConfig
from thfm_ros.train.data import HELD_OUT, open_source
from thfm_ros.train.samples import TrainingClip

FRAMES = 5


def arguments(doc: str | None, clips: int) -> argparse.ArgumentParser:
    """The command line; clips: how many by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("weights/nano"))
    parser.add_argument("--clips", type=int, default=clips)
    parser.add_argument("--json", type=Path)
    return parser


def open_benchmark(doc: str | None, clips: int) -> tuple[argparse.Namespace, Checkpoint, list[TrainingClip]]:
    """What the command line says, the checkpoint it names, and its held-out clips of FRAMES."""
    given = arguments(doc, clips).parse_args()
    checkpoint = load_checkpoint(given.checkpoint)
    size = checkpoint.config
    data = DataConfig(height=size.height, width=size.width, frames=FRAMES, fps=size.fps)
    source = open_source(data)
    return given, checkpoint, [source(HELD_OUT + index) for index in range(given.clips)]
