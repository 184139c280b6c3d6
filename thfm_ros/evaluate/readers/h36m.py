"""Human3.6M: S{n}/MyPoseFeatures/D3_Positions_mono/{Action}.{camera}.cdf (mm, camera frame) and S{n}/Videos/*.mp4."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.joints import h36m17
from thfm_ros.evaluate.readers.base import Joints, Recording, need, some
from thfm_ros.video import VideoReader

SOURCE = "get Human3.6M from http://vision.imar.ro/human3.6m (registration)"
SUBJECTS = ("S9", "S11")
FPS = 50.0
FRONTAL = "60457274"  # protocol 2 uses this camera alone


def read(root: Path, protocol: int = 1, step: int = 5, subjects: tuple[str, ...] = SUBJECTS) -> list[Recording]:
    """One recording an (action, camera) of the test subjects, every `step`-th frame, 17 joints (right leg first).

    protocol: 1 all cameras, 2 the frontal one.
    """
    if protocol not in (1, 2) or step < 1:
        raise UserError(f"Human3.6M has protocols 1 and 2 and steps from 1, found {protocol} and {step}")
    recordings = []
    for subject in subjects:
        folder = need(root / subject / "MyPoseFeatures" / "D3_Positions_mono", f"poses of {subject}", SOURCE)
        for cdf in some(sorted(folder.glob("*.cdf")), folder, "*.cdf", SOURCE):
            camera = cdf.stem.rsplit(".", 1)[-1]
            if protocol == 1 or camera == FRONTAL:
                video = need(root / subject / "Videos" / f"{cdf.stem}.mp4", "a Human3.6M video", SOURCE)
                recordings.append(_recording(f"{subject}-{cdf.stem}", cdf, video, step))
    if not recordings:
        raise UserError(f"{root}: no recording of the frontal camera {FRONTAL}")
    return recordings


def load_pose(path: Path) -> np.ndarray:
    """(F, 32, 3) raw joints in millimetres, camera frame."""
    try:
        import cdflib
    except ImportError:
        raise UserError("reading Human3.6M's CDF files needs the cdflib package: pip install cdflib") from None
    try:
        pose = np.asarray(cdflib.CDF(str(path)).varget("Pose"), np.float64)
    except Exception as error:  # cdflib raises whatever a damaged file provokes
        raise UserError(f"cannot read {path}: {error}") from None
    if pose.size == 0 or pose.ndim == 0 or pose.shape[-1] != 96:
        raise UserError(f"{path}: expected variable Pose of shape (1, F, 96), found {pose.shape}")
    return pose.reshape(-1, 32, 3)


def _recording(name: str, cdf: Path, video: Path, step: int) -> Recording:
    pose = load_pose(cdf)[::step]
    return Recording(
        name,
        len(pose),
        FPS / step,
        _frames(video, step),
        joints=lambda: Joints(h36m17(pose), "h36m17", np.ones(len(pose), bool)),
        files=(cdf, video),
    )


def _frames(video: Path, step: int) -> Callable[[int], np.ndarray]:
    """Random access to every `step`-th frame; in order, it decodes the video once."""
    state: dict[str, object] = {"at": -1}

    def advance(index: int) -> np.ndarray:
        if state["at"] < 0 or index * step <= state["at"]:  # type: ignore[operator]
            state.update(at=-1, frames=iter(VideoReader(video)))
        for _, image in state["frames"]:  # type: ignore[attr-defined]
            state["at"] += 1  # type: ignore[operator]
            if state["at"] == index * step:
                return image
        raise UserError(f"{video} has fewer frames than its poses: frame {index * step} is missing")

    return lru_cache(maxsize=1)(advance)
