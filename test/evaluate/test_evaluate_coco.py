"""Keypoints and masks of people in COCO's layout: the truth scores perfectly, errors as the formulas say."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_layouts as layouts
import typer
from typer.testing import CliRunner

from thfm_ros.errors import UserError
from thfm_ros.evaluate import coco, commands
from thfm_ros.evaluate.coco_results import load_results
from thfm_ros.evaluate.crops import crop_person
from thfm_ros.evaluate.picture_models import FunctionModel
from thfm_ros.evaluate.readers.coco import CocoPeople, encode_mask, read

Results = list[dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> CocoPeople:
    return read(layouts.coco(tmp_path / "coco"))


def truth(data: CocoPeople, shift: float = 0.0, ids: bool = False) -> Results:
    """Everybody but crowds as annotated; shift: of all joints, in longer sides of the box."""
    results = []
    for picture in data.pictures:
        for person in (p for p in picture.people if not p.crowd):
            points = person.keypoints + np.array([shift * person.box[2:].max(), 0, 0])
            mask = layouts.box_mask(tuple(int(v) for v in person.box))
            row = {"image_id": picture.id, "category_id": 1, "keypoints": points.ravel().tolist(), "score": 0.9}
            results.append({**row, "segmentation": encode_mask(mask)} | ({"annotation_id": person.id} if ids else {}))
    return results


def test_the_truth_is_perfect(data: CocoPeople) -> None:
    figures = coco.score(data, truth(data), "own")
    assert figures["people"]["people"] == 3
    assert figures["people alone and whole"]["people"] == 1
    assert figures["best person a picture"]["people"] == 2
    for group in ("people", "people alone and whole", "best person a picture"):
        assert [figures[group][m] for m in ("pck_0.05", "pck_0.1", "oks", "oks_0.5", "missed")] == [1, 1, 1, 1, 0]
    assert figures["COCO keypoints"]["ap"] == pytest.approx(1)
    assert figures["COCO person masks"]["ap"] == pytest.approx(1)
    assert figures["masks"] == {"pictures": 2, "iou": 1}


@pytest.mark.parametrize(("shift", "shares"), [(0.04, (1, 1)), (0.07, (0, 1)), (0.2, (0, 0))])
def test_pck_counts_joints_by_the_longer_side_of_the_box(
    data: CocoPeople, shift: float, shares: tuple[int, int]
) -> None:
    figures = coco.score(data, truth(data, shift, ids=True), "given")["people"]
    assert (figures["pck_0.05"], figures["pck_0.1"]) == shares
    assert figures["oks"] < 1


def test_people_who_were_missed_count(data: CocoPeople) -> None:
    for ids in (False, True):
        figures = coco.score(data, truth(data, ids=ids)[:-1], "own")["people"]
        assert figures["pck_0.05"] == pytest.approx(2 / 3)
        assert figures["missed"] == pytest.approx(1 / 3)
    nothing = coco.score(data, [], "own")
    assert nothing["people"]["pck_0.1"] == nothing["best person a picture"]["pck_0.1"] == 0
    assert nothing["COCO keypoints"]["ar"] == 0


def test_predictions_of_a_given_box_are_not_matched_to_other_people(data: CocoPeople) -> None:
    results = truth(data, ids=True)
    results[1]["annotation_id"], results[2]["annotation_id"] = results[2]["annotation_id"], results[1]["annotation_id"]
    assert coco.score(data, results, "given")["people"]["pck_0.05"] == pytest.approx(1 / 3)
    for result in results:
        del result["annotation_id"]
    assert coco.score(data, results, "own")["people"]["pck_0.05"] == 1


def test_one_skeleton_a_picture_is_the_best_persons(data: CocoPeople) -> None:
    figures = coco.score(data, [truth(data)[0], truth(data)[2]], "own")
    assert figures["best person a picture"]["pck_0.05"] == 1
    assert figures["people"]["missed"] == pytest.approx(1 / 3)


def test_people_with_few_labelled_joints_do_not_count(tmp_path: Path) -> None:
    table = layouts.coco_table()
    points = np.array(table["annotations"][0]["keypoints"]).reshape(17, 3)
    points[7:, 2] = 0
    table["annotations"][0] |= {"keypoints": points.ravel().tolist(), "num_keypoints": 7}
    data = read(layouts.coco(tmp_path, table))
    assert coco.score(data, truth(data), "own")["people"]["people"] == 2


def test_crowds_count_neither_way_and_the_mask_of_everybody_comes_first(data: CocoPeople) -> None:
    results = truth(data)
    both = layouts.box_mask(layouts.PEOPLE[7][0]) | layouts.box_mask(layouts.PEOPLE[7][1])
    crowd = layouts.box_mask(layouts.PEOPLE[7][2])
    wide = {"image_id": 7, "category_id": 1, "score": 1.0, "everybody": True}
    assert coco.score(data, [*results, {**wide, "segmentation": encode_mask(both | crowd)}], "own")["masks"]["iou"] == 1
    everything = {**wide, "segmentation": encode_mask(np.ones_like(both))}
    iou = coco.score(data, [*results, everything], "own")["masks"]["iou"]
    assert iou == pytest.approx((1 + both.sum() / (~crowd | both).sum()) / 2)


def test_masks_of_given_boxes_are_everybodys_cut_to_the_box(data: CocoPeople) -> None:
    results = [{**r, "everybody": True} for r in truth(data)]
    assert coco.score(data, results, "given")["COCO person masks"]["ap"] == pytest.approx(1)


def test_masks_are_grouped_by_the_share_that_people_fill(data: CocoPeople) -> None:
    figures = coco.score(data, truth(data), "own")
    assert figures["masks, over 0.1"]["pictures"] == 2
    assert figures["masks, over 0.3"]["pictures"] == 1
    assert figures["masks, below 0.02"]["pictures"] == 0
    assert np.isnan(figures["masks, below 0.02"]["iou"])


@pytest.mark.parametrize("window", [(112, 144), (48, 64), (96, 96)])
@pytest.mark.parametrize("box", [(10, 5, 30, 50), (50, 20, 40, 10), (-5, -5, 20, 30)])
def test_a_crop_leads_back_to_the_picture(window: tuple[int, int], box: tuple[int, ...]) -> None:
    import cv2

    image = np.zeros((64, 96, 3), np.uint8)
    x, y = max(4, box[0] + box[2] // 2), max(4, box[1] + box[3] // 2)
    cv2.circle(image, (x, y), 3, (255, 255, 255), -1)
    crop = crop_person(image, box, window)
    assert crop.pixels.shape == (window[1], window[0], 3)
    xy, _ = layouts.brightest(crop.pixels[None].transpose(0, 3, 1, 2) / 255.0)
    assert crop.to_picture(xy[0, 0]) == pytest.approx((x, y), abs=0.3)
    corners = crop.to_picture(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert np.ptp(corners, 0).max() >= 1.24 * max(box[2:])


def test_a_network_of_plain_functions_is_measured(tmp_path: Path) -> None:
    """Everybody's joints are in the middle of their box, where the pictures have a bright dot."""
    table = layouts.coco_table()
    for row in table["annotations"]:
        left, top, width, height = row["bbox"]
        row["keypoints"] = [left + width / 2, top + height / 2, 0 if row["iscrowd"] else 2] * 17
    root = layouts.coco(tmp_path, table)
    for window in ((112, 144), (144, 192)):
        model = FunctionModel(layouts.brightest, window=window)
        figures = coco.measure(model, root)
        assert figures["people"]["pck_0.1"] == 1
        assert figures["people"]["people"] == 3
        assert "masks" not in figures  # it gives none
    off = FunctionModel(lambda images: layouts.brightest(images, 0.4))
    assert coco.measure(off, root)["people"]["pck_0.1"] == 0
    masks = FunctionModel(masks=lambda images: np.ones((len(images), 8, 12)), picture=(48, 32))  # of any size
    people, crowds = read(root).pictures[1].masks()
    shares = (layouts.box_mask(layouts.PEOPLE[3][0]).mean(), people.sum() / (people | ~crowds).sum())
    figures = coco.measure(masks, root)
    assert figures["masks"]["iou"] == pytest.approx(np.mean(shares))
    assert "people" not in figures


