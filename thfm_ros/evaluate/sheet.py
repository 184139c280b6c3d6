"""A sheet of pictures with predicted skeletons and masks, drawn at random, so that nothing is selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from thfm_ros import panels
from thfm_ros.errors import UserError
from thfm_ros.evaluate.coco_results import Result, by_picture, joints_of, mask_of_everybody
from thfm_ros.evaluate.crops import crop_person
from thfm_ros.evaluate.nobody import MIN_SCORE
from thfm_ros.evaluate.picture_models import PictureModel, as_coco, to_network
from thfm_ros.evaluate.readers.base import load_rgb
from thfm_ros.evaluate.readers.coco import CocoPeople
from thfm_ros.evaluate.readers.nobody import EmptyPictures
from thfm_ros.evaluate.readers.views import Views
from thfm_ros.paths import writable_picture
from thfm_ros.skeleton import get_joint_set

WIDTH, HEIGHT, COLUMNS = 320, 240, 4
PICTURES = 12


def check_sheet(path: Path) -> Path:
    """UserError now, and not after the work, for a place or a kind of file that cannot be written."""
    return writable_picture(path, "--sheet")


def draw(image: np.ndarray, skeletons: Sequence[np.ndarray], mask: np.ndarray | None, label: str) -> np.ndarray:
    """One panel: (H, W, 3) uint8 with the mask tinted and skeletons (17, 3) of COCO's joints, pixels and visibility."""
    scale = min(WIDTH / image.shape[1], HEIGHT / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if mask is not None:
        small = panels.tint(small, cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR), 0.5)
    for joints in skeletons:
        small = panels.draw_skeleton(small, joints[:, :2] * scale, joints[:, 2], get_joint_set("coco17"))
    down, right = HEIGHT - size[1], WIDTH - size[0]
    padded = np.pad(small, ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0)))
    return panels.panel(padded, label, WIDTH, HEIGHT)


def write(path: Path, drawn: Sequence[np.ndarray]) -> None:
    """Writes the panels in a grid."""
    if not drawn:
        raise UserError(f"nothing to draw on {path}: expected pictures with predictions, found none")
    panels.write(path, panels.grid(drawn, COLUMNS))


def chosen(count: int, seed: int) -> list[int]:
    """Some of `count` pictures at random, in their order."""
    return sorted(int(i) for i in np.random.default_rng(seed).permutation(count)[:PICTURES])


def coco_sheet(path: Path, data: CocoPeople, predictions: Mapping[str, Sequence[Result]], seed: int = 0) -> None:
    """Random pictures; the predictions of each network or file stand side by side."""
    grouped = {name: by_picture(data, results) for name, results in predictions.items()}
    drawn = []
    for index in chosen(len(data.pictures), seed):
        picture = data.pictures[index]
        image = picture.load()
        for name, table in grouped.items():
            results = table[picture.id]
            skeletons = [joints for r in results if (joints := joints_of(r)) is not None]
            drawn.append(draw(image, skeletons, mask_of_everybody(results, picture), f"{name}: {picture.file.stem}"))
    write(path, drawn)


def views_sheet(path: Path, data: Views, model: PictureModel, seed: int = 0) -> None:
    """Random views with the joints that the model finds in the same crops, and the mask of the whole picture."""
    drawn = []
    for index in chosen(len(data.views), seed):
        view = data.views[index]
        image = load_rgb(view.file)
        skeletons = []
        for person in view.people:
            crop = crop_person(image, person.box, model.window)
            xy, visibility = model.keypoints(to_network(crop.pixels[None]))
            skeletons.append(as_coco(crop.to_picture(xy[0]), visibility[0], model.joint_set))
        drawn.append(draw(image, skeletons, model.alpha(image) > 0.5, view.file.stem))
    write(path, drawn)


def nobody_sheet(path: Path, data: EmptyPictures, model: PictureModel, seed: int, count: int) -> None:
    """Random ones of the `count` pictures, with whoever the model reports and the mask."""
    wanted = set(chosen(count, seed))
    drawn = []
    for index, (name, image) in enumerate(data.images()):
        if index in wanted:
            people, alpha = model.people(image)
            skeletons = [person.keypoints for person in people if person.score >= MIN_SCORE]
            drawn.append(draw(image, skeletons, alpha > 0.5, name))
    write(path, drawn)
