"""`THFMPipeline`: a video and task names in, predictions in physical units out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics, metric_disparity, solve_root
from thfm_ros.letterbox import Letterbox
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.model.codecs import Codec, decode_clip, encode_clip
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.prompts import get_embedder
from thfm_ros.model.stages import TransformStage
from thfm_ros.model.transformer import THFMTransformer3DModel
from thfm_ros.model.vae import check_range
from thfm_ros.model.windows import merge_windows, window_frames, window_starts
from thfm_ros.quantities import DISPARITY
from thfm_ros.tasks import TASKS, get_task
from thfm_ros.video import VideoReader, stack

FREE_TEXT = "prompt"  # the name of a free text's output
FARTHEST_M = 1000.0


@dataclass
class Skeleton:
    """The main person in N frames, joints in the order of the checkpoint's joint set.

    xy: (N, K, 2) continuous pixels of the input video. xyz: (N, K, 3) metres relative to the pelvis, camera axes.
    visibility: (N, K) probabilities. root: (N, 3) metres, the pelvis in the camera frame; None without intrinsics,
    NaN in frames where it cannot be known.
    """

    xy: np.ndarray
    xyz: np.ndarray
    visibility: np.ndarray
    root: np.ndarray | None = None


@dataclass
class THFMPrediction(BaseOutput):
    """maps: the physical quantity of each dense task at the input's size (disparity, alpha (N, H, W); normals, dense
    pose (N, H, W, 3)); of a free text under "prompt": RGB (N, H, W, 3) in [-1, 1].
    depth: (N, H, W) metres along z for each depth task, NaN where unknown; only with intrinsics and keypoints.
    """

    maps: dict[str, np.ndarray] = field(default_factory=dict)
    keypoints: Skeleton | None = None
    depth: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Request:
    """Prompts (L, D) of the dense outputs and of the sparse pass; joint: the first dense pass has its tokens active."""

    dense: dict[str, Tensor]
    sparse: Tensor | None
    joint: bool
    attention: str | None
    batch: int
    low_memory: bool


class THFMPipeline(DiffusionPipeline):
    """Encodes each window once for all tasks, batches the tasks, and decodes dense ones only.

    Args:
        prompts: (P, L, D) embeddings a task; the first is used.
        decoder: decodes in the place of the VAE's own decoder.
    """

    def __init__(
        self,
        vae: Codec,
        transformer: THFMTransformer3DModel,
        prompts: dict[str, Tensor],
        config: CheckpointConfig,
        decoder: NarrowDecoder | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, transformer=transformer, decoder=decoder)
        self.prompts, self.checkpoint_config = prompts, config

    @classmethod
    def from_pretrained(
        cls, path: str | Path, torch_dtype: torch.dtype = torch.float32, vae_dtype: torch.dtype | None = None
    ) -> THFMPipeline:
        """From a checkpoint folder (`thfm_ros.model.checkpoint`)."""
        checkpoint = load_checkpoint(path, torch_dtype, vae_dtype)
        return cls(checkpoint.vae, checkpoint.transformer, checkpoint.prompts, checkpoint.config, checkpoint.decoder)

    def save_pretrained(self, path: str | Path) -> None:
        """To a checkpoint folder."""
        parts = (self.vae, self.transformer, self.prompts, self.checkpoint_config, self.decoder)
        save_checkpoint(path, Checkpoint(*parts))

    @torch.inference_mode()
    def __call__(
        self,
        video: np.ndarray | Tensor | str | Path,
        tasks: Sequence[str] | None = None,
        *,
        prompt: str | None = None,
        text_source: str | Path | None = None,
        intrinsics: Intrinsics | None = None,
        frames: int | None = None,
        overlap: int | None = None,
        joint: bool = False,
        attention: str | None = None,
        batch: int = 8,
        low_memory: bool = False,
    ) -> THFMPrediction:
        """Run the tasks on a video of any length and size (its aspect is kept by black borders).

        Args:
            tasks: names; None: all that the checkpoint has a prompt for.
            video: (N, H, W, 3) RGB, uint8 or floating point in [-1, 1]; or the path of a video file.
            prompt: a free text instead of `tasks`; the text encoder is loaded for it (`text_source`: where umt5 is),
                and the network alone decides what it means.
            intrinsics: of the video, for the person's place in the camera frame and for depth in metres.
            frames: window length, 4k + 1 (1: every frame by itself); None: the checkpoint's.
            overlap: frames shared by windows; None: a quarter.
            joint: keypoints from the pass of the first dense task, its tokens active, instead of a pass of their own.
            attention: `full` or `causal` over latent frames; None: the checkpoint's.
            batch: tasks in one pass at most.
            low_memory: run the VAE chunk by chunk; the same numbers, slower, in a fraction of the memory.
        """
        images = _as_frames(video)
        total, height, width = images.shape[:3]
        if intrinsics is not None and (intrinsics.width, intrinsics.height) != (width, height):
            raise UserError(
                f"expected intrinsics of the {width}x{height} video, found {intrinsics.width}x{intrinsics.height}: "
                "use Intrinsics.resized"
            )
        dense, sparse = self._prompts(self._known() if tasks is None else tasks, prompt, text_source, joint)
        request = _Request(
            dense, sparse, (joint or prompt is not None) and sparse is not None, attention, batch, low_memory
        )
        config = self.checkpoint_config
        place = Letterbox.of((width, height), (config.width, config.height))
        length = window_frames(total, frames or config.frames)
        shared = min(length // 4 + 1, length - 1) if overlap is None else overlap
        starts = window_starts(total, length, shared)
        windows: list[dict[str, np.ndarray]] = []
        for start in self.progress_bar(starts):
            clip = images[start : start + length]
            clip = np.concatenate((clip, np.repeat(clip[-1:], length - len(clip), 0)))
            windows.append(self._window(np.stack([place.apply(image) for image in clip]), request))
        merged = {
            name: merge_windows([w[name] for w in windows], starts, *_alignment(name))[:total] for name in windows[0]
        }
        prediction = THFMPrediction(maps={name: _to_source(merged[name], name, place) for name in dense})
        if "xy" in merged:
            size = (config.width, config.height)
            xy = place.points_to_source(merged["xy"] * size)
            prediction.keypoints = Skeleton(xy, merged["xyz"], merged["visibility"])
            if intrinsics is not None:
                _to_metres(prediction, prediction.keypoints, intrinsics)
        return prediction

    def _known(self) -> list[str]:
        return [name for name in TASKS if name in self.prompts]

    def _prompts(
        self, tasks: Sequence[str], prompt: str | None, text_source: str | Path | None, joint: bool
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Prompt (L, D) of each dense output, and of the sparse pass (None: there is none)."""
        if prompt is not None:
            config = self.checkpoint_config
            source = text_source if config.text_encoder == "umt5" else None
            embed = get_embedder(config.text_encoder, source, self.transformer.config.text_dim)
            text = embed([prompt], config.text_length)[0]
            return {FREE_TEXT: text}, text
        chosen = [get_task(name) for name in tasks]
        if not chosen:
            raise UserError(f"no task given: expected some of {', '.join(TASKS)}")
        missing = [task.name for task in chosen if task.name not in self.prompts]
        if missing:
            raise UserError(
                f"the checkpoint has no prompt for {', '.join(missing)}: it knows {', '.join(self.prompts)}"
            )
        dense = {task.name: self.prompts[task.name][0] for task in chosen if task.kind == "dense"}
        sparse = [task.name for task in chosen if task.kind == "sparse"]
        if joint and not dense:
            raise UserError("joint=True reads the keypoints from a dense task's pass, found no dense task")
        # The head gives 2D and 3D together, so one sparse pass serves both tasks.
        return dense, self.prompts[sparse[-1]][0] if sparse else None

    def _window(self, clip: np.ndarray, request: _Request) -> dict[str, np.ndarray]:
        """One window (T, h, w, 3) of the network's size -> RGB or disparity a dense output, and keypoint arrays."""
        weight = next(self.vae.parameters())
        pixels = torch.from_numpy(clip).to(weight.device).permute(3, 0, 1, 2)[None].float()
        pixels = pixels / 127.5 - 1 if clip.dtype == np.uint8 else pixels * 2 - 1
        pixels = pixels.to(weight.dtype)
        latents, features = encode_clip(self.vae, pixels, request.low_memory)
        out: dict[str, np.ndarray] = {}
        names = list(request.dense)
        if request.joint:  # the first dense pass has its tokens active
            video, points = self._transform(latents, [request.dense[names[0]]], request.attention, features)
            out |= self._decode(video, features, names[:1], request) | points
            names = names[1:]
        for index in range(0, len(names), request.batch):
            group = names[index : index + request.batch]
            video, _ = self._transform(latents, [request.dense[name] for name in group], request.attention)
            out |= self._decode(video, features, group, request)
        if request.sparse is not None and not request.joint:
            out |= self._transform(latents, [request.sparse], request.attention, features)[1]
        return out

    def _transform(
        self,
        latents: Tensor,
        prompts: Sequence[Tensor],
        attention: str | None,
        features: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        """Predict latents, and keypoints where the clip's `features` are given (empty ones of Wan's)."""
        weight = self.transformer.patch_embedding.weight
        stage = TransformStage(self.transformer, keypoints=features is not None, attention=attention)
        video, *points = stage(
            latents.to(weight).expand(len(prompts), -1, -1, -1, -1),
            torch.stack(list(prompts)).to(weight.device, weight.dtype),
            features[1] if features else None,
        )
        if not points:
            return video, {}
        xy, xyz, visibility = (p[0].float().cpu().numpy() for p in points)
        return video, {"xy": xy, "xyz": xyz, "visibility": 1 / (1 + np.exp(-visibility))}

    def _decode(
        self, latents: Tensor, features: tuple[Tensor, ...], names: Sequence[str], request: _Request
    ) -> dict[str, np.ndarray]:
        out = {}
        for name, latent in zip(names, latents, strict=True):  # one at a time: the decoder's memory is the peak
            latent = latent[None].to(next(self.vae.parameters()).dtype)
            video = decode_clip(self.vae, latent, features, request.low_memory, self.decoder)[0]
            rgb = video.float().permute(1, 2, 3, 0).cpu().numpy()
            task = TASKS.get(name)
            out[name] = task.codec.from_rgb(rgb) if task is not None and task.quantity is DISPARITY else rgb
        return out


def _alignment(name: str) -> tuple[bool, bool]:
    """Whether windows of an output need an affine alignment, and whether its background is 0."""
    task = TASKS.get(name)
    return (task.quantity is DISPARITY, task.human) if task is not None else (False, False)


def _as_frames(video: np.ndarray | Tensor | str | Path) -> np.ndarray:
    """(N, H, W, 3), uint8 or float32 in [0, 1]: black is 0, as the borders are."""
    if isinstance(video, (str, Path)):
        video = stack([image for _, image in VideoReader(video)], video)
    frames = video.detach().cpu() if isinstance(video, Tensor) else torch.from_numpy(np.ascontiguousarray(video))
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise UserError(f"expected video (N, H, W, 3), found {tuple(frames.shape)}")
    if frames.dtype == torch.uint8:
        return frames.numpy()
    if not frames.is_floating_point():
        raise UserError(f"expected video as uint8 or floating point in [-1, 1], found {frames.dtype}")
    check_range(frames)
    return ((frames.float() + 1) / 2).numpy()


def _to_source(values: np.ndarray, name: str, place: Letterbox) -> np.ndarray:
    """An output of the network's size -> the physical quantity at the input's size, borders removed."""
    inside = place.crop(values[..., None] if values.ndim == 3 else values)
    resized = np.stack([cv2.resize(image, place.source, interpolation=cv2.INTER_LINEAR) for image in inside])
    task = TASKS.get(name)
    return resized if task is None or task.quantity is DISPARITY else task.codec.from_rgb(resized)


def _to_metres(prediction: THFMPrediction, person: Skeleton, intrinsics: Intrinsics) -> None:
    """The person's root in every frame, and from it one scale and shift for each depth task over all frames."""
    weights = np.where(person.visibility > 0.5, person.visibility, 0.0)
    person.root = np.stack(
        [solve_root(xy, xyz, w, intrinsics) for xy, xyz, w in zip(person.xy, person.xyz, weights, strict=True)]
    )
    z = person.xyz[..., 2] + person.root[:, None, 2]
    for name, disparity in prediction.maps.items():
        if name not in TASKS or TASKS[name].quantity is not DISPARITY:
            continue
        n, height, width = disparity.shape
        # One tall image of all frames gives one closed-form fit over the whole video, whose scale is shared.
        inside = (person.xy[..., 1] >= 0) & (person.xy[..., 1] < height) & np.isfinite(z)
        tall = person.xy + np.stack([np.zeros(n), np.arange(n) * height], -1)[:, None]
        scale, shift = metric_disparity(
            disparity.reshape(n * height, width),
            tall.reshape(-1, 2),
            z.reshape(-1),
            np.where(inside, weights, 0.0).reshape(-1),
        )
        inverse = scale * disparity + shift
        known = (inverse > 1 / FARTHEST_M) & (disparity > 0 if TASKS[name].human else True)
        prediction.depth[name] = np.where(known, 1 / np.where(known, inverse, 1.0), np.nan).astype(np.float32)
