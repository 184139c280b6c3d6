"""What training sees of a clip: compact numpy arrays (what the cache stores), and batches of targets in RGB space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from thfm_ros.instances import encode
from thfm_ros.model.readout import Keypoints
from thfm_ros.quantities import INSTANCES
from thfm_ros.tasks import get_task, normalise_disparity

if TYPE_CHECKING:
    from thfm_ros.synth.sample import Clip, Person


@dataclass
class TrainingClip:
    """One clip in storage precision; K joints of thfm32, the main person's: the largest, or the one that is meant.

    rgb uint8 (T, H, W, 3); alpha uint8 (T, H, W); dense_pose uint8 (T, H, W, 3); normals int8 (T, H, W, 3), x 127;
    scene_disparity, human_disparity float16 (T, H, W) in [0, 1] over the clip; xy float32 (T, K, 2) normalised image
    coordinates; xyz float32 (T, K, 3) metres relative to the pelvis; visibility float32 (T, K), -1 where unknown. Where
    nobody is, no joint is visible and all lie in one point, which says nothing about where they are in space.
    instances uint8 (T, H, W): n where person n - 1 is, 0 where nobody is; people_xy (T, P, K, 2), people_xyz
    (T, P, K, 3), people_visibility (T, P, K): of all of them. scene bool (T,): whether the truth of scene tasks is
    known. Without these four, the mask is the main person's and the scene is known (clips from before they were kept).
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
    instances: np.ndarray | None = None
    people_xy: np.ndarray | None = None
    people_xyz: np.ndarray | None = None
    people_visibility: np.ndarray | None = None
    scene: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.instances is None:
            self.instances = (self.alpha > 127).astype(np.uint8)
        if self.people_xy is None or self.people_xyz is None or self.people_visibility is None:
            self.people_xy, self.people_xyz = self.xy[:, None], self.xyz[:, None]
            self.people_visibility = self.visibility[:, None]
        if self.scene is None:
            self.scene = np.ones(len(self.rgb), bool)

    @classmethod
    def of(cls, clip: Clip) -> TrainingClip:
        """From the generator's clip, whose depth is metres and whose 3D keypoints are in the camera's frame."""
        human = clip.alpha > 0.5
        height, width = clip.alpha.shape[1:]
        scene, _, _ = normalise_disparity(clip.depth)
        person, _, _ = normalise_disparity(clip.depth, human)
        everyone = [_joints(p, (width, height)) for p in clip.people] or [_joints(clip, (width, height))]
        xy, xyz, visibility = (np.stack(part, 1) for part in zip(*everyone, strict=True))
        return cls(
            rgb=clip.rgb,
            alpha=_byte(clip.alpha),
            dense_pose=_byte(clip.dense_pose),
            normals=np.rint(clip.normals * 127).astype(np.int8),
            scene_disparity=scene.astype(np.float16),
            human_disparity=person.astype(np.float16),
            xy=xy[:, 0],
            xyz=xyz[:, 0],
            visibility=visibility[:, 0],
            instances=clip.instances,
            people_xy=xy,
            people_xyz=xyz,
            people_visibility=visibility,
            scene=np.full(len(clip.rgb), clip.has_scene),
        )

    @property
    def frames(self) -> int:
        return len(self.rgb)

    @property
    def nbytes(self) -> int:
        """Memory that its arrays take."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def meaning(self, person: int) -> TrainingClip:
        """The same clip with the joints of that person (of `people_xy`) in the place of the main one's."""
        joints = (self.people_xy, self.people_xyz, self.people_visibility)
        xy, xyz, visibility = (part[:, person] for part in joints if part is not None)
        return replace(self, xy=xy, xyz=xyz, visibility=visibility)

    def without_joints(self) -> TrainingClip:
        """The same clip where nobody is meant: no joint is visible, none has a place in space."""
        return replace(self, xyz=np.zeros_like(self.xyz), visibility=np.zeros_like(self.visibility))

    def cut(self, left: int, top: int, right: int, bottom: int) -> TrainingClip:
        """Return the part of the pictures between these edges, in whole pixels, with joints where they are in it."""
        height, width = self.rgb.shape[1:3]
        corner, size = np.array([left, top]), np.array([right - left, bottom - top])

        def moved(xy: np.ndarray) -> np.ndarray:
            return ((xy * [width, height] - corner) / size).astype(np.float32)

        assert self.people_xy is not None
        pictures = ("rgb", "alpha", "dense_pose", "normals", "scene_disparity", "human_disparity", "instances")
        parts = {name: getattr(self, name)[:, top:bottom, left:right] for name in pictures}
        return replace(self, **parts, xy=moved(self.xy), people_xy=moved(self.people_xy))

    def window(self, start: int, frames: int) -> TrainingClip:
        """`frames` frames from `start` on."""
        return TrainingClip(*(getattr(self, f.name)[start : start + frames] for f in fields(self)))


