"""Who is followed: the nearest, the largest in the image, or one person by id. Light: launch files import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # launch files read RULES in a Python that may lack what people are measured with
    from thfm_ros.stream.people import Person

KEEP = 0.8  # another has to be nearer (smaller, for the size: 1 / area) than this part of the one followed so far


def _distance(person: Person) -> float:
    return float(np.linalg.norm(person.root))


def _smallness(person: Person) -> float:
    left, top, right, bottom = person.box()
    return 1.0 / max((right - left) * (bottom - top), 1.0)


RULES: dict[str, Callable[[Person], float]] = {"nearest": _distance, "largest": _smallness}


class Target:
    """Chooses from frame to frame; two people at about the same distance do not alternate."""

    def __init__(self) -> None:
        self._id = ""

    def choose(self, who: str, people: Sequence[Person]) -> Person | None:
        """Returns the one of the located people that `who` means: a key of RULES, or an id. None where nobody is it."""
        present = {p.id: p for p in people if p.located}
        if who not in RULES:
            return present.get(who)
        if not present:
            return None
        rule = RULES[who]
        best, last = min(present.values(), key=rule), present.get(self._id)
        chosen = best if last is None or rule(best) < KEEP * rule(last) else last
        self._id = chosen.id
        return chosen
