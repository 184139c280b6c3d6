"""The synthetic benchmark: every task on held-out generated clips. Its table stands in the model card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate import depth, joints, matting, normals
from thfm_ros.evaluate.predictors import Predictor
from thfm_ros.evaluate.report import UNITS, number, plain, table, write_json
from thfm_ros.evaluate.runner import RowStore, key_of
from thfm_ros.evaluate.temporal import change_error, seams
from thfm_ros.files import write_text
from thfm_ros.geometry import Intrinsics
from thfm_ros.quantities import ALPHA, DENSE_POSE, DISPARITY, INSTANCES, NORMALS
from thfm_ros.skeleton import convert, get_joint_set
from thfm_ros.tasks import TASKS

if TYPE_CHECKING:
    from thfm_ros.synth.config import SynthConfig
    from thfm_ros.synth.sample import Clip

Prediction = Mapping[str, np.ndarray]
Metrics = dict[str, float]  # "task/metric" -> value of one clip


@dataclass(frozen=True)
class SyntheticProtocol:
    """Depth: aligned to 1/depth by one scale and shift a clip, scene depth up to a limit. Joints: PCK on joints inside
    the image, within 0.05 of the longer side of their box; 3D relative to the hips' middle. Means over clips; a clip
    without a person has no human metrics.
    """

    joint_set_2d: str = "coco17"
    joint_set_3d: str = "smpl24"
    scene_depth_limit_m: float = 20.0
    human_depth_limit_m: float | None = None
    pck: float = 0.05
    alignment: str = "disparity, clip"


def score_clip(
    clip: Clip, prediction: Prediction, joint_set: str, protocol: SyntheticProtocol
) -> tuple[Metrics, dict[str, Any]]:
    """All metrics of the tasks in `prediction`, and the change errors a task (for the seams)."""
    metrics: Metrics = {}
    change: dict[str, Any] = {}
    people, everywhere = clip.human_mask, np.ones(clip.alpha.shape, bool)
    surface = np.linalg.norm(clip.normals, axis=-1) > 0.5
    for task in (t for t in TASKS if t in prediction):
        mask = people if TASKS[task].human else everywhere
        quantity = TASKS[task].quantity
        if quantity is INSTANCES:
            continue  # people apart are measured on crowds (`crowd.py`)
        if quantity is DISPARITY:
            limit = protocol.human_depth_limit_m if TASKS[task].human else protocol.scene_depth_limit_m
            found, change[task] = _depth(prediction[task], clip.depth, mask, limit)
        elif quantity is NORMALS:
            mask = mask & surface
            errors = normals.angular_error(prediction[task], clip.normals, mask)
            found = normals.dsine(errors, (11.25, 22.5, 30.0))
            change[task] = change_error(prediction[task], clip.normals, mask)
        elif quantity is ALPHA:
            columns = matting.clip_metrics(prediction[task], clip.alpha)
            found = {name: float(values.mean()) for name, values in columns.items()}
            found["iou"] = float(matting.iou(prediction[task], clip.alpha).mean())
            change[task] = change_error(prediction[task], clip.alpha, everywhere)
        elif quantity is DENSE_POSE:
            error = np.linalg.norm(np.asarray(prediction[task], np.float64) - clip.dense_pose, axis=-1)
            found = {"epe": _mean(error[people])}
            change[task] = change_error(prediction[task], clip.dense_pose, people)
        elif task == "keypoints_2d":
            found = _keypoints_2d(clip, prediction[task], joint_set, protocol)
        else:
            found, change[task] = _keypoints_3d(clip, prediction[task], joint_set, protocol)
        metrics |= {f"{task}/{name}": value for name, value in found.items()}
    return metrics, change


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _depth(pred: np.ndarray, true: np.ndarray, mask: np.ndarray, limit: float | None) -> tuple[Metrics, list[float]]:
    """Metrics, and the change errors of the aligned disparity (1/m)."""
    frames = depth.evaluate(pred, true, mask, depth.DepthProtocol("disparity", "clip", limit))
    valid = mask & np.isfinite(true) & (true > depth.MIN_DEPTH) & (true < (limit or np.inf))
    inverse = 1.0 / np.where(valid, true, 1.0)
    scale, shift = depth.fit_lstsq(pred[valid], inverse[valid])
    return {name: _mean(values) for name, values in frames.items()}, change_error(pred * scale + shift, inverse, valid)


def _keypoints_2d(clip: Clip, pred: np.ndarray, joint_set: str, protocol: SyntheticProtocol) -> Metrics:
    seen = _converted(clip.visibility[..., None], "thfm32", protocol.joint_set_2d)[..., 0] > 0.25
    true = _converted(clip.keypoints_2d, "thfm32", protocol.joint_set_2d)
    inside = np.where((clip.visibility > 0)[..., None], clip.keypoints_2d, np.nan)
    frames = seen.any(1)
    if not frames.any():
        return {f"pck_{protocol.pck:g}": float("nan"), "detected": float("nan")}
    longer = np.max(np.nanmax(inside[frames], 1) - np.nanmin(inside[frames], 1), -1)
    found = _converted(pred, joint_set, protocol.joint_set_2d)[frames]
    share = joints.pck(found, true[frames], longer, protocol.pck, seen[frames])
    return {f"pck_{protocol.pck:g}": share, "detected": float(np.isfinite(found).all((1, 2)).mean())}


def _keypoints_3d(
    clip: Clip, pred: np.ndarray, joint_set: str, protocol: SyntheticProtocol
) -> tuple[Metrics, list[float]]:
    names = get_joint_set(protocol.joint_set_3d).joints
    root = (names.index("left_hip"), names.index("right_hip"))
    inside = (clip.visibility > 0).mean(1) >= 0.5  # more than half of the body is in the image
    found, true = (
        _converted(x, s, protocol.joint_set_3d) for x, s in ((pred, joint_set), (clip.keypoints_3d, "thfm32"))
    )
    usable = inside & np.isfinite(found).all((1, 2)) & np.isfinite(true).all((1, 2))
    frames = joints.sequence_metrics(found, true, clip.fps, usable, root)
    frames["jitter"] = joints.jitter(joints.centre(found[usable], root), clip.fps)
    frames["jitter_truth"] = joints.jitter(joints.centre(true[usable], root), clip.fps)
    valid = np.broadcast_to(usable[:, None], found.shape[:2])
    change = change_error(joints.centre(np.nan_to_num(found), root), joints.centre(np.nan_to_num(true), root), valid)
    return {name: _mean(values) for name, values in frames.items()}, change


def _converted(points: np.ndarray, source: str, target: str) -> np.ndarray:
    return convert(np.asarray(points, np.float64), source, target)


@dataclass
class SyntheticReport:
    """results: predictor -> "task/metric" -> mean over clips; seam ratios a task; seconds a frame."""

    command: str
    config: Mapping[str, Any]
    protocol: Mapping[str, Any]
    identities: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    results: dict[str, Metrics] = field(default_factory=dict)
    clips_of: dict[str, int] = field(default_factory=dict)  # metric -> clips that have it
    seam_ratios: dict[str, Metrics] = field(default_factory=dict)
    seconds_per_frame: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"benchmark": "synthetic", **asdict(self)}

    def markdown(self) -> str:
        names = list(self.results)
        metrics = list(dict.fromkeys(m for r in self.results.values() for m in r))
        rows = []
        for metric in metrics:
            task, _, short = metric.partition("/")
            values = [number(self.results[n].get(metric)) for n in names]
            rows.append([task, UNITS.get(short, short), *values, str(self.clips_of.get(metric, 0))])
        lines = ["# Held-out synthetic clips", "", f"`{self.command}`", ""]
        lines.append(table(["task", "metric", *names, "clips"], rows))
        seam_tasks = list(dict.fromkeys(t for r in self.seam_ratios.values() for t in r))
        if seam_tasks:
            body = [[t, *(number(self.seam_ratios.get(n, {}).get(t)) for n in names)] for t in seam_tasks]
            lines += ["", "Change error at window borders over that inside windows (1: no seam):", ""]
            lines.append(table(["task", *names], body))
        identity = {n: ", ".join(f"{k} {v}" for k, v in self.identities[n].items()) for n in self.seconds_per_frame}
        speed = [[n, number(1e3 * s), identity[n]] for n, s in self.seconds_per_frame.items()]
        lines += ["", table(["predictor", "ms a frame here, all tasks", "what it is"], speed), "", "Protocol:", ""]
        choices = {**self.config, **self.protocol}
        lines.append(table(["choice", "value"], [[k, str(v)] for k, v in choices.items()]))
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        write_text(folder / "report.md", self.markdown())
        write_json(folder / "report.json", self.as_dict())


class ClipSource(Protocol):
    """Clips by number. settings: everything that decides their content."""

    settings: dict[str, Any]

    def clip(self, index: int) -> Clip: ...


class GeneratedClips:
    """Made on demand; the last one is kept, so that several predictors share it."""

    def __init__(self, config: SynthConfig, seed: int) -> None:
        from thfm_ros.synth.assets import load_assets
        from thfm_ros.synth.shards import GENERATOR_VERSION

        self._config, self._seed, self._assets = replace(config, split="test"), seed, load_assets()
        made = {"seed": seed, "assets": self._assets.digest, "generator": GENERATOR_VERSION}
        self.settings = {**asdict(self._config), **made}
        self.clip = lru_cache(maxsize=1)(self._generate)

    def _generate(self, index: int) -> Clip:
        from thfm_ros.synth.clip import generate_clip

        return generate_clip(self._config, self._seed, index, self._assets)


def evaluate(
    predictors: Sequence[Predictor],
    source: ClipSource,
    count: int,
    folder: Path,
    command: str = "",
    resume: bool = True,
    protocol: SyntheticProtocol = SyntheticProtocol(),
    step: Callable[[int], None] = lambda index: None,
) -> SyntheticReport:
    """Every predictor on the same first `count` clips, side by side; rows are kept below `folder` and reused.

    UserError for clips of the training split.
    """
    if source.settings["split"] != "test":
        raise UserError(
            f"expected held-out clips, found split '{source.settings['split']}': generate them with --split test"
        )
    settings = plain(source.settings)
    report = SyntheticReport(command, {**settings, "clips": count}, plain(asdict(protocol)))
    keys = [key_of("synthetic", settings, report.protocol, p.identity, p.tasks) for p in predictors]
    stores = [RowStore(folder / "rows" / key, key) for key in keys]
    rows: list[list[dict[str, Any]]] = [[] for _ in predictors]
    for index in range(count):
        name = f"clip{index:06d}"
        for predictor, store, mine in zip(predictors, stores, rows, strict=True):
            row = store.load(name) if resume else None
            if row is None:
                store.save(name, _row(source.clip(index), predictor, protocol))
                row = store.load(name)
                assert row is not None
            mine.append(row)
        step(index)
    for predictor, mine in zip(predictors, rows, strict=True):
        _summarise(report, predictor, mine)
    report.write(folder)
    return report


def _row(clip: Clip, predictor: Predictor, protocol: SyntheticProtocol) -> dict[str, Any]:
    height, width = clip.rgb.shape[1:3]
    intrinsics = Intrinsics.from_matrix(clip.intrinsics[0], width, height)
    begin = time.perf_counter()
    prediction = predictor.predict(clip.rgb, intrinsics)
    predicted = time.perf_counter()
    metrics, change = score_clip(clip, prediction, predictor.joint_set, protocol)
    return {
        "metrics": metrics,
        "change": change,
        "borders": prediction["borders"].tolist(),
        "seconds": float(prediction["seconds"]) if prediction["seconds"] > 0 else predicted - begin,
        "frames": len(clip.rgb),
    }


def _summarise(report: SyntheticReport, predictor: Predictor, rows: Sequence[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    values = {name: np.array([row["metrics"].get(name) for row in rows], float) for name in names}
    report.identities[predictor.name] = dict(predictor.identity)
    report.results[predictor.name] = {name: _mean(v) for name, v in values.items()}
    for name, v in values.items():
        report.clips_of[name] = max(report.clips_of.get(name, 0), int(np.isfinite(v).sum()))
    frames = sum(row["frames"] for row in rows)
    report.seconds_per_frame[predictor.name] = sum(r["seconds"] for r in rows) / frames if frames else float("nan")
    if any(row["borders"] for row in rows):
        ratios = {}
        for task in dict.fromkeys(t for row in rows for t in row["change"]):
            change: list[float] = []
            borders: list[int] = []
            for row in rows:
                borders += [len(change) + b for b in row["borders"]]
                change += [*np.array(row["change"].get(task, []), float), np.nan]  # one gap keeps rows apart
            ratios[task] = seams(change, borders)["ratio"]
        report.seam_ratios[predictor.name] = ratios
