"""Pictures without anybody: a folder of photographs, or a stretch of a video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import IMAGES, load_rgb
from thfm_ros.files import files_below
from thfm_ros.video import VideoReader


@dataclass(frozen=True)
class EmptyPictures:
    """images(): (name, (H, W, 3) uint8 RGB), one at a time, the same every time; UserError where a video ends before.
    count: how many; None: unknown."""

    source: Path
    count: int | None
    stretch: tuple[float, float | None]
    rate: float

    def images(self) -> Iterator[tuple[str, np.ndarray]]:
        if self.source.is_dir():
            for path in _photographs(self.source)[: self.count]:
                yield str(path.relative_to(self.source)), load_rgb(path)
            return
        begin, end = self.stretch
        taken = 0
        for time, image in VideoReader(self.source):
            if (end is not None and time >= end) or taken == self.count:
                break
            if time >= begin + taken / self.rate - 1e-6:
                taken += 1
                yield f"{time:.3f} s", image
        if not taken:  # only now is the length known of a video whose header lacks it
            stretch = f"from {begin:g} to {'its end' if end is None else f'{end:g} s'}"
            raise UserError(f"expected pictures in {self.source} {stretch}, found none: change --from and --to")


def read(
    root: str | Path, begin: float = 0.0, end: float | None = None, rate: float = 2.0, limit: int | None = None
) -> EmptyPictures:
    """A folder (searched with its subfolders) or a video from `begin` to `end` seconds, `rate` pictures a second.

    UserError for a folder without pictures, a file that is no video, and a stretch that holds nothing.
    """
    root = Path(root)
    if root.is_dir():
        if begin or end is not None:
            raise UserError(f"expected a video for --from and --to, found the folder {root}: leave them out")
        count = len(_photographs(root))
        if not count:
            raise UserError(f"expected pictures ({', '.join(IMAGES)}) in {root}, found none: name another folder")
        return EmptyPictures(root, min(count, limit or count), (0.0, None), rate)
    reader = VideoReader(root)
    duration = reader.frames / reader.fps if reader.frames else None
    if begin < 0 or (end is not None and end <= begin) or (duration is not None and begin >= duration):
        length = f" of {duration:.1f} s" if duration else ""
        found = f"from {begin:g} to {'its end' if end is None else f'{end:g} s'}"
        raise UserError(f"expected a stretch of {root}{length}, found {found}: change --from and --to")
    rate = min(rate, reader.fps)
    ends = [x for x in (end, duration) if x is not None]
    counts = [max(1, math.ceil((min(ends) - begin) * rate - 1e-6))] if ends else []
    counts += [limit] if limit else []
    return EmptyPictures(root, min(counts, default=None), (begin, end), rate)


def _photographs(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if path.suffix.lower() in IMAGES]
