"""All CPU backends give what torch gives; `auto` chooses and says why; the golden check notices wrong numbers."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.golden import check_stage, difference, golden_inputs, statistics
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.manifest import read_prompts, write_manifest
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.engine.stage_table import WHOLE_CLIP, WINDOWS, TensorSpec, base_name
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS, dense_task_names


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> StageRuntime:
    return load_runtime(tiny_checkpoint, "torch")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), np.uint8)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_backends_equal_torch(backend: str, exported: Path, reference: StageRuntime, clip: np.ndarray) -> None:
    runtime = load_runtime(exported, backend)
    expected, found = reference.predict(clip, tuple(TASKS)), runtime.predict(clip, tuple(TASKS))
    assert tuple(found.dense) == dense_task_names()
    for task in found.dense:
        assert found.dense[task].shape == (5, 32, 48, 3)
        np.testing.assert_allclose(found.dense[task], expected.dense[task], atol=2e-5)
    assert found.keypoints is not None
    for name in ("xy", "xyz", "visibility"):
        np.testing.assert_allclose(getattr(found.keypoints, name), getattr(expected.keypoints, name), atol=1e-5)
    assert set(found.timings_ms) == {"encode", "transform", "decode"}
    runtime.close()


def test_torch_equals_the_model(tiny_checkpoint: Path, reference: StageRuntime, clip: np.ndarray) -> None:
    """Against stock diffusers' VAE and the transformer's own forward, not against the forms that are exported."""
    import torch

    from thfm_ros.model.checkpoint import load_checkpoint

    loaded = load_checkpoint(tiny_checkpoint)
    config = loaded.vae.config
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    with torch.inference_mode():
        pictures = torch.from_numpy(clip).permute(3, 0, 1, 2)[None] / 127.5 - 1
        latents = (loaded.vae.encode(pictures).latent_dist.mode() - mean) / std
        out = -loaded.transformer(latents, loaded.prompts["dense_pose"][:1]).sample
        video = loaded.vae.decode(out * std + mean).sample.clamp(-1, 1)
        points = loaded.transformer(latents, loaded.prompts["keypoints_3d"][:1], keypoints=True).keypoints
    found = reference.predict(clip, ["dense_pose", "keypoints_2d", "keypoints_3d"])
    np.testing.assert_allclose(found.dense["dense_pose"], video[0].permute(1, 2, 3, 0).numpy(), atol=2e-5)
    np.testing.assert_allclose(found.keypoints.xyz, points.xyz[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.keypoints.visibility, points.visibility[0].sigmoid().numpy(), atol=1e-5)


def test_prompts_select_the_task(reference: StageRuntime, clip: np.ndarray) -> None:
    dense = reference.predict(clip, ["scene_depth", "human_normals"]).dense
    assert np.abs(dense["scene_depth"] - dense["human_normals"]).max() > 1e-4


def test_a_batch_that_is_mixed_up_is_refused(exported: Path, tiny_checkpoint: Path) -> None:
    """The first two golden items of a batch differ and the others repeat them: what reads another one's shows."""
    from thfm_ros.engine.modules import geometry_of, network_stages
    from thfm_ros.model.checkpoint import load_checkpoint

    manifest = open_bundle(exported)
    loaded = load_checkpoint(tiny_checkpoint)
    modules = network_stages(loaded, geometry_of(loaded), (1, 4))
    prompts = read_prompts(manifest)
    for name in ("transform_x4", "decode_x4"):

        def check(order: tuple[int, ...], name: str = name) -> str:
            run = lambda _, x: {n: y[list(order)] for n, y in modules[name](x).items()}  # noqa: E731
            return check_stage(manifest, name, run, lambda stage: "bf16", prompts)  # the widest tolerance of an engine

        assert check((0, 1, 2, 3)) == ""
        for order in ((1, 0, 2, 3), (0, 2, 1, 3), (3, 1, 2, 0), (1, 2, 3, 0), (0, 0, 0, 0), (0, 0, 2, 2)):
            assert f"golden check of stage {name}" in check(order)


def test_decode_takes_any_number_of_tasks(exported: Path) -> None:
    runtime = load_runtime(exported, "onnxruntime", check="never")
    latents = np.random.default_rng(1).normal(size=(3, *runtime.manifest.latent_shape)).astype(np.float32)
    m = runtime.manifest
    encoded = runtime.encode(np.zeros((m.frames, m.height, m.width, 3), np.uint8))
    one_by_one = np.concatenate([runtime.decode(latents[i : i + 1], encoded) for i in range(3)])
    np.testing.assert_allclose(runtime.decode(latents, encoded), one_by_one, atol=1e-6)


def test_batches_are_made_of_the_compiled_sizes(exported: Path) -> None:
    runtime = load_runtime(exported, "onnxruntime", check="never")
    assert runtime.plan("decode", 6) == [(4, "decode_x4"), (1, "decode"), (1, "decode")]


def test_auto_says_why_not(bundle: Path) -> None:
    runtime = load_runtime(bundle)
    assert runtime.manifest.backend == "openvino"
    assert runtime.notes == ["onnxruntime: not tried, openvino works"]
    manifest = open_bundle(bundle)
    write_manifest(dataclasses.replace(manifest, backends=("torch_tensorrt", "torch", "onnxruntime", "openvino")))
    runtime = load_runtime(bundle)
    assert runtime.manifest.backend == "onnxruntime"
    assert "torch_tensorrt: " in runtime.notes[0]
    assert runtime.notes[1].startswith("torch: ")
    assert runtime.notes[2] == "openvino: not tried, onnxruntime works"  # the order is the recipe's
    write_manifest(dataclasses.replace(manifest, backends=("torch",)))
    with pytest.raises(UserError, match=r"no backend works here: torch: .*expected the checkpoint inside the bundle"):
        load_runtime(bundle)


