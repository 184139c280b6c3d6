"""A bundle of a checkpoint with a narrow decoder decodes with it, on every CPU backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_checkpoints import make_checkpoint

torch = pytest.importorskip("torch")

from thfm_ros.engine.eager import EagerDiffusers  # noqa: E402
from thfm_ros.engine.export import export_bundle  # noqa: E402
from thfm_ros.engine.load import load_runtime  # noqa: E402
from thfm_ros.engine.recipes import load_recipe  # noqa: E402
from thfm_ros.errors import UserError  # noqa: E402
from thfm_ros.model.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from thfm_ros.model.narrow_decoder import NarrowDecoder  # noqa: E402

RECIPE = replace(load_recipe(Path(__file__).parents[2] / "engines" / "cpu.yaml"), batch=(1,), windows=None)
PLAIN = {
    "Conv",
    "Relu",
    "Add",
    "Concat",
    "Pad",
    "Slice",
    "Reshape",
    "Transpose",
    "Expand",
    "Unsqueeze",
    "Squeeze",
    "Clip",
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("narrow")
    plain = load_checkpoint(make_checkpoint("tiny", folder / "plain"))
    torch.manual_seed(0)
    decoder = NarrowDecoder.of(plain.vae, widths=(16, 8, 8, 8), blocks=1)
    with torch.no_grad():
        decoder.out.weight.mul_(5)  # pictures from black to white, as a trained one paints
    return save_checkpoint(folder / "tiny", plain.with_decoder(decoder))


@pytest.fixture(scope="module")
def bundle(narrow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, reports = tmp_path_factory.mktemp("bundles") / "narrow", []
    export_bundle(narrow, RECIPE, out, reports.append)
    assert "decode with the checkpoint's narrow decoder" in reports
    return out


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_backends_equal_torch(backend: str, bundle: Path, narrow: Path) -> None:
    runtime, reference = load_runtime(bundle, backend, check="always"), load_runtime(narrow, "torch")
    frames = np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), np.uint8)
    tasks = ["scene_depth", "scene_normals", "foreground", "dense_pose"]
    found, expected = (r.predict(frames, tasks).dense for r in (runtime, reference))
    for task in tasks:
        np.testing.assert_allclose(found[task], expected[task], atol=2e-5)
    latents = np.random.default_rng(1).normal(size=(1, *runtime.manifest.latent_shape)).astype(np.float32)
    with torch.inference_mode():
        video = load_checkpoint(narrow).decoder(torch.from_numpy(latents))
    assert np.ptp(video.numpy()) > 0.2
    np.testing.assert_allclose(runtime.decode(latents, runtime.encode(frames)), video.numpy(), atol=2e-5)
    runtime.close()


def test_its_graph_is_of_plain_operations(bundle: Path) -> None:
    import onnx

    graph = onnx.load(bundle / "decode.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert {*kinds} <= {*PLAIN, "DepthToSpace"}
    decoder = 2 + 3 * (3 + 1) + 2  # enter and out; three levels of a block and a convolution; two of them grow
    assert kinds.count("Conv") == decoder


def test_the_baseline_of_bench_decodes_with_it_too(narrow: Path) -> None:
    latents = np.random.default_rng(1).normal(size=(1, 4, 2, 2, 3)).astype(np.float32)
    with torch.inference_mode():
        video = load_checkpoint(narrow).decoder(torch.from_numpy(latents)).numpy()
    found = EagerDiffusers(narrow, 1).run("decode", {"latents": latents})["video"]
    np.testing.assert_allclose(found, video, atol=1e-6)


def test_a_bundle_is_not_taken_for_one_with_the_other_decoder(bundle: Path, narrow: Path) -> None:
    with pytest.raises(UserError, match="of other weights or another recipe"):
        export_bundle(narrow.parent / "plain", RECIPE, bundle)
