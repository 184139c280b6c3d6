"""Contact sheets: every modality of a few clips side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from thfm_ros.panels import grid, write
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.sample import Clip

COLUMNS = ("rgb", "alpha", "scene depth", "human depth", "normals", "human normals", "dense pose", "parts", "keypoints")


def _depth(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inverse = np.where(mask, 1 / np.maximum(depth, 1e-3), 0)
    if mask.any():
        low, high = np.quantile(inverse[mask], [0.01, 0.99])
        inverse = np.clip((inverse - low) / max(high - low, 1e-6), 0, 1) * 0.9 + 0.1
    image = cv2.applyColorMap((inverse * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return image * mask[..., None]


def _normals(normals: np.ndarray) -> np.ndarray:
    image = (normals * [1, -1, -1] * 0.5 + 0.5) * 255  # up and towards the camera are bright, as is usual
    return (image * (normals != 0).any(-1, keepdims=True)).astype(np.uint8)


def panel(clip: Clip, t: int) -> np.ndarray:
    """(H, 9 W, 3) uint8: the modalities of COLUMNS for frame t."""
    m = clip.human_mask[t]
    palette = cv2.applyColorMap((np.arange(256) * 37 % 255).astype(np.uint8)[:, None], cv2.COLORMAP_HSV)[:, 0]
    palette[0] = 0
    drawn = clip.rgb[t].copy()
    for person in clip.people:
        points = person.keypoints_2d[t]
        for a, b in JOINT_SETS["thfm32"].bones:
            if person.visibility[t][[a, b]].min() > 0:
                cv2.line(drawn, *(tuple(int(v) for v in points[k]) for k in (a, b)), (0, 255, 0), 1, cv2.LINE_AA)
        for (x, y), visible in zip(points, person.visibility[t], strict=True):
            if visible > 0:
                cv2.circle(
                    drawn, (int(x), int(y)), 2, (255, 40, 40) if visible == 1 else (60, 90, 255), -1, cv2.LINE_AA
                )
    return np.concatenate(
        [
            clip.rgb[t],
            np.repeat((clip.alpha[t] * 255).astype(np.uint8)[..., None], 3, 2),
            _depth(clip.depth[t], np.isfinite(clip.depth[t])),
            _depth(clip.depth[t], m),
            _normals(clip.normals[t]),
            _normals(clip.human_normals[t]),
            (clip.dense_pose[t] * 255).astype(np.uint8),
            palette[clip.parts[t]],
            drawn,
        ],
        1,
    ).astype(np.uint8)


def contact_sheet(clips: list[Clip], path: Path, columns: int = 1) -> None:
    """Writes a PNG or JPEG: one panel of the middle frame a clip, `columns` panels a row."""
    write(path, grid([panel(c, len(c.rgb) // 2) for c in clips], columns))


def gallery(clips: list[Clip], path: Path, columns: int = 6) -> None:
    """Writes the middle colour frames only."""
    write(path, grid([c.rgb[len(c.rgb) // 2] for c in clips], columns))
