"""A small deterministic network for tests of everything around the network: outputs follow from the pixels."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.tasks import TASKS


@dataclass(frozen=True)
class FakeManifest:
    frames: int = 5
    height: int = 32
    width: int = 48
    fps: float = 12.0
    latent_shape: tuple[int, int, int, int] = (3, 2, 4, 6)
    tasks: tuple[str, ...] = tuple(TASKS)
    joint_set: str = "thfm32"
    trained: bool = False
    backend: str = "fake"
    preset: str = "fake"


def skeleton() -> np.ndarray:
    """(32, 3) a flat, upright body in metres relative to its pelvis: any fixed shape that fills a volume."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    body = np.stack([0.3 * np.cos(angles), 0.8 * np.sin(angles), 0.15 * np.cos(3 * angles)], -1)
    body[0] = 0.0
    return body


@dataclass
class FakeRuntime:
    """Disparity = luminance normalised over the window (so windows need aligning), the rest likewise by formula.

    Keypoints: the body at `root` metres seen by a camera with focal length = image width.
    """

    manifest: FakeManifest = field(default_factory=FakeManifest)
    root: tuple[float, float, float] = (0.1, -0.05, 3.0)
    visibility: float = 0.9
    delay_s: float = 0.0
    failures: int = 0  # the next passes that raise
    passes: int = 0
    closed: bool = False
    last_tasks: tuple[str, ...] = ()
    gate: threading.Event | None = None  # a pass waits for it
    body: np.ndarray = field(default_factory=skeleton)  # (32, 3) relative to the pelvis, camera axes

    def predict(
        self, frames: np.ndarray, tasks: Sequence[str], first: Mapping[str, int] | None = None
    ) -> SimpleNamespace:
        m = self.manifest
        assert frames.shape == (m.frames, m.height, m.width, 3)
        assert frames.dtype == np.uint8
        self.passes += 1
        self.last_tasks = tuple(tasks)
        if self.gate is not None:
            assert self.gate.wait(90.0)
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("CUDA error: device lost (as the test asked for)")
        rgb = frames.astype(np.float32) / 127.5 - 1.0
        luminance = rgb.mean(-1)
        low, high = luminance.min(), luminance.max()
        disparity = (luminance - low) / max(float(high - low), 1e-6)
        dense = {}
        for name in tasks:
            if name in ("scene_depth", "human_depth"):
                dense[name] = TASKS[name].codec.to_rgb(disparity)
            elif name == "foreground":
                dense[name] = TASKS[name].codec.to_rgb((luminance > 0).astype(np.float32))
            elif name == "dense_pose":
                dense[name] = rgb
            elif name in ("scene_normals", "human_normals"):
                n = np.concatenate([rgb[..., :2] * 0.5, -np.ones_like(rgb[..., :1])], -1)
                dense[name] = n / np.linalg.norm(n, axis=-1, keepdims=True)
        keypoints = None
        if any(TASKS[t].kind == "sparse" for t in tasks):
            points = self.body + np.array(self.root)
            x = points[:, 0] / points[:, 2] + 0.5
            y = points[:, 1] / points[:, 2] * m.width / m.height + 0.5
            keypoints = SimpleNamespace(
                xy=np.repeat(np.stack([x, y], -1)[None], m.frames, 0).astype(np.float32),
                xyz=np.repeat(self.body[None], m.frames, 0).astype(np.float32),
                visibility=np.full((m.frames, len(JOINT_SETS[m.joint_set])), self.visibility, np.float32),
            )
        dense = {name: rgb[(first or {}).get(name, 0) :] for name, rgb in dense.items()}
        return SimpleNamespace(
            dense=dense, keypoints=keypoints, timings_ms={"encode": 1.0, "transform": 2.0, "decode": 3.0}
        )

    def close(self) -> None:
        self.closed = True


def moving_square(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """(height, width, 3) uint8: a gradient with a bright square that moves to the right."""
    x = np.linspace(20, 120, width)[None, :].repeat(height, 0)
    image = np.stack([x, x * 0.8 + 10, x * 0.6 + 20], -1).astype(np.uint8)
    left = (5 + 3 * index) % (width - 20)
    image[20:40, left : left + 20] = (250, 240, 230)
    return image