@dataclass
class ClipBatch:
    """Clips on the device, channels first: video and dense quantities (B, C, T, H, W) float32.

    instances: (B, 1, T, H, W) whole numbers, n where a clip's person n - 1 is. scene: (B,) bool, whether the truth of
    scene tasks is known; None: of all clips.
    """

    rgb: Tensor
    alpha: Tensor
    dense_pose: Tensor
    normals: Tensor
    scene_disparity: Tensor
    human_disparity: Tensor
    keypoints: Keypoints
    instances: Tensor | None = None
    scene: Tensor | None = None

    def __post_init__(self) -> None:
        if self.instances is None:
            self.instances = self.human.to(self.alpha.dtype)
        if self.scene is None:
            self.scene = torch.ones(len(self.rgb), dtype=torch.bool, device=self.rgb.device)

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
            instances=video("instances", 1.0),
            scene=points("scene").all(1),
        )

    def __len__(self) -> int:
        return len(self.rgb)

    @classmethod
    def join(cls, batches: Sequence[ClipBatch]) -> ClipBatch:
        """Return the samples of all batches, of one size, as one."""
        parts = {f.name: [getattr(b, f.name) for b in batches] for f in fields(cls)}
        points = Keypoints(*(torch.cat(p) for p in zip(*parts.pop("keypoints"), strict=True)))
        return cls(**{name: torch.cat(p) for name, p in parts.items()}, keypoints=points)

    def select(self, rows: Sequence[int]) -> ClipBatch:
        """Selects those samples, in that order."""
        index = torch.tensor(rows, device=self.rgb.device)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        points = Keypoints(*(v[index] for v in values.pop("keypoints")))
        return ClipBatch(**{name: v[index] for name, v in values.items()}, keypoints=points)

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
        if task == "instances":
            return self._instances()
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

    def _instances(self) -> Tensor:
        """Every pixel's code of its person's centre, in RGB."""
        assert self.instances is not None
        ids = self.instances[:, 0].cpu().numpy().astype(np.int64)
        code = np.stack([np.stack([encode(frame) for frame in clip]) for clip in ids])
        rgb = torch.from_numpy(INSTANCES.to_rgb(code)).to(self.rgb)
        return rgb.permute(0, 4, 1, 2, 3).contiguous()

    def valid(self, task: str) -> Tensor:
        """(B,) bool: which clips have truth for the task; those that have none must not count in its loss."""
        assert self.scene is not None
        known = torch.ones_like(self.scene)
        return known if task == "rgb" or get_task(task).human else self.scene

    def known(self, clips: Sequence[int], tasks: Sequence[str]) -> Tensor:
        """(R,) 1 where the clip of that number has truth for that task, else 0: what a row's loss counts."""
        return torch.stack([self.valid(task)[clip] for clip, task in zip(clips, tasks, strict=True)]).float()

    def mask(self, task: str) -> Tensor:
        """(B, 1, T, H, W) bool: where the target is defined."""
        if get_task(task).human:
            return self.human
        known = self.valid(task).view(-1, 1, 1, 1, 1)
        if task == "scene_normals":  # the sky has none
            return known & (self.normals.square().sum(1, keepdim=True) > 0.25)
        return known.expand_as(self.human)


def _joints(who: Person | Clip, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xy, xyz and visibility as `TrainingClip` keeps them, of a person or of a clip that shows none."""
    xy = np.nan_to_num(who.keypoints_2d / np.array(size)).astype(np.float32)
    xyz = np.nan_to_num(who.keypoints_3d - who.keypoints_3d[:, :1]).astype(np.float32)
    return xy, xyz, who.visibility.astype(np.float32)


def _byte(x: np.ndarray) -> np.ndarray:
    """To the nearest of 0 .. 255, one half to 127: what is not above 0.5 must not come back above it."""
    return np.ceil(np.clip(x, 0, 1) * 255 - 0.5).astype(np.uint8)
