"""A network in a few lines of numpy, with stages and batches as bundles have them. A robot has no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from thfm_ros.engine.device import platform_name
from thfm_ros.engine.golden import SEED, TOLERANCE, golden_inputs, statistics
from thfm_ros.engine.manifest import (
    FORMAT,
    EngineInfo,
    Golden,
    Manifest,
    Stage,
    TensorSpec,
    base_name,
    file_entry,
    write_manifest,
)
from thfm_ros.tasks import TASKS

T, H, W, C, JOINTS, TOKENS, TEXT = 5, 32, 48, 4, 32, 3, 8
LATENT = (C, 2, 2, 3)
SHAPE = (T, H, W, 3)
WINDOW = (24, 16)  # height and width
Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class ToyStage:
    """Inputs and outputs, and what makes the one of the other: float32 but for frames."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    function: Callable[..., list[np.ndarray]]

    def __call__(self, inputs: Arrays) -> list[np.ndarray]:
        return [np.asarray(y, np.float32) for y in self.function(*inputs)]


def _encode(frames: np.ndarray) -> list[np.ndarray]:
    video = (frames.astype(np.float32) / 127.5 - 1).transpose(0, 4, 1, 2, 3)
    coarse = video[:, :, ::4, ::16, ::16]  # (1, 3, 2, 2, 3)
    features = [video[:, :1, :, ::s, ::s] * s for s in (2, 4)]
    return [np.concatenate((coarse, coarse[:, :1] * 2), 1), *features]


def _transform(latents: np.ndarray, prompt: np.ndarray) -> list[np.ndarray]:
    return [latents * (1 + prompt.mean((1, 2)))[:, None, None, None, None]]


def _keypoints(latents: np.ndarray, prompt: np.ndarray, features: np.ndarray) -> list[np.ndarray]:
    level = latents.mean() + prompt.mean() + features.mean((0, 1, 3, 4))[None, :, None]  # (1, T, 1)
    joints = level + np.arange(JOINTS) / JOINTS
    return [np.stack([joints, -joints], -1), np.stack([joints, joints, -joints], -1), joints]


def _windows(frames: np.ndarray, prompt: np.ndarray) -> list[np.ndarray]:
    level = frames.astype(np.float32).mean((2, 3, 4))[..., None] / 255 + prompt.mean((1, 2))[:, None, None]  # (N, T, 1)
    joints = level + np.arange(JOINTS) / JOINTS
    return [np.stack([joints, -joints], -1), np.stack([joints, joints, -joints], -1), joints]


def _decode(latents: np.ndarray, fine: np.ndarray, coarse: np.ndarray) -> list[np.ndarray]:
    large = latents[:, :3, [0, 1, 1, 1, 1]].repeat(16, 3).repeat(16, 4)
    seen = fine.repeat(2, 3).repeat(2, 4) + coarse.repeat(4, 3).repeat(4, 4)
    return [np.tanh(large + seen)]


def toy_stages() -> dict[str, ToyStage]:
    """All of them."""

    def latents(n: int, name: str = "latents") -> TensorSpec:
        return TensorSpec(name, (n, *LATENT))

    def prompt(n: int) -> TensorSpec:
        return TensorSpec("prompt", (n, TOKENS, TEXT))

    features = tuple(TensorSpec(f"features_{s}", (1, 1, T, H // s, W // s)) for s in (2, 4))
    points = {"xy": (JOINTS, 2), "xyz": (JOINTS, 3), "visibility": (JOINTS,)}
    outputs = tuple(TensorSpec(name, (1, T, *shape)) for name, shape in points.items())
    stages = {
        "encode": ToyStage((TensorSpec("frames", (1, *SHAPE), "uint8"),), (latents(1), *features), _encode),
        "keypoints": ToyStage((latents(1), prompt(1), features[1]), outputs, _keypoints),
    }
    for n, suffix in ((1, ""), (4, "_x4")):
        stages[f"transform{suffix}"] = ToyStage((latents(n), prompt(n)), (latents(n, "target"),), _transform)
        video = TensorSpec("video", (n, 3, T, H, W))
        stages[f"decode{suffix}"] = ToyStage((latents(n), *features), (video,), _decode)
    for n, name in ((1, "windows"), (2, "windows_x2")):
        found = tuple(TensorSpec(t.name, (n, *t.shape[1:])) for t in outputs)
        people = TensorSpec("frames", (n, T, *WINDOW, 3), "uint8")
        stages[name] = ToyStage((people, prompt(n)), found, _windows)
    return stages


def toy_prompts() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {task: rng.normal(size=(TOKENS, TEXT)).astype(np.float32) for task in sorted(TASKS)}  # as files keep them


def toy_bundle(root: Path, flavor: str, version: str, capability: str) -> Path:
    """A bundle whose engines hold their stages' names."""
    stages, golden = toy_stages(), {}
    for name, stage in stages.items():
        made = stage(golden_inputs(name, stage.inputs, toy_prompts(), SEED))
        golden[name] = {t.name: statistics(x) for t, x in zip(stage.outputs, made, strict=True)}
    seeds = {base_name(name): SEED for name in stages}
    engine = EngineInfo(flavor, version, (capability,), platform_name())
    manifest = named_manifest(root, stages, toy_prompts(), engine, (T, H, W), LATENT)
    write_manifest(dataclasses.replace(manifest, golden=Golden(seeds, TOLERANCE, golden)))
    return root


def named_manifest(
    root: Path,
    stages: dict[str, ToyStage],
    prompts: dict[str, np.ndarray],
    engine: EngineInfo,
    clip: tuple[int, int, int],
    latent: tuple[int, int, int, int],
) -> Manifest:
    """With its files in a new folder. clip: frames, height, width."""
    root.mkdir()
    save_file(prompts, root / "prompts.safetensors")
    described = {}
    for name, stage in stages.items():
        (root / f"{name}.engine").write_text(name)
        entry = file_entry(root, root / f"{name}.engine")
        described[name] = Stage("fp32", stage.inputs, stage.outputs, engine=entry)
    frames, height, width = clip
    return Manifest(
        format=FORMAT, target="toy", backends=("tensorrt",), checkpoint="toy", recipe="toy.yaml", preset="toy",
        trained=False, frames=frames, height=height, width=width, fps=12.0, latent_shape=latent, tasks=tuple(TASKS),
        joint_set="thfm32", stages=described, weights=(), weights_sha256="", engine=engine, root=root,
        prompts=file_entry(root, root / "prompts.safetensors"),
    )  # fmt: skip
