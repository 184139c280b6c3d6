"""Every stage exports to ONNX (opset 20) and gives the same numbers there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from thfm_ros.model.presets import build
from thfm_ros.model.stages import TransformStage
from thfm_ros.model.vae import (
    FlatDecoder,
    FlatEncoder,
    StreamDecoderInit,
    StreamDecoderStep,
    StreamEncoderInit,
    StreamEncoderStep,
)


def stage(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A stage of the tiny preset and its inputs."""
    vae, transformer = build("tiny")
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, 5, 32, 48, generator=generator) * 2 - 1
    prompt = torch.randn(1, 4, 16, generator=generator)
    latents = FlatEncoder(vae)(video)
    one = latents[:, :, 1:].contiguous()
    match name:
        case "encode":
            return FlatEncoder(vae), (video,)
        case "decode":
            return FlatDecoder(vae), (latents,)
        case "transform":
            return TransformStage(transformer), (latents, prompt)
        case "transform with keypoints and a fixed prompt":
            return TransformStage(transformer, prompt, keypoints=True), (latents,)
        case "causal transform":
            transformer.register_to_config(attention="causal")
            return TransformStage(transformer, keypoints=True), (latents, prompt)
        case "stream encode start":
            return StreamEncoderInit(vae), (video[:, :, :1].contiguous(),)
        case "stream encode step":
            caches = StreamEncoderInit(vae)(video[:, :, :1])[1:]
            return StreamEncoderStep(vae), (video[:, :, 1:].contiguous(), *caches)
        case "stream decode start":
            return StreamDecoderInit(vae), (latents[:, :, :1].contiguous(),)
        case "stream decode step":
            return StreamDecoderStep(vae), (one, *StreamDecoderInit(vae)(latents[:, :, :1])[1:])
    raise ValueError(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "encode",
        "decode",
        "transform",
        "transform with keypoints and a fixed prompt",
        "causal transform",
        "stream encode start",
        "stream encode step",
        "stream decode start",
        "stream decode step",
    ],
)
@torch.no_grad()
def test_stage_exports_with_the_same_numbers(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module, inputs = stage(name)
    inputs = tuple(tensor.contiguous() for tensor in inputs)
    expected = module.eval()(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    file = tmp_path / "stage.onnx"
    torch.onnx.export(module, inputs, dynamo=True, opset_version=20, optimize=True, verbose=False).save(str(file))
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert not operators & {"ScatterND", "Loop", "If", "Resize", "Sin", "Cos"}  # no in-place writes, constants folded
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    feeds = {slot.name: tensor.numpy() for slot, tensor in zip(session.get_inputs(), inputs, strict=True)}
    found = session.run(None, feeds)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), b, atol=1e-4, rtol=0)
