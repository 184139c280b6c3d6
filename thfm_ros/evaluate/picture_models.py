"""What is measured on pictures: a network behind three functions of arrays, and our own runtimes as one.

Images are (N, 3, H, W) float32 RGB in [-1, 1]. A network that is being trained needs these functions and nothing else:

    @torch.inference_mode()
    def keypoints(images):
        found = network(torch.from_numpy(images))
        return found.xy.numpy(), found.visibility.sigmoid().numpy()
    coco.measure(FunctionModel(keypoints), "DIR")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.predictors import THFMPredictor, fingerprint, upright_skeleton
from thfm_ros.letterbox import Letterbox
from thfm_ros.skeleton import convert
from thfm_ros.stream.crowd import detector
from thfm_ros.stream.estimator import StreamConfig, StreamEstimator
from thfm_ros.stream.people import score_of
from thfm_ros.tasks import TASKS

if TYPE_CHECKING:
    from thfm_ros.engine.results import Keypoints
    from thfm_ros.engine.runtime import Runtime

LEAST_SCORE = 0.1  # of people in a picture: average precision ranks them itself
MOST_PEOPLE = 20
Keypoints2D = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # images -> xy (N, K, 2) in [0, 1], (N, K)
Keypoints3D = Callable[[np.ndarray], np.ndarray]  # images -> (N, K, 3) metres, any root, camera axes
Masks = Callable[[np.ndarray], np.ndarray]  # images -> (N, h, w) of people in [0, 1], h and w of any size


@dataclass(frozen=True)
class FoundPerson:
    """Somebody in a picture. keypoints: (17, 3) COCO's joints: pixels, (0, 0) the middle of the first, and visibility.

    mask: (H, W) bool of this person, where it is known. score: how sure it is that there is somebody.
    """

    keypoints: np.ndarray
    score: float
    mask: np.ndarray | None = None


class PictureModel(Protocol):
    """window, picture: (width, height) that people's crops and whole pictures are brought to.

    identity: everything that the numbers depend on, JSON values. fps: frames a second of its clips.
    """

    name: str
    identity: dict[str, Any]
    joint_set: str
    window: tuple[int, int]
    picture: tuple[int, int]
    fps: float

    def keypoints(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Windows -> xy (N, K, 2) in [0, 1] of the window, visibility (N, K) in [0, 1]."""
        ...

    def joints(self, images: np.ndarray) -> np.ndarray:
        """Windows -> (N, K, 3) metres in camera axes, relative to any root."""
        ...

    def clip_joints(self, frames: np.ndarray) -> np.ndarray:
        """Windows of one person in frames that follow each other, (T, H, W, 3) uint8 -> (T, K, 3) as `joints`."""
        ...

    def alpha(self, image: np.ndarray) -> np.ndarray:
        """A whole picture (H, W, 3) uint8 -> (H, W) of all people in [0, 1]."""
        ...

    def people(self, image: np.ndarray) -> tuple[list[FoundPerson], np.ndarray]:
        """A whole picture (H, W, 3) uint8 -> everybody in it, and alpha (H, W) of all of them in [0, 1]."""
        ...


