"""Nano's own parts in bundles, a guided decoder and keypoints from heatmaps: clips and streams equal torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_checkpoints import make_checkpoint

from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.runtime import StageRuntime, to_video
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS

RECIPES = Path(__file__).parents[2] / "engines"


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from thfm_ros.model.checkpoint import load_checkpoint, save_checkpoint
    from thfm_ros.model.guide import GuidedAutoencoderKLWan

    path = make_checkpoint("tiny", tmp_path_factory.mktemp("guided") / "tiny")
    checkpoint = load_checkpoint(path)
    torch.manual_seed(0)
    checkpoint.vae = vae = GuidedAutoencoderKLWan.grown(checkpoint.vae, 4)
    with torch.no_grad():
        for last in vae.guide.answers:
            torch.nn.init.normal_(last.weight, std=0.3)
        checkpoint.transformer.keypoint_tokens.read_from("heatmap", agree_blocks=1)
        checkpoint.transformer.register_to_config(readout="heatmap", agree_blocks=1)
        head = checkpoint.transformer.keypoint_tokens.head
        torch.nn.init.normal_(head.answer.weight)
        torch.nn.init.normal_(head.cell.weight)
        torch.nn.init.normal_(head.agreement.leave.weight, std=0.1)
    return save_checkpoint(path, checkpoint)


@pytest.fixture(scope="module")
def exported_guided(guided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thfm_ros.engine.export import export_bundle
    from thfm_ros.engine.recipes import load_recipe

    out = tmp_path_factory.mktemp("bundles") / "guided"
    export_bundle(guided, replace(load_recipe(RECIPES / "cpu.yaml"), stream=True), out)
    return out


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), np.uint8)


@pytest.fixture(params=["openvino", "onnxruntime"])
def runtime(request: pytest.FixtureRequest, exported_guided: Path) -> StageRuntime:
    return load_runtime(exported_guided, request.param)


def test_the_bundle_equals_torch_and_looks_at_the_image(runtime: StageRuntime, guided: Path, clip: np.ndarray) -> None:
    reference = load_runtime(guided, "torch")
    expected, found = (r.predict(clip, tuple(TASKS)) for r in (reference, runtime))
    for task, rgb in expected.dense.items():
        np.testing.assert_allclose(found.dense[task], rgb, atol=2e-5)
    for name in ("xy", "xyz", "visibility"):
        ours, theirs = (getattr(x.keypoints, name) for x in (found, expected))
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    assert expected.keypoints.xy.std() > 0.05
    encoded = reference.encode(clip)
    other = replace(encoded, context={"image": -to_video(clip)})
    assert np.abs(runtime.decode(encoded.latents, encoded) - runtime.decode(encoded.latents, other)).max() > 1e-3
    points = [runtime.transform(e, ["keypoints_2d"]).keypoints.xy for e in (encoded, other)]
    assert np.abs(points[0] - points[1]).max() > 1e-3


def test_streams_equal_the_whole_clip(runtime: StageRuntime, clip: np.ndarray) -> None:
    encoded, decoder = runtime.encode(clip), runtime.open_stream("decode")
    latents, video = encoded.latents, to_video(clip)
    for _ in range(2):
        parts = [decoder.push(latents[:, :, :1], video[:, :, :1]), decoder.push(latents[:, :, 1:], video[:, :, 1:])]
        np.testing.assert_allclose(np.concatenate(parts, 2), runtime.decode(latents, encoded), atol=1e-5)
        decoder.reset()


def test_verify_passes_with_every_stage(runtime: StageRuntime, guided: Path, clip: np.ndarray) -> None:
    from thfm_ros.engine.verify import verify

    rows = {row.name: row for row in verify(runtime, load_runtime(guided, "torch"), [clip])}
    stages = {f"stage {base}{call}" for base in ("decode", "keypoints") for call in ("", "_init", "_step")}
    assert stages | {"foreground", "keypoints_2d"} <= rows.keys()
    assert all(row.good for row in rows.values())


def test_the_eager_baseline_computes_the_same(guided: Path, clip: np.ndarray) -> None:
    from thfm_ros.engine.eager import EagerDiffusers

    found, expected = (r.predict(clip, ["foreground"]).dense for r in (EagerDiffusers(guided, 1), load_runtime(guided)))
    np.testing.assert_allclose(found["foreground"], expected["foreground"], atol=2e-5)


def test_a_forgotten_image_is_named(runtime: StageRuntime, clip: np.ndarray) -> None:
    encoded = runtime.encode(clip)
    latents, blind = encoded.latents, replace(encoded, context={})
    with pytest.raises(UserError, match="expected image of the encoded clip for decode"):
        runtime.decode(latents, blind)
    with pytest.raises(UserError, match="expected image of shape"):
        runtime.decode(latents, replace(encoded, context={"image": to_video(clip[:1])}))
    with pytest.raises(UserError, match="expected image of the encoded clip for keypoints"):
        runtime.transform(blind, ["keypoints_2d"])
    with pytest.raises(UserError, match="expected latents and image for decode_init, found 1 arrays"):
        runtime.open_stream("decode").push(latents[:, :, :1])


def test_a_manifest_with_another_image_is_refused(exported_guided: Path, tmp_path: Path) -> None:
    import shutil

    bundle = Path(shutil.copytree(exported_guided, tmp_path / "bundle"))
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    image = next(t for t in data["stages"]["decode_x4"]["inputs"] if t["name"] == "image")
    image["shape"][0] = 4
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match="input 'image' of stage decode_x4"):
        open_bundle(bundle)