@pytest.mark.parametrize(("precision", "hint"), [("fp16", "f16"), ("bf16", "bf16"), ("fp32", "f32")])
def test_openvino_computes_in_what_it_reports(precision: str, hint: str, bundle: Path) -> None:
    """Or it is refused: of a type that the CPU lacks, OpenVINO takes another."""
    from thfm_ros.engine.backends.openvino_backend import OpenVino

    manifest = open_bundle(bundle)
    stages = {n: dataclasses.replace(s, precision=precision) for n, s in manifest.stages.items()}
    runtime = OpenVino(dataclasses.replace(manifest, stages=stages), 1)
    lacks = {"f16": "FP16", "bf16": "BF16"}.get(hint, "FP32") not in runtime._core.get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    )
    if lacks:
        with pytest.raises(UserError, match=rf"expected decode in {hint}, found \w+: take another precision"):
            runtime.prepare("decode")
    else:
        runtime.prepare("decode")
        model = runtime._requests["decode"].get_compiled_model()
        assert model.get_property("INFERENCE_PRECISION_HINT").to_string() == hint


def test_onnx_runtime_judges_float16_as_float16(exported: Path) -> None:
    runtime = load_runtime(exported, "onnxruntime", check="never")
    stage = runtime.manifest.stages["encode"]
    kinds = {p: runtime.precision(dataclasses.replace(stage, precision=p)) for p in ("auto", "tf32", "fp16", "int8")}
    assert kinds == {"auto": "fp32", "tf32": "fp32", "fp16": "fp16", "int8": "int8"}


def test_wrong_requests(bundle: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match="unknown backend 'cuda': expected auto or one of"):
        load_runtime(bundle, "cuda")
    with pytest.raises(UserError, match=r"expected one of its backends \(openvino, onnxruntime\), found 'tensorrt'"):
        load_runtime(bundle, "tensorrt")
    with pytest.raises(UserError, match="is a checkpoint, which only torch runs"):
        load_runtime(tiny_checkpoint, "openvino")
    runtime = load_runtime(bundle, "onnxruntime", check="never")
    with pytest.raises(
        UserError, match=r"expected frames of shape \(1, 5, 32, 48, 3\) for encode, found \(1, 5, 32, 40, 3\)"
    ):
        runtime.encode(np.zeros((5, 32, 40, 3), np.uint8))
    with pytest.raises(UserError, match="unknown task 'smell'"):
        runtime.predict(np.zeros((5, 32, 48, 3), np.uint8), ["smell"])


def test_golden_check_runs_once_and_notices_wrong_numbers(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # a machine that never loaded this bundle
    checked = load_runtime(bundle, "onnxruntime")
    kept = {base_name(name) for name in checked._sessions}
    assert kept == {*WHOLE_CLIP, WINDOWS}
    manifest = open_bundle(bundle)
    golden = manifest.golden
    assert golden is not None
    right = golden.stages["decode"]["video"]
    # A depth that is scaled by 1.1 in one stretch of frames: the mean hardly moves, one block does.
    blocks = tuple(b + (0.1 * right.std if 20 <= i < 25 else 0.0) for i, b in enumerate(right.blocks))
    wrong = {**golden.stages, "decode": {"video": dataclasses.replace(right, blocks=blocks)}}
    write_manifest(dataclasses.replace(manifest, golden=dataclasses.replace(golden, stages=wrong)))
    with pytest.raises(UserError, match=r"golden check of stage decode, output video: expected .* found 0\.1"):
        load_runtime(bundle, "onnxruntime")
    load_runtime(bundle, "onnxruntime", check="never")
    write_manifest(manifest)
    runtime = load_runtime(bundle, "onnxruntime")
    assert runtime._sessions == {}  # nothing was run


def test_golden_statistics_see_order_scale_and_nan(exported: Path) -> None:
    manifest = open_bundle(exported)
    spec, prompts = manifest.stages["encode"].inputs, read_prompts(manifest)
    frames, again = (golden_inputs("encode", spec, prompts)["frames"] for _ in range(2))
    np.testing.assert_array_equal(frames, again)
    assert frames.dtype == np.uint8
    assert np.ptp(frames) > 100
    output, ramp = TensorSpec("video", (1, 640)), np.linspace(-1, 1, 640).reshape(1, 640)
    expected = statistics(ramp)
    assert difference(output, expected, statistics(ramp)) == 0
    assert difference(output, expected, statistics(ramp[:, ::-1])) > 0.5
    assert difference(output, expected, statistics(ramp * 1.1)) > 0.05
    assert difference(output, expected, statistics(np.where(ramp > 0.99, np.nan, ramp))) == np.inf


def test_a_robot_needs_neither_torch_nor_diffusers(exported: Path) -> None:
    code = (
        "import sys, json, numpy as np\n"
        "from thfm_ros.engine.load import load_runtime\n"
        f"for b in ('openvino', 'onnxruntime'):\n"
        f"    r = load_runtime({str(exported)!r}, b, check='never')\n"
        "    r.predict(np.zeros((5, 32, 48, 3), np.uint8), ['foreground', 'keypoints_3d'])\n"
        "print(json.dumps([m for m in ('torch', 'diffusers', 'transformers', 'rclpy') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
