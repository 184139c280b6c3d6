"""The node's parameters as reviewed data: default, meaning, range, and when a change takes effect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from thfm_ros.errors import UserError
from thfm_ros.stream.target import RULES
from thfm_ros.tasks import DEFAULT_TASKS, TASKS

Effect = Literal["start", "configure", "activate", "now"]
# A rule of stream/target.py, or an id of stream/tracker.py, also as its body is called (REP-155).
FOLLOW = re.compile(rf"{'|'.join(RULES)}|(thfm_)?[a-z]{{5}}_\d+")


@dataclass(frozen=True)
class Spec:
    """One parameter. `effect` says when a change is taken up: "start" cannot change while the node lives."""

    name: str
    default: Any
    effect: Effect
    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] | None = None
    or_bool: bool = False  # its words "true" and "false" may also come as a bool, as YAML has them

    def text(self, value: Any) -> Any:
        """The value, a bool as its word where that is what is meant."""
        return str(value).lower() if self.or_bool and isinstance(value, (bool, str)) else value

    def check(self, value: Any) -> str | None:
        """Why this value is refused, in one line; None where it is fine. Ranges are checked by rclpy too."""
        value = self.text(value)
        if self.limits and not self.limits[0] <= value <= self.limits[1]:
            return f"{self.name} = {value}: expected {self.limits[0]:g} to {self.limits[1]:g}"
        is_list = isinstance(self.default, list) and isinstance(value, (list, tuple))
        for item in value if is_list else [value]:
            if self.choices and item not in self.choices:
                return f"{self.name} = '{item}': expected {'a list of ' if is_list else ''}" + ", ".join(self.choices)
        return _CHECKS[self.name](value) if self.name in _CHECKS else None


PARAMETERS: dict[str, Spec] = {
    s.name: s
    for s in (
        Spec("bundle", "", "configure", "Folder of the bundle or checkpoint to run; empty: the one that ships."),
        Spec(
            "backend",
            "auto",
            "configure",
            "What runs the network; auto: the bundle's own choice for this machine.",
            choices=("auto", "tensorrt", "torch_tensorrt", "openvino", "onnxruntime", "torch"),
        ),
        Spec("threads", 0, "configure", "CPU threads of the network; 0: the backend's choice.", (0, 256)),
        Spec("autostart", True, "start", "Configure and activate by itself; false: wait for a lifecycle manager."),
        Spec(
            "image_transport",
            "raw",
            "activate",
            "raw: subscribe to `image`; compressed: to `image/compressed`.",
            choices=("raw", "compressed"),
        ),
        Spec(
            "rectified",
            "auto",
            "now",
            "The image is rectified: P of camera_info applies, else K and its distortion; auto: by the topic's name.",
            choices=("auto", "true", "false"),
            or_bool=True,
        ),
        Spec(
            "horizontal_fov_deg",
            0.0,
            "now",
            "Horizontal field of view in degrees, used while no camera_info came; 0: 3D outputs wait for camera_info.",
            (0.0, 179.0),
        ),
        Spec(
            "use_depth_camera",
            False,
            "activate",
            "Subscribe to `depth_camera/image`, registered to the colour image, for metric scale.",
        ),
        Spec(
            "depth_slop_s",
            0.03,
            "activate",
            "A colour and a depth image are a pair when their stamps are less apart, in seconds.",
            (0.001, 1.0),
        ),
        Spec(
            "tasks",
            list(DEFAULT_TASKS),
            "now",
            "Tasks that may run, one depth and one normals task at most; those whose topics nobody listens to do not.",
            choices=tuple(TASKS),
        ),
        Spec(
            "stride",
            4,
            "now",
            "New frames that trigger the next pass; none waits longer than so many last at the model's rate.",
            (1, 81),
        ),
        Spec("newest_only", False, "now", "Process only the newest frame of each pass, not every frame of the stride."),
        Spec(
            "warmup",
            "pad",
            "now",
            "Before the first full window. pad: begin at once, the oldest frame repeated; "
            "hold: wait for the window or the end of the clip.",
            choices=("pad", "hold"),
        ),
        Spec(
            "output_resolution",
            "model",
            "now",
            "Size of output images. model: the network's, without letterbox borders; input: the camera's.",
            choices=("model", "input"),
        ),
        Spec("min_score", 0.6, "now", "Who has a lower mean of the 12 surest joints is not reported.", (0.0, 1.0)),
        Spec(
            "max_people",
            6,
            "now",
            "The nearest people, or the largest where not all are measured, who are reported; the others are counted.",
            (1, 20),
        ),
        Spec(
            "absence_s",
            3.0,
            "now",
            "Who is not seen for longer, hidden or out of view, comes back with another id, seconds.",
            (0.1, 60.0),
        ),
        Spec(
            "confirm_s",
            0.15,
            "now",
            "Who is seen for less is not reported: a flicker of the mask, seconds; 0: everybody at once.",
            (0.0, 5.0),
        ),
        Spec("max_depth_m", 100.0, "now", "Farther metric depth is too far (+inf, REP-117), metres.", (0.5, 10000.0)),
        Spec(
            "scale_half_life_s",
            1.0,
            "now",
            "Smoothing of the metric scale: the age in seconds at which an estimate counts half; 0: none.",
            (0.0, 60.0),
        ),
        Spec(
            "joint_noise_m",
            0.03,
            "now",
            "Smoothing of the joints: by how much they tremble, metres; 0: as the network says them.",
            (0.0, 0.5),
        ),
        Spec(
            "gap_s",
            1.0,
            "now",
            "A larger step between two stamps, or a longer silence, ends the clip and with it who is in view, seconds.",
            (0.05, 60.0),
        ),
        Spec(
            "follow",
            "nearest",
            "now",
            "Whom ~/people/target_pose is of: nearest, largest, or a person's id. The service ~/follow sets it, too.",
        ),
        Spec(
            "target_frame",
            "",
            "configure",
            "Frame of target_pose, people/positions and detections_3d, by tf2; empty: the camera's.",
        ),
        Spec("publish_tf", False, "configure", "Publish the frames of people's bodies on /tf (REP-155)."),
        Spec("points_step", 4, "now", "depth/points has every n-th pixel of every n-th row.", (1, 64)),
        Spec("jpeg_quality", 80, "now", "Quality of overlay/image/compressed.", (1, 100)),
        Spec("max_failures", 3, "now", "Failed passes in a row after which the model is reloaded.", (1, 100)),
        Spec("retry_s", 2.0, "now", "Seconds until the first retry; doubles up to 30 s.", (0.05, 30.0)),
        Spec("max_age_s", 5.0, "now", "Older input stamps are an error in /diagnostics, seconds.", (0.1, 60.0)),
        Spec(
            "min_output_hz",
            1.0,
            "configure",
            "Fewer answered frames a second are a warning in /diagnostics.",
            (0.01, 240.0),
        ),
        Spec(
            "diagnostics_period_s",
            1.0,
            "start",
            "Period of /diagnostics and ~/stats, seconds (by the steady clock, also under simulated time).",
            (0.05, 60.0),
        ),
    )
}


def _check_tasks(tasks: list[str]) -> str | None:
    """Imports the estimator's own check where it is needed: launch files read this table without its libraries."""
    from thfm_ros.stream.estimator import conflict

    if not tasks:
        return f"tasks: expected at least one of {', '.join(TASKS)}, found none; to pause the node deactivate it"
    return conflict(tasks)


