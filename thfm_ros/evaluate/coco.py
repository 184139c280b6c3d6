"""People in COCO's pictures: predicts, scores, reports. Rows are kept, so that a run goes on where it stopped.

    from thfm_ros.evaluate import coco
    from thfm_ros.evaluate.picture_models import FunctionModel
    model = FunctionModel(keypoints=..., masks=..., window=(112, 144), picture=(240, 144), joint_set="thfm32")
    figures = coco.measure(model, "DIR")

`keypoints` takes images (N, 3, H, W) float32 in [-1, 1] of `window` (width, height) and returns xy (N, K, 2) in [0, 1]
of the window and visibility (N, K) in [0, 1]; `masks` takes whole pictures, letterboxed into `picture`, and returns
(N, h, w) in [0, 1]. Either may be left out, and its figures with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.evaluate import keypoint_scores, mask_scores
from thfm_ros.evaluate.coco_ap import keypoint_ap, mask_ap
from thfm_ros.evaluate.coco_results import (
    Boxes,
    Result,
    by_picture,
    joints_of,
    keypoint_results,
    mask_of_everybody,
    mask_result,
    predict_picture,
)
from thfm_ros.evaluate.picture_models import FunctionModel, PictureModel
from thfm_ros.evaluate.readers.coco import CocoPeople, Person, Picture, read, whole
from thfm_ros.evaluate.real_report import Figures
from thfm_ros.evaluate.runner import RowStore, key_of

HIGH_PX = 120.0
Pair = tuple[Person, np.ndarray | None]


def measure(model: FunctionModel, root: str | Path, boxes: Boxes = "given", limit: int | None = None) -> Figures:
    """All figures of a network at once, nothing kept on disk; see `score` for what they are."""
    data = read(root, limit=limit)
    results: list[Result] = []
    for picture in data.pictures:
        if boxes == "own" or (model.gives_keypoints and model.gives_masks):
            results += predict_picture(model, picture, boxes, data.category)
        elif model.gives_keypoints:
            results += keypoint_results(model, picture, picture.load(), data.category)
        elif picture.with_masks:
            results.append(mask_result(model, picture, picture.load(), data.category))
    return score(data, results, boxes, model.gives_keypoints, model.gives_masks)


def predict(
    model: PictureModel,
    data: CocoPeople,
    boxes: Boxes,
    folder: Path,
    resume: bool = True,
    step: Callable[[int], None] = lambda index: None,
) -> list[Result]:
    """The model's results on every picture; those that `folder` holds from an earlier run are used again."""
    results: list[Result] = []
    for index, picture in enumerate(data.pictures):
        state = picture.file.stat()
        key = key_of("coco", boxes, model.identity, _facts(picture), str(picture.file.resolve()), state.st_size)
        store = RowStore(folder / "rows" / key_of(boxes, model.identity), key)
        row = store.load(str(picture.id)) if resume else None
        if row is None:
            row = {"results": predict_picture(model, picture, boxes, data.category)}
            store.save(str(picture.id), row)
        results += row["results"]
        step(index)
    return results


def _facts(picture: Picture) -> list[Any]:
    people = [[p.id, p.box.tolist(), p.keypoints[:, 2].tolist(), p.crowd] for p in picture.people]
    return [picture.id, picture.width, picture.height, picture.with_masks, people]


def score(
    data: CocoPeople, results: Sequence[Result], boxes: Boxes, keypoints: bool = True, masks: bool = True
) -> Figures:
    """Group -> metric -> value. keypoints, masks: which of both were asked for; what is missing of them is an error.

    keypoints: PCK, OKS and `missed` of all people, of the higher ones, of those alone and whole in their picture, and
    (own) of the best found person of each picture; COCO's AP and AR. masks: mean IoU of everybody's mask by the share
    of the picture that people fill, and COCO's AP of each person's mask.
    """
    grouped = by_picture(data, results)
    figures: Figures = {}
    if keypoints:
        figures |= {name: keypoint_scores.summarise(group) for name, group in _groups(data, grouped, boxes).items()}
        figures["COCO keypoints"] = keypoint_ap(data, results)
    if masks:
        for name, values in mask_scores.summarise(list(_mask_pairs(data, grouped))).items():
            figures[f"masks, {name}" if name != "all" else "masks"] = values
        figures["COCO person masks"] = mask_ap(data, results, boxes)
    return figures


def _groups(data: CocoPeople, grouped: Mapping[int, list[Result]], boxes: Boxes) -> dict[str, list[Pair]]:
    pairs = [(picture, *pair) for picture in data.pictures for pair in _pairs(picture, grouped[picture.id])]
    groups: dict[str, list[Pair]] = {
        "people": [(p, xy) for _, p, xy in pairs],
        f"people higher than {HIGH_PX:g} px": [(p, xy) for _, p, xy in pairs if p.box[3] > HIGH_PX],
        "people alone and whole": [(p, xy) for picture, p, xy in pairs if whole(p, picture)],
    }
    return groups | ({"best person a picture": _best_pairs(data, grouped)} if boxes == "own" else {})


def _pairs(picture: Picture, results: Sequence[Result]) -> list[Pair]:
    """Everybody who counts, with their joints: by annotation_id where the results have it, else the best match."""
    found = [(r.get("annotation_id"), joints[:, :2]) for r in results if (joints := joints_of(r)) is not None]
    if any(number is not None for number, _ in found):
        table = dict(found)
        return [(p, table.get(p.id)) for p in picture.people if keypoint_scores.counts(p)]
    people = [p for p in picture.people if not p.crowd and p.labelled.any()]
    matched = keypoint_scores.match(people, [xy for _, xy in found])
    pairs = [(p, found[matched[i]][1] if i in matched else None) for i, p in enumerate(people)]
    return [(p, xy) for p, xy in pairs if keypoint_scores.counts(p)]


def _best_pairs(data: CocoPeople, grouped: Mapping[int, list[Result]]) -> list[Pair]:
    """Picks of each picture the person who was found best, by OKS; the largest one where nobody was."""
    pairs: list[Pair] = []
    for picture in data.pictures:
        people = sorted((p for p in picture.people if keypoint_scores.counts(p)), key=lambda p: -p.box[2] * p.box[3])
        found = [joints[:, :2] for r in grouped[picture.id] if (joints := joints_of(r)) is not None]
        if not people:
            continue
        ranked = [(keypoint_scores.oks(p, xy), -i, p, xy) for i, p in enumerate(people) for xy in found]
        best = max(ranked, key=lambda entry: entry[:2], default=None)
        pairs.append((best[2], best[3]) if best else (people[0], None))
    return pairs


def _mask_pairs(data: CocoPeople, grouped: Mapping[int, list[Result]]) -> Iterable[tuple[float, float]]:
    """(share of the picture that people fill, IoU) of each picture with a mask to compare with."""
    for picture in data.pictures:
        people, crowds = picture.masks()
        if picture.with_masks and people.any():
            found = mask_of_everybody(grouped[picture.id], picture)
            found = np.zeros_like(people) if found is None else found
            yield float(people.mean()), mask_scores.mask_iou(found, people, crowds)