class FunctionModel:
    """Plain functions as a model; `people` finds the one person that the keypoints of the whole picture are."""

    def __init__(
        self,
        keypoints: Keypoints2D | None = None,
        joints: Keypoints3D | None = None,
        masks: Masks | None = None,
        window: tuple[int, int] = (112, 144),
        picture: tuple[int, int] = (240, 144),
        joint_set: str = "thfm32",
        name: str = "network",
        fps: float = 12.0,
    ) -> None:
        self._keypoints, self._joints, self._masks = keypoints, joints, masks
        self.window, self.picture, self.joint_set, self.name, self.fps = window, picture, joint_set, name, fps
        self.identity: dict[str, Any] = {"model": name, "window": list(window), "picture": list(picture)}
        self.gives_keypoints, self.gives_masks = keypoints is not None, masks is not None

    def keypoints(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._keypoints is None:
            raise UserError(f"{self.name} gives no 2D keypoints: expected the function `keypoints`")
        return self._keypoints(images)

    def joints(self, images: np.ndarray) -> np.ndarray:
        if self._joints is None:
            raise UserError(f"{self.name} gives no 3D joints: expected the function `joints`")
        return self._joints(images)

    def clip_joints(self, frames: np.ndarray) -> np.ndarray:
        return self.joints(to_network(frames))

    def alpha(self, image: np.ndarray) -> np.ndarray:
        if self._masks is None:
            raise UserError(f"{self.name} gives no masks: expected the function `masks`")
        small, letterbox = self._letterboxed(image)
        return enlarged(self._masks(small)[0], letterbox)

    def people(self, image: np.ndarray) -> tuple[list[FoundPerson], np.ndarray]:
        small, letterbox = self._letterboxed(image)
        alpha = enlarged(self._masks(small)[0], letterbox) if self._masks else np.zeros(image.shape[:2], np.float32)
        if self._keypoints is None:
            return [], alpha
        xy, visibility = self._keypoints(small)
        return [found_person(xy[0], visibility[0], alpha, letterbox, self.joint_set)], alpha

    def _letterboxed(self, image: np.ndarray) -> tuple[np.ndarray, Letterbox]:
        letterbox = Letterbox.of((image.shape[1], image.shape[0]), self.picture)
        return to_network(letterbox.apply(image)[None]), letterbox


def constant_model() -> FunctionModel:
    """A baseline that ignores the picture: an upright skeleton in the middle, facing the camera, and no mask."""
    body = upright_skeleton()
    flat = body[:, :2] * (0.8 / np.ptp(body[:, 1]))  # heights of the window
    window = (112, 144)

    def keypoints(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        aspect = images.shape[2] / images.shape[3]
        xy = np.stack([flat[:, 0] * aspect + 0.5, flat[:, 1] + 0.5 - flat[:, 1].mean()], -1)
        return np.repeat(xy[None], len(images), 0), np.ones((len(images), len(xy)))

    def joints(images: np.ndarray) -> np.ndarray:
        return np.repeat(body[None], len(images), 0)

    def masks(images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), *images.shape[2:]), np.float32)

    return FunctionModel(keypoints, joints, masks, window, name="constant")


