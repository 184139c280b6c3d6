"""Predictors and runtimes whose predictions are known."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from thfm_ros.engine.results import Keypoints, Prediction
from thfm_ros.tasks import TASKS


class GivenPredictor:
    """Predictions with `predictions(video)`; counts its calls."""

    def __init__(self, predictions: Any, tasks: Sequence[str], joint_set: str = "thfm32", size: Any = None) -> None:
        self.predictions, self.tasks, self.joint_set, self.size = predictions, tuple(tasks), joint_set, size
        self.name, self.identity, self.calls = "given", {"model": "given", "version": 1}, 0

    def predict(self, video: np.ndarray, intrinsics: Any = None) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"borders": np.zeros(0, int), "seconds": np.array(0.5), **self.predictions(video)}


class BrightnessRuntime:
    """Disparity is the image's brightness under another scale and shift in every window; xy the window's middle.

    `jump`: also adds that much per window to the 3D keypoints, so that borders show.
    """

    def __init__(self, frames: int = 5, width: int = 32, height: int = 16, jump: float = 0.0) -> None:
        self.manifest = SimpleNamespace(
            frames=frames, width=width, height=height, fps=12.0, joint_set="thfm32", preset="fake", trained=False,
            backend="fake", tasks=tuple(TASKS),
        )  # fmt: skip
        self.windows: list[np.ndarray] = []
        self.jump = jump

    def predict(self, frames: np.ndarray, tasks: Sequence[str]) -> Prediction:
        assert frames.shape == (self.manifest.frames, self.manifest.height, self.manifest.width, 3)
        self.windows.append(frames)
        n = len(self.windows)
        rgb = frames.astype(np.float32) / 127.5 - 1.0
        gray = np.repeat(rgb.mean(-1, keepdims=True), 3, -1)
        dense = {t: (0.5 / n * gray - 0.1 * n).astype(np.float32) for t in tasks if t.endswith("_depth")}
        dense |= {t: rgb for t in tasks if TASKS[t].kind == "dense" and not t.endswith("_depth")}
        shape = (self.manifest.frames, 32)
        xyz = np.full((*shape, 3), self.jump * n)
        keypoints = Keypoints(np.full((*shape, 2), 0.5), xyz, np.ones(shape))
        return Prediction(dense, keypoints, {})
