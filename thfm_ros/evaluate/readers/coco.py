"""COCO's person keypoints: an annotation file and a folder of pictures, as val2017 and subsets of it come.

Found below the root: `annotations.json`, `annotations/person_keypoints_*.json` or the only JSON file; the pictures in
`images/`, `val2017/`, `train2017/` or the root. Or both are given. Of several splits the one whose pictures are there
counts, or val2017. Annotations are checked before any work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import load_json, load_rgb, numbers
from thfm_ros.skeleton import get_joint_set

SOURCE = "expected COCO's person-keypoints layout (cocodataset.org, person_keypoints_val2017.json)"
IMAGE_FOLDERS = ("images", "val2017", "train2017", "images/val2017", "images/train2017", ".")
JOINTS = len(get_joint_set("coco17"))


@dataclass(frozen=True)
class Person:
    """box: (4,) left, top, width, height in pixels. keypoints: (17, 3) x, y, flag; flag 0 is not labelled.

    area: of the mask, in pixels. segmentation: polygons or run lengths as the file has them; None where there is none.
    """

    id: int
    box: np.ndarray
    keypoints: np.ndarray
    area: float
    crowd: bool
    segmentation: Any = None

    @property
    def labelled(self) -> np.ndarray:
        """(17,) bool."""
        return self.keypoints[:, 2] > 0


@dataclass(frozen=True)
class Picture:
    """One picture and everybody annotated in it. with_keypoints, with_masks: whether that was annotated at all."""

    id: int
    file: Path
    width: int
    height: int
    people: tuple[Person, ...]
    with_keypoints: bool = True
    with_masks: bool = True

    def load(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the size that the annotations are for."""
        image = load_rgb(self.file)
        if image.shape[:2] != (self.height, self.width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise UserError(f"{self.file}: expected {self.width}x{self.height} as its annotations say, found {found}")
        return image

    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) bool each: the people, and the crowds, which count neither way."""
        people, crowds = (np.zeros((self.height, self.width), bool) for _ in range(2))
        for person in self.people:
            if person.segmentation is not None:
                mask = decode_mask(person.segmentation, self.height, self.width)
                np.logical_or(crowds if person.crowd else people, mask, out=crowds if person.crowd else people)
        return people, crowds


@dataclass(frozen=True)
class CocoPeople:
    """pictures: in the file's order. annotations: the file."""

    annotations: Path
    pictures: tuple[Picture, ...]
    category: int = 1
    by_id: Mapping[int, Picture] = field(default_factory=dict)


def read(
    root: str | Path, annotations: str | Path | None = None, images: str | Path | None = None, limit: int | None = None
) -> CocoPeople:
    """Everything but the pixels, checked; UserError that names what is missing or damaged.

    limit: only the first pictures.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"the data set's folder does not exist: {root}: give it with --root")
    file = Path(annotations) if annotations else _find_annotations(root)
    table = load_json(file, SOURCE)
    category = _person_category(table, file)
    people = _people_by_image(table, file, category)
    folder = Path(images) if images else _find_images(root, _rows(table, "images", file))
    pictures = [_picture(info, folder, people, file) for info in _rows(table, "images", file)]
    if not any(picture.people for picture in pictures):
        raise UserError(f"{file}: expected pictures with annotated people, found {len(pictures)} without; {SOURCE}")
    pictures = pictures[:limit]
    missing = [p.file for p in pictures if not p.file.is_file()]
    if missing:
        found = f"{len(missing)} of {len(pictures)} missing, the first {missing[0]}"
        raise UserError(
            f"expected the pictures of {file.name} in {folder}, found {found}: give their folder (--images)"
        )
    return CocoPeople(file, tuple(pictures), category, {p.id: p for p in pictures})


def decode_mask(segmentation: Any, height: int, width: int, where: str = "") -> np.ndarray:
    """(H, W) bool from polygons, run lengths, or COCO's compressed run lengths. where: begins the error's line."""
    codec = mask_codec()
    try:
        if isinstance(segmentation, list):
            rle = codec.merge(codec.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            rle = codec.frPyObjects(segmentation, height, width)
        else:
            rle = segmentation
        return codec.decode(rle).astype(bool)
    except (ValueError, TypeError, MemoryError) as error:
        raise UserError(f"{where}cannot decode a mask of {width}x{height}: {error}; {SOURCE}") from None


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool as COCO's compressed run lengths, JSON values."""
    rle = mask_codec().encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode()}


