"""Predictions on COCO pictures in COCO's results format: what a network says, what a file holds, what is scored.

A result has image_id, category_id, score and keypoints (51 numbers) or segmentation (run lengths) or both.
Two keys are ours: `annotation_id`, the annotated person whose box was given; `everybody`, true where the segmentation
is the mask of all people of the picture (else: all masks of its people together).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.crops import crop_person
from thfm_ros.evaluate.picture_models import FoundPerson, PictureModel, as_coco, to_network
from thfm_ros.evaluate.readers.coco import JOINTS, CocoPeople, Picture, decode_mask, encode_mask

Boxes = Literal["given", "own"]
Result = dict[str, Any]
FORMAT = "expected COCO's results format (image_id, category_id, keypoints, score)"


def check_boxes(boxes: str) -> Boxes:
    """UserError for anything but `given` and `own`."""
    for known in get_args(Boxes):
        if boxes == known:
            return known
    raise UserError(f"--boxes is {' or '.join(get_args(Boxes))}, found '{boxes}'")


def predict_picture(model: PictureModel, picture: Picture, boxes: Boxes, category: int = 1) -> list[Result]:
    """The results of one picture.

    given: the joints of everybody annotated, each cropped by their box, and the mask of the whole picture.
    own: whoever the model finds in the whole picture.
    """
    if boxes == "given" and not picture.people:
        return []
    image = picture.load()
    if boxes == "own":
        people, alpha = model.people(image)
        return [*(_result(picture, category, p) for p in people), _everybody(picture, category, alpha)]
    results = keypoint_results(model, picture, image, category)
    if not (picture.with_masks and picture.people):
        return results
    return [*results, mask_result(model, picture, image, category)]


def mask_result(model: PictureModel, picture: Picture, image: np.ndarray, category: int = 1) -> Result:
    """The mask of all people of the picture."""
    return _everybody(picture, category, model.alpha(image))


def keypoint_results(
    model: PictureModel, picture: Picture, image: np.ndarray, category: int = 1, batch: int = 16
) -> list[Result]:
    """One result for each person with labelled joints, from the crop around the annotated box."""
    people = [p for p in picture.people if not p.crowd and p.labelled.any() and (p.box[2:] > 0).all()]
    results = []
    for start in range(0, len(people), batch):
        some = people[start : start + batch]
        crops = [crop_person(image, person.box, model.window) for person in some]
        xy, visibility = model.keypoints(to_network(np.stack([crop.pixels for crop in crops])))
        for person, crop, points, seen in zip(some, crops, xy, visibility, strict=True):
            joints = as_coco(crop.to_picture(points), seen, model.joint_set)
            found = FoundPerson(joints, float(np.mean(seen)))
            results.append({**_result(picture, category, found), "annotation_id": person.id})
    return results


def joints_of(result: Mapping[str, Any]) -> np.ndarray | None:
    """(17, 3) of a result, or None where it has no keypoints."""
    return np.array(result["keypoints"], float).reshape(JOINTS, 3) if "keypoints" in result else None


def mask_of_everybody(results: Sequence[Result], picture: Picture) -> np.ndarray | None:
    """(H, W) bool, or None where no result of the picture has a mask."""
    masks = [r for r in results if "segmentation" in r]
    chosen = [r for r in masks if r.get("everybody")] or masks
    if not chosen:
        return None
    parts = [decode_mask(r["segmentation"], picture.height, picture.width) for r in chosen]
    return np.logical_or.reduce(parts)


def by_picture(data: CocoPeople, results: Sequence[Result]) -> dict[int, list[Result]]:
    """Picture's id -> its results, in their order; an empty list where there is none."""
    table: dict[int, list[Result]] = {picture.id: [] for picture in data.pictures}
    for result in results:
        if result["image_id"] in table:
            table[result["image_id"]].append(result)
    return table


def load_results(path: Path, data: CocoPeople) -> list[Result]:
    """The results in a file, checked against the pictures, without keys that are null.

    UserError that names the first wrong one.
    """
    import json

    try:
        results = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}: check --predictions") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}; {FORMAT}") from None
    if not isinstance(results, list):
        raise UserError(f"{path}: expected a list of results, found {type(results).__name__}; {FORMAT}")
    for number, result in enumerate(results):
        reason = _fault(result, data)
        if reason:
            raise UserError(f"{path}: result {number}: {reason}; {FORMAT}")
    if results and not any(result["image_id"] in data.by_id for result in results):
        raise UserError(f"{path}: expected results of the pictures in {data.annotations}, found none of them")
    people = (result for result in results if result["category_id"] == data.category)
    return [{key: value for key, value in person.items() if value is not None} for person in people]


def _fault(result: Any, data: CocoPeople) -> str:
    """What is wrong with a result, or nothing."""
    if not isinstance(result, dict):
        return f"expected an object, found {type(result).__name__}"
    for name in ("image_id", "category_id"):
        if not isinstance(result.get(name), int):
            return f"expected a whole number as '{name}', found {result.get(name)!r}"
    if not _is_number(result.get("score")):
        return f"expected a number as 'score', found {result.get('score')!r}"
    points, mask = result.get("keypoints"), result.get("segmentation")
    if points is not None and not (
        isinstance(points, list) and len(points) == 3 * JOINTS and all(map(_is_number, points))
    ):
        return f"expected {3 * JOINTS} finite numbers as 'keypoints'"
    picture = data.by_id.get(result["image_id"])
    if mask is not None and picture is not None:
        size = mask.get("size") if isinstance(mask, dict) else None
        if size != [picture.height, picture.width]:
            return f"expected a mask of size [{picture.height}, {picture.width}], found {size}"
        try:
            decode_mask(mask, picture.height, picture.width)
        except (UserError, KeyError) as error:
            return f"expected run lengths as 'segmentation', found others ({error})"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _result(picture: Picture, category: int, person: FoundPerson) -> Result:
    """Keypoints rounded to a hundredth of a pixel."""
    points = [round(float(v), 2 if i % 3 < 2 else 4) for i, v in enumerate(person.keypoints.ravel())]
    result = {"image_id": picture.id, "category_id": category, "keypoints": points, "score": round(person.score, 5)}
    return result if person.mask is None else {**result, "segmentation": encode_mask(person.mask)}


def _everybody(picture: Picture, category: int, alpha: np.ndarray) -> Result:
    mask = alpha > 0.5
    score = float(alpha[mask].mean()) if mask.any() else 0.0
    whole = {"segmentation": encode_mask(mask), "everybody": True}
    return {"image_id": picture.id, "category_id": category, "score": round(score, 5), **whole}
