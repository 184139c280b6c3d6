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
from thfm_ros.engine.manifest import FORMAT, EngineInfo, Golden, Manifest, Stage, file_entry, write_manifest
from thfm_ros.engine.stage_table import Geometry, TensorSpec, base_name
from thfm_ros.tasks import TASKS

T, H, W, C, JOINTS, TOKENS, TEXT = 5, 32, 48, 4, 32, 3, 8
SHAPE = (T, H, W, 3)
WINDOW = (24, 16)  # height and width
GEOMETRY = Geometry(T, H, W, (C, 2, 2, 3), JOINTS, (TOKENS, TEXT), ((2, 1), (4, 1)), (4,), WINDOW[::-1])
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
    functions = {
        "encode": _encode, "keypoints": _keypoints, "transform": _transform, "decode": _decode, "windows": _windows
    }  # fmt: skip
    names = [*functions, "transform_x4", "decode_x4", "windows_x2"]
    return {n: ToyStage(GEOMETRY.inputs(n), GEOMETRY.outputs(n), functions[base_name(n)]) for n in names}


def toy_prompts() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {task: rng.normal(size=(TOKENS, TEXT)).astype(np.float32) for task in sorted(TASKS)}  # as files keep them


def toy_bundle(root: Path, flavor: str, version: str, capability: str) -> Path:
    """A bundle whose engines hold their stages' names."""
    stages, golden = toy_stages(), {}
    for name, stage in stages.items():
        made = stage(list(golden_inputs(name, stage.inputs, toy_prompts(), SEED).values()))
        golden[name] = {t.name: statistics(x) for t, x in zip(stage.outputs, made, strict=True)}
    seeds = {base_name(name): SEED for name in stages}
    engine = EngineInfo(flavor, version, (capability,), platform_name())
    manifest = named_manifest(root, stages, toy_prompts(), engine, GEOMETRY)
    write_manifest(dataclasses.replace(manifest, golden=Golden(seeds, TOLERANCE, golden)))
    return root


def named_manifest(
    root: Path,
    stages: dict[str, ToyStage],
    prompts: dict[str, np.ndarray],
    engine: EngineInfo,
    geometry: Geometry,
) -> Manifest:
    """With its files in a new folder."""
    root.mkdir()
    save_file(prompts, root / "prompts.safetensors")
    described = {}
    for name, stage in stages.items():
        (root / f"{name}.engine").write_text(name)
        entry = file_entry(root, root / f"{name}.engine")
        described[name] = Stage("fp32", stage.inputs, stage.outputs, engine=entry)
    return Manifest(
        format=FORMAT, target="toy", backends=("tensorrt",), checkpoint="toy", recipe="toy.yaml", preset="toy",
        trained=False, frames=geometry.frames, height=geometry.height, width=geometry.width, fps=12.0,
        latent_shape=geometry.latent_shape, tasks=tuple(TASKS),
        joint_set="thfm32", stages=described, weights=(), weights_sha256="", engine=engine, root=root,
        prompts=file_entry(root, root / "prompts.safetensors"),
    )  # fmt: skip
