"""The estimator that the node and `thfm run` drive: frames in, everything about each frame out. No ROS, no torch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.letterbox import Letterbox
from thfm_ros.skeleton import get_joint_set
from thfm_ros.stream.align import StreamUnits
from thfm_ros.stream.crowd import SPARSE, Crowd, InView, Skeleton, detector, shortcomings
from thfm_ros.stream.detect import Detected, detect, trusted
from thfm_ros.stream.frame import Frame
from thfm_ros.stream.lens import Lens
from thfm_ros.stream.people import Person
from thfm_ros.stream.scale import MetricScale, from_depth_camera, from_people, metric_depth
from thfm_ros.tasks import INSTANCES, TASKS

if TYPE_CHECKING:
    from thfm_ros.engine.runtime import Runtime

FIELDS = {  # task -> field of FrameResult
    "scene_depth": "disparity",
    "human_depth": "disparity",
    "scene_normals": "normals",
    "human_normals": "normals",
    "foreground": "foreground",
    "dense_pose": "dense_pose",
}


DOUBT = (
    "people: the network's map of instances is too rough to go by alone, so people are the parts of the mask around "
    "its summits, and two who touch may be one; it needs more training"
)


def conflict(tasks: Collection[str]) -> str | None:
    """Why these tasks cannot run together: a frame has one depth map and one normal map, and `instances` tells apart
    those whom joints find. None where they can."""
    for kind in ("depth", "normals"):
        if {f"scene_{kind}", f"human_{kind}"} <= set(tasks):
            both = f"scene_{kind} and human_{kind}"
            return f"tasks: expected one of {both} at most, found both: a frame has one map of {kind}; choose one"
    if INSTANCES.name in tasks and not set(SPARSE) & set(tasks):
        joints = " or ".join(SPARSE)
        return f"tasks: expected {joints} beside {INSTANCES.name}, which finds nobody without joints; add one"
    return None


MetricSource = Literal["none", "skeleton", "depth_camera"]


@dataclass(frozen=True)
class StreamConfig:
    """What may change while a stream runs.

    warmup: "pad" gives results from the first stride on, with the oldest frame repeated in front (outputs of the first
        window are less accurate); "hold" waits for a full window.
    output: maps at the model's own resolution ("model", letterbox borders removed) or the camera's ("input").
    """

    warmup: Literal["pad", "hold"] = "pad"
    output: Literal["model", "input"] = "model"
    newest_only: bool = False
    min_score: float = 0.6  # people below it are not reported
    max_people: int = 6  # the nearest are reported (not measured: the largest in the image), the others counted
    absence_s: float = 3.0  # who is not seen for longer comes back as somebody else
    confirm_s: float = 0.15  # who is seen for less is not reported: a flicker
    max_depth_m: float = 100.0
    scale_half_life_s: float = 1.0
    joint_noise_m: float = 0.03  # by how much joints tremble, which is smoothed; 0: as the network says them


@dataclass
class FrameResult:
    """Everything about one frame. Maps (H, W[, 3]) share one geometry: the camera's view at `size`.

    Fields of tasks that were not asked for are None (`people`: empty).
    """

    stamp_ns: int
    image: np.ndarray  # (H, W, 3) uint8 RGB at `size`
    source_size: tuple[int, int]  # width, height of the camera's image
    intrinsics: Intrinsics | None  # of the maps
    disparity: np.ndarray | None = None  # float32, consistent over the stream, unknown scale and shift
    depth: np.ndarray | None = None  # float32 metres along z, +inf too far, NaN unknown; None: no metric scale
    metric_source: MetricSource = "none"
    normals: np.ndarray | None = None  # float32 unit vectors facing the camera, 0 where none
    foreground: np.ndarray | None = None  # float32 alpha in [0, 1]
    dense_pose: np.ndarray | None = None  # float32 in [0, 1]^3, 0 background
    people: list[Person] = field(default_factory=list)  # the nearest first (not measured: the largest in the image)
    others: int = 0  # people who are there besides, beyond max_people
    looked: bool = False  # for people; where not, that there are none says nothing
    instances: np.ndarray | None = None  # uint16, the label of one of `people` at each of their pixels, else 0

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[0]


class StreamEstimator:
    """One camera's stream through one runtime. Not thread-safe: one worker owns it.

    `push` new frames, then `step` runs one pass over the window of the last T frames and returns a result for each
    frame pushed since the last step (the newest T of them). `finish` processes what is left at the end of a clip. No
    frame goes without a result as long as one asks `continues` and `full` before each push.
    """

    def __init__(self, runtime: Runtime, config: StreamConfig = StreamConfig()) -> None:
        self.runtime = runtime
        self.config = config
        self.frames, self.fps = int(runtime.manifest.frames), float(runtime.manifest.fps)
        self.size = (int(runtime.manifest.width), int(runtime.manifest.height))
        self.joint_set = get_joint_set(runtime.manifest.joint_set)
        self.timings_ms: dict[str, float] = {}  # of the last step
        self._window: deque[Frame] = deque(maxlen=self.frames)
        self._crowd = Crowd(self.joint_set)
        self._detector = detector(runtime.manifest)
        self.doubt = ""  # why the last pass did not tell people apart by `instances`; a line
        self._scale = MetricScale()
        self._units = StreamUnits()
        self._fit: Letterbox | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets the stream: the next frame is its first."""
        self._window.clear()
        self._new = 0
        self._lone = False  # the clip before this one had a single frame, as all have of a camera slower than the gap
        self._fit = None
        self._reference: dict[int, np.ndarray] = {}  # stamp -> aligned disparity (h, w) of the last window
        self._reference_task = ""
        self._metric_source: MetricSource = "none"
        self._crowd.reset()
        self._scale.reset()
        self._units.reset()

    def push(
        self,
        stamp_ns: int,
        image: np.ndarray,
        intrinsics: Intrinsics | None = None,
        depth: np.ndarray | None = None,
        lens: Lens | None = None,
    ) -> None:
        """Takes one frame: uint8 RGB (h, w, 3), its camera, and optionally a registered depth image in metres, and the
        lens of an image that is not rectified.

        Another image size than before starts a new stream; ValueError where frames of the old one still wait for their
        results (`finish` first). Raises UserError for anything else than such an image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise UserError(f"expected a uint8 RGB image (h, w, 3), found {image.dtype} {image.shape}")
        if not self.continues(image):
            if self._new:
                raise ValueError(f"another image size while {self._new} frames wait for their results: finish first")
            self.reset()
        if self._fit is None:
            self._fit = Letterbox.of((image.shape[1], image.shape[0]), self.size)
        kept = image if self.config.output == "input" or self._detector else None
        self._window.append(Frame(stamp_ns, self._fit.apply(image), kept, intrinsics, depth, lens))
        self._new += 1

    def continues(self, image: np.ndarray) -> bool:
        """Returns False where the image (h, w, 3) has another size than the clip so far, which therefore ends."""
        return self._fit is None or self._fit.source == (image.shape[1], image.shape[0])

    @property
    def full(self) -> bool:
        """True where the whole window waits for results: one more push, and its oldest frame gets none."""
        return self._new >= self.frames

    @property
    def measurable(self) -> Collection[int]:
        """Stamps of the last window's frames, whose depth images may still come (`measure`)."""
        return self._reference.keys() | self._crowd.stamps

    def measure(self, stamp_ns: int, depth: np.ndarray) -> None:
        """The registered depth image in metres of a frame of the last window, which came after that frame's pass: later
        frames have its scale, and people its measure of their size."""
        self._measure_scale(stamp_ns, depth)
        self._crowd.measure(stamp_ns, depth)

    def _measure_scale(self, stamp_ns: int, depth: np.ndarray) -> None:
        assert self._fit is not None
        if stamp_ns not in self._reference:
            return  # only people were asked for
        measured = cv2.resize(depth, self._fit.content, interpolation=cv2.INTER_NEAREST)
        estimate = from_depth_camera(self._reference[stamp_ns], measured)
        if not all(math.isfinite(v) for v in estimate):
            return  # nothing measured: the skeleton's scale, if there is one, is better than none
        if self._metric_source == "skeleton":
            self._scale.reset()
        self._metric_source = "depth_camera"
        self._scale.update(stamp_ns, estimate)

    @property
    def ready(self) -> bool:
        """True where `step` would give a result."""
        return self._new > 0 and (self.config.warmup == "pad" or len(self._window) == self.frames)

    def step(self, tasks: Sequence[str]) -> list[FrameResult]:
        """Runs one pass over the window; a result for every frame that has none yet, oldest first.

        Frames longer ago than one window get none. [] while holding for the first full window. An error of the
        runtime passes through: the frames of that pass then stay unanswered, and the stream goes on. UserError for
        tasks that cannot run together (`conflict`).
        """
        if problem := conflict(tasks):
            raise UserError(problem)
        return self._pass(tasks, picture=self._lone and len(self._window) == 1) if self.ready else []

    def finish(self, tasks: Sequence[str]) -> list[FrameResult]:
        """Ends the clip: as `step`, but also what waited for a full window is answered; the next frame is a first."""
        if problem := conflict(tasks):
            raise UserError(problem)
        lone = len(self._window) == 1
        try:
            return self._pass(tasks, picture=lone) if self._new else []
        finally:
            self.reset()
            self._lone = lone

    def _pass(self, tasks: Sequence[str], picture: bool = False) -> list[FrameResult]:
        started = time.perf_counter()
        wanted = self.network_tasks(tasks)
        frames = list(self._window)
        padding = self.frames - len(frames)
        frames = [frames[0]] * padding + frames
        new = min(self._new, len(self._window))
        first = len(frames) - (1 if self.config.newest_only else new)
        self._new = 0
        whole = _whole_window(wanted)
        clip = np.stack([f.pixels for f in frames])
        prepared = time.perf_counter()
        prediction = self.runtime.predict(clip, wanted, {task: first for task in wanted if task not in whole})
        predicted = time.perf_counter()
        config = replace(self.config, confirm_s=0.0) if picture else self.config  # nobody flickers in one picture
        people = self._people(frames, first, prediction, tasks, config)
        seen = time.perf_counter()
        results = self._results(frames, first, padding, prediction, people, tasks)
        self.timings_ms = {
            "prepare": 1e3 * (prepared - started),
            **prediction.timings_ms,
            "people": 1e3 * (seen - predicted),
            "postprocess": 1e3 * (time.perf_counter() - seen),
        }
        return results

    @property
    def people_by(self) -> str:
        """What tells people apart: instances, foreground (its connected parts), or one skeleton a picture."""
        return self._detector or "whole picture"

    @property
    def shortcomings(self) -> list[str]:
        """What people lack with this network, a line each."""
        return shortcomings(self.runtime.manifest)

    def network_tasks(self, tasks: Sequence[str]) -> list[str]:
        """The asked tasks that the model has, and what they need: human depth cannot tell its far end from the
        background without the mask, and skeletons come from windows around those who were found."""
        known = [t for t in tasks if t in self.runtime.manifest.tasks]
        if "human_depth" in known and "foreground" in self.runtime.manifest.tasks:
            known.append("foreground")
        if self._detector and set(SPARSE) & set(known):
            masks = [t for t in (self._detector, "foreground") if t in self.runtime.manifest.tasks]
            known = [t for t in known if t not in SPARSE] + masks
        return list(dict.fromkeys(known))

    def _people(
        self, frames: list[Frame], first: int, prediction: Any, tasks: Sequence[str], config: StreamConfig
    ) -> dict[int, InView]:
        """Who is in view in frames `first` and later, by their numbers."""
        assert self._fit is not None
        sparse = [t for t in tasks if t in SPARSE and t in self.runtime.manifest.tasks]
        if not sparse:
            return {}
        if name := self._detector:
            rough = name == INSTANCES.name and not trusted(np.asarray(prediction.dense[name][-1]))
            self.doubt = DOUBT if rough else ""
            dense = {t: np.asarray(prediction.dense[t]) for t in {name, "foreground"} & prediction.dense.keys()}

            def find(index: int, expected: list[np.ndarray]) -> Detected:
                maps = {t: found[index - len(frames)] for t, found in dense.items()}
                return detect(maps, rough, frames[index].pixels, self._fit, expected)

            return self._crowd.see_all(frames, first, find, self.runtime, sparse, self._fit.source, config)
        keypoints = prediction.keypoints
        xy = self._fit.points_to_source(np.asarray(keypoints.xy, float) * np.array(self.size))
        joints = zip(xy, np.asarray(keypoints.xyz, float), np.asarray(keypoints.visibility, float), strict=True)
        skeletons = [Skeleton(*frame) for frame in joints]
        return self._crowd.see_one(frames, first, skeletons, self._fit.source, config)

    def _results(
        self,
        frames: list[Frame],
        first: int,
        padding: int,
        prediction: Any,
        people: dict[int, InView],
        tasks: Sequence[str],
    ) -> list[FrameResult]:
        assert self._fit is not None
        maps: dict[str, np.ndarray] = {}
        for name in FIELDS.keys() & prediction.dense.keys():
            codec = TASKS[name].codec
            assert codec is not None
            rgb = self._fit.crop(np.asarray(prediction.dense[name]))
            maps[name] = codec.from_rgb(rgb).astype(np.float32, copy=False)
        depth_task = next((n for n in ("scene_depth", "human_depth") if n in maps), "")
        if depth_task == "human_depth" and "foreground" in maps:
            maps[depth_task] = np.where(maps["foreground"] > 0.5, maps[depth_task], np.nan)
        if depth_task:
            maps[depth_task] = self._aligned(depth_task, maps[depth_task], frames, padding)
        results = []
        for index in range(first, len(frames)):
            frame = frames[index]
            result = self._blank(frame)
            for name in maps:  # some have the new frames alone
                setattr(result, FIELDS[name], maps[name][index - len(frames)])
            seen, result.looked = people.get(index, InView()), index in people
            result.people, result.others, result.instances = seen.people, seen.others, seen.labels
            if depth_task:
                self._to_metres(result, frame)
            if self.config.output == "input":
                self._enlarge(result, frame)
            results.append(result)
        return results

    def _blank(self, frame: Frame) -> FrameResult:
        assert self._fit is not None
        intrinsics = frame.intrinsics.resized(*self._fit.content) if frame.intrinsics else None
        image = np.ascontiguousarray(self._fit.crop(frame.pixels))
        return FrameResult(frame.stamp_ns, image, self._fit.source, intrinsics)

    def _aligned(self, task: str, disparity: np.ndarray, frames: list[Frame], padding: int) -> np.ndarray:
        """The window's disparity (T, h, w) in the units of the stream."""
        if task != self._reference_task:
            self._reference, self._reference_task = {}, task
            self._units.reset()
            self._scale.reset()
            self._metric_source = "none"
        stamps = [f.stamp_ns for f in frames]
        shared = [i for i in range(padding, len(frames)) if stamps[i] in self._reference]
        if shared:
            reference = np.stack([self._reference[stamps[i]] for i in shared])
            elapsed_s = (stamps[-1] - max(self._reference)) / 1e9
            scale, shift = self._units.follow(disparity[shared], reference, elapsed_s)
            disparity = scale * disparity + shift
        elif self._reference:  # the worker was away for a whole window: new units
            self._scale.reset()
            self._units.reset()
        self._reference = {stamps[i]: disparity[i] for i in range(padding, len(frames))}
        return disparity

    def _to_metres(self, result: FrameResult, frame: Frame) -> None:
        """Metric depth of this frame, from the depth camera where there is one, else from the skeleton.

        Frames between two depth images use the last scale; the skeleton does not compete with the depth camera.
        """
        assert result.disparity is not None
        assert self._fit is not None
        self._scale.half_life_s = self.config.scale_half_life_s
        if frame.depth is not None:
            self._measure_scale(frame.stamp_ns, frame.depth)
        located = [p for p in result.people if p.located]
        if self._metric_source != "depth_camera" and located:
            self._metric_source = "skeleton"
            factor = np.array(self._fit.content) / np.array(self._fit.source)
            people = [(p.xy * factor, p.xyz, p.confidence) for p in located]
            self._scale.update(frame.stamp_ns, from_people(result.disparity, people))
        value = self._scale.at(frame.stamp_ns)
        if value is not None:
            result.depth = metric_depth(result.disparity, *value, self.config.max_depth_m)
            result.metric_source = self._metric_source
        else:
            self._metric_source = "none"  # a depth camera that went silent hands over to the skeleton

    def _enlarge(self, result: FrameResult, frame: Frame) -> None:
        """All maps at the camera's resolution. Depth is enlarged without blending across edges."""
        width, height = result.source_size
        if frame.image is not None:
            result.image = frame.image
        else:
            result.image = cv2.resize(result.image, (width, height), interpolation=cv2.INTER_LINEAR)
        for name, method in (
            ("disparity", cv2.INTER_NEAREST),
            ("depth", cv2.INTER_NEAREST),
            ("normals", cv2.INTER_NEAREST),
            ("foreground", cv2.INTER_LINEAR),
            ("dense_pose", cv2.INTER_NEAREST),
            ("instances", cv2.INTER_NEAREST),
        ):
            value = getattr(result, name)
            if value is not None:
                setattr(result, name, cv2.resize(value, (width, height), interpolation=method))
        result.intrinsics = frame.intrinsics


def _whole_window(tasks: Collection[str]) -> set[str]:
    """Tasks whose maps of older frames are needed too: depth, which is aligned over frames that two windows share, and
    the mask that tells people's depth from the background."""
    depth = {t for t in tasks if FIELDS.get(t) == "disparity"}
    return depth | ({"foreground"} if "human_depth" in depth else set())