def test_an_interrupted_run_goes_on(data: CocoPeople, tmp_path: Path) -> None:
    calls = []

    def keypoints(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(len(images))
        if calls == [1, 2]:
            raise KeyboardInterrupt
        return layouts.brightest(images)

    model = FunctionModel(keypoints, masks=lambda images: images.mean(1))
    with pytest.raises(KeyboardInterrupt):
        coco.predict(model, data, "given", tmp_path / "out")
    first = coco.predict(model, data, "given", tmp_path / "out")
    assert calls == [1, 2, 2]
    assert coco.predict(model, data, "given", tmp_path / "out") == first
    assert calls == [1, 2, 2]
    coco.predict(model, data, "own", tmp_path / "out")  # other boxes are other predictions
    assert len(calls) == 5


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command("other")(lambda: None)
    commands.register(app)
    return CliRunner().invoke(app, ["evaluate", "coco", *arguments])


def test_the_command_scores_a_network_and_files_side_by_side(tmp_path: Path) -> None:
    root = layouts.coco(tmp_path / "coco")
    (tmp_path / "peer.json").write_text(json.dumps(truth(read(root), ids=True)))
    masks = [{k: v for k, v in r.items() if k != "keypoints"} for r in truth(read(root))]
    (tmp_path / "matting.json").write_text(json.dumps(masks))
    arguments = ["--root", str(root), "--checkpoint", "constant", "--predictions", str(tmp_path / "peer.json")]
    arguments += ["--predictions", str(tmp_path / "matting.json")]
    places = {name: tmp_path / name for name in ("figures.json", "saved.json", "sheet.png")}
    arguments += ["--json", str(places["figures.json"]), "--save", str(places["saved.json"])]
    result = run(*arguments, "--sheet", str(places["sheet.png"]), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    stored = json.loads(places["figures.json"].read_text())
    assert stored["figures"]["peer"]["people"]["pck_0.05"] == 1
    assert stored["figures"]["constant"]["people"]["pck_0.05"] < 1
    assert "| people | peer | 3 | 1 |" in result.output
    assert "| masks | matting | 2 | 1 |" in result.output
    assert "| people | matting" not in result.output  # it has no keypoints
    assert all(place.stat().st_size for place in places.values())
    # What it saved scores as it did.
    again = run("--root", str(root), "--predictions", str(places["saved.json"]), "--out", str(tmp_path / "again"))
    assert again.exit_code == 0, again.output
    report = json.loads((tmp_path / "again/report.json").read_text())
    assert report["figures"]["saved"] == stored["figures"]["constant"]


def test_pictures_without_people_cost_nothing_with_boxes_given(tmp_path: Path) -> None:
    """As most of val2017 are; whoever is found there counts where the network looks for people by itself."""
    table = layouts.coco_table()
    del table["annotations"][0]
    data = read(layouts.coco(tmp_path, table))
    seen: list[int] = []

    def masks(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return np.ones((len(images), 8, 8))

    model = FunctionModel(layouts.brightest, masks=masks)
    given = coco.predict(model, data, "given", tmp_path / "out")
    assert {r["image_id"] for r in given} == {7}
    assert len(seen) == 1
    assert {r["image_id"] for r in coco.predict(model, data, "own", tmp_path / "out")} == {3, 7}


def test_a_missing_package_is_named(data: CocoPeople, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UserError, match="pip install pycocotools"):
        data.pictures[0].masks()


def test_limit_takes_the_first_pictures(tmp_path: Path) -> None:
    root = layouts.coco(tmp_path / "coco")
    result = run("--root", str(root), "--checkpoint", "constant", "--limit", "1", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "| people | 1 |" in result.output


Change = Callable[[dict[str, Any]], Any]
DAMAGE: dict[str, tuple[Change, str]] = {
    "no categories": (lambda t: t.pop("categories"), "expected a list of objects 'categories'"),
    "other categories": (lambda t: t["categories"][0].update(name="dog"), "expected the category 'person'"),
    "other joints": (lambda t: t["categories"][0].update(keypoints=["nose"]), "COCO's 17 keypoints"),
    "no images": (lambda t: t.pop("images"), "expected a list of objects 'images'"),
    "mask of another size": (
        lambda t: t["annotations"][0]["segmentation"].update(size=[10, 10]),
        "expected a mask of 96x64 (size [64, 96]), found [10, 10]",
    ),
    "no run lengths": (
        lambda t: t["annotations"][0]["segmentation"].update(counts="no run lengths ~~~"),
        "annotation 300: cannot decode a mask of 96x64",
    ),
    "short run lengths": (lambda t: t["annotations"][0]["segmentation"]["counts"].pop(), "that sum to 6144"),
    "a polygon of two points": (lambda t: t["annotations"][1].update(segmentation=[[1, 2, 3, 4]]), "expected polygons"),
    "no box": (lambda t: t["annotations"][0].pop("bbox"), "expected 'bbox' of annotation 300 of shape 4"),
    "a box of words": (lambda t: t["annotations"][0].update(bbox=["a"] * 4), "as 'bbox' of annotation 300"),
    "few keypoints": (lambda t: t["annotations"][0].update(keypoints=[1, 2, 2]), "of shape 51, found (3,)"),
    "an unknown image": (lambda t: t["annotations"][0].update(image_id=5), "image 5, which the file does not list"),
    "nobody": (lambda t: t["annotations"].clear(), "expected pictures with annotated people"),
    "no size": (lambda t: t["images"][0].pop("width"), "as 'width' of image 3"),
    "an id twice": (lambda t: t["annotations"][1].update(id=300), "annotations of different ids, found 300 twice"),
    "an image twice": (lambda t: t["images"].append(dict(t["images"][0])), "images of different ids, found 3 twice"),
    "a polygon that is nowhere": (
        lambda t: t["annotations"][1].update(segmentation=[[1, 2, 3, float("nan"), 5, 6]]),
        "expected polygons",
    ),
    "a picture that is not there": (lambda t: t["images"][0].update(file_name="x.jpg"), "1 of 2 missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_annotations_are_one_line_before_any_work(tmp_path: Path, kind: str) -> None:
    change, message = DAMAGE[kind]
    table = layouts.coco_table()
    change(table)
    result = run("--root", str(layouts.coco(tmp_path / "coco", table)), "--checkpoint", "constant")
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("place", ["annotations.json", "annotations/labels.json", "_annotations.coco.json"])
@pytest.mark.parametrize("folder", ["images", "val2017", "images/train2017", "."])
def test_usual_places_are_found(tmp_path: Path, place: str, folder: str) -> None:
    root = layouts.coco(tmp_path / "coco")
    (root / "elsewhere").mkdir()
    (root / folder).mkdir(parents=True, exist_ok=True)
    for file in list((root / "val2017").iterdir()):
        file.rename(root / folder / file.name)
    (root / "annotations/person_keypoints_val2017.json").rename(root / place)
    data = read(root)
    assert [picture.file.parent.resolve() for picture in data.pictures] == [(root / folder).resolve()] * 2


def test_of_two_splits_the_one_whose_pictures_are_there_counts(tmp_path: Path) -> None:
    """COCO's own archive has both files of annotations."""
    root = layouts.coco(tmp_path)
    first = root / "annotations/person_keypoints_val2017.json"
    other = root / "annotations/person_keypoints_train2017.json"
    other.write_bytes(first.read_bytes())
    assert read(root).annotations == first
    (root / "val2017").rename(root / "train2017")
    assert read(root).annotations == other
    (root / "images").mkdir()
    shutil.copytree(root / "train2017", root / "images/val2017")
    data = read(root)
    assert data.annotations == first


def test_two_annotation_files_have_to_be_named(tmp_path: Path) -> None:
    root = layouts.coco(tmp_path)
    first = root / "annotations/person_keypoints_a.json"
    (root / "annotations/person_keypoints_val2017.json").rename(first)
    (root / "annotations/person_keypoints_b.json").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=r"found person_keypoints_a.json, person_keypoints_b.json: name"):
        read(root)
    assert read(root, first).annotations == first


def test_the_first_annotation_counts_whatever_its_number(tmp_path: Path) -> None:
    table = layouts.coco_table()
    table["annotations"][0]["id"] = 0
    table["annotations"][1].pop("segmentation")
    table["annotations"][2]["segmentation"] = []  # not annotated either
    data = read(layouts.coco(tmp_path, table))
    figures = coco.score(data, truth(data), "own")
    assert figures["COCO keypoints"]["ar"] == pytest.approx(1)
    assert figures["masks"] == {"pictures": 1, "iou": 1}


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    import cv2

    root = layouts.coco(tmp_path)
    cv2.imwrite(str(root / "val2017/000000000007.jpg"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(UserError, match=r"000000000007.jpg: expected 96x64 as its annotations say, found 20x20"):
        coco.measure(FunctionModel(layouts.brightest), root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --checkpoint or --predictions"),
        (["--checkpoint", "constant", "--boxes", "mine"], "--boxes is given or own, found 'mine'"),
        (["--checkpoint", "/nowhere"], "no checkpoint or bundle at /nowhere"),
        (["--checkpoint", "constant", "--sheet", "/tmp/sheet.txt"], "expected a picture (.jpg, .jpeg, .png)"),
        (["--checkpoint", "constant", "--images", "/nowhere"], "2 of 2 missing"),
        (["--checkpoint", "constant", "--annotations", "/nowhere.json"], "expected /nowhere.json"),
        (["--predictions", "/nowhere.json"], "cannot read /nowhere.json"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("--root", str(layouts.coco(tmp_path / "coco")), *arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_what_is_null_in_predictions_is_not_there(data: CocoPeople, tmp_path: Path) -> None:
    results = truth(data)
    empty = {"image_id": 3, "category_id": 1, "score": 0.1, "keypoints": None, "segmentation": None}
    (tmp_path / "peer.json").write_text(json.dumps([{**result, "annotation_id": None} for result in results] + [empty]))
    figures = coco.score(data, load_results(tmp_path / "peer.json", data), "own")
    for group, expected in coco.score(data, results, "own").items():
        assert figures[group] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected a list of results, found dict"),
        ("[1", "as JSON"),
        ("[3]", "result 0: expected an object"),
        ('[{"image_id": 3, "category_id": 1}]', "expected a number as 'score'"),
        ('[{"image_id": 3, "category_id": 1, "score": 1, "keypoints": [1, 2]}]', "expected 51 finite numbers"),
        (
            '[{"image_id": 3, "category_id": 1, "score": 1, "segmentation": {"size": [1, 1], "counts": "a"}}]',
            "expected a mask of size [64, 96]",
        ),
        (
            '[{"image_id": 3, "category_id": 1, "score": 1, "segmentation": {"size": [64, 96], "counts": "none ~~~"}}]',
            "expected run lengths as 'segmentation', found others",
        ),
        (
            '[{"image_id": 3, "category_id": 1, "score": 1, "segmentation": {"size": [64, 96]}}]',
            "expected run lengths as 'segmentation', found others",
        ),
        ('[{"image_id": 9, "category_id": 1, "score": 1}]', "found none of them"),
    ],
)
def test_damaged_predictions_are_one_line(data: CocoPeople, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "peer.json").write_text(content)
    with pytest.raises(UserError) as error:
        load_results(tmp_path / "peer.json", data)
    assert message in str(error.value)
