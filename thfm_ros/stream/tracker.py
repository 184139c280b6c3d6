"""Who is who from frame to frame: boxes that move steadily, and what people wear.

Each person's box is followed by an alpha-beta filter (a Kalman filter of constant velocity in its steady state). In
every frame the boxes that were found are assigned to the people who are known, first to those who were seen lately,
then to those who are hidden: how far a box lies from where it is expected, how its height differs, and how its colours
do, is what an assignment costs. Who is hidden is expected farther along their way, less surely with time.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from thfm_ros.stream.assign import assign
from thfm_ros.stream.detect import Detection, alike, overlap

NS = 1_000_000_000
JITTER, SPEED = 0.35, 1.5  # body heights, and body heights a second, that somebody may be off by what is expected
LATELY_S = 0.35  # since then: seen lately
ALPHA, BETA = 0.6, 0.2  # of the filter: how much of a box's surprise is a change of place, and of velocity
STEADY_S = 2.0  # for how long a hidden person is taken to walk on
LEARN = 0.1  # share of a frame's colours in what is remembered
HEIGHT, LOOK, HIDDEN = 1.0, 2.5, 0.3  # what heights, colours and being hidden count beside distances
DEAREST = 1.4  # an assignment that costs more is none
KEPT = 128  # boxes of each person, more than any clip has frames
TWICE = 0.7  # boxes that overlap more are one person, found twice


def random_prefix() -> str:
    """Returns five letters such as "kzqwh", of the operating system's randomness: no seed repeats them."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))


@dataclass(eq=False)
class Track:
    """Somebody who is followed. number: 0 until `Tracker.name` gives one. boxes: stamp -> box (4,), where it was seen.

    state: (2, 4) box and its velocity a second, at `stamp_ns`. seen_ns: when last seen.
    """

    state: np.ndarray
    stamp_ns: int
    seen_ns: int
    colours: np.ndarray | None = None
    number: int = 0
    boxes: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def box(self) -> np.ndarray:
        return self.state[0]

    def at(self, stamp_ns: int) -> np.ndarray:
        """(4,) where the box is expected then: it goes on for STEADY_S, at the size that it had."""
        elapsed = min(max(stamp_ns - self.stamp_ns, 0) / NS, STEADY_S)
        way = self.state[1].reshape(2, 2).mean(0)
        return self.box + elapsed * np.tile(way, 2)

    def see(self, stamp_ns: int, box: np.ndarray, colours: np.ndarray | None) -> None:
        """The person is there."""
        elapsed = (stamp_ns - self.stamp_ns) / NS
        if elapsed > 0:
            hidden = stamp_ns - self.seen_ns > LATELY_S * NS
            expected = self.at(stamp_ns) if hidden else self.box + elapsed * self.state[1]
            surprise = box - expected
            first = len(self.boxes) < 2
            self.state[0] = box if hidden else expected + ALPHA * surprise
            self.state[1] += (ALPHA if first else 0.0 if hidden else BETA) * surprise / elapsed
            self.stamp_ns = stamp_ns
        self.seen_ns = max(self.seen_ns, stamp_ns)
        self.boxes[stamp_ns] = box
        if len(self.boxes) > KEPT:
            del self.boxes[min(self.boxes)]
        if colours is not None:
            self.colours = colours if self.colours is None else (1 - LEARN) * self.colours + LEARN * colours


class Tracker:
    """Gives stable ids to the people of one camera, "kzqwh_12": the tracker's prefix and a number.

    The prefix is drawn anew for every tracker, so that an id comes again neither after a restart nor in another node.

    Args:
        absence_s: who is not seen for longer is forgotten, and a new person when they come back.
        prefix: of every id; default: a random one.
    """

    def __init__(self, absence_s: float = 3.0, prefix: str = "") -> None:
        self.absence_s = absence_s
        self.prefix = prefix or random_prefix()
        self.tracks: list[Track] = []
        self._number = 0

    def reset(self) -> None:
        """Forgets everybody; numbers are never used again."""
        self.tracks.clear()

    def name(self, track: Track) -> str:
        """The id of a person; a new one the first time."""
        if not track.number:
            self._number += 1
            track.number = self._number
        return f"{self.prefix}_{track.number}"

    def step(self, stamp_ns: int, found: Sequence[Detection]) -> dict[int, Track]:
        """Index of each detection of the frame -> who it is; a few are nobody's (found twice). Stamps ascend."""
        self.tracks = [t for t in self.tracks if stamp_ns - t.seen_ns <= self.absence_s * NS]
        cost = np.array([[self._cost(t, stamp_ns, d) for d in found] for t in self.tracks])
        pairs = assign(cost.reshape(len(self.tracks), len(found)))
        who = {column: self.tracks[row] for row, column in pairs}
        for i, track in who.items():
            track.see(stamp_ns, found[i].box, found[i].colours)
        for i in (i for i in range(len(found)) if i not in who):
            if any(overlap(found[i].box, found[j].box) > TWICE for j in who):
                continue
            state = np.stack([found[i].box, np.zeros(4)]).astype(float)
            who[i] = Track(state, stamp_ns, stamp_ns, found[i].colours, 0, {stamp_ns: found[i].box})
            self.tracks.append(who[i])
        return who

    def expected(self, stamp_ns: int) -> list[np.ndarray]:
        """Boxes (4,) of those seen lately, where they should be now."""
        return [t.at(stamp_ns) for t in self.tracks if stamp_ns - t.seen_ns <= LATELY_S * NS]

    def _cost(self, track: Track, stamp_ns: int, found: Detection) -> float:
        expected, box = track.at(stamp_ns), found.box
        size = max(box[3] - box[1], expected[3] - expected[1], 1.0)
        reach = JITTER + SPEED * (stamp_ns - track.seen_ns) / NS
        centre = np.linalg.norm((expected.reshape(2, 2) - box.reshape(2, 2)).mean(0)) / size
        if centre > reach:
            return np.inf
        height = abs(np.log(max(box[3] - box[1], 1.0) / max(expected[3] - expected[1], 1.0)))
        hidden = HIDDEN if stamp_ns - track.seen_ns > LATELY_S * NS else 0.0
        cost = (centre / reach) ** 2 + HEIGHT * height + LOOK * (1 - alike(track.colours, found.colours))
        return cost + hidden if cost < DEAREST else np.inf
