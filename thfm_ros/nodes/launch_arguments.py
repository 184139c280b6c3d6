"""The launch files' arguments as reviewed data, their values, and the refusal of any other argument.

Every parameter of the node is an argument. Light: `ros2 launch` may run in a Python without the node's libraries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.nodes.parameters import PARAMETERS


@dataclass(frozen=True)
class Argument:
    """One launch argument; without a default (None) it must be given."""

    name: str
    default: str | None
    description: str


LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")  # as rcl has them, in any case

_NAMESPACE = Argument("namespace", "", "namespace of the node and its topics")
_IMAGE = Argument("image", "image", "topic of the colour camera (compressed: its name without /compressed)")
_FRAME = Argument("frame", "", "frame that RViz shows everything in; empty: that of the camera's first image")
_SIM_TIME = Argument(
    "use_sim_time",
    "",
    "true: time from /clock (simulation, bags). Empty: as in the file; RViz and the follower: false.",
)

PERCEPTION = (
    Argument("target", "cpu", "parameter file of this kind of machine: cpu, rtx, orin, thor or datacenter"),
    Argument("params_file", "", "parameter file to use instead of the target's"),
    _NAMESPACE,
    _IMAGE,
    Argument("camera_info", "camera_info", "topic of its calibration"),
    Argument("depth_image", "depth_camera/image", "topic of a registered depth camera (use_depth_camera:=true)"),
    Argument("depth_camera_info", "depth_camera/camera_info", "topic of its calibration, where there is one"),
    _SIM_TIME,
    Argument("respawn", "false", "true: start the process again when it dies, but not after a wrong parameter"),
    Argument("log_level", "info", "debug, info, warn or error"),
    Argument("rviz", "false", "true: also RViz with every output"),
    _FRAME,
)
_OF_THE_NODE = tuple(Argument(s.name, "", f"{s.description} Empty: as in the file.") for s in PARAMETERS.values())

RVIZ = (_NAMESPACE, _IMAGE, _FRAME, _SIM_TIME)

_REPLAY = (
    Argument("bag", None, "folder of the bag"),
    Argument("rate", "1.0", "speed of the replay; slower drops fewer frames"),
    Argument("delay", "5.0", "seconds until the replay starts: the model loads meanwhile"),
)
_DEMO = (
    Argument("source", "walker", "video file, shipped sample (walker, pedestrians, rabbit, astronaut) or /dev/video0"),
    Argument("rate", "0.0", "frames a second; 0: the source's own"),
    Argument("loop", "false", "true: play the file again and again"),
    Argument("horizontal_fov_deg", "60.0", "field of view that the camera states, degrees"),
    Argument("frame", "camera_optical_frame", "frame_id of the camera's images, which RViz shows everything in"),
    Argument("out", "out", "folder for demo.mp4, demo.png and demo.json"),
    Argument("bag", "", "folder of an MCAP bag with every message; empty: none"),
)
_FOLLOW = (
    Argument("cmd_vel", "cmd_vel", "topic of the wheels' velocity, geometry_msgs/Twist"),
    Argument("distance", "1.5", "metres to keep from the person"),
)
_SOCIAL = (
    Argument("people", "/people", "topic of people_msgs/People, which social costmaps read"),
    Argument("namespace", "humans", "namespace of the node and its other topics"),
    Argument("target_frame", "odom", "frame that stands still, in which people are stated"),
)
# What these files decide themselves, of the arguments of perception.launch.py that they pass on.
REPLAY_DECIDES = {"use_sim_time": "true", "respawn": "false"}
_DEMO_CAMERA = (
    *("image", "camera_info", "depth_image", "depth_camera_info"),
    *("image_transport", "use_depth_camera", "depth_slop_s"),
)
DEMO_DECIDES = {"use_sim_time": "false", "respawn": "false"}
FOLLOW_DECIDES = {"target_frame": ""}  # the follower steers by where the camera sees somebody


def _with_perception(own: tuple[Argument, ...], without: tuple[str, ...]) -> tuple[Argument, ...]:
    """A file's own arguments, and those of perception.launch.py that it passes on."""
    taken = {*(a.name for a in own), *without}
    return (*own, *(a for a in (*PERCEPTION, *_OF_THE_NODE) if a.name not in taken))


ARGUMENTS: Mapping[str, tuple[Argument, ...]] = {
    "perception.launch.py": (*PERCEPTION, *_OF_THE_NODE),
    "replay.launch.py": _with_perception(_REPLAY, tuple(REPLAY_DECIDES)),
    "demo.launch.py": _with_perception(_DEMO, (*_DEMO_CAMERA, *DEMO_DECIDES)),
    "follow.launch.py": _with_perception(_FOLLOW, tuple(FOLLOW_DECIDES)),
    "social.launch.py": _with_perception(_SOCIAL, ()),
    "rviz.launch.py": RVIZ,
}
# launch reads these itself (`ros2 launch --launch-prefix`); no file declares them.
_OF_LAUNCH = {"launch-prefix", "launch-prefix-filter", "emulate_tty"}


