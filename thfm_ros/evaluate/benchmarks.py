"""The benchmarks: which data, which tasks, which protocol, which published table. One entry adds one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from thfm_ros.errors import UserError
from thfm_ros.evaluate import readers, scores
from thfm_ros.evaluate.depth import Scope, Space
from thfm_ros.evaluate.readers.base import Recording
from thfm_ros.evaluate.scores import Options, Prediction, Row


@dataclass(frozen=True)
class Benchmark:
    """reader: its data set. reader_options: names among `options` that go to the reader; the others go to the score.
    options: every choice of the protocol with its default, all of them printed in the report. choices: option -> its
    values; limits: option -> its lowest and highest value. table: of published.py.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    reader: str
    score: Callable[[Recording, Prediction, Options], Row]
    summarise: Callable[[Sequence[Row], Options], dict[str, float]]
    options: Mapping[str, Any]
    reader_options: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)  # to the reader, not for the user to choose
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    table: str | None = None

    def needs(self, options: Options) -> tuple[str, ...]:
        """The tasks that a predictor must have under these options."""
        return (options["task"],) if "task" in options else self.tasks

    def read(self, root: Path, options: Options, body_models: Path | None = None) -> list[Recording]:
        chosen = {name: options[name] for name in self.reader_options} | dict(self.fixed)
        if self.reader in ("emdb", "rich"):
            chosen["body_models"] = body_models
        recordings = readers.read(self.reader, root, **chosen)
        if not recordings:
            raise UserError(f"{self.name}: nothing in {root} belongs to {chosen}: choose other options")
        return [replace(r, origin=str(root.resolve())) for r in recordings]

    def parse(self, given: Sequence[str]) -> Options:
        """'name=value' strings over the defaults; a value has its default's type and is one that the option takes."""
        options = dict(self.options)
        for text in given:
            name, separator, value = text.partition("=")
            if not separator or name not in options:
                raise UserError(f"{self.name} has the options {', '.join(options)} (as name=value), found '{text}'")
            options[name] = self._checked(name, _as(type(options[name]), name, value))
        return options

    def _checked(self, name: str, value: Any) -> Any:
        if name in self.choices and value not in self.choices[name]:
            raise UserError(f"option {name} of {self.name} is {_either(self.choices[name])}, found '{value}'")
        low, high = self.limits.get(name, (-math.inf, math.inf))
        # NaN and infinity are never meant: they would turn every value that they touch into nothing.
        if isinstance(value, int | float) and not (low <= value <= high and math.isfinite(value)):
            bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise UserError(f"option {name} of {self.name} is a number {bounds}, found '{value}'")
        if name == "resolution":
            scores.parse_resolution(value)
        return value


def _either(values: Sequence[Any]) -> str:
    return " or ".join(str(v) for v in values)


def _as(kind: type, name: str, value: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        if kind is tuple:
            return tuple(int(v) for v in value.split(",") if v)
        return kind(value)
    except (KeyError, ValueError):
        raise UserError(f"option {name} is a {_KINDS.get(kind, kind.__name__)}, found '{value}'") from None


_KINDS: dict[Any, str] = {tuple: "list of int, such as 1,2", bool: "bool, true or false"}
_ANY = math.inf
_PHOTOS = {"resolution": "truth", "normalise_grad": True, "average": "images"}
_PHOTO_CHOICES = {"average": ("images",)}
_DEPTH = {"task": "human_depth", "space": "disparity", "scope": "image", "max_depth_m": 0.0}
_JOINTS = {"accel_trim": False}


def _goliath(part: str, title: str, kind: str) -> Benchmark:
    return Benchmark(
        f"goliath-{part}",
        f"human depth on {title}",
        ("human_depth",),
        "goliath",
        scores.score_depth,
        scores.summarise_depth,
        {**_DEPTH, "camera_count": 12, "frames": 16},
        ("camera_count", "frames"),
        {"kind": kind},
        {"task": ("human_depth", "scene_depth"), "space": get_args(Space), "scope": get_args(Scope)},
        {"max_depth_m": (0, _ANY), "camera_count": (1, _ANY), "frames": (1, _ANY)},
        table=f"goliath-{part}",
    )


BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark(
            "hi4d",
            "human surface normals on Hi4D",
            ("human_normals",),
            "hi4d",
            scores.score_normals,
            scores.summarise_normals,
            {"task": "human_normals", "average": "pixels", "pairs": (28, 32, 37), "camera": 4},
            ("pairs", "camera"),
            choices={"task": ("human_normals", "scene_normals"), "average": ("pixels", "images")},
            table="hi4d",
        ),
        _goliath("face", "Goliath-Face", "Head"),
        _goliath("upper", "Goliath-UpperBody", "ClothedBody"),
        _goliath("full", "Goliath-FullBody", "MinimalBody"),
        Benchmark(
            "videomatte",
            "soft foreground on VideoMatte240K",
            ("foreground",),
            "videomatte",
            scores.score_matting,
            scores.summarise_matting,
            {"resolution": "truth", "normalise_grad": True, "average": "clips", "split": "static", "fps": 25.0},
            ("split", "fps"),
            choices={"average": ("clips",), "split": ("static", "motion")},
            limits={"fps": (1, _ANY)},
            table="videomatte",
        ),
        Benchmark(
            "photomatte85",
            "soft foreground on PhotoMatte85",
            ("foreground",),
            "photomatte85",
            scores.score_matting,
            scores.summarise_matting,
            {**_PHOTOS, "background": 0.5},
            ("background",),
            choices=_PHOTO_CHOICES,
            limits={"background": (0, 1)},
            table="photomatte85",
        ),
        Benchmark(
            "ppm100",
            "soft foreground on PPM-100",
            ("foreground",),
            "ppm100",
            scores.score_matting,
            scores.summarise_matting,
            {**_PHOTOS, "split": "val"},
            ("split",),
            choices={**_PHOTO_CHOICES, "split": ("val", "train")},
            table="ppm100",
        ),
        Benchmark(
            "emdb",
            "3D joints on EMDB",
            ("keypoints_3d",),
            "emdb",
            scores.score_joints,
            scores.summarise_joints,
            {**_JOINTS, "subset": "emdb1"},
            ("subset",),
            choices={"subset": ("emdb1", "emdb2")},
            table="emdb",
        ),
        Benchmark(
            "rich",
            "3D joints on RICH",
            ("keypoints_3d",),
            "rich",
            scores.score_joints,
            scores.summarise_joints,
            {**_JOINTS, "split": "test", "cameras": ()},
            ("split", "cameras"),
            choices={"split": ("test", "val", "train")},
            table="rich",
        ),
        Benchmark(
            "h36m",
            "3D joints on Human3.6M",
            ("keypoints_3d",),
            "h36m",
            scores.score_joints,
            scores.summarise_joints,
            {**_JOINTS, "protocol": 1, "step": 5, "joints": 14},
            ("protocol", "step"),
            choices={"protocol": (1, 2), "joints": (14, 17)},
            limits={"step": (1, _ANY)},
            table="h36m",
        ),
    )
}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; UserError that lists the known ones otherwise."""
    try:
        return BENCHMARKS[name]
    except KeyError:
        raise UserError(f"unknown benchmark '{name}': expected synthetic or one of {', '.join(BENCHMARKS)}") from None
