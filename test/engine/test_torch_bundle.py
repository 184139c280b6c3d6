"""The torch-tensorrt target: a bundle that holds the checkpoint, which torch alone runs where torch_tensorrt is not."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.export import export_bundle
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.recipes import load_recipe
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint

RECIPE = Path(__file__).parents[2] / "engines" / "torch-tensorrt.yaml"


@pytest.fixture(scope="module")
def torch_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("torch") / "bundle"
    export_bundle(tiny_checkpoint, load_recipe(RECIPE), out)
    return out


@pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is not None, reason="torch_tensorrt is installed")
def test_it_says_what_is_missing_and_falls_back_to_torch(torch_bundle: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"the torch-tensorrt target needs torch_tensorrt .*pip install torch-tensorrt"):
        load_runtime(torch_bundle, "torch_tensorrt")
    runtime = load_runtime(torch_bundle)
    assert runtime.manifest.backend == "torch"
    assert runtime.notes[0].startswith("torch_tensorrt: the torch-tensorrt target needs")
    clip = np.random.default_rng(2).integers(0, 256, (5, 32, 48, 3), np.uint8)
    expected = load_runtime(tiny_checkpoint).predict(clip, ["foreground"]).dense["foreground"]
    np.testing.assert_array_equal(runtime.predict(clip, ["foreground"]).dense["foreground"], expected)


def test_torch_tensorrt_compiles_the_bundles_own_precision(
    torch_bundle: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that compiles nothing: what it is given, and that it computes what torch does."""
    import torch

    given: list[tuple[str, dict[str, Any]]] = []

    def compile_(program: Any, **options: Any) -> Any:
        types = {p.dtype for p in program.parameters()}
        given.append((str(min(types, key=str)), options))
        return program.module()

    fake = SimpleNamespace(__version__="fake", dynamo=SimpleNamespace(compile=compile_))
    monkeypatch.setattr("thfm_ros.engine.backends.torch_backend._torch_tensorrt", lambda: fake)
    runtime = load_runtime(torch_bundle, "torch_tensorrt", check="never")
    clip = np.random.default_rng(2).integers(0, 256, (5, 32, 48, 3), np.uint8)
    found = runtime.predict(clip, ["foreground"]).dense["foreground"]
    assert [kind for kind, _ in given] == ["torch.float16", "torch.bfloat16", "torch.bfloat16"]
    assert all(options["require_full_compilation"] for _, options in given)
    assert all(options["disable_tf32"] for _, options in given)
    assert all(torch.is_tensor(x) for _, options in given for x in options["arg_inputs"])
    expected = load_runtime(tiny_checkpoint).predict(clip, ["foreground"]).dense["foreground"]
    assert 0 < np.abs(found - expected).mean() < 0.05
    runtime.predict(clip, ["foreground"])
    assert len(given) == 3  # once a stage


@pytest.mark.parametrize(("precision", "disabled"), [("fp32", True), ("tf32", False), ("auto", False)])
def test_torch_tensorrt_takes_tf32_only_where_a_stage_has_it(
    precision: str, disabled: bool, torch_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bool] = []

    def compile_(program: Any, *, disable_tf32: bool, **options: Any) -> Any:
        given.append(disable_tf32)
        return program.module()

    fake = SimpleNamespace(__version__="fake", dynamo=SimpleNamespace(compile=compile_))
    monkeypatch.setattr("thfm_ros.engine.backends.torch_backend._torch_tensorrt", lambda: fake)
    runtime = load_runtime(torch_bundle, "torch_tensorrt", check="never")
    encode = replace(runtime.manifest.stages["encode"], precision=precision)
    runtime.manifest = replace(runtime.manifest, stages={**runtime.manifest.stages, "encode": encode})
    runtime.encode(np.zeros((5, 32, 48, 3), np.uint8))
    assert given == [disabled]


