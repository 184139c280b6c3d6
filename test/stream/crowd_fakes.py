"""A network that knows people by their colours: each is a block of one colour on grey, and their joints fill it.

So what everyone's id, box, mask and joints have to be follows from the picture alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import cv2
import numpy as np
from stream_fakes import FakeManifest, FakeRuntime, skeleton

from thfm_ros.geometry import Intrinsics
from thfm_ros.instances import encode
from thfm_ros.tasks import ALPHA, INSTANCES, TASKS

GREY, PILLAR = 90, 60
SIZE = (480, 288)  # width, height of the camera
CAMERA = Intrinsics(480.0, 480.0, 240.0, 144.0, *SIZE)
COLOURS = 5 + 120 * np.array([c for c in np.ndindex(3, 3, 3) if len(set(c)) > 1])[:20]
BODY = skeleton()
LOW, HIGH = BODY[:, :2].min(0), BODY[:, :2].max(0)
HEIGHT_M = float(HIGH[1] - LOW[1])


@dataclass(frozen=True)
class Block:
    """A person in a picture: number (from 1), middle and height in pixels of the camera. Higher is nearer."""

    number: int
    x: float
    y: float
    height: float

    @property
    def box(self) -> np.ndarray:
        half = self.height / 2 * np.array([(HIGH - LOW)[0] / HEIGHT_M, 1.0])
        return np.array([self.x - half[0], self.y - half[1], self.x + half[0], self.y + half[1]])


def picture(
    people: Iterable[Block], pillars: Sequence[tuple[int, int]] = (), size: tuple[int, int] = SIZE
) -> np.ndarray:
    """(H, W, 3) uint8: the nearer before the farther, and pillars (left, right) before all of them."""
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    for person in sorted(people, key=lambda p: p.height):
        left, top, right, bottom = np.rint(person.box).astype(int).clip(0)
        image[top:bottom, left:right] = COLOURS[person.number - 1]
    for left, right in pillars:
        image[:, left:right] = PILLAR
    return image


def _coarse(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) -> (...) one number for colours that are nearly alike."""
    red, green, blue = np.moveaxis(np.asarray(pixels, int) // 8, -1, 0)
    return (red * 32 + green) * 32 + blue


WHOSE = np.zeros(32**3, np.uint8)
for _shift in np.ndindex(3, 3, 3):  # and colours that resampling made of them
    WHOSE[_coarse((COLOURS + np.array(_shift) * 2 - 2).clip(0, 255))] = np.arange(1, len(COLOURS) + 1)


def numbers_in(pixels: np.ndarray) -> np.ndarray:
    """(H, W) who is at each pixel of (H, W, 3); 0 where nobody is."""
    return WHOSE[_coarse(pixels)]


@dataclass(frozen=True)
class CrowdManifest(FakeManifest):
    height: int = 144
    width: int = 240
    tasks: tuple[str, ...] = tuple(dict.fromkeys((*TASKS, "instances")))
    windows: tuple[int, int] | None = (56, 72)


@dataclass
class CrowdRuntime(FakeRuntime):
    """blind: frames in whose pass nobody is detected. windows: people looked at in each pass."""

    manifest: CrowdManifest = field(default_factory=CrowdManifest)
    blind: bool = False
    looked_at: list[int] = field(default_factory=list)

    def predict(
        self, frames: np.ndarray, tasks: Sequence[str], first: Mapping[str, int] | None = None
    ) -> SimpleNamespace:
        plain = [t for t in tasks if t != "instances"]
        found = super().predict(frames, plain, first)
        ids = np.stack([numbers_in(f) for f in frames])
        if self.blind:
            ids[:] = 0
        if "instances" in tasks:
            found.dense["instances"] = np.stack([INSTANCES.to_rgb(encode(i)) for i in ids])
        if "foreground" in tasks:
            found.dense["foreground"] = ALPHA.to_rgb((ids > 0).astype(np.float32))
        self.looked_at.append(0)
        return found

    def predict_windows(self, frames: np.ndarray, tasks: Sequence[str]) -> list[SimpleNamespace]:
        width, height = self.manifest.windows
        assert frames.shape[1:] == (self.manifest.frames, height, width, 3)
        assert frames.dtype == np.uint8
        self.looked_at[-1] = len(frames)
        return [self._window(clip) for clip in frames]

    def _window(self, clip: np.ndarray) -> SimpleNamespace:
        """The joints of whoever is in the middle of each frame, spread over what is seen of them."""
        height, width = clip.shape[1:3]
        xy, seen = [], []
        for frame in clip:
            ids = numbers_in(frame)
            middle = ids[height // 4 : -height // 4, width // 4 : -width // 4]
            counts = np.bincount(middle.ravel(), minlength=2)[1:]
            number = int(counts.argmax()) + 1
            there = bool(counts.max() > 0)
            left, top, wide, high = _largest_part(ids == number) if there else (0, 0, 1, 1)
            unit = (BODY[:, :2] - LOW) / (HIGH - LOW)
            xy.append((unit * (wide, high) + (left, top)) / (width, height))
            seen.append(np.full(len(BODY), self.visibility if there else 0.05))
        return SimpleNamespace(
            xy=np.array(xy, np.float32),
            xyz=np.repeat(BODY[None], len(clip), 0).astype(np.float32),
            visibility=np.array(seen, np.float32),
        )


def _largest_part(mask: np.ndarray) -> tuple[int, ...]:
    """left, top, width, height: edges of others may have this colour, too."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return tuple(stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax(), :4])
