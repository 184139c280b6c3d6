"""What kind of clips the generator makes. Together with a seed and an index it determines a clip completely."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.synth.bvh import BvhFolder
from thfm_ros.synth.places import PictureFolder

SPLITS = ("train", "test")
# Chances that came after the first clips were made; 0: off.
ADDED = (
    "crowd",
    "things",
    "rest",
    "held",
    "worn",
    "close",
    "dark",
    "prints",
    "rows",
    "sport",
    "young",
    "hard",
    "matched",
    "still",
    "statues",
    "posters",
    "rides",
    "far",
    "gaze",
)


@dataclass(frozen=True)
class SynthConfig:
    """frames, height, width, fps of a clip; everything else is a chance or a switch.

    samples: per pixel and axis (2: four levels of alpha a pixel side, fast; 3: softer). people: most persons in a
    clip. empty: chance of a scene without anyone. identities: clips in a row that share one body and outfit, which
    is what makes single frames cheap (1 for clips, about 8 for frames=1). split: "train" or "test", disjoint in
    motions, outfits and seeds. bvh: folder of BVH files, or None; a path or the dict of `asdict` becomes a BvhFolder.
    environments: folder of panoramas that light scenes beside the artefact's own, or None. backgrounds: folder of
    photographs without people, or None; `composed` of the clips have one behind the people instead of a scene,
    `nobody` of them are one and nothing else. crowd: chance of 2 to `people` persons who stand about, 1 to 12 m from
    a camera at a robot's height, one before the other; the other clips frame one person. things: chance of near
    things with photographs on them about and before the people (crops of `backgrounds`, else the artefact's pictures).
    rest: chance of a person who sits, lies or bends over something; held: of one who has something in a hand; worn: of
    one in sober clothes, coats, hats, helmets, with bags; close: of a shot so near that an edge of the picture cuts
    through the person, or past somebody's shoulder; dark: of people in the dark or against the light. prints: of one
    dressed for a job, a team or a feast: plain colours with numbers, words, collars, stripes, belts, ties.
    rows: chance of a clip with more people than others (up to twice `people` and one), who stand or sit one behind the
    other and look the same way. sport: of a person who plays, slides, rides a board or jumps; young: of one who is a
    child, half of them toddlers, many on somebody's arms. hard: chance of a flash beside the camera or of one light
    with dark shadows; matched: of photographs behind people brought to the people's light. still: chance of a clip
    without people whose things fill the picture; statues, posters: of a clip with a likeness of people that is nobody.
    rides: of a person on a horse, in a wheelchair, or who pushes a pram or a cart. far: of a camera 1.5 to 6 times as
    far away as the one that frames a person, who need not be in the middle. gaze: of a person who looks into the
    camera, where the neck turns as far.
    """

    frames: int = 17
    height: int = 256
    width: int = 256
    fps: float = 12.0
    samples: int = 2
    people: int = 1
    empty: float = 0.02
    outdoor: float = 0.45
    occluders: float = 0.3
    sensor: bool = True
    identities: int = 1
    split: str = "train"
    bvh: BvhFolder | None = None
    environments: PictureFolder | None = None
    backgrounds: PictureFolder | None = None
    composed: float = 0.5
    nobody: float = 0.1
    crowd: float = 0.0
    things: float = 0.0
    rest: float = 0.0
    held: float = 0.0
    worn: float = 0.0
    close: float = 0.0
    dark: float = 0.0
    prints: float = 0.0
    rows: float = 0.0
    sport: float = 0.0
    young: float = 0.0
    hard: float = 0.0
    matched: float = 0.0
    still: float = 0.0
    statues: float = 0.0
    posters: float = 0.0
    rides: float = 0.0
    far: float = 0.0
    gaze: float = 0.0

    def __post_init__(self) -> None:
        # 12 and 12.0 are the same clips.
        for name in ("fps", "empty", "outdoor", "occluders", "composed", "nobody", *ADDED):
            object.__setattr__(self, name, float(getattr(self, name)))
        if isinstance(self.bvh, (str, Path)):
            object.__setattr__(self, "bvh", BvhFolder.at(self.bvh))
        elif isinstance(self.bvh, dict):
            object.__setattr__(self, "bvh", BvhFolder(**self.bvh))
        for name, kind in (("environments", "panoramas"), ("backgrounds", "photographs")):
            folder = getattr(self, name)
            if isinstance(folder, (str, Path)):
                object.__setattr__(self, name, PictureFolder.at(folder, kind))
            elif isinstance(folder, dict):
                object.__setattr__(self, name, PictureFolder(**folder))
        if self.frames < 1 or self.height < 16 or self.width < 16:
            raise UserError(
                f"expected frames >= 1 and a size >= 16x16, found {self.frames} of {self.height}x{self.width}"
            )
        if self.height > 4096 or self.width > 4096:
            raise UserError(f"the largest size is 4096x4096, found {self.height}x{self.width}")
        if self.split not in SPLITS:
            raise UserError(f"unknown split '{self.split}': expected one of {', '.join(SPLITS)}")
        if not 1 <= self.samples <= 4:
            raise UserError(f"samples per pixel axis lie between 1 and 4, found {self.samples}")
        for name in ("composed", "nobody", *ADDED):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is a share in 0 .. 1, found {getattr(self, name)}")
        if self.crowd and self.people < 2:
            raise UserError(f"crowd {self.crowd}: expected at least 2 people, found {self.people}; set people to 6")
        if self.people < 1 or self.identities < 1 or not self.fps > 0:
            raise UserError("people and identities are at least 1, and fps is above 0")

    def settings(self) -> dict[str, Any]:
        """What decides the clips, as plain values: folders by their content, not by their path. What came after the
        first clips were made is left out while it is off: their digest, which seeds them, stays what it was."""
        table = asdict(self)
        for name in ("bvh", "environments", "backgrounds"):
            folder = getattr(self, name)
            table[name] = f"sha256:{folder.sha256}" if folder else None
        off = [name for name in ("environments", "backgrounds") if table[name] is None]
        if self.backgrounds is None:
            off += ["composed", "nobody"]
        off += [name for name in ADDED if not table[name]]
        return {name: value for name, value in table.items() if name not in off}

    def digest(self) -> str:
        """Short hash of all settings."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:12]


def parse_size(text: str) -> tuple[int, int]:
    """'HxW' to (height, width); UserError otherwise."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise UserError(f"expected a size as HxW, for example 192x320, found '{text}'")
    return int(parts[0]), int(parts[1])