def test_torch_on_a_gpu_runs_a_bundle_in_its_own_precision(torch_bundle: Path, tiny_checkpoint: Path) -> None:
    """On the CPU here, which computes as much in these types."""
    import torch

    from thfm_ros.engine.backends.torch_backend import TorchRuntime
    from thfm_ros.engine.modules import geometry_of
    from thfm_ros.model.checkpoint import load_checkpoint

    manifest = open_bundle(torch_bundle)
    tf32 = {**manifest.stages, "decode": replace(manifest.stages["decode"], precision="auto")}
    checkpoint = load_checkpoint(torch_bundle / "checkpoint")
    geometry = geometry_of(checkpoint, windows=manifest.windows)
    runtime = TorchRuntime(replace(manifest, stages=tf32), checkpoint, geometry, lower=True)
    assert runtime.computed_in == "bf16, fp16, tf32"
    allowed: dict[str, tuple[bool, bool]] = {}

    def watched(name: str) -> Any:
        def run(feeds: Any) -> Any:
            allowed[name] = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
            return stages[name](feeds)

        return run

    stages = dict(runtime._stages)
    runtime._stages.update({name: watched(name) for name in stages})
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    clip = np.random.default_rng(2).integers(0, 256, (5, 32, 48, 3), np.uint8)
    found = runtime.predict(clip, ["foreground"]).dense["foreground"]
    assert allowed == {"encode": (False, False), "transform": (False, False), "decode": (True, True)}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    reference = load_runtime(tiny_checkpoint)
    assert reference.computed_in == "fp32"
    assert 0 < np.abs(found - reference.predict(clip, ["foreground"]).dense["foreground"]).mean() < 0.05


def test_the_checkpoint_inside_is_checked(torch_bundle: Path) -> None:
    weights = next((torch_bundle / "checkpoint" / "vae").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    try:
        with pytest.raises(UserError, match="is truncated"):
            open_bundle(torch_bundle)
    finally:
        weights.write_bytes(whole)


def test_of_a_published_checkpoint_only_what_is_loaded_goes_along(tiny_checkpoint: Path, tmp_path: Path) -> None:
    published = Path(shutil.copytree(tiny_checkpoint, tmp_path / "published"))
    for name in ("training.png", ".gitattributes", ".cache/huggingface/thfm.json.metadata"):
        (published / name).parent.mkdir(parents=True, exist_ok=True)
        (published / name).write_text("not for a bundle")
    manifest = export_bundle(published, load_recipe(RECIPE), tmp_path / "bundle")
    found = {entry.path.removeprefix("checkpoint/") for entry in manifest.weights}
    assert found == {str(f.relative_to(tiny_checkpoint)) for f in tiny_checkpoint.rglob("*") if f.is_file()}
    assert manifest == open_bundle(tmp_path / "bundle")
    assert manifest.root == tmp_path / "bundle"
    assert load_checkpoint(tmp_path / "bundle" / "checkpoint").prompts


def test_a_bundle_that_would_be_refused_replaces_no_good_one(
    tiny_checkpoint: Path, torch_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = open_bundle(torch_bundle)
    monkeypatch.setattr("thfm_ros.engine.export._write", lambda *given: replace(good, root=given[4]))  # without files
    with pytest.raises(UserError, match=r"expected the file prompts\.safetensors, found none"):
        export_bundle(tiny_checkpoint, load_recipe(RECIPE), torch_bundle, replace=True)
    assert open_bundle(torch_bundle) == good


def test_a_complete_bundle_is_kept_and_a_damaged_one_replaced(
    tiny_checkpoint: Path, torch_bundle: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "bundle", load_recipe(RECIPE)
    shutil.copytree(torch_bundle, out)
    inode = out.stat().st_ino
    assert export_bundle(tiny_checkpoint, recipe, out) == open_bundle(out)
    assert out.stat().st_ino == inode  # whoever reads it may go on
    other = replace(recipe, precision=dict.fromkeys(recipe.precision, "bf16"))
    with pytest.raises(UserError, match=r"is a complete bundle, of other weights or another recipe .*--replace"):
        export_bundle(tiny_checkpoint, other, out)
    assert out.stat().st_ino == inode
    (out / "prompts.safetensors").unlink()
    again, before = export_bundle(tiny_checkpoint, recipe, out), open_bundle(torch_bundle)
    # Golden outputs are computed anew: weights at another place in memory may round otherwise, in the last bits.
    assert replace(again, golden=None) == replace(before, golden=None)
    assert again.golden
    assert before.golden
    assert again.golden.stages.keys() == before.golden.stages.keys()
    assert out.stat().st_ino != inode
    assert list(tmp_path.iterdir()) == [out]


def test_an_old_bundle_is_replaced_and_nothing_else_is(
    tiny_checkpoint: Path, torch_bundle: Path, tmp_path: Path
) -> None:
    again = export_bundle(tiny_checkpoint, load_recipe(RECIPE), torch_bundle)
    assert again == open_bundle(torch_bundle)
    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match="expected a new folder or an older bundle, found something else"):
        export_bundle(tiny_checkpoint, load_recipe(RECIPE), tmp_path / "precious")
    with pytest.raises(UserError, match="not a THFM checkpoint"):
        export_bundle(tmp_path / "precious", load_recipe(RECIPE), tmp_path / "bundle")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["precious"]