def _check_follow(who: str) -> str | None:
    if FOLLOW.fullmatch(who.strip()):
        return None
    return f"follow: expected nearest, largest or the id of a person, such as kzqwh_12, found '{who.strip()}'"


_CHECKS: dict[str, Callable[[Any], str | None]] = {"tasks": _check_tasks, "follow": _check_follow}


def _descriptor(spec: Spec) -> ParameterDescriptor:
    notes = {"start": "", "configure": " Applied at the next configure.", "activate": " Applied at the next activate."}
    choices = f" One of: {', '.join(spec.choices)}." if spec.choices else ""
    descriptor = ParameterDescriptor(
        name=spec.name,
        description=spec.description + choices + notes.get(spec.effect, ""),
        read_only=spec.effect == "start",
        dynamic_typing=spec.or_bool,
    )
    if spec.limits and isinstance(spec.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=spec.limits[0], to_value=spec.limits[1])]
    elif spec.limits:
        descriptor.integer_range = [IntegerRange(from_value=int(spec.limits[0]), to_value=int(spec.limits[1]), step=1)]
    return descriptor


def validate(parameters: list[Parameter]) -> SetParametersResult:
    """For add_on_set_parameters_callback: refuses with the reason."""
    for parameter in parameters:
        spec = PARAMETERS.get(parameter.name)
        reason = spec.check(parameter.value) if spec and (parameter.value is not None or spec.or_bool) else None
        if reason:
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def declare(node: Node) -> None:
    """Declares and validates all of them. UserError with the reason where an override is refused."""
    node.add_on_set_parameters_callback(validate)
    for spec in PARAMETERS.values():
        try:
            node.declare_parameter(spec.name, spec.default, _descriptor(spec))
            node.get_parameter(spec.name)
        except ParameterUninitializedException:  # an empty list in YAML is no list to ROS
            reason = spec.check([]) if isinstance(spec.default, list) else None
            raise UserError(
                f"parameter {reason or f'{spec.name}: expected {spec.default!r} or alike, found []'}"
            ) from None
        except (InvalidParameterValueException, InvalidParameterTypeException) as error:
            raise UserError(f"parameter {spec.name}: {' '.join(str(error).split())}") from None


def values(node: Node) -> Mapping[str, Any]:
    """name -> current value."""
    return {name: spec.text(node.get_parameter(name).value) for name, spec in PARAMETERS.items()}
