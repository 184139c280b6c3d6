"""Joints that move as bodies do: a Kalman filter of constant velocity, and its smoother over the frames of one pass.

The network looks at every clip anew, so its joints tremble. A pass predicts several frames at once; each of them may
also know those after it (Rauch, Tung & Striebel, AIAA Journal 1965), which costs no delay. Between passes the filter
carries on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NS = 1_000_000_000
SWAY = 20.0  # m^2 / s^3, how much the velocity of a joint wanders: quick gestures pass
SPEED = 1.0  # m / s, of a joint that was never seen before


class JointSmoother:
    """Any number of coordinates that share one uncertainty. Pixels will do too: only the ratio of `noise_m` to how
    bodies move counts.

    Args:
        noise_m: by how much a joint trembles, standard deviation in metres; 0: joints stay as they are.
        sway: how much velocities wander, m^2 / s^3.
    """

    def __init__(self, noise_m: float = 0.03, sway: float = SWAY) -> None:
        self.noise_m, self.sway = noise_m, sway
        self._last: tuple[int, np.ndarray, np.ndarray] | None = None

    def reset(self) -> None:
        """The next frame is a beginning."""
        self._last = None

    @property
    def velocity(self) -> np.ndarray:
        """(D,) a second, at the last frame, by what was seen until then; ValueError before the first."""
        if self._last is None:
            raise ValueError("no frame yet: no velocity")
        return self._last[1][1]

    def advance(self, stamps_ns: Sequence[int], places: np.ndarray) -> np.ndarray:
        """The frames of one pass, stamps ascending also from call to call: places (N, D) -> smoothed (N, D).

        Forward through the frames, then back; what is kept for the next call has only seen the past.
        """
        if not self.noise_m:
            return places
        states, spreads, expected = [], [], []  # after each frame; and (transition, state, spread) before it
        for stamp, place in zip(stamps_ns, places, strict=True):
            if self._last is None:
                state, spread = np.stack((place, 0 * place)), np.diag([self.noise_m**2, SPEED**2])
                expected.append((np.eye(2), state, spread))
            else:
                then, state, spread = self._last
                step = max(stamp - then, 0) / NS
                move = np.array([[1.0, step], [0.0, 1.0]])
                sway = self.sway * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
                state, spread = move @ state, move @ spread @ move.T + sway
                expected.append((move, state, spread))
                gain = spread[:, :1] / (spread[0, 0] + self.noise_m**2)
                state, spread = state + gain * (place - state[0]), spread - gain @ spread[:1]
            self._last = (stamp, state, spread)
            states.append(state)
            spreads.append(spread)
        for i in range(len(states) - 2, -1, -1):
            move, state, spread = expected[i + 1]
            back = spreads[i] @ move.T @ np.linalg.inv(spread)
            states[i] = states[i] + back @ (states[i + 1] - state)
        return np.stack([state[0] for state in states])
