"""Attention becomes one kernel in the engines that TensorRT builds, which its builder says without a GPU.

A kernel for each softmax that is left over would write and read what it weighs: gigabytes at Wan's 7800 tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from thfm_ros.engine.build_trt import Built, compile_onnx
from thfm_ros.engine.export import export_onnx
from thfm_ros.engine.modules import StageModule, geometry_of, network_stages
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig
from thfm_ros.model.presets import get_preset, vae_class
from thfm_ros.model.transformer import THFMTransformer3DModel

pytest.importorskip("tensorrt_rtx")


def stages(preset: str, dtype: torch.dtype, layers: int, frames: int | None = None) -> dict[str, StageModule]:
    """Of a preset with random weights and fewer layers; its clip may be shorter."""
    chosen = get_preset(preset)
    with torch.device("meta"):  # of the autoencoder only the sizes matter here
        vae = vae_class(chosen.vae)(**chosen.vae).to(dtype)
    transformer = THFMTransformer3DModel(**{**chosen.transformer, "num_layers": layers}).eval()
    for part, parameter in transformer.named_parameters():  # as a checkpoint is loaded
        if not set(transformer._keep_in_fp32_modules) & set(part.split(".")):
            parameter.data = parameter.data.to(dtype)
    checkpoint = Checkpoint(vae, transformer, {}, CheckpointConfig.of(chosen))
    return network_stages(checkpoint, geometry_of(checkpoint, frames))


def built(stage: StageModule, folder: Path) -> tuple[Built, Counter[str]]:
    """The engine for an Ada GPU, and how often its kernels' names begin with what they do."""
    export_onnx(stage, folder / "stage.onnx")
    said: list[str] = []
    engine = compile_onnx(folder / "stage.onnx", "tensorrt_rtx", ("SM89",), listen=said.append)
    names = [name for text in said for name in re.findall(r"^Name: (\w+), LayerType: ", text, re.MULTILINE)]
    assert names  # the builder lists its layers
    return engine, Counter("attention" if n.startswith("_gemm_mha") else n for n in names)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["transform", "keypoints"])
def test_nano(name: str, tmp_path: Path) -> None:
    """Each layer attends within the window's first latent frame, within the others, and to the prompt."""
    engine, kernels = built(stages("nano", torch.float16, 2)[name], tmp_path)
    assert kernels["attention"] == 3 * 2, kernels
    assert engine.weights > 1 << 20
    assert 0 < engine.scratch < 64 << 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_blocks_of_wan_at_full_size(tmp_path: Path) -> None:
    """To itself and to the prompt. What lies between layers is less than one head's weights in float32 would be."""
    engine, kernels = built(stages("wan-1.3b", torch.bfloat16, 2, frames=17)["transform"], tmp_path)
    assert kernels["attention"] == 2 * 2, kernels
    tokens = 7800
    assert engine.scratch < 12 * 4 * tokens**2 / 4  # 730 MB; all heads' weights would be 2.9 GB
