"""What training sees of a clip: compact numpy arrays (what the cache stores), and batches of targets in RGB space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from thfm_ros.model.readout import Keypoints
from thfm_ros.tasks import get_task, normalise_disparity

if TYPE_CHECKING:
    from thfm_ros.synth.sample import Clip


@dataclass
class TrainingClip:
    """One clip in storage precision; K joints of thfm32, the main person's.

    rgb uint8 (T, H, W, 3); alpha uint8 (T, H, W); dense_pose uint8 (T, H, W, 3); normals int8 (T, H, W, 3), x 127;
    scene_disparity, human_disparity float16 (T, H, W) in [0, 1] over the clip; xy float32 (T, K, 2) normalised image
    coordinates; xyz float32 (T, K, 3) metres relative to the pelvis; visibility float32 (T, K), -1 where unknown.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    dense_pose: np.ndarray
    normals: np.ndarray
    scene_disparity: np.ndarray
    human_disparity: np.ndarray
    xy: np.ndarray
    xyz: np.ndarray
    visibility: np.ndarray

    @classmethod
    def of(cls, clip: Clip) -> TrainingClip:
        """From the generator's clip, whose depth is metres and whose 3D keypoints are in the camera's frame."""
        human = clip.alpha > 0.5
        height, width = clip.alpha.shape[1:]
        scene, _, _ = normalise_disparity(clip.depth)
        person, _, _ = normalise_disparity(clip.depth, human)
        nobody = not np.isfinite(clip.keypoints_3d).all()
        return cls(
            rgb=clip.rgb,
            alpha=_byte(clip.alpha),
            dense_pose=_byte(clip.dense_pose),
            normals=np.rint(clip.normals * 127).astype(np.int8),
            scene_disparity=scene.astype(np.float16),
            human_disparity=person.astype(np.float16),
            xy=np.nan_to_num(clip.keypoints_2d / np.array([width, height])).astype(np.float32),
            xyz=np.nan_to_num(clip.keypoints_3d - clip.keypoints_3d[:, :1]).astype(np.float32),
            visibility=np.full_like(clip.visibility, -1.0) if nobody else clip.visibility.astype(np.float32),
        )

    @property
    def frames(self) -> int:
        return len(self.rgb)

    def window(self, start: int, frames: int) -> TrainingClip:
        """`frames` frames from `start` on."""
        return TrainingClip(*(getattr(self, f.name)[start : start + frames] for f in fields(self)))


@dataclass
class ClipBatch:
    """Clips on the device, channels first: video and dense quantities (B, C, T, H, W) float32."""

    rgb: Tensor
    alpha: Tensor
    dense_pose: Tensor
    normals: Tensor
    scene_disparity: Tensor
    human_disparity: Tensor
    keypoints: Keypoints

    @classmethod
    def of(cls, clips: Sequence[TrainingClip], device: torch.device | str = "cpu") -> ClipBatch:
        """Stored integers cross to the device and become floats there."""

        def video(name: str, scale: float) -> Tensor:
            stacked = torch.from_numpy(np.stack([getattr(clip, name) for clip in clips])).to(device)
            stacked = stacked[..., None] if stacked.ndim == 4 else stacked
            return stacked.permute(0, 4, 1, 2, 3).float() * scale

        def points(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(clip, name) for clip in clips])).to(device)

        return cls(
            rgb=video("rgb", 1 / 127.5) - 1,
            alpha=video("alpha", 1 / 255),
            dense_pose=video("dense_pose", 1 / 255),
            normals=video("normals", 1 / 127),
            scene_disparity=video("scene_disparity", 1.0),
            human_disparity=video("human_disparity", 1.0),
            keypoints=Keypoints(points("xy"), points("xyz"), points("visibility")),
        )

    def __len__(self) -> int:
        return len(self.rgb)

    def select(self, rows: Sequence[int]) -> ClipBatch:
        """Those samples, in that order."""
        index = torch.tensor(rows, device=self.rgb.device)
        values = [getattr(self, f.name) for f in fields(self)[:-1]]
        return ClipBatch(*(v[index] for v in values), Keypoints(*(v[index] for v in self.keypoints)))

    def shrunk(self, factor: int) -> ClipBatch:
        """The dense targets averaged over factor x factor pixels, a person's disparity over its own pixels among them;
        video and keypoints as they are."""

        def mean(x: Tensor) -> Tensor:
            return avg_pool3d(x, (1, factor, factor))

        small = {name: mean(getattr(self, name)) for name in ("alpha", "dense_pose", "normals", "scene_disparity")}
        person = self.human.float()  # off the person its disparity says 0, which is no depth to average with
        disparity = mean(self.human_disparity * person) / mean(person).clamp_min(1e-6)
        return replace(self, **small, human_disparity=disparity)

    @property
    def human(self) -> Tensor:
        """(B, 1, T, H, W) bool: the person."""
        return self.alpha > 0.5

    def target(self, task: str) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1], by the task's codec; `rgb` is the input itself (for the VAE)."""
        if task == "rgb":
            return self.rgb
        human = self.human
        match task:
            case "scene_depth":
                value = self.scene_disparity
            case "human_depth":
                value = self.human_disparity
            case "foreground":
                value = self.alpha
            case "dense_pose":
                value = self.dense_pose
            case "scene_normals":
                value = self.normals
            case "human_normals":
                value = self.normals * human
            case _:
                raise ValueError(f"'{task}' has no dense target")
        codec = get_task(task).codec
        assert codec is not None
        value = value.permute(0, 2, 3, 4, 1)
        return codec.to_rgb(value[..., 0] if codec.channels == 1 else value).permute(0, 4, 1, 2, 3).contiguous()

    def mask(self, task: str) -> Tensor:
        """(B, 1, T, H, W) bool: where the target is defined."""
        if get_task(task).human:
            return self.human
        if task == "scene_normals":  # the sky has none
            return self.normals.square().sum(1, keepdim=True) > 0.25
        return torch.ones_like(self.human)


def _byte(x: np.ndarray) -> np.ndarray:
    """To the nearest of 0 .. 255, one half to 127: what is not above 0.5 must not come back above it."""
    return np.ceil(np.clip(x, 0, 1) * 255 - 0.5).astype(np.uint8)
