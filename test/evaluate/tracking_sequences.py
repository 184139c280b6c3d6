"""Random sequences of people with ids: some are missed, some false, some swap their ids."""

from __future__ import annotations

import numpy as np

from thfm_ros.evaluate.tracking import TrackedFrame


def sequence(seed: int, people: int = 5, length: int = 40) -> list[TrackedFrame]:
    rng = np.random.default_rng(seed)
    ids = np.arange(people) + 100
    places = rng.uniform(0, 1, (people, 2))
    frames = []
    for _ in range(length):
        places += rng.normal(0, 0.03, places.shape)
        if rng.random() < 0.1:
            i, j = rng.choice(people, 2, replace=False)
            ids[[i, j]] = ids[[j, i]]
        if rng.random() < 0.05:
            ids[rng.integers(people)] = ids.max() + 1
        there, found = (rng.random(people) < chance for chance in (0.95, 0.85))
        seen = places[found] + rng.normal(0, 0.06, (found.sum(), 2))
        extra = rng.uniform(0, 1, (rng.integers(2), 2))
        names = np.concatenate([ids[found], 900 + np.arange(len(extra))])
        apart = np.linalg.norm(places[there][:, None] - np.concatenate([seen, extra])[None], axis=-1)
        frames.append(TrackedFrame(np.flatnonzero(there), names, np.exp(-8 * apart)))
    return frames
