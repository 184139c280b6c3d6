"""Everyone in view, over time: held-out synthetic crowds through the very estimator that a robot runs.

Of each clip: who is there (visible pixels of them), who is reported, under which id, with which joints and pixels.
Boxes of people are matched by IoU; ids are scored by `tracking`, joints by PCK of those who were matched and of all,
masks by average precision over all frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.real_report import Figures, RealReport
from thfm_ros.evaluate.report import plain
from thfm_ros.evaluate.runner import RowStore, key_of
from thfm_ros.evaluate.synthetic import ClipSource
from thfm_ros.evaluate.tracking import TrackedFrame, tracking_figures
from thfm_ros.geometry import Intrinsics
from thfm_ros.instances import instances_of
from thfm_ros.letterbox import Letterbox
from thfm_ros.skeleton import convert, get_joint_set
from thfm_ros.stream.assign import assign
from thfm_ros.stream.detect import LEAST_PIXELS, MOST, detected
from thfm_ros.stream.estimator import StreamConfig, StreamEstimator
from thfm_ros.stream.offline import run_stream
from thfm_ros.stream.people import Person
from thfm_ros.stream.tracker import Tracker

TASKS = ("foreground", "keypoints_2d", "keypoints_3d")
LEAST_PX = 12  # visible height, in pixels of the clip, of somebody who has to be found
LEAST_SEEN = 0.25  # and the share of their box's height that has to be visible
MATCH = 0.5  # IoU of boxes from which a report is of a person
PCK = 0.05  # of the longer side of the person's box


@dataclass(frozen=True)
class CrowdProtocol:
    """Whom and what counts: see the constants above. stride: new frames a pass."""

    stride: int = 4
    least_px: int = LEAST_PX
    least_seen: float = LEAST_SEEN
    match_iou: float = MATCH
    pck: float = PCK
    joint_set: str = "coco17"


def evaluate(
    estimator: StreamEstimator | None,
    identity: Mapping[str, Any],
    source: ClipSource,
    count: int,
    folder: Path,
    command: str = "",
    name: str = "network",
    resume: bool = True,
    protocol: CrowdProtocol = CrowdProtocol(),
    step: Callable[[int], None] = lambda index: None,
) -> RealReport:
    """The first `count` clips; rows are kept below `folder` and reused. UserError for clips of the training split.

    estimator: None: the tracker alone, by the pixels that each person truly has.
    """
    if source.settings["split"] != "test":
        raise UserError(
            f"expected held-out clips, found split '{source.settings['split']}': generate them with --split test"
        )
    stream = asdict(estimator.config if estimator else StreamConfig())
    settings = plain({"clips": source.settings, "protocol": asdict(protocol), "stream": stream})
    store = RowStore(folder / "rows" / key_of("crowd", settings, identity), key_of("crowd", settings, identity))
    rows = []
    for index in range(count):
        row = store.load(f"clip{index:06d}") if resume else None
        if row is None:
            store.save(f"clip{index:06d}", plain(score_clip(source.clip(index), estimator, protocol)))
            row = store.load(f"clip{index:06d}")
            assert row is not None
        rows.append(row)
        step(index)
    choices = {**settings["clips"], **settings["protocol"], "clips": count}
    report = RealReport("crowd", "Held-out synthetic crowds: everyone, over time", command, choices)
    figures = summarise(rows)
    if estimator is None:  # nobody has joints or a mask of their own
        kept = ("people", "missed", "false_frame")
        figures = {"ids": figures["ids"], "people": {k: figures["people"][k] for k in kept}}
    report.figures[name], report.identities[name] = figures, identity
    report.write(folder)
    return report


def score_clip(
    clip: Any, estimator: StreamEstimator | None, protocol: CrowdProtocol = CrowdProtocol()
) -> dict[str, Any]:
    """What `summarise` needs of one clip (`synth.sample.Clip`), JSON values."""
    begin = time.perf_counter()
    results = list(tracked(clip, protocol) if estimator is None else _estimated(clip, estimator, protocol))
    seconds = time.perf_counter() - begin
    numbers: dict[str, int] = {}
    rows = [_score_frame(clip, i, result, numbers, protocol) for i, result in enumerate(results)]
    return {"frames": rows, "fps": clip.fps, "seconds": seconds}


def tracked(clip: Any, protocol: CrowdProtocol = CrowdProtocol()) -> Iterator[Any]:
    """Everyone by their true pixels, as the tracker of a stream names them; without joints."""
    config, joint_set = StreamConfig(), get_joint_set("thfm32")
    tracker = Tracker(config.absence_s, config.confirm_s)
    height, width = clip.rgb.shape[1:3]
    nowhere = [np.full((len(joint_set.joints), n), np.nan) for n in (2, 3, 3)]
    sure = np.ones(len(joint_set.joints))
    seen = []
    for i, ids in enumerate(clip.instances):
        there = instances_of(ids, (ids > 0).astype(np.float32), LEAST_PIXELS, MOST)
        people = detected(there, clip.rgb[i], Letterbox.of((width, height), (width, height))).people
        seen.append([(people[n], who) for n, who in tracker.step(round(i / clip.fps * 1e9), people).items()])
        if (i + 1) % protocol.stride and i + 1 < len(clip.instances):
            continue
        for frame in seen[i - i % protocol.stride :]:  # as passes report them: who is known by now
            named = [(tracker.name(who), person) for person, who in frame if who.known]
            yield SimpleNamespace(
                people=[
                    Person(name, joint_set, *nowhere, sure, (width, height), bounds=tuple(map(float, person.box)))
                    for name, person in named
                ]
            )


def _estimated(clip: Any, estimator: StreamEstimator, protocol: CrowdProtocol) -> list[Any]:
    height, width = clip.rgb.shape[1:3]
    frames = (
        (round(i / clip.fps * 1e9), image, Intrinsics.from_matrix(clip.intrinsics[i], width, height))
        for i, image in enumerate(clip.rgb)
    )
    results = list(run_stream(estimator, frames, TASKS, protocol.stride))
    if len(results) != len(clip.rgb):
        raise UserError(f"expected clips at the network's {estimator.fps:g} frames a second, found {clip.fps:g}")
    return results


def _score_frame(
    clip: Any, index: int, result: Any, numbers: dict[str, int], protocol: CrowdProtocol
) -> dict[str, Any]:
    """truth, found: ids. likeness: IoU of boxes. joints: of each in truth the share that was found, and of how many.
    masks: (score, best IoU with a person, whom) of each reported mask."""
    wanted, ignored = [], []
    for n, person in enumerate(clip.people):
        seen, whole = person.visible_box[index], person.box[index]
        if np.isfinite(seen).all():
            tall = seen[3] - seen[1] >= max(protocol.least_px, protocol.least_seen * (whole[3] - whole[1]))
            (wanted if tall else ignored).append(n)
    boxes = np.array([p.box() for p in result.people], float).reshape(-1, 4)
    truth = np.array([clip.people[n].visible_box[index] for n in wanted], float).reshape(-1, 4)
    aside = np.array([clip.people[n].visible_box[index] for n in ignored], float).reshape(-1, 4)
    likeness = box_iou(truth, boxes)
    free = (likeness.max(0, initial=0.0) < protocol.match_iou) & (box_iou(aside, boxes).max(0, initial=0.0) > 0.1)
    kept = np.flatnonzero(~free)  # who is hardly visible counts neither way
    people, likeness = [result.people[i] for i in kept], likeness[:, kept]
    pairs = {i: j for i, j in assign(-likeness) if likeness[i, j] >= protocol.match_iou}
    joints = [
        _joints(clip.people[n], index, people[pairs[i]] if i in pairs else None, protocol) for i, n in enumerate(wanted)
    ]
    masks = [(person.score, *_mask(clip, index, result, person, wanted)) for person in people if person.label]
    return {
        "truth": wanted,
        "found": [numbers.setdefault(p.id, len(numbers)) for p in people],
        "likeness": likeness,
        "joints": joints,
        "masks": masks,
    }


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) of boxes (N, 4) and (M, 4)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = sides.clip(0).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b))
    return common / np.maximum(area_a[:, None] + area_b - common, 1e-9)


def _joints(person: Any, index: int, found: Any, protocol: CrowdProtocol) -> tuple[float, int, bool]:
    """Joints that were found, how many are visible, and whether anybody was."""
    both = np.concatenate([person.keypoints_2d[index], (person.visibility[index] == 1)[:, None]], 1)
    true = convert(both, "thfm32", protocol.joint_set)
    seen = true[:, 2] > 0.75
    if found is None or not seen.any():
        return 0.0, int(seen.sum()), found is not None
    xy = convert(found.xy, found.joint_set.name, protocol.joint_set)
    box = person.box[index]
    near = np.linalg.norm(xy - true[:, :2], axis=-1) < protocol.pck * max(box[2] - box[0], box[3] - box[1])
    return float((near & seen).sum()), int(seen.sum()), True


def _mask(clip: Any, index: int, result: Any, person: Any, wanted: Sequence[int]) -> tuple[float, int]:
    """Greatest IoU of a person's pixels with those of somebody who counts, and who that is; -1 for nobody."""
    ids = clip.instances[index]
    rows = np.minimum(
        np.arange(ids.shape[0]) * result.instances.shape[0] // ids.shape[0], result.instances.shape[0] - 1
    )
    columns = np.arange(ids.shape[1]) * result.instances.shape[1] // ids.shape[1]
    own = (result.instances == person.label)[np.ix_(rows, columns)]
    common = np.bincount(ids[own], minlength=len(clip.people) + 1)[1:]
    union = own.sum() + np.bincount(ids.ravel(), minlength=len(clip.people) + 1)[1:] - common
    iou = np.where(np.isin(np.arange(len(clip.people)), wanted), common / np.maximum(union, 1), 0.0)
    return (float(iou.max()), int(iou.argmax())) if len(iou) and iou.max() > 0 else (0.0, -1)


