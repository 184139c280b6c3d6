"""Tiny data sets of real pictures, in the layouts that the readers take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from thfm_ros.skeleton import get_joint_set
from thfm_ros.video import VideoWriter

COCO = get_joint_set("coco17").joints
WIDTH, HEIGHT = 96, 64
# left, top, width, height of the people of each picture; the last of the second one is a crowd.
PEOPLE = {3: [(10, 5, 30, 50)], 7: [(4, 8, 24, 40), (50, 6, 30, 52), (30, 0, 10, 10)]}


def keypoints(box: tuple[int, ...]) -> np.ndarray:
    """(17, 3) spread over a box, all labelled."""
    left, top, width, height = box
    steps = np.linspace(0.1, 0.9, 17)
    return np.stack([left + width * steps[::-1], top + height * steps, np.full(17, 2)], -1)


def box_mask(box: tuple[int, ...]) -> np.ndarray:
    left, top, width, height = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed form, by columns, zeros first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def polygon(box: tuple[int, ...]) -> list[list[int]]:
    left, top, width, height = box
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def coco_table() -> dict[str, Any]:
    """The annotations as a table: masks as run lengths in picture 3, as polygons in picture 7."""
    images, annotations = [], []
    for number, boxes in PEOPLE.items():
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": WIDTH, "height": HEIGHT})
        for index, box in enumerate(boxes):
            crowd = number == 7 and index == 2
            points = np.zeros((17, 3)) if crowd else keypoints(box)
            row = {"id": 100 * number + index, "image_id": number, "category_id": 1, "bbox": list(box)}
            mask = run_lengths(box_mask(box)) if number == 3 or crowd else polygon(box)
            row |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            annotations.append({**row, "segmentation": mask, "area": box[2] * box[3], "iscrowd": int(crowd)})
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO)}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco(root: Path, table: dict[str, Any] | None = None) -> Path:
    """val2017 as it is downloaded: annotations/person_keypoints_val2017.json and val2017/. Every person but the
    crowd has a bright dot in the middle of their box."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "annotations/person_keypoints_val2017.json").write_text(json.dumps(table or coco_table()))
    for number, boxes in PEOPLE.items():
        image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        for left, top, width, height in boxes[:2]:
            cv2.circle(image, (left + width // 2, top + height // 2), 3, (255, 255, 255), -1)
        cv2.imwrite(str(root / f"val2017/{number:012d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return root


def brightest(images: np.ndarray, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Every joint of thfm32 where the crop's bright dot is, moved right by a share of the window's width."""
    gray = np.clip(images.mean(1), 0, None) ** 4
    rows, columns = (np.arange(n) + 0.5 for n in gray.shape[1:])
    total = gray.sum((1, 2)) + 1e-9
    x = (gray * columns).sum((1, 2)) / total / gray.shape[2] + offset
    y = (gray * rows[:, None]).sum((1, 2)) / total / gray.shape[1]
    return np.repeat(np.stack([x, y], -1)[:, None], 32, 1), np.full((len(images), 32), 0.9)


def skeleton(angle: float = 0.0) -> np.ndarray:
    """(17, 3) metres, three metres before the camera, arms and legs bent, turned about the vertical."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-0.4, -0.8, -0.3], [0.4, 0.8, 0.3], (17, 3))
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return points @ turn.T + [0, 0, 3.0]


def views_table(count: int = 3) -> list[dict[str, Any]]:
    matrix = [[100.0, 0, 48], [0, 100, 32], [0, 0, 1]]
    rows = []
    for index in range(count):
        person = {"joint_names": list(COCO), "xyz_camera_m": skeleton(0.1 * index).tolist()}
        row = {"image": f"cam01_f{index:03d}.jpg", "K": matrix, "dist_k1k2p1p2": [0, 0, 0, 0], "people": [person]}
        row |= {"video": "videos/cam01.mp4", "R_world_to_cam": np.eye(3).tolist(), "t_world_to_cam": [0, 0, 0]}
        rows.append(row)
    return rows


def views(root: Path, table: list[dict[str, Any]] | None = None, frames: int = 0) -> Path:
    """joints.json and its pictures; frames: also a video of so many at 24 a second, and joints_world.npz."""
    root.mkdir(parents=True, exist_ok=True)
    table = views_table() if table is None else table
    (root / "joints.json").write_text(json.dumps(table))
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for row in table:
        cv2.imwrite(str(root / str(row.get("image", "none.jpg"))), image)
    if frames:
        (root / "videos").mkdir()
        with VideoWriter(root / "videos/cam01.mp4", 24.0) as writer:
            for _ in range(frames):
                writer.write(image)
        xyz = np.stack([skeleton(0.02 * i) for i in range(frames)])
        np.savez(root / "joints_world.npz", joint_names=np.array(COCO), xyz_world_m=xyz, fps=np.array(24))
    return root
