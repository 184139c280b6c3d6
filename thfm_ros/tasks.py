"""The nine tasks: prompt, codec between physical quantity and RGB, loss and ROS topics.

A task is one entry in `TASKS`; what else a new one needs is in docs/model.md, "A new task". Dense tasks come out of the
VAE decoder as RGB video in [-1, 1] (paper section 1.1, "Unify Dense Tasks in RGB Ambient Space"); sparse ones out of
the keypoint tokens.
Codecs work on numpy arrays and torch tensors alike, with the channel axis last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from thfm_ros.errors import UserError

Array = Any  # numpy.ndarray or torch.Tensor


def array_namespace(x: Array) -> Any:
    """The module (torch or numpy) whose functions apply to `x`; never imports torch itself."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else np


@dataclass(frozen=True)
class Codec:
    """Between a physical quantity and RGB in [-1, 1].

    to_rgb:   (..., H, W) or (..., H, W, 3) -> (..., H, W, 3)
    from_rgb: (..., H, W, 3) -> the quantity's own shape
    """

    name: str
    channels: int
    to_rgb: Callable[[Array], Array]
    from_rgb: Callable[[Array], Array]


def _repeat(x: Array) -> Array:
    return array_namespace(x).stack([x, x, x], -1)


def _unit_to_rgb(x: Array) -> Array:
    return _repeat(2.0 * x - 1.0)


def _unit_from_rgb(rgb: Array) -> Array:
    return ((rgb.mean(-1) + 1.0) / 2.0).clip(0.0, 1.0)


def _normal_from_rgb(rgb: Array) -> Array:
    """Unit length again; vectors shorter than 0.5 are background and become exactly 0."""
    xp = array_namespace(rgb)
    length = (rgb * rgb).sum(-1)[..., None] ** 0.5
    return xp.where(length >= 0.5, rgb / length.clip(1e-6, None), rgb * 0.0)


def _code_to_rgb(code: Array) -> Array:
    """Offsets lie in [-1, 1] already, centre-ness in [0, 1]."""
    return array_namespace(code).stack([code[..., 0], code[..., 1], 2.0 * code[..., 2] - 1.0], -1)


def _code_from_rgb(rgb: Array) -> Array:
    near = ((rgb[..., 2] + 1.0) / 2.0).clip(0.0, 1.0)
    return array_namespace(rgb).stack([rgb[..., 0].clip(-1.0, 1.0), rgb[..., 1].clip(-1.0, 1.0), near], -1)


DISPARITY = Codec("disparity", 1, _unit_to_rgb, _unit_from_rgb)
ALPHA = Codec("alpha", 1, _unit_to_rgb, _unit_from_rgb)
NORMAL = Codec("normal", 3, lambda n: n, _normal_from_rgb)
# `thfm_ros.instances` makes the truth and groups what was predicted.
INSTANCES = Codec("instances", 3, _code_to_rgb, _code_from_rgb)
DENSE_POSE = Codec("dense_pose", 3, lambda c: 2.0 * c - 1.0, lambda rgb: ((rgb + 1.0) / 2.0).clip(0.0, 1.0))


