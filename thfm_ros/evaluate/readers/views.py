"""Calibrated views of people whose joints are known in metres: `joints.json` and the pictures beside it.

joints.json is a list of views: image, K (3, 3), and people with joint_names, xyz_camera_m (K, 3) and, where some are
unknown, valid (K,); optional: dist_k1k2p1p2. A view of a video also has video, frame, R_world_to_cam and
t_world_to_cam; the joints of all its frames are in joints_world.npz (joint_names, xyz_world_m (F, K, 3), fps, valid).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import load_npz, need, numbers
from thfm_ros.skeleton import get_joint_set

SOURCE = "expected a list of views (image, K, people with joint_names and xyz_camera_m)"
MIN_KNOWN = 6  # limbs' joints of a person who counts
LIMBS = get_joint_set("coco17").joints[5:]  # shoulders, elbows, wrists, hips, knees, ankles


@dataclass(frozen=True)
class Camera:
    """matrix (3, 3) pixels, OpenCV's; distortion (4,) k1 k2 p1 p2."""

    matrix: np.ndarray
    distortion: np.ndarray

    def box(self, xyz: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """(4,) left, top, width, height in pixels around the valid ones of the joints (K, 3), camera frame."""
        points, _ = cv2.projectPoints(xyz[valid], np.zeros(3), np.zeros(3), self.matrix, self.distortion)
        low, high = points[:, 0].min(0), points[:, 0].max(0)
        return np.concatenate([low, high - low])


@dataclass(frozen=True)
class Skeleton:
    """xyz (12, 3) metres in the camera frame, the limbs' joints; valid (12,). box (4,): around all known joints."""

    xyz: np.ndarray
    valid: np.ndarray
    box: np.ndarray


@dataclass(frozen=True)
class View:
    """One picture and the people in it. image: its name in joints.json, below the root.

    counted: of everybody whom joints.json lists, whether they are among `people`: enough of their joints are known.
    """

    image: str
    file: Path
    people: tuple[Skeleton, ...]
    counted: tuple[bool, ...]


@dataclass(frozen=True)
class VideoView:
    """A video of one person. video: its name in joints.json. skeletons: of its frames, in their order."""

    video: str
    file: Path
    fps: float
    skeletons: tuple[Skeleton, ...]


@dataclass(frozen=True)
class Views:
    """videos: those whose files are there."""

    views: tuple[View, ...]
    videos: tuple[VideoView, ...] = ()


def read(root: str | Path, limit: int | None = None) -> Views:
    """Everything but the pixels, checked; UserError that names what is missing or damaged."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"the views' folder does not exist: {root}: give it with --root")
    file = need(root / "joints.json", "the views' calibration and joints", SOURCE)
    try:
        rows = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {file} as JSON: {error}; {SOURCE}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: expected views, found {'none' if rows == [] else type(rows).__name__}; {SOURCE}")
    views = tuple(_view(row, root, file) for row in rows)[:limit]
    missing = [view.file for view in views if not view.file.is_file()]
    if missing:
        found = f"{len(missing)} of {len(views)} missing, the first {missing[0]}"
        raise UserError(f"expected the pictures that {file} names beside it, found {found}")
    return Views(views, _videos(rows, root, file))


def _view(row: dict[str, Any], root: Path, file: Path) -> View:
    name = row.get("image")
    if not isinstance(name, str) or not name:
        raise UserError(f"{file}: expected 'image' of every view, found {name!r}; {SOURCE}")
    camera = _camera(row, file, name)
    people = row.get("people")
    if not isinstance(people, list) or not all(isinstance(p, dict) for p in people):
        raise UserError(f"{file}: expected a list 'people' of {name}, found {type(people).__name__}; {SOURCE}")
    found = [_person(p, camera, file, name) for p in people]
    people = tuple(person for person in found if person is not None)
    return View(name, root / name, people, tuple(person is not None for person in found))


def _camera(row: dict[str, Any], file: Path, name: str) -> Camera:
    if row.get("K") is None:
        raise UserError(f"{file}: expected the calibration 'K' of {name}, found none; {SOURCE}")
    matrix = numbers(row["K"], (3, 3), file, f"'K' of {name}")
    distortion = numbers(row.get("dist_k1k2p1p2") or [0.0] * 4, (4,), file, f"'dist_k1k2p1p2' of {name}")
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise UserError(f"{file}: expected a camera matrix with positive focal lengths as 'K' of {name}, found another")
    return Camera(matrix, distortion)


def _person(person: dict[str, Any], camera: Camera, file: Path, name: str) -> Skeleton | None:
    names = _names(person.get("joint_names"), file, name)
    xyz = numbers(person.get("xyz_camera_m"), (len(names), 3), file, f"'xyz_camera_m' of {name}")
    valid = numbers(person.get("valid", [1] * len(names)), (len(names),), file, f"'valid' of {name}") > 0
    return _skeleton(names, xyz, valid, camera, f"{file}: {name}")


def _skeleton(names: Sequence[str], xyz: np.ndarray, valid: np.ndarray, camera: Camera, where: str) -> Skeleton | None:
    """None where too few joints are known to compare with."""
    valid = valid & np.isfinite(xyz).all(-1)
    limbs = [list(names).index(joint) for joint in LIMBS]
    if valid[limbs].sum() < MIN_KNOWN:
        return None
    if (xyz[valid, 2] <= 0).any():
        raise UserError(f"{where}: expected joints before the camera (metres, z > 0), found some behind it")
    return Skeleton(xyz[limbs], valid[limbs], camera.box(xyz, valid))


def _names(names: Any, file: Path, where: str) -> list[str]:
    found = [str(n) for n in names] if isinstance(names, list | np.ndarray) else []
    missing = [joint for joint in LIMBS if joint not in found]
    if missing:
        raise UserError(f"{file}: expected {', '.join(missing)} among 'joint_names' of {where}, found {found[:4]} ..")
    return found


def _videos(rows: Sequence[dict[str, Any]], root: Path, file: Path) -> tuple[VideoView, ...]:
    """Videos that views were taken from, where they and the joints of all their frames are there."""
    first = {row["video"]: row for row in rows if isinstance(row.get("video"), str)}
    present = {path: row for name, row in first.items() if (path := _find(root, name)) is not None}
    world = root / "joints_world.npz"
    if not present or not world.is_file():
        return ()
    stored = load_npz(world, ("joint_names", "xyz_world_m", "fps"), "joints of every frame of the videos", ("valid",))
    names = _names(stored["joint_names"], world, "all frames")
    xyz = numbers(stored["xyz_world_m"], (-1, len(names), 3), world, "'xyz_world_m'")
    valid = np.asarray(stored.get("valid", np.ones(xyz.shape[:2])), bool)
    if valid.shape != xyz.shape[:2]:
        raise UserError(f"{world}: expected 'valid' of shape {xyz.shape[:2]}, found {valid.shape}: another version?")
    fps = float(numbers(stored["fps"], (), world, "'fps'"))
    if not (np.isfinite(fps) and fps > 0):
        raise UserError(f"{world}: expected frames a second as 'fps', found {fps}")
    videos = []
    for path, row in present.items():
        camera = _camera(row, file, str(row["video"]))
        rotation = numbers(row.get("R_world_to_cam"), (3, 3), file, f"'R_world_to_cam' of {row['image']}")
        shift = numbers(row.get("t_world_to_cam"), (3,), file, f"'t_world_to_cam' of {row['image']}")
        seen = xyz @ rotation.T + shift
        found = [_skeleton(names, seen[i], valid[i], camera, f"{world}: frame {i}") for i in range(len(xyz))]
        videos.append(VideoView(str(row["video"]), path, fps, _without_gaps(found, world)))
    return tuple(videos)


def _without_gaps(found: Sequence[Skeleton | None], world: Path) -> tuple[Skeleton, ...]:
    """In frames that nobody is known in, the last box (or the first one) and no valid joint."""
    last = next((skeleton for skeleton in found if skeleton is not None), None)
    if last is None:
        raise UserError(f"{world}: expected frames with {MIN_KNOWN} known joints or more, found none")
    whole = []
    for skeleton in found:
        last = skeleton or Skeleton(last.xyz, np.zeros(len(LIMBS), bool), last.box)
        whole.append(last)
    return tuple(whole)


def _find(root: Path, name: str) -> Path | None:
    """A video below the root, or beside it (views are a part of a larger folder)."""
    return next((p for p in (root / name, root.parent / name) if p.is_file()), None)