def mask_codec() -> Any:
    """pycocotools.mask; UserError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError("COCO's masks and precision need pycocotools: pip install pycocotools") from None
    return mask


def _find_annotations(root: Path) -> Path:
    if (root / "annotations.json").is_file():
        return root / "annotations.json"
    for pattern in ("person_keypoints_*.json", "*.json"):
        found = sorted({*root.glob(pattern), *root.glob(f"annotations/{pattern}")})
        if len(found) == 1:
            return found[0]
        if found:
            there = [file for file in found if _split_folder(root, file)]
            chosen = there if len(there) == 1 else [file for file in found if file.stem.endswith("_val2017")]
            if len(chosen) == 1:
                return chosen[0]
            break
    what = ", ".join(p.name for p in found[:5]) if found else "none"
    expected = "annotations.json or one annotations/person_keypoints_*.json"
    raise UserError(f"expected {expected} in {root}, found {what}: name the file (--annotations)")


def _split_folder(root: Path, annotations: Path) -> bool:
    """Whether the pictures' folder is there that an annotation file's last word names, as val2017."""
    split = annotations.stem.rpartition("_")[2]
    return any((root / folder / split).is_dir() for folder in (".", "images"))


def _find_images(root: Path, images: list[dict[str, Any]]) -> Path:
    """The folder that holds most of the first pictures."""
    names = [str(info.get("file_name", "")) for info in images[:20]]
    folders = [root / name for name in IMAGE_FOLDERS if (root / name).is_dir()]
    return max(folders, key=lambda folder: sum((folder / name).is_file() for name in names))


def _rows(table: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    rows = table.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: expected a list of objects '{name}', found {type(rows).__name__}; {SOURCE}")
    return rows


def _person_category(table: dict[str, Any], file: Path) -> int:
    """The id of the category `person`, whose joints are COCO's in COCO's order."""
    rows = _rows(table, "categories", file)
    person = next((row for row in rows if row.get("name") == "person"), None)
    if person is None:
        raise UserError(f"{file}: expected the category 'person', found {[r.get('name') for r in rows][:5]}; {SOURCE}")
    names, expected = person.get("keypoints"), list(get_joint_set("coco17").joints)
    if names != expected:
        raise UserError(f"{file}: expected COCO's {JOINTS} keypoints of 'person', found {names}; {SOURCE}")
    return _integer(person.get("id"), file, "the id of the category 'person'")


def _people_by_image(table: dict[str, Any], file: Path, category: int) -> dict[int, list[dict[str, Any]]]:
    _unique(_rows(table, "images", file), file, "images")
    sizes = {_integer(i.get("id"), file, "an image's id") for i in _rows(table, "images", file)}
    _unique(_rows(table, "annotations", file), file, "annotations")
    people: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(table, "annotations", file):
        if row.get("category_id") != category:
            continue
        image = row.get("image_id")
        if image not in sizes:
            raise UserError(
                f"{file}: annotation {row.get('id')} belongs to image {image}, which the file does not list"
            )
        people.setdefault(image, []).append(row)
    return people


def _unique(rows: list[dict[str, Any]], file: Path, name: str) -> None:
    seen: set[Any] = set()
    for row in rows:
        if str(row.get("id")) in seen:
            raise UserError(f"{file}: expected {name} of different ids, found {row.get('id')} twice: damaged?")
        seen.add(str(row.get("id")))


def _picture(info: dict[str, Any], folder: Path, people: Mapping[int, list[dict[str, Any]]], file: Path) -> Picture:
    number = _integer(info.get("id"), file, "an image's id")
    name = info.get("file_name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{file}: expected 'file_name' of image {number}, found {name!r}; {SOURCE}")
    width, height = (_integer(info.get(key), file, f"'{key}' of image {number}") for key in ("width", "height"))
    found = tuple(_person(row, width, height, file) for row in people.get(number, ()))
    flags = [bool(info.get(key, True)) for key in ("has_keypoints", "has_masks")]
    return Picture(number, folder / name, width, height, found, *flags)


def _person(row: dict[str, Any], width: int, height: int, file: Path) -> Person:
    name = f"annotation {row.get('id')}"
    number = _integer(row.get("id"), file, "an annotation's id")
    box = numbers(row.get("bbox"), (4,), file, f"'bbox' of {name}")
    flat = row.get("keypoints") or [0] * (3 * JOINTS)
    keypoints = numbers(flat, (3 * JOINTS,), file, f"'keypoints' of {name}").reshape(JOINTS, 3)
    segmentation = row.get("segmentation") or None
    if segmentation is not None:
        _check_mask(segmentation, width, height, f"{file}: {name}")
    area = row.get("area")
    area = float(area) if isinstance(area, int | float) else float(box[2] * box[3])
    if not (np.isfinite(box).all() and np.isfinite(keypoints).all() and (box[2:] >= 0).all()):
        raise UserError(f"{file}: expected finite numbers as box and keypoints of {name}, found others; {SOURCE}")
    return Person(number, box, keypoints, area, bool(row.get("iscrowd", 0)), segmentation)


def _check_mask(segmentation: Any, width: int, height: int, where: str) -> None:
    """Polygons of three points or more, or run lengths of the picture's own size."""
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != [height, width]:
            raise UserError(f"{where}: expected a mask of {width}x{height} (size [{height}, {width}]), found {size}")
        if isinstance(counts, list):
            whole = all(isinstance(n, int) and n >= 0 for n in counts) and sum(counts) == width * height
            if not whole:
                raise UserError(f"{where}: expected run lengths that sum to {width * height}, found others")
        elif not isinstance(counts, str):
            raise UserError(f"{where}: expected 'counts' of its mask, found {type(counts).__name__}; {SOURCE}")
        else:
            decode_mask(segmentation, height, width, f"{where}: ")
    elif not (isinstance(segmentation, list) and segmentation and all(_is_polygon(p) for p in segmentation)):
        raise UserError(f"{where}: expected polygons or run lengths as 'segmentation', found neither; {SOURCE}")


def _is_polygon(points: Any) -> bool:
    even = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return even and all(isinstance(v, int | float) and np.isfinite(v) for v in points)


def _integer(value: Any, file: Path, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{file}: expected a whole number as {name}, found {value!r}; {SOURCE}")
    return value


def whole(person: Person, picture: Picture) -> bool:
    """Whether somebody stands alone in the picture, with twelve joints or more labelled."""
    others: Sequence[Person] = [p for p in picture.people if not p.crowd]
    return len(others) == 1 and int(person.labelled.sum()) >= 12
