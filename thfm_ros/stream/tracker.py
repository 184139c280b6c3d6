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
from thfm_ros.stream.detect import Detection, alike, overlap, share

NS = 1_000_000_000
JITTER, SPEED = 0.35, 1.5  # body heights, and body heights a second, that somebody may be off by what is expected
LATELY_S, FLEETING_S = 0.35, 0.1  # since then: seen lately; who is not known yet, from then on forgotten
ALPHA, BETA = 0.6, 0.2  # of the filter: how much of a box's surprise is a change of place, and of velocity
NEAREST_M = 0.3
STEADY_S = 1.5  # for how long, on average, a hidden person walks on
LEARN = 0.1  # share of a frame's colours in what is remembered
HEIGHT, LOOK, HIDDEN = 1.0, 3.0, 0.2  # what heights, colours and being hidden count beside distances
PART, INSIDE = 0.5, 0.7  # heights of somebody hidden in part count so much, whose box lies so far in the expected one
CUT, SHRINK = 0.8, 0.05  # who is shorter than expected by so much is hidden in part; or smaller, to this degree a frame
DEAREST = 1.4  # an assignment that costs more is none
KEPT = 128  # boxes of each person, more than any clip has frames
TWICE = 0.7  # boxes that overlap more are one person, found twice


def random_prefix() -> str:
    """Returns five letters such as "kzqwh", of the operating system's randomness: no seed repeats them."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))


@dataclass(frozen=True)
class Place:
    """Somebody in the camera frame: root (3,) metres and velocity (3,) m/s, focal length (2,) of their camera in
    pixels."""

    root: np.ndarray
    velocity: np.ndarray
    focal: np.ndarray

    def moved(self, box: np.ndarray, seconds: float) -> np.ndarray:
        """Where a box (4,) about them is so much later."""
        later = self.root + seconds * self.velocity
        depth = self.root[2] / max(later[2], NEAREST_M)
        way = self.focal * (later[:2] / max(later[2], NEAREST_M) - self.root[:2] / self.root[2])
        middle = box.reshape(2, 2).mean(0)
        return np.tile(middle + way, 2) + depth * (box - np.tile(middle, 2))


@dataclass(eq=False)
class Track:
    """Somebody who is followed. number: 0 until `Tracker.name` gives one. boxes: stamp -> box (4,), where it was seen.

    state: (2, 4) box and its velocity a second, at `stamp_ns`, of all of them, hidden parts included. born_ns, seen_ns:
    when first and last seen. known: seen for long enough to be somebody. place: where a depth camera measured them, and
    size: their distance times the height of their box then, which stays as they come nearer.
    """

    state: np.ndarray
    stamp_ns: int
    born_ns: int
    seen_ns: int
    colours: np.ndarray | None = None
    known: bool = False
    place: Place | None = None
    size: float = 0.0
    number: int = 0
    boxes: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def box(self) -> np.ndarray:
        return self.state[0]

    def at(self, stamp_ns: int) -> np.ndarray:
        """(4,) where the box is expected then: it goes on, slower and slower, at the size that it had."""
        elapsed = STEADY_S * (1 - np.exp(-max(stamp_ns - self.stamp_ns, 0) / NS / STEADY_S))
        if self.place is not None and elapsed > LATELY_S:
            return self.place.moved(self.box, elapsed)
        way = self.state[1].reshape(2, 2).mean(0)
        fastest = SPEED * max(float(self.box[3] - self.box[1]), 1.0)
        way *= min(1.0, fastest / max(float(np.linalg.norm(way)), 1e-9))
        return self.box + elapsed * np.tile(way, 2)

    def see(self, stamp_ns: int, box: np.ndarray, colours: np.ndarray | None) -> None:
        """The person is there."""
        elapsed = (stamp_ns - self.stamp_ns) / NS
        if elapsed > 0:
            hidden = stamp_ns - self.seen_ns > LATELY_S * NS
            expected = self.at(stamp_ns) if hidden else self.box + elapsed * self.state[1]
            whole = _completed(box, expected)
            surprise = whole - expected
            first = len(self.boxes) < 2
            self.state[0] = whole if hidden else expected + ALPHA * surprise
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
        confirm_s: who is seen for less is nobody yet: a flicker of the mask. 0: everybody is `known` at once.
        prefix: of every id; default: a random one.
    """

    def __init__(self, absence_s: float = 3.0, confirm_s: float = 0.15, prefix: str = "") -> None:
        self.absence_s, self.confirm_s = absence_s, confirm_s
        self.prefix = prefix or random_prefix()
        self.tracks: list[Track] = []
        self._number = 0
        self._stamp_ns = 0

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
        self.tracks = [t for t in self.tracks if self._remembered(t, stamp_ns)]
        self._stamp_ns = stamp_ns
        cost = np.array([[self._cost(t, stamp_ns, d) for d in found] for t in self.tracks])
        cost = cost.reshape(len(self.tracks), len(found))
        # Nobody takes somebody else's box to leave them theirs: two poor pairs are no better than a good one.
        gain = np.where(np.isfinite(cost), cost - DEAREST - HIDDEN, 0.0)
        who = {column: self.tracks[row] for row, column in assign(gain) if gain[row, column] < 0}
        for i, track in who.items():
            track.see(stamp_ns, found[i].box, found[i].colours)
        for i in (i for i in range(len(found)) if i not in who):
            if any(overlap(found[i].box, found[j].box) > TWICE for j in who):
                continue
            state = np.stack([found[i].box, np.zeros(4)]).astype(float)
            who[i] = Track(state, *[stamp_ns] * 3, found[i].colours, boxes={stamp_ns: found[i].box})
            self.tracks.append(who[i])
        for track in who.values():
            track.known |= stamp_ns - track.born_ns >= self.confirm_s * NS
        return who

    def _remembered(self, track: Track, stamp_ns: int) -> bool:
        """Who is not known yet has to be seen in every frame, or lately."""
        unseen = stamp_ns - track.seen_ns
        if track.known:
            return unseen <= self.absence_s * NS
        return track.seen_ns == self._stamp_ns or unseen <= FLEETING_S * NS

    def expected(self, stamp_ns: int) -> list[np.ndarray]:
        """Boxes (4,) of those who are known and were seen lately, where they should be now."""
        return [t.at(stamp_ns) for t in self.tracks if t.known and stamp_ns - t.seen_ns <= LATELY_S * NS]

    def _cost(self, track: Track, stamp_ns: int, found: Detection) -> float:
        expected, box = track.at(stamp_ns), found.box
        size = max(box[3] - box[1], expected[3] - expected[1], 1.0)
        reach = JITTER + SPEED * (stamp_ns - track.seen_ns) / NS
        away = _away(expected, box) / size
        if away > reach:
            return np.inf
        height = np.log(max(box[3] - box[1], 1.0) / max(expected[3] - expected[1], 1.0))
        lately = stamp_ns - track.seen_ns <= LATELY_S * NS
        part = lately and height < 0 and share(box, expected) > INSIDE
        cost = (away / reach) ** 2 + (PART if part else HEIGHT) * abs(height)
        cost += LOOK * (np.exp(height) if part else 1.0) * (1 - alike(track.colours, found.colours))
        hidden = 0.0 if lately else HIDDEN
        return cost + hidden if cost < DEAREST else np.inf


def _away(expected: np.ndarray, box: np.ndarray) -> float:
    """Pixels between two boxes (4,) by the sides, or the middle, that agree best: who is hidden in part keeps some."""
    a, b = (np.stack([x[:2], x[2:], (x[:2] + x[2:]) / 2]) for x in (expected, box))
    return float(np.linalg.norm(np.abs(a - b).min(0)))


def _completed(box: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The box (4,) of all of somebody, of whom `box` may be a part: along an axis where it is much shorter than
    expected, the expected one, moved to where a side agrees best."""
    whole = box.astype(float)
    if share(box, expected) < INSIDE:
        return whole
    for axis in (0, 1):
        a, b = expected[axis::2], box[axis::2]
        if b[1] - b[0] < CUT * (a[1] - a[0]):
            off = b - a
            moved = a + off[np.abs(off).argmin()]
            whole[axis::2] = moved + SHRINK * (b - moved)
    return whole
