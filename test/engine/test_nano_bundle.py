"""Nano's bundle: features leave `encode` once, decoder and keypoint head take them; every backend equals torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.stage_table import FEATURES
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS

RECIPES = Path(__file__).parents[2] / "engines"
TASK_NAMES = tuple(TASKS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow nano of 48x32 pixels with random weights whose keypoints are somewhere."""
    import torch

    from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, save_checkpoint
    from thfm_ros.model.nano import NanoCodec
    from thfm_ros.model.presets import PRESETS
    from thfm_ros.model.prompts import embed_tasks, get_embedder
    from thfm_ros.model.transformer import THFMTransformer3DModel

    torch.manual_seed(0)
    preset = PRESETS["nano"]
    arguments = {**preset.transformer, "num_layers": 1, "in_channels": 8, "out_channels": 8, "text_dim": 16}
    transformer = THFMTransformer3DModel(**arguments).eval()
    torch.nn.init.normal_(transformer.keypoint_tokens.head.heatmap.weight, std=2.0)
    torch.nn.init.normal_(transformer.keypoint_tokens.head.out.weight, std=0.1)
    codec = NanoCodec(z_dim=8, widths=[8, 48, 16, 24]).eval()
    config = CheckpointConfig("nano", 32, 48, 5, 12.0, "hash", 4, attentions=["causal"])
    prompts = embed_tasks(get_embedder("hash", None, 16), 4)
    path = tmp_path_factory.mktemp("nano") / "checkpoint"
    return save_checkpoint(path, Checkpoint(codec, transformer, prompts, config))


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thfm_ros.engine.export import export_bundle
    from thfm_ros.engine.recipes import load_recipe

    out = tmp_path_factory.mktemp("bundles") / "nano"
    export_bundle(checkpoint, load_recipe(RECIPES / "cpu.yaml"), out)
    return out


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), np.uint8)


def test_features_are_made_once_and_named_alike(bundle: Path) -> None:
    stages = open_bundle(bundle).stages
    made = {t.name: t.shape for t in stages["encode"].outputs if t.name.startswith(FEATURES)}
    assert made == {
        "features_2": (1, 8, 5, 16, 24),
        "features_4": (1, 48, 5, 8, 12),
        "features_8": (1, 16, 5, 4, 6),
        "features_16": (1, 24, 5, 2, 3),
    }
    taken = {name: [t.name for t in s.inputs if t.name.startswith(FEATURES)] for name, s in stages.items()}
    assert taken["keypoints"] == ["features_4"]
    assert all(names == list(made) for name, names in taken.items() if name.startswith("decode"))
    assert not any("video" in (t.name for t in s.inputs) for name, s in stages.items() if name != "encode")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_bundle_equals_torch(backend: str, bundle: Path, checkpoint: Path, clip: np.ndarray) -> None:
    ours, torchs = load_runtime(bundle, backend), load_runtime(checkpoint, "torch")
    expected, found = torchs.predict(clip, TASK_NAMES), ours.predict(clip, TASK_NAMES)
    tolerance = 2e-5 if ours.precision(ours.manifest.stages["encode"]) == "fp32" else 5e-2
    for task, rgb in expected.dense.items():
        np.testing.assert_allclose(found.dense[task], rgb, atol=tolerance)
    assert expected.keypoints.xy.std() > 0.05
    if tolerance < 1e-3:
        for name in ("xy", "xyz", "visibility"):
            np.testing.assert_allclose(
                getattr(found.keypoints, name), getattr(expected.keypoints, name), atol=1e-3, err_msg=name
            )
    ours.close()


def test_features_that_encode_does_not_give_are_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "other")
    file = tmp_path / "other" / "manifest.json"
    table = json.loads(file.read_text())
    spec = next(t for t in table["stages"]["keypoints"]["inputs"] if t["name"] == "features_4")
    spec["shape"][1] += 1
    file.write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"'features_4' of stage keypoints: expected \(1, 48, 5, 8, 12\)"):
        open_bundle(tmp_path / "other")
    spec["name"] = "features_3"
    file.write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"inputs of stage keypoints: expected latents, prompt, found .*features_3"):
        open_bundle(tmp_path / "other")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_windows_around_people_equal_torch_one_by_one(backend: str, bundle: Path, checkpoint: Path) -> None:
    """Seven of them: in batches of four, two and one."""
    ours, torchs = load_runtime(bundle, backend), load_runtime(checkpoint, "torch")
    assert ours.manifest.windows == torchs.manifest.windows == (112, 144)
    assert [size for size, _ in ours.plan("windows", 7)] == [4, 2, 1]
    frames = np.random.default_rng(3).integers(0, 255, (7, 5, 9, 7, 3), dtype=np.uint8).repeat(16, 2).repeat(16, 3)
    found = ours.predict_windows(frames, ["keypoints_2d", "keypoints_3d"])
    expected = [torchs.predict_windows(frames[n : n + 1], ["keypoints_3d"])[0] for n in range(7)]
    for one, other in zip(found, expected, strict=True):
        for name in ("xy", "xyz", "visibility"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-3, err_msg=name)
    nearest = [int(np.argmin([np.abs(one.xy - e.xy).mean() for e in expected])) for one in found]
    assert nearest == list(range(7))  # nobody has another one's joints
    with pytest.raises(UserError, match=r"expected frames of shape \(1, 5, 144, 112, 3\) for windows"):
        ours.predict_windows(frames[:1, :, :100], ["keypoints_2d"])
    ours.close()


def test_a_bundle_without_windows_says_how_to_get_them(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "other")
    file = tmp_path / "other" / "manifest.json"
    table = json.loads(file.read_text())
    table["stages"]["windows_x2"]["inputs"][0]["shape"][3] = 96
    file.write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"'frames' of stage windows_x2: expected \(2, 5, 144, 112, 3\)"):
        open_bundle(tmp_path / "other")
    for name in ("windows_x2", "windows_x4", "windows"):
        del table["stages"][name]
    file.write_text(json.dumps(table))
    runtime = load_runtime(tmp_path / "other", "onnxruntime", check="never")
    assert runtime.manifest.windows is None
    with pytest.raises(UserError, match="expected the stage windows, found none: add windows to the recipe; rebuild"):
        runtime.predict_windows(np.zeros((1, 5, 144, 112, 3), np.uint8), ["keypoints_2d"])
