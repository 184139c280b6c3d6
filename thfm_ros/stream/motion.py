"""How fast people move: a filter of constant velocity over each one's place, in whatever frame the places are in."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from thfm_ros.stream.smooth import JointSmoother

NOISE_M = 0.05  # by how much a person's place trembles
SWAY = 0.3  # m^2 / s^3, how much a walk changes: far less than a gesture
KEPT = 64  # people


class Velocities:
    """Velocities by id. An id that was not seen for long is forgotten, and so is everyone at `reset`."""

    def __init__(self) -> None:
        self._people: OrderedDict[str, tuple[bool, JointSmoother]] = OrderedDict()  # measured, filter

    def reset(self) -> None:
        """Forgets everyone."""
        self._people.clear()

    def update(self, identity: str, stamp_ns: int, place: np.ndarray, measured: bool = False) -> np.ndarray:
        """Returns (3,) metres a second at this stamp, by what was seen until then; 0 at first. NaN for an unknown place
        (3,). The stamps of an id ascend.

        Args:
            measured: a depth camera gave the place. Where that changes the place jumps, and nobody has moved: 0 again.
        """
        before, person = self._people.pop(identity, (measured, JointSmoother(NOISE_M, SWAY)))
        if not np.isfinite(place).all():
            return np.full(3, np.nan)
        if before != measured:
            person = JointSmoother(NOISE_M, SWAY)
        self._people[identity] = (measured, person)
        while len(self._people) > KEPT:
            self._people.popitem(last=False)
        person.advance([stamp_ns], np.asarray(place, float)[None])
        return person.velocity