def summarise(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """Group -> metric -> value over all clips."""
    sequences = [
        [
            TrackedFrame(
                np.array(f["truth"], int),
                np.array(f["found"], int),
                np.array(f["likeness"], float).reshape(len(f["truth"]), len(f["found"])),
            )
            for f in row["frames"]
        ]
        for row in rows
    ]
    frames = [f for row in rows for f in row["frames"]]
    joints = np.array([j for f in frames for j in f["joints"]], float).reshape(-1, 3)
    minutes = sum(len(f["truth"]) / row["fps"] for row in rows for f in row["frames"]) / 60
    ids = tracking_figures(sequences)
    there = joints[joints[:, 2] > 0]
    people = sum(len(f["truth"]) for f in frames)
    return {
        "ids": {
            **{name: ids[name] for name in ("mota", "idf1", "hota", "deta", "assa", "switches")},
            "switches_minute": ids["switches"] / minutes if minutes else float("nan"),
        },
        "people": {
            "people": float(people),
            "missed": ids["missed"] / people if people else float("nan"),
            "false_frame": ids["false"] / len(frames) if frames else float("nan"),
            "pck_0.05": _share(joints),
            "pck_found": _share(there),
        },
        "masks": {f"ap_{t:g}": average_precision(frames, t) for t in (0.5, 0.75)},
        "speed": {"ms_frame": 1e3 * sum(row["seconds"] for row in rows) / max(len(frames), 1)},
    }


def _share(joints: np.ndarray) -> float:
    return float(joints[:, 0].sum() / joints[:, 1].sum()) if joints[:, 1].sum() else float("nan")


def average_precision(frames: Sequence[Mapping[str, Any]], threshold: float) -> float:
    """COCO's: mean precision at 101 recalls, of all reported masks by their scores; each person is found once a frame.

    NaN without anybody.
    """
    total = sum(len(f["truth"]) for f in frames)
    if not total:
        return float("nan")
    ranked = sorted(
        ((score, n, iou, whom) for n, f in enumerate(frames) for score, iou, whom in f["masks"]), key=lambda x: -x[0]
    )
    taken: set[tuple[int, int]] = set()
    good = np.zeros(len(ranked))
    for i, (_, n, iou, whom) in enumerate(ranked):
        if iou >= threshold and (n, whom) not in taken:
            taken.add((n, whom))
            good[i] = 1
    hits = np.cumsum(good)
    precision = hits / np.arange(1, len(good) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / total, np.linspace(0, 1, 101) - 1e-9)
    return float(np.append(best, 0.0)[np.minimum(place, len(best))].mean())


def crowd_config(config: Any, frames: int) -> Any:
    """The generator's settings for crowds: two to six people in every clip, nobody missing."""
    return replace(config, frames=frames, people=6, crowd=1.0, empty=0.0, split="test")


def open_estimator(path: Path, backend: str, threads: int | None, stream: StreamConfig) -> StreamEstimator:
    """Of a checkpoint or bundle folder; UserError where it gives no skeletons."""
    from thfm_ros.engine.load import load_runtime

    if not path.is_dir():
        raise UserError(f"no checkpoint or bundle at {path}: make one with thfm train or thfm init")
    runtime = load_runtime(path, backend, threads, tasks=TASKS)
    if not set(TASKS) & {"keypoints_2d", "keypoints_3d"} & set(runtime.manifest.tasks):
        raise UserError(f"expected a network that gives keypoints, found {', '.join(runtime.manifest.tasks)}")
    return StreamEstimator(runtime, stream)
