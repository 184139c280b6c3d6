"""MediaPipe 0.10.21 on real pictures, in files that `thfm evaluate coco | views | nobody --predictions FILE` scores.

    python benchmarks/peers/real.py coco --root DIR --out out/peers            # pose.json, selfie.json
    python benchmarks/peers/real.py coco --root DIR --out out/peers --boxes own
    python benchmarks/peers/real.py views --root DIR --out out/peers           # pose-views.json
    python benchmarks/peers/real.py nobody --root DIR --out out/peers          # pose-nobody.json
    thfm evaluate coco --root DIR --checkpoint weights/nano --predictions out/peers/pose.json

It sees the same crops as the network, at least 288 pixels high, and the same whole pictures. Each picture is new to it:
nothing is tracked from one to the next.
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import typer
from compare import COCO17, MediaPipeWorker, environment

from thfm_ros.errors import UserError
from thfm_ros.evaluate.coco_results import Result, check_boxes
from thfm_ros.evaluate.crops import SCALE, WINDOW, crop_person
from thfm_ros.evaluate.readers import coco, nobody, views
from thfm_ros.evaluate.readers.base import load_rgb
from thfm_ros.evaluate.readers.coco import encode_mask
from thfm_ros.evaluate.report import write_json
from thfm_ros.skeleton import get_joint_set

HEIGHT = 288  # of a crop, or more where the person is larger in the picture


class Kind(str, Enum):
    """The three commands of `thfm evaluate` that real pictures have."""

    coco = "coco"
    views = "views"
    nobody = "nobody"


def window(box: np.ndarray) -> tuple[int, int]:
    """(width, height) of the crop around a box, in the aspect of all crops."""
    high = max(HEIGHT, round(SCALE * max(box[3], box[2] * WINDOW[1] / WINDOW[0])))
    return round(high * WINDOW[0] / WINDOW[1]), high


def skeleton(points: np.ndarray) -> np.ndarray | None:
    """(17, 3) of MediaPipe's (33, 3): COCO's joints in shares of the picture, and visibility; None: nobody."""
    return points[list(COCO17)] if np.isfinite(points).all() else None


def coco_results(worker: MediaPipeWorker, data: coco.CocoPeople, boxes: str, bar: Any) -> dict[str, list[Result]]:
    """File's name -> results: Pose's joints and mask, Selfie's mask."""
    pose: list[Result] = []
    selfie: list[Result] = []
    for picture in data.pictures:
        image = picture.load()
        whole = worker.prediction(image[None], stills=True)
        common = {"image_id": picture.id, "category_id": data.category}
        for results, name in ((pose, "pose_mask"), (selfie, "selfie_mask")):
            mask = {"segmentation": encode_mask(whole[name][0] > 0.5), "everybody": True}
            results.append({**common, "score": 1.0, **mask})
        if boxes == "own":
            joints = skeleton(whole["image"][0])
            if joints is not None:
                joints[:, :2] = joints[:, :2] * (picture.width, picture.height) - 0.5
                person = {"keypoints": joints.ravel().tolist(), "score": float(joints[:, 2].mean())}
                pose.append({**common, **person, "segmentation": pose[-1]["segmentation"]})
        else:
            pose += given_results(worker, picture, image, common)
        bar.update(1)
    return {"pose": pose, "selfie": selfie}


def given_results(
    worker: MediaPipeWorker, picture: coco.Picture, image: np.ndarray, common: dict[str, int]
) -> list[Result]:
    """The joints of everybody annotated who is found in the crop around their box."""
    results = []
    for person in (p for p in picture.people if not p.crowd and p.labelled.any()):
        crop = crop_person(image, person.box, window(person.box))
        joints = skeleton(worker.prediction(crop.pixels[None], stills=True)["image"][0])
        if joints is not None:
            joints[:, :2] = crop.to_picture(joints[:, :2])
            prediction = {"keypoints": joints.ravel().tolist(), "score": float(joints[:, 2].mean())}
            results.append({**common, **prediction, "annotation_id": person.id})
    return results


def view_answers(worker: MediaPipeWorker, data: views.Views, bar: Any) -> list[dict[str, Any]]:
    """Everybody of every view in metres, or null; one who is not found in the crop is missed."""
    names = list(get_joint_set("coco17").joints)
    rows = []
    for view in data.views:
        image = load_rgb(view.file)
        people: list[dict[str, Any] | None] = []
        for person in view.people:
            crop = crop_person(image, person.box, window(person.box))
            xyz = worker.prediction(crop.pixels[None], stills=True)["world"][0, COCO17]
            known = bool(np.isfinite(xyz).all())
            people.append({"joint_names": names, "xyz_camera_m": xyz.tolist()} if known else None)
        found = iter(people)  # of those who count; the file lists everybody
        rows.append({"image": view.image, "people": [next(found) if counts else None for counts in view.counted]})
        bar.update(1)
    return rows


def nobody_answers(worker: MediaPipeWorker, data: nobody.EmptyPictures, bar: Any) -> dict[str, dict[str, Any]]:
    """Picture -> who was reported (whoever Pose finds), and the share of the picture in its mask."""
    rows = {}
    for name, image in data.images():
        found = worker.prediction(image[None], stills=True)
        scores = [] if skeleton(found["image"][0]) is None else [1.0]
        rows[name] = {"scores": scores, "mask": float((found["pose_mask"][0] > 0.5).mean())}
        bar.update(1)
    return rows


def main(
    kind: Kind = typer.Argument(..., help="which layout the pictures have"),
    root: Path = typer.Option(..., help="folder of the data set; nobody: photographs or a video"),
    out: Path = typer.Option(Path("out/peers"), help="folder of the files"),
    boxes: str = typer.Option("given", help="coco: given or own"),
    begin: float = typer.Option(0.0, "--from", help="nobody: from this second of the video on"),
    end: float | None = typer.Option(None, "--to", help="nobody: up to this second"),
    limit: int | None = typer.Option(None, min=1, help="only the first pictures"),
    environment_folder: Path = typer.Option(Path(".venv-peers"), "--env", help="MediaPipe's environment"),
) -> None:
    """Writes the files of one layout."""
    check_boxes(boxes)
    data: Any
    if kind is Kind.coco:
        data = coco.read(root, limit=limit)
        count = len(data.pictures)
    elif kind is Kind.views:
        data = views.read(root, limit)
        count = len(data.views)
    else:
        data = nobody.read(root, begin, end, limit=limit)
        count = data.count or 0
    worker = MediaPipeWorker(environment(environment_folder))
    try:
        with typer.progressbar(length=count, label=kind.value, file=sys.stderr) as bar:
            files: dict[str, Any]
            if kind is Kind.coco:
                files = coco_results(worker, data, boxes, bar)
            elif kind is Kind.views:
                files = {"pose-views": view_answers(worker, data, bar)}
            else:
                files = {"pose-nobody": nobody_answers(worker, data, bar)}
    finally:
        worker.close()
    for name, value in files.items():
        write_json(out / f"{name}.json", value)
        typer.echo(f"wrote {out / name}.json")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"real: {error}")