class RuntimeModel:
    """A checkpoint or bundle. A picture is repeated as a clip, and the prediction of the last frame counts.

    Where the network takes windows around people, joints come from those, and whole pictures show everyone whom the
    estimator of a robot finds in them.
    """

    def __init__(self, runtime: Runtime, name: str = "") -> None:
        manifest = runtime.manifest
        missing = [t for t in ("foreground", "keypoints_2d", "keypoints_3d") if t not in manifest.tasks]
        if missing:
            raise UserError(f"expected a network that gives {', '.join(missing)} too, found {list(manifest.tasks)}")
        self.runtime = runtime
        self.picture = (manifest.width, manifest.height)
        self.own_windows: tuple[int, int] | None = getattr(manifest, "windows", None)
        self.window = self.own_windows or _largest_window(*self.picture)
        self.joint_set, self.fps = manifest.joint_set, manifest.fps
        self.name = name or f"THFM {manifest.preset}"
        self.identity: dict[str, Any] = {
            "model": manifest.preset,
            "trained": manifest.trained,
            "network": f"{manifest.width}x{manifest.height}x{manifest.frames}",
            "backend": manifest.backend,
            "windows": list(self.own_windows or ()),
        }

    @classmethod
    def open(cls, path: Path, backend: str = "auto", threads: int | None = None) -> RuntimeModel:
        """From a checkpoint or bundle folder."""
        from thfm_ros.engine.load import load_runtime

        if not path.is_dir():
            raise UserError(f"no checkpoint or bundle at {path}: make one with thfm train or thfm init")
        model = cls(load_runtime(path, backend, threads))
        model.identity |= {"weights": str(path), "fingerprint": fingerprint(path)}
        return model

    def keypoints(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [self._windows(image) for image in images]
        return np.stack([xy for xy, _, _ in found]), np.stack([visibility for _, _, visibility in found])

    def joints(self, images: np.ndarray) -> np.ndarray:
        return np.stack([self._windows(image)[1] for image in images])

    def clip_joints(self, frames: np.ndarray) -> np.ndarray:
        predictor = THFMPredictor(self.runtime, ["keypoints_3d"])
        if self.own_windows is None:
            return predictor.predict(frames)["keypoints_3d"]
        out = np.zeros((0, 0, 3))
        for start in predictor.starts(len(frames)):
            clip = frames[start : start + predictor.frames]
            filled = np.concatenate([clip, np.repeat(clip[-1:], predictor.frames - len(clip), 0)])
            (found,) = self.runtime.predict_windows(filled[None], ["keypoints_3d"])
            new = np.asarray(found.xyz, float)[max(len(out) - start, 0) : len(clip)]
            out = np.concatenate([out, new]) if len(out) else new
        return out

    def alpha(self, image: np.ndarray) -> np.ndarray:
        return self._whole(image, ["foreground"])[0]

    def people(self, image: np.ndarray) -> tuple[list[FoundPerson], np.ndarray]:
        if detector(self.runtime.manifest):
            return self._everyone(image)
        alpha, found, letterbox = self._whole(image, ["foreground", "keypoints_2d", "keypoints_3d"])
        assert found is not None
        return [found_person(found.xy[-1], found.visibility[-1], alpha, letterbox, self.joint_set)], alpha

    def _everyone(self, image: np.ndarray) -> tuple[list[FoundPerson], np.ndarray]:
        config = StreamConfig(output="input", min_score=LEAST_SCORE, max_people=MOST_PEOPLE, joint_noise_m=0.0)
        estimator = StreamEstimator(self.runtime, config)
        estimator.push(0, np.ascontiguousarray(image))
        (result,) = estimator.finish(["foreground", "keypoints_2d", "keypoints_3d"])
        assert result.foreground is not None
        people = []
        for person in result.people:
            mask = result.instances == person.label if person.label and result.instances is not None else None
            people.append(FoundPerson(as_coco(person.xy - 0.5, person.confidence, self.joint_set), person.score, mask))
        return people, result.foreground

    def _whole(self, image: np.ndarray, tasks: list[str]) -> tuple[np.ndarray, Keypoints | None, Letterbox]:
        letterbox = Letterbox.of((image.shape[1], image.shape[0]), self.picture)
        prediction = self.runtime.predict(self._clip(letterbox.apply(image)), tasks)
        codec = TASKS["foreground"].codec
        assert codec is not None
        return enlarged(codec.from_rgb(prediction.dense["foreground"][-1]), letterbox), prediction.keypoints, letterbox

    def _windows(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """xy in [0, 1] of the window, xyz, visibility of one window (3, h, w), letterboxed into the network's size."""
        if self.own_windows is not None:
            frame = np.rint(127.5 * (image.transpose(1, 2, 0) + 1.0)).clip(0, 255).astype(np.uint8)
            clip = np.repeat(frame[None, None], self.runtime.manifest.frames, 1)
            (person,) = self.runtime.predict_windows(clip, ["keypoints_2d", "keypoints_3d"])
            return person.xy[-1], person.xyz[-1], person.visibility[-1]
        size = (image.shape[2], image.shape[1])
        letterbox = Letterbox.of(size, self.picture)
        placed = letterbox.apply(np.ascontiguousarray(image.transpose(1, 2, 0)) + 1.0) - 1.0  # black is -1
        pixels = np.rint(127.5 * (placed + 1.0)).clip(0, 255).astype(np.uint8)
        found = self.runtime.predict(self._clip(pixels), ["keypoints_2d", "keypoints_3d"]).keypoints
        assert found is not None
        xy = letterbox.points_to_source(found.xy[-1] * np.array(self.picture)) / size
        return xy, found.xyz[-1], found.visibility[-1]

    def _clip(self, image: np.ndarray) -> np.ndarray:
        return np.repeat(image[None], self.runtime.manifest.frames, 0)


def to_network(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32 in [-1, 1]."""
    return (np.asarray(images).astype(np.float32) / 127.5 - 1.0).transpose(0, 3, 1, 2)


def enlarged(alpha: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """(h, w) of a letterboxed picture -> (H, W) of the picture itself."""
    import cv2

    if alpha.shape != (letterbox.target[1], letterbox.target[0]):
        alpha = cv2.resize(np.ascontiguousarray(alpha), letterbox.target, interpolation=cv2.INTER_LINEAR)
    content = np.ascontiguousarray(letterbox.crop(alpha[..., None])[..., 0])
    return cv2.resize(content, letterbox.source, interpolation=cv2.INTER_LINEAR)


def found_person(
    xy: np.ndarray, visibility: np.ndarray, alpha: np.ndarray, letterbox: Letterbox, joint_set: str
) -> FoundPerson:
    """The one person of a whole picture: joints (K, 2) in [0, 1] of the letterboxed one, everybody's mask."""
    pixels = letterbox.points_to_source(np.asarray(xy, float) * np.array(letterbox.target)) - 0.5
    return FoundPerson(as_coco(pixels, visibility, joint_set), score_of(np.asarray(visibility)), alpha > 0.5)


def as_coco(xy: np.ndarray, visibility: np.ndarray, joint_set: str) -> np.ndarray:
    """(17, 3) of (K, 2) and (K,)."""
    joints = np.concatenate([xy, np.asarray(visibility, float)[:, None]], 1)
    return convert(joints, joint_set, "coco17")


def _largest_window(width: int, height: int) -> tuple[int, int]:
    """The largest window of 112:144 in the network's input."""
    high = min(height, int(width * 144 / 112))
    return max(1, round(high * 112 / 144)), high
