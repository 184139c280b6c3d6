"""What a benchmark evaluates: anything that predicts tasks of a video. THFM, constants, stored predictions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.letterbox import Letterbox
from thfm_ros.quantities import ALPHA, DENSE_POSE, DISPARITY, NORMALS
from thfm_ros.skeleton import get_joint_set
from thfm_ros.stream.align import align_affine
from thfm_ros.tasks import TASKS, get_task

if TYPE_CHECKING:
    from thfm_ros.engine.results import Prediction
    from thfm_ros.engine.runtime import Runtime

MEASURED = tuple(name for name in TASKS if name != "instances")  # people apart have a set of their own


class Predictor(Protocol):
    """identity: everything that the numbers depend on, JSON values (printed, and checked on resume).
    size: (width, height) that larger videos are shrunk to first; None: any. joint_set: of its keypoints.
    blind: whether only the video's size matters, so that a long one need not be read (optional, false).
    """

    name: str
    identity: dict[str, Any]
    tasks: tuple[str, ...]
    joint_set: str
    size: tuple[int, int] | None

    def predict(self, video: np.ndarray, intrinsics: Intrinsics | None = None) -> dict[str, np.ndarray]:
        """video uint8 (T, H, W, 3) RGB -> arrays at the video's size, by task name:

        scene_depth, human_depth: (T, H, W) disparity up to scale and shift; *_normals (T, H, W, 3); foreground
        (T, H, W); dense_pose (T, H, W, 3); keypoints_2d (T, K, 2) pixels; keypoints_3d (T, K, 3) metres relative to
        the pelvis in camera axes. Also: visibility (T, K); borders (N,) first frames of new windows; seconds ().
        """
        ...


def fingerprint(path: Path) -> str:
    """Short hash of the names, sizes and times of a checkpoint's or bundle's files."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    lines = [f"{p.relative_to(path)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


class THFMPredictor:
    """A checkpoint or bundle over sliding windows of its T frames, every `stride` frames.

    A window's first frames repeat the one before; where windows overlap, the earlier prediction stays, and disparity is
    aligned to it by scale and shift. Clips shorter than T are filled up with their last frame.
    """

    def __init__(self, runtime: Runtime, tasks: Sequence[str], stride: int | None = None, label: str = "") -> None:
        manifest = runtime.manifest
        for task in tasks:
            get_task(task)
        self.runtime, self.tasks = runtime, tuple(tasks)
        self.frames, self.stride = manifest.frames, stride or max(1, (manifest.frames + 1) // 2)
        if not 1 <= self.stride <= self.frames:
            raise UserError(f"the stride lies between 1 and the window's {self.frames} frames, found {self.stride}")
        self.size: tuple[int, int] | None = (manifest.width, manifest.height)
        self.joint_set = manifest.joint_set
        self.name = label or f"THFM {manifest.preset}"
        self.identity: dict[str, Any] = {
            "model": manifest.preset,
            "trained": manifest.trained,
            "network": f"{manifest.width}x{manifest.height}x{manifest.frames}",
            "trained_fps": manifest.fps,
            "stride": self.stride,
            "backend": manifest.backend,
        }

    @classmethod
    def open(
        cls,
        path: Path,
        tasks: Sequence[str],
        stride: int | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> THFMPredictor:
        """From a checkpoint or bundle folder."""
        from thfm_ros.engine.load import load_runtime

        if not path.is_dir():
            raise UserError(f"no checkpoint or bundle at {path}: make one with thfm train or thfm init")
        predictor = cls(load_runtime(path, backend, threads), tasks, stride)
        predictor.identity |= {"weights": str(path), "fingerprint": fingerprint(path)}
        return predictor

    def starts(self, frames: int) -> list[int]:
        """First frames of the windows that cover a video; the last one ends with it."""
        last = max(0, frames - self.frames)
        return sorted({*range(0, last, self.stride), last})

    def predict(self, video: np.ndarray, intrinsics: Intrinsics | None = None) -> dict[str, np.ndarray]:
        count, height, width = video.shape[:3]
        assert self.size is not None
        letterbox = Letterbox.of((width, height), self.size)
        begin = time.perf_counter()
        parts: list[dict[str, np.ndarray]] = []
        borders: list[int] = []
        done = 0
        for start in self.starts(count):
            window = self._window(video[start : start + self.frames], letterbox)
            prediction = self._decode(self.runtime.predict(window, self.tasks), letterbox)
            fresh = done - start
            if parts:
                borders.append(done)
                self._align(prediction, parts[-1], fresh)
            end = min(self.frames, count - start)
            parts.append({name: values[:end] for name, values in prediction.items()})
            parts[-1]["fresh"] = np.array(max(fresh, 0))
            done = start + end
        result = {
            name: np.concatenate([p[name][int(p["fresh"]) :] for p in parts]) for name in parts[0] if name != "fresh"
        }
        seconds = time.perf_counter() - begin
        return {**result, "borders": np.array(borders, int), "seconds": np.array(seconds)}

    def _window(self, frames: np.ndarray, letterbox: Letterbox) -> np.ndarray:
        small = np.stack([letterbox.apply(f) for f in frames])
        missing = self.frames - len(small)
        if missing:
            small = np.concatenate([small, np.repeat(small[-1:], missing, 0)])
        return small

    def _decode(self, prediction: Prediction, letterbox: Letterbox) -> dict[str, np.ndarray]:
        """Physical quantities at the video's own size."""
        import cv2

        out: dict[str, np.ndarray] = {}
        for task, rgb in prediction.dense.items():
            codec = TASKS[task].codec
            assert codec is not None
            content = [np.ascontiguousarray(f) for f in letterbox.crop(rgb)]
            full = np.stack([cv2.resize(f, letterbox.source, interpolation=cv2.INTER_LINEAR) for f in content])
            out[task] = codec.from_rgb(full)
        if prediction.keypoints is not None:
            found = prediction.keypoints
            assert self.size is not None
            xy = letterbox.points_to_source(found.xy * np.array(self.size, float))
            sparse = {"keypoints_2d": xy, "keypoints_3d": found.xyz.astype(float)}
            out |= {t: v for t, v in sparse.items() if t in self.tasks} | {"visibility": found.visibility}
        return out

    @staticmethod
    def _align(prediction: dict[str, np.ndarray], before: dict[str, np.ndarray], shared: int) -> None:
        """Disparity of a new window onto that of the last one, over the frames that both show."""
        if shared <= 0:
            return
        for task in prediction.keys() & TASKS.keys():
            if TASKS[task].quantity is DISPARITY:
                current, reference = prediction[task][:shared], before[task][-shared:]
                scale, shift = align_affine(current, reference, (reference != 0).astype(float))
                prediction[task] = (scale * prediction[task] + shift).astype(np.float32)


class ConstantPredictor:
    """A baseline that ignores the image: what any network has to beat.

    A frontal plane that nears downwards, normals to the camera, no person in the mask, an upright skeleton in the
    middle of the image. The arrays are views that repeat one frame: a long video would otherwise need tens of GB.
    """

    name, joint_set, blind = "constant", "thfm32", True
    size: tuple[int, int] | None = None

    def __init__(self, tasks: Sequence[str] = MEASURED) -> None:
        for task in tasks:
            get_task(task)
        self.tasks = tuple(tasks)
        self.identity: dict[str, Any] = {"model": "constant"}

    def predict(self, video: np.ndarray, intrinsics: Intrinsics | None = None) -> dict[str, np.ndarray]:
        chosen = {task: self._prediction(task, *video.shape[:3]) for task in self.tasks}
        return {**chosen, "borders": np.zeros(0, int), "seconds": np.array(0.0)}

    @staticmethod
    def _prediction(task: str, t: int, h: int, w: int) -> np.ndarray:
        quantity = get_task(task).quantity
        if quantity is DISPARITY:
            return np.broadcast_to(np.linspace(0.01, 1, h, dtype=np.float32)[:, None], (t, h, w))
        if quantity is NORMALS:
            return np.broadcast_to(np.array([0, 0, -1], np.float32), (t, h, w, 3))
        if quantity is ALPHA:
            return np.broadcast_to(np.float32(0), (t, h, w))
        if quantity is DENSE_POSE:
            return np.broadcast_to(np.float32(0.5), (t, h, w, 3))
        body = upright_skeleton()
        if task == "keypoints_3d":
            return np.broadcast_to(body, (t, *body.shape))
        scale = 0.8 * h / np.ptp(body[:, 1])
        flat = body[:, :2] * scale + np.array([w / 2, h / 2 - scale * body[:, 1].mean()])
        return np.broadcast_to(flat, (t, *flat.shape))


def upright_skeleton() -> np.ndarray:
    """(32, 3) metres: thfm32 standing upright, arms down, facing the camera, relative to the pelvis (y down)."""
    right = {
        "pelvis": (0, 0), "hip": (0.09, 0.08), "spine1": (0, -0.1), "knee": (0.1, 0.48), "spine2": (0, -0.22),
        "ankle": (0.1, 0.88), "spine3": (0, -0.28), "foot": (0.12, 0.94), "neck": (0, -0.5), "collar": (0.07, -0.42),
        "head": (0, -0.58), "shoulder": (0.18, -0.42), "elbow": (0.22, -0.16), "wrist": (0.24, 0.08),
        "hand": (0.24, 0.16), "nose": (0, -0.6), "eye": (0.03, -0.64), "ear": (0.07, -0.62), "head_top": (0, -0.76),
        "heel": (0.1, 0.93),
    }  # fmt: skip
    points = []
    for name in get_joint_set("thfm32").joints:
        side, _, part = name.partition("_")
        mirrored = {"left": 1.0, "right": -1.0}.get(side)  # facing the camera, the left side is at the image's right
        x, y = right[part if mirrored else name]
        points.append((x * (mirrored or 1.0), y, 0.0))
    return np.array(points)