@dataclass(frozen=True)
class Task:
    """One output that the text prompt selects."""

    name: str
    kind: Literal["dense", "sparse"]
    description: str
    prompts: tuple[str, ...]  # paraphrases; the first is the canonical one
    codec: Codec | None  # None for sparse tasks
    human: bool  # True: only people, background 0
    loss: Literal["ssi_disparity", "normal", "l2", "keypoints"]
    topics: tuple[str, ...]  # relative ROS names


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "scene_depth",
            "dense",
            "disparity 1/z of everything in view, normalised to [0, 1] over the clip",
            (
                "depth of the whole scene",
                "estimate the scene depth",
                "how far away is everything in the video",
                "depth map of the full scene with background",
            ),
            DISPARITY,
            False,
            "ssi_disparity",
            ("depth/image", "depth/camera_info", "inverse_depth/image"),
        ),
        Task(
            "human_depth",
            "dense",
            "disparity 1/z of people alone, normalised to [0, 1] over the clip, background 0",
            (
                "depth of the person",
                "estimate the human depth",
                "how far away is the person",
                "depth map of the people only, black background",
            ),
            DISPARITY,
            True,
            "ssi_disparity",
            ("depth/image", "depth/camera_info", "inverse_depth/image"),
        ),
        Task(
            "scene_normals",
            "dense",
            "unit surface normals of everything in view, camera frame, facing the camera",
            (
                "surface normals of the whole scene",
                "estimate the scene normals",
                "which way does every surface in the video face",
                "normal map of the full scene with background",
            ),
            NORMAL,
            False,
            "normal",
            ("normals/image", "normals/image_color"),
        ),
        Task(
            "human_normals",
            "dense",
            "unit surface normals of people alone, camera frame, facing the camera, background 0",
            (
                "surface normals of the person",
                "estimate the human normals",
                "which way does the person's surface face",
                "normal map of the people only, gray background",
            ),
            NORMAL,
            True,
            "normal",
            ("normals/image", "normals/image_color"),
        ),
        Task(
            "foreground",
            "dense",
            "soft mask (alpha in [0, 1]) of people",
            (
                "foreground mask of the person",
                "segment the person",
                "alpha matte of the people in the video",
                "cut the people out of the background",
            ),
            ALPHA,
            True,
            "l2",
            ("foreground/image",),
        ),
        Task(
            "dense_pose",
            "dense",
            "canonical body coordinates in [0, 1]^3, background 0",
            (
                "dense pose of the person",
                "body surface coordinates of the person",
                "map every pixel of the person to the body surface",
                "dense human semantics",
            ),
            DENSE_POSE,
            True,
            "l2",
            ("dense_pose/image", "dense_pose/image_color"),
        ),
        Task(
            "instances",
            "dense",
            "offset of every person's pixel to that person's centre, and centre-ness (`thfm_ros.instances`)",
            (
                "every person apart",
                "tell the people apart",
                "where is the centre of each person",
                "instance offsets of the people in the video",
            ),
            INSTANCES,
            True,
            "l2",
            ("people",),
        ),
        Task(
            "keypoints_2d",
            "sparse",
            "2D keypoints in normalised image coordinates with visibility",
            (
                "2d keypoints of the person",
                "estimate the 2d human pose",
                "where in the image are the person's joints",
                "locate the body joints in the image",
            ),
            None,
            True,
            "keypoints",
            ("people", "overlay/image"),
        ),
        Task(
            "keypoints_3d",
            "sparse",
            "3D keypoints relative to the pelvis, metres, camera axes",
            (
                "3d keypoints of the person",
                "estimate the 3d human pose",
                "where in space are the person's joints",
                "lift the body joints to 3d",
            ),
            None,
            True,
            "keypoints",
            ("people", "skeleton/markers"),
        ),
    )
}


def get_task(name: str) -> Task:
    """The task of that name; UserError that lists the known ones otherwise."""
    try:
        return TASKS[name]
    except KeyError:
        raise UserError(f"unknown task '{name}': expected one of {', '.join(TASKS)}") from None


def dense_task_names() -> tuple[str, ...]:
    return tuple(t.name for t in TASKS.values() if t.kind == "dense")


def sparse_task_names() -> tuple[str, ...]:
    return tuple(t.name for t in TASKS.values() if t.kind == "sparse")


def normalise_disparity(depth: Array, mask: Array | None = None) -> tuple[Array, float, float]:
    """Depth of a whole clip to the disparity that the depth tasks predict (paper section 1.3).

    Args:
        depth: (T, H, W) metres along z. +inf counts as disparity 0 (sky); NaN and values <= 0 are invalid.
        mask: (T, H, W) boolean, True where the task looks (the people of `human_depth`); None: everywhere.
    Returns:
        disparity (T, H, W) in [0, 1] by the clip's own minimum and maximum, 0 where invalid or masked out,
        and (scale, shift) with 1/z = scale * disparity + shift. A clip without valid pixels gives (0, 0).
    """
    xp = array_namespace(depth)
    valid = depth > 0
    if mask is not None:
        valid = valid & mask
    inverse = 1.0 / xp.where(valid, depth, xp.ones_like(depth))
    seen = inverse[valid]
    if len(seen) == 0:
        return xp.zeros_like(depth), 0.0, 0.0
    low, high = float(seen.min()), float(seen.max())
    scale = high - low
    disparity = (inverse - low) / max(scale, 1e-12)
    return xp.where(valid, disparity, xp.zeros_like(depth)), scale, low
