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
        self._people: OrderedDict[str, JointSmoother] = OrderedDict()

    def reset(self) -> None:
        """Forgets everyone."""
        self._people.clear()

    def update(self, identity: str, stamp_ns: int, place: np.ndarray) -> np.ndarray:
        """Returns (3,) metres a second at this stamp, by what was seen until then; 0 at first. NaN for an unknown place
        (3,). The stamps of an id ascend."""
        if not np.isfinite(place).all():
            self._people.pop(identity, None)
            return np.full(3, np.nan)
        person = self._people.setdefault(identity, JointSmoother(NOISE_M, SWAY))
        self._people.move_to_end(identity)
        while len(self._people) > KEPT:
            self._people.popitem(last=False)
        person.advance([stamp_ns], np.asarray(place, float)[None])
        return person.velocity
