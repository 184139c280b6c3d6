"""False people: how often somebody is reported in pictures without anybody, and how much of them is in the mask.

    from thfm_ros.evaluate import nobody
    figures = nobody.measure(FunctionModel(keypoints=..., masks=...), "PHOTOGRAPHS")

Somebody is reported where a person's score (the mean visibility of the 12 surest joints) reaches 0.6, as
in the node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.picture_models import PictureModel
from thfm_ros.evaluate.readers.nobody import EmptyPictures, read
from thfm_ros.evaluate.real_report import Figures
from thfm_ros.evaluate.runner import RowStore, key_of

MIN_SCORE = 0.6
LARGE = 0.01  # of a picture: a mask that nobody overlooks
Row = dict[str, Any]


def measure(model: PictureModel, root: str | Path, begin: float = 0.0, end: float | None = None) -> Figures:
    """All figures at once, nothing kept on disk; see `score`."""
    return score([predict_picture(model, image) for _, image in read(root, begin, end).images()])


def predict_picture(model: PictureModel, image: np.ndarray) -> Row:
    """scores: of everybody reported, and mask: the share of the picture's pixels that are in the mask of people."""
    people, alpha = model.people(image)
    return {"scores": [person.score for person in people], "mask": float((alpha > 0.5).mean())}


def predict(
    model: PictureModel,
    data: EmptyPictures,
    folder: Path,
    resume: bool = True,
    step: Callable[[str], None] = lambda name: None,
) -> list[Row]:
    """The model's predictions on every picture; those in `folder` from an earlier run are used again."""
    rows = []
    state = data.source.stat()
    for name, image in data.images():
        source = [str(data.source.resolve()), state.st_size, state.st_mtime_ns, list(image.shape), int(image.sum())]
        store = RowStore(folder / "rows" / key_of(model.identity), key_of("nobody", model.identity, source, name))
        row = store.load(name) if resume else None
        if row is None:
            row = predict_picture(model, image)
            store.save(name, row)
        rows.append(row)
        step(name)
    return rows


def score(rows: Sequence[Row], min_score: float = MIN_SCORE) -> Figures:
    """nobody: pictures; reported: share of pictures with somebody; people: reported a picture; mask: mean share of the
    pixels; masked: share of pictures whose mask holds more than a hundredth of them."""
    people = np.array([sum(s >= min_score for s in row["scores"]) for row in rows], float)
    mask = np.array([row["mask"] for row in rows], float)
    shares = {"reported": people > 0, "people": people, "mask": mask, "masked": mask > LARGE}
    means = {name: float(v.mean()) if len(rows) else float("nan") for name, v in shares.items()}
    return {"pictures without anybody": {"pictures": float(len(rows)), **means}}


def load_predictions(path: Path, data: EmptyPictures) -> list[Row]:
    """Reads predictions for every picture of `data`: {name of the picture: {"scores": [..], "mask": share}}."""
    expected = 'expected {picture: {"scores": [numbers], "mask": share}}'
    try:
        table = json.loads(path.read_bytes())
        rows = [table[name] for name, _ in data.images()]
        return [{"scores": [float(s) for s in row["scores"]], "mask": float(row["mask"])} for row in rows]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}: check --predictions") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: {expected}, found another: {type(error).__name__}: {error}") from None
