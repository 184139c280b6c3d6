"""The nine tasks: prompts, quantity and ROS topics.

A task is one entry in `TASKS`; what else a new one needs is in docs/model.md, "A new task". Dense tasks come out of the
VAE decoder as RGB video in [-1, 1] (paper section 1.1, "Unify Dense Tasks in RGB Ambient Space"); sparse ones out of
the keypoint tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thfm_ros.errors import UserError
from thfm_ros.quantities import (
    ALPHA,
    DENSE_POSE,
    DISPARITY,
    INSTANCES,
    KEYPOINTS,
    NORMALS,
    Array,
    Loss,
    Quantity,
    array_namespace,
)


@dataclass(frozen=True)
class Task:
    """One output that the text prompt selects."""

    name: str
    description: str
    prompts: tuple[str, ...]  # paraphrases; the first is the canonical one
    quantity: Quantity
    human: bool  # True: only people, background 0
    topics: tuple[str, ...]  # relative ROS names

    @property
    def kind(self) -> Literal["dense", "sparse"]:
        """dense: a picture comes out of the decoder. sparse: keypoints come out of the tokens."""
        return "sparse" if self.quantity is KEYPOINTS else "dense"

    @property
    def codec(self) -> Quantity | None:
        """The quantity where it is a picture."""
        return None if self.quantity is KEYPOINTS else self.quantity

    @property
    def loss(self) -> Loss:
        """The quantity's loss."""
        return self.quantity.loss


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "scene_depth",
            "disparity 1/z of everything in view, normalised to [0, 1] over the clip",
            (
                "depth of the whole scene",
                "estimate the scene depth",
                "how far away is everything in the video",
                "depth map of the full scene with background",
            ),
            DISPARITY,
            False,
            ("depth/image", "depth/camera_info", "inverse_depth/image"),
        ),
        Task(
            "human_depth",
            "disparity 1/z of people alone, normalised to [0, 1] over the clip, background 0",
            (
                "depth of the person",
                "estimate the human depth",
                "how far away is the person",
                "depth map of the people only, black background",
            ),
            DISPARITY,
            True,
            ("depth/image", "depth/camera_info", "inverse_depth/image"),
        ),
        Task(
            "scene_normals",
            "unit surface normals of everything in view, camera frame, facing the camera",
            (
                "surface normals of the whole scene",
                "estimate the scene normals",
                "which way does every surface in the video face",
                "normal map of the full scene with background",
            ),
            NORMALS,
            False,
            ("normals/image", "normals/image_color"),
        ),
        Task(
            "human_normals",
            "unit surface normals of people alone, camera frame, facing the camera, background 0",
            (
                "surface normals of the person",
                "estimate the human normals",
                "which way does the person's surface face",
                "normal map of the people only, gray background",
            ),
            NORMALS,
            True,
            ("normals/image", "normals/image_color"),
        ),
        Task(
            "foreground",
            "soft mask (alpha in [0, 1]) of people",
            (
                "foreground mask of the person",
                "segment the person",
                "alpha matte of the people in the video",
                "cut the people out of the background",
            ),
            ALPHA,
            True,
            ("foreground/image",),
        ),
        Task(
            "dense_pose",
            "canonical body coordinates in [0, 1]^3, background 0",
            (
                "dense pose of the person",
                "body surface coordinates of the person",
                "map every pixel of the person to the body surface",
                "dense human semantics",
            ),
            DENSE_POSE,
            True,
            ("dense_pose/image", "dense_pose/image_color"),
        ),
        Task(
            "instances",
            "offset of every person's pixel to that person's centre, and centre-ness (`thfm_ros.instances`)",
            (
                "every person apart",
                "tell the people apart",
                "where is the centre of each person",
                "instance offsets of the people in the video",
            ),
            INSTANCES,
            True,
            ("people",),
        ),
        Task(
            "keypoints_2d",
            "2D keypoints in normalised image coordinates with visibility",
            (
                "2d keypoints of the person",
                "estimate the 2d human pose",
                "where in the image are the person's joints",
                "locate the body joints in the image",
            ),
            KEYPOINTS,
            True,
            ("people", "overlay/image"),
        ),
        Task(
            "keypoints_3d",
            "3D keypoints relative to the pelvis, metres, camera axes",
            (
                "3d keypoints of the person",
                "estimate the 3d human pose",
                "where in space are the person's joints",
                "lift the body joints to 3d",
            ),
            KEYPOINTS,
            True,
            ("people", "skeleton/markers"),
        ),
    )
}


# What runs where nothing else is asked for: one task of each kind. Four decodes, and one pass for all keypoints.
DEFAULT_TASKS = ("scene_depth", "scene_normals", "foreground", "dense_pose", "keypoints_2d", "keypoints_3d")


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