def passed_on(file: str) -> list[str]:
    """Names that a launch file (its name) declares and perception.launch.py has, too."""
    known = {a.name for a in ARGUMENTS["perception.launch.py"]}
    return [a.name for a in ARGUMENTS[file] if a.name in known]


def overrides(texts: Mapping[str, str]) -> dict[str, Any]:
    """Parameter -> value of the arguments that were given (are not empty), in the parameter's own type.

    Raises: UserError for text of another type, and for a value that the node would refuse.
    """
    return {name: _value(name, texts[name]) for name in PARAMETERS if texts.get(name)}


def sim_time(text: str) -> dict[str, bool]:
    """The parameter use_sim_time where the argument was given (is not empty): else files and SetParameter decide."""
    return {"use_sim_time": flag("use_sim_time", text)} if text else {}


def flag(name: str, text: str) -> bool:
    """The value of an argument that is true or false. UserError for anything else."""
    if text.lower() not in ("true", "false"):
        raise UserError(f"{name}:={text}: expected true or false")
    return text.lower() == "true"


def log_level(text: str) -> str:
    """The value of the argument log_level, of all loggers, or of one after its name. UserError for anything else."""
    if text.rpartition(":=")[2].lower() not in LOG_LEVELS:
        raise UserError(f"log_level:={text}: expected one of {', '.join(LOG_LEVELS)}")
    return text


def number(name: str, text: str) -> float:
    """The value of an argument that is a number. UserError for anything else."""
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise UserError(f"{name}:={text}: expected a number, for example {name}:=1.5")


def _value(name: str, text: str) -> Any:
    spec = PARAMETERS[name]
    kind = type(spec.default)
    value: Any = text
    if kind is bool:
        value = flag(name, text)
    elif kind is list:  # as YAML has it, or without the brackets
        value = [part.strip(" '\"") for part in text.strip("[] ").split(",") if part.strip()]
    elif kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            expected = f"a {'whole ' if kind is int else ''}number, for example {name}:={json.dumps(spec.default)}"
            raise UserError(f"{name}:={text}: expected {expected}") from None
    reason = spec.check(value)
    if reason:
        raise UserError(reason)
    return value


def refuse_undeclared(context: Any, path: str) -> None:
    """Ends the launch where the launch file at `path` was given an argument that it does not declare.

    launch itself takes such arguments and does nothing with them. What a file was given stands in the action that
    includes it: `ros2 launch` includes the file that it was asked for just as one launch file includes another. The
    including file's own arguments, which share the launch configurations, are so not mistaken for this file's. An
    inclusion that is made only at run time (by an OpaqueFunction, by an event) is not found, and passes.

    Args:
        context: the LaunchContext, while the description is visited for the first time.
    Raises: UserError, which launch prints in one line.
    """
    root = getattr(context.get_locals_as_dict().get("event"), "launch_description", None)
    name = Path(path).name
    declared = {a.name for a in ARGUMENTS[name]}
    given = {_text(context, key) for action in _inclusions(root, path) for key, _ in action.launch_arguments}
    for unknown in sorted(given - declared - _OF_LAUNCH):
        near = get_close_matches(unknown, declared, n=1)
        help_ = f"`ros2 launch thfm_ros {name} --show-args` lists those it has"
        if unknown in {a.name for a in ARGUMENTS["perception.launch.py"]}:
            help_ = "of perception.launch.py's, this is one that it sets itself"
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise UserError(f"{name} has no argument '{unknown}'{hint}: {help_}")


def _text(context: Any, name: Any) -> str:
    """An argument's name, which may be made of substitutions."""
    if isinstance(name, str):
        return name
    from launch.utilities import normalize_to_list_of_substitutions, perform_substitutions

    return perform_substitutions(context, normalize_to_list_of_substitutions(name))


def _inclusions(entity: Any, path: str) -> Iterator[Any]:
    """The actions below a launch description that include the file at `path`, as far as they were visited."""
    source = getattr(entity, "launch_description_source", None)
    if source is not None:
        file = Path(source.location)
        if not file.is_file():
            return  # not visited yet: its location is still made of substitutions, and looking inside would load it
        if file.resolve() == Path(path).resolve():
            yield entity
            return
    inner = entity.entities if hasattr(entity, "entities") else getattr(entity, "get_sub_entities", list)()
    for part in inner:
        yield from _inclusions(part, path)
