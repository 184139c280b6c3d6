"""COCO's average precision and recall of keypoints and masks, by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from thfm_ros.evaluate.coco_results import Boxes, Result, by_picture, mask_of_everybody
from thfm_ros.evaluate.readers.coco import CocoPeople, Picture, encode_mask, mask_codec
from thfm_ros.skeleton import get_joint_set

KEYPOINTS = ("ap", "ap_0.5", "ap_0.75", "ap_medium", "ap_large", "ar", "ar_0.5", "ar_0.75", "ar_medium", "ar_large")
MASKS = ("ap", "ap_0.5", "ap_0.75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar")


def keypoint_ap(data: CocoPeople, results: Sequence[Result]) -> dict[str, float]:
    """Over the pictures whose keypoints were annotated. NaN for a kind of people that there is nobody of."""
    pictures = [p for p in data.pictures if p.with_keypoints]
    found = [_plain(r, "keypoints") for r in results if "keypoints" in r]
    return _evaluate(data, pictures, found, "keypoints", KEYPOINTS)


def mask_ap(data: CocoPeople, results: Sequence[Result], boxes: Boxes) -> dict[str, float]:
    """Over the pictures whose masks were annotated.

    own: the masks of the people that were found. given: the mask of everybody, cut to each annotated box.
    """
    pictures = [p for p in data.pictures if p.with_masks]
    if boxes == "own":
        found = [_plain(r, "segmentation") for r in results if "segmentation" in r and not r.get("everybody")]
    else:
        grouped = by_picture(data, results)
        found = [r for p in pictures for r in _cut_to_boxes(p, grouped[p.id], data.category)]
    return _evaluate(data, pictures, found, "segm", MASKS)


def _plain(result: Result, key: str) -> Result:
    return {name: copy.deepcopy(result[name]) for name in ("image_id", "category_id", "score", key)}


def _cut_to_boxes(picture: Picture, results: Sequence[Result], category: int) -> list[Result]:
    """A result for each annotated person: what of the mask lies in their box, scored by the share that it fills."""
    everybody = mask_of_everybody(results, picture)
    if everybody is None:
        return []
    cut = []
    for person in (p for p in picture.people if not p.crowd):
        left, top = np.floor(person.box[:2]).astype(int)
        right, bottom = np.ceil(person.box[:2] + person.box[2:]).astype(int)
        mask = np.zeros_like(everybody)
        rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
        mask[rows, columns] = everybody[rows, columns]
        if mask.any():
            share = float(mask[rows, columns].mean())
            result = {"image_id": picture.id, "category_id": category, "score": share}
            cut.append({**result, "segmentation": encode_mask(mask)})
    return cut


def _evaluate(
    data: CocoPeople, pictures: Sequence[Picture], found: list[Result], kind: str, names: Sequence[str]
) -> dict[str, float]:
    mask_codec()  # names the missing package
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    inside = {p.id for p in pictures}
    found = [r for r in found if r["image_id"] in inside]
    if not pictures:
        return dict.fromkeys(names, float("nan"))
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress by printing
        truth = COCO()
        truth.dataset = _dataset(pictures, data.category)
        truth.createIndex()
        if not found:
            known = any(not p.crowd for picture in pictures for p in picture.people)
            return dict.fromkeys(names, 0.0 if known else float("nan"))
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.params.imgIds = sorted(inside)
        evaluation.params.catIds = [data.category]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(v) if v >= 0 else float("nan") for v in evaluation.stats[: len(names)]]
    return dict(zip(names, values, strict=True))


def _dataset(pictures: Sequence[Picture], category: int) -> dict[str, Any]:
    rows = []
    for picture in pictures:
        for person in picture.people:
            row = {
                "id": len(rows) + 1,  # COCO's evaluation takes 0 for nobody
                "image_id": picture.id,
                "category_id": category,
                "bbox": person.box.tolist(),
                "area": person.area,
                "iscrowd": int(person.crowd),
                "keypoints": person.keypoints.ravel().tolist(),
                "num_keypoints": int(person.labelled.sum()),
            }
            # A person without a mask has an empty one, as large as the picture.
            empty = {"size": [picture.height, picture.width], "counts": [picture.height * picture.width]}
            row["segmentation"] = copy.deepcopy(person.segmentation) or empty
            rows.append(row)
    return {
        "images": [{"id": p.id, "width": p.width, "height": p.height} for p in pictures],
        "annotations": rows,
        "categories": [{"id": category, "name": "person", "keypoints": list(get_joint_set("coco17").joints)}],
    }
