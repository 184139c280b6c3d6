"""Everyone over time: exact answers have all figures, and wrong ones lose what they should."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.evaluate.crowd import CrowdProtocol, _score_frame, average_precision, crowd_config, evaluate, summarise
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.stream.people import Person

SIZE = (240, 144)
JOINTS = JOINT_SETS["thfm32"]


def clip(frames: int = 12) -> SimpleNamespace:
    """Two people who walk towards one another; the second is hardly visible in the last third."""
    people, ids = [], np.zeros((frames, SIZE[1], SIZE[0]), np.uint8)
    rng = np.random.default_rng(0)
    for n, (start, pace) in enumerate(((40, 3), (180, -3))):
        left = start + pace * np.arange(frames)
        box = np.stack([left, np.full(frames, 30), left + 30, np.full(frames, 120)], 1).astype(float)
        seen = box.copy()
        if n:
            seen[2 * frames // 3 :, 3] = 40
        for t in range(frames):
            x0, y0, x1, y1 = seen[t].astype(int)
            ids[t, y0:y1, x0:x1] = n + 1
        points = box[:, None, :2] + rng.random((32, 2)) * (30, 90)
        people.append(SimpleNamespace(keypoints_2d=points, visibility=np.ones((frames, 32)), box=box, visible_box=seen))
    return SimpleNamespace(
        people=people, instances=ids, fps=12.0, rgb=np.zeros((frames, SIZE[1], SIZE[0], 3), np.uint8)
    )


def answer(made: SimpleNamespace, index: int, who: dict[str, int], off: float = 0.0) -> SimpleNamespace:
    """Exactly what is there, under these ids; joints are off by so many pixels."""
    people = []
    for identity, n in who.items():
        person = made.people[n]
        xy = person.keypoints_2d[index] + (off, 0)
        nowhere = np.full((32, 3), np.nan)
        bounds = tuple(person.visible_box[index])
        people.append(Person(identity, JOINTS, xy, nowhere, nowhere, np.ones(32), SIZE, bounds=bounds, label=n + 1))
    return SimpleNamespace(people=people, instances=made.instances[index].astype(np.uint16))


def figures(made: SimpleNamespace, answers: list[SimpleNamespace]) -> dict[str, dict[str, float]]:
    numbers: dict[str, int] = {}
    rows = [_score_frame(made, i, found, numbers, CrowdProtocol()) for i, found in enumerate(answers)]
    row = json.loads(json.dumps({"frames": rows, "fps": 12.0, "seconds": 1.2}, default=lambda a: a.tolist()))
    return summarise([row])


def test_exact_answers_have_everything() -> None:
    made = clip()
    found = figures(made, [answer(made, i, {"a_1": 0, "a_2": 1}) for i in range(12)])
    assert found["ids"]["mota"] == found["ids"]["idf1"] == 1.0
    assert found["ids"]["hota"] == pytest.approx(1.0)
    assert found["ids"]["switches_minute"] == 0.0
    # The second person counts in eight of the twelve frames; reporting them in the others is no mistake.
    assert found["people"] == {"people": 20.0, "missed": 0.0, "false_frame": 0.0, "pck_0.05": 1.0, "pck_found": 1.0}
    assert found["masks"] == {"ap_0.5": 1.0, "ap_0.75": 1.0}
    assert found["speed"]["ms_frame"] == pytest.approx(100.0)


def test_ids_that_swap_cost_ids_alone() -> None:
    made = clip()
    found = figures(made, [answer(made, i, {"a_1": i // 4 % 2, "a_2": 1 - i // 4 % 2}) for i in range(8)])
    assert found["ids"]["switches"] == 2.0
    assert found["ids"]["idf1"] == 0.5
    assert found["people"]["pck_0.05"] == 1.0


def test_who_is_missed_costs_joints_and_masks_and_a_ghost_is_false() -> None:
    made = clip()
    found = figures(made, [answer(made, i, {"a_1": 0}) for i in range(8)])
    assert found["people"]["missed"] == 0.5
    assert found["people"]["pck_0.05"] == 0.5
    assert found["people"]["pck_found"] == 1.0
    assert found["masks"]["ap_0.5"] == pytest.approx(0.5, abs=0.01)
    made.people[1].visible_box[:] = np.nan
    ghosts = [answer(clip(), i, {"a_1": 0, "a_2": 1}) for i in range(8)]
    assert figures(made, ghosts)["people"]["false_frame"] == 1.0


def test_joints_that_are_off_are_not_found() -> None:
    made = clip()
    assert figures(made, [answer(made, i, {"a_1": 0}, off=5.0) for i in range(8)])["people"]["pck_found"] == 0.0
    assert figures(made, [answer(made, i, {"a_1": 0}, off=4.0) for i in range(8)])["people"]["pck_found"] == 1.0


def test_average_precision_ranks_by_score() -> None:
    frame = {"truth": [0, 1], "masks": [(0.9, 0.8, 0), (0.8, 0.8, 0), (0.7, 0.8, 1)]}
    # Right, found twice, right: precision 1 up to a recall of a half, then 2/3.
    assert average_precision([frame], 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert np.isnan(average_precision([{"truth": [], "masks": []}], 0.5))


def test_crowds_are_held_out_and_nobody_is_missing() -> None:
    from thfm_ros.synth.config import SynthConfig

    config = crowd_config(SynthConfig(height=64, width=96), 5)
    assert (config.split, config.people, config.crowd, config.empty, config.frames) == ("test", 6, 1.0, 0.0, 5)


def test_with_people_s_true_pixels_the_tracker_alone_is_scored(tmp_path) -> None:
    """Two who walk towards one another, past a third of a clip in which the second is cut off at the knees."""
    made = clip(24)
    for n, person in enumerate(made.people):
        person.box[:, 0::2] = person.visible_box[:, 0::2] = person.box[:, 0::2].clip(0, SIZE[0])
        made.rgb[made.instances == n + 1] = (200, 40, 40) if n else (40, 40, 200)
    source = SimpleNamespace(settings={"split": "test"}, clip=lambda index: made)
    report = evaluate(None, {}, source, 1, tmp_path, name="tracker")
    found = report.figures["tracker"]
    assert set(found) == {"ids", "people"}
    assert found["ids"]["idf1"] == found["ids"]["mota"] == 1.0
    assert found["ids"]["switches"] == found["people"]["missed"] == 0.0
    assert "pck_0.05" not in found["people"]


@pytest.mark.parametrize(("boxes", "checkpoint"), [("given", True), ("own", False), ("mine", True)])
def test_boxes_are_given_or_a_network_s_own(boxes: str, checkpoint: bool, tmp_path) -> None:
    from thfm_ros.evaluate.commands import crowd

    with pytest.raises(UserError, match="expected --boxes own with a --checkpoint, or --boxes given without"):
        crowd(checkpoint=tmp_path if checkpoint else None, boxes=boxes, backend="auto", json_file=None)
