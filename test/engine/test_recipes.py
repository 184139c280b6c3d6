"""Recipes of the repository are good; anything unknown in one is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from thfm_ros.engine import build_trt
from thfm_ros.engine.commands import export
from thfm_ros.engine.device import Gpu
from thfm_ros.engine.recipes import load_recipe
from thfm_ros.errors import UserError

RECIPES = Path(__file__).parents[2] / "engines"
GOOD = (RECIPES / "rtx.yaml").read_text()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.target == path.stem
    assert recipe.precision_of("windows_x4") == recipe.precision["encode"]
    assert recipe.precision_of("decode_x4") == recipe.precision["decode"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format: tensorrt", "format: tensorrt\ncolour: red", "unknown key 'colour'"),
        ("workspace_mb: 4096", "workspace: 4096", "unknown key 'workspace': did you mean 'workspace_mb'?"),
        ("target: rtx\n", "", "expected target, found none"),
        ("format: tensorrt", "format: pickle", "format: expected one of onnx, tensorrt, torch, found pickle"),
        ("encode: fp16", "encode: fp33", "precision of encode: expected one of"),
        ("encode: fp16, ", "", "expected the stages encode, transform, keypoints, decode"),
        ("encode: fp16", "encode: auto", "TensorRT stages take fp32, tf32, fp16 or bf16, found auto"),
        ("batch: [1, 4]", "batch: [4]", "batch: expected positive sizes, 1 among them, found [4]"),
        ("batch: [1, 4]", "batch: 1", "batch: expected a list, found 1"),
        (
            "backends: [tensorrt]",
            "backends: [cuda]",
            "format tensorrt: expected one of tensorrt, found cuda",
        ),
        (
            "backends: [tensorrt]",
            "backends: [openvino]",
            "format tensorrt: expected one of tensorrt, found",
        ),
        ("backends: [tensorrt]", "backends: []", "backends: expected at least one, each once, found none"),
        ("backends: [tensorrt]", "backends: [tensorrt, tensorrt]", "each once, found tensorrt, tensorrt"),
        ("batch: [1, 4]", "frames: 0", "frames: expected a positive number, found 0"),
        ("batch: [1, 4]", "height: -16", "height: expected a positive number, found -16"),
        ("batch: [1, 4]", "width: 0", "width: expected a positive number, found 0"),
        ("workspace_mb: 4096", "workspace_mb: 0", "workspace_mb: expected a positive number, found 0"),
        (
            "format: tensorrt\nbackends: [tensorrt]",
            "format: onnx\nbackends: [openvino]",
            "expected the key tensorrt for format tensorrt only, found it for onnx",
        ),
        ("flavor: tensorrt_rtx", "flavor: tensorrt", "compute_capabilities: expected a list for tensorrt_rtx and none"),
        ("target:", "target: [", "expected YAML"),
        ("target: rtx", "target: !!python/object/apply:os.system ['true']", "expected YAML"),
    ],
)
def test_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    (tmp_path / "r.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("encode: fp16", "encode: int8", "torch stages take fp32, tf32, fp16, bf16 or auto, found int8"),
        ("[torch_tensorrt, torch]", "[torch, onnxruntime]", "backends of format torch: expected one of torch_tensorrt"),
    ],
)
def test_refused_of_torch(tmp_path: Path, old: str, new: str, words: str) -> None:
    good = (RECIPES / "torch-tensorrt.yaml").read_text()
    assert old in good
    (tmp_path / "r.yaml").write_text(good.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("size", [(0, None, None), (-3, None, None), (None, 0, None), (None, None, -32)])
def test_a_clip_has_a_positive_size(size: tuple[int | None, int | None, int | None], tiny_checkpoint: Path) -> None:
    from thfm_ros.engine.modules import geometry_of
    from thfm_ros.model.checkpoint import load_checkpoint

    with pytest.raises(UserError, match=r"expected 4k \+ 1 frames"):
        geometry_of(load_checkpoint(tiny_checkpoint), *size)


def test_tensorrt_wants_a_bundle_with_engines() -> None:
    from thfm_ros.engine.backends.tensorrt_backend import TensorRT

    with pytest.raises(UserError, match="bundle: expected a bundle for TensorRT, found none; rebuild: thfm export"):
        TensorRT(SimpleNamespace(engine=None, root="bundle", rebuild="thfm export"))


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recipe at"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("target", "platform", "installed", "compiled"),
    [
        ("datacenter", "Linux-x86_64", True, True),
        ("datacenter", "Linux-x86_64", False, False),
        ("orin", "Linux-x86_64", True, False),
        ("orin", "Linux-aarch64", True, True),
        ("rtx", "Linux-x86_64", True, True),
        ("rtx", "Linux-x86_64", False, False),
    ],
)
def test_an_export_compiles_only_where_that_can_work(
    target: str,
    platform: str,
    installed: bool,
    compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """On a machine with a GPU; elsewhere it says what to do on the device."""
    done = SimpleNamespace(stages={}, files=lambda: ())
    built: list[Path] = []

    def build(out: Path, **_: object) -> object:
        built.append(out)
        return done

    monkeypatch.setattr(build_trt, "current_gpu", lambda: Gpu("a GPU", "SM89", 1000))
    monkeypatch.setattr(build_trt, "platform_name", lambda: platform)
    monkeypatch.setattr(build_trt, "build_bundle", build)
    monkeypatch.setattr("thfm_ros.engine.export.export_bundle", lambda *_: done)
    for flavor in ("tensorrt", "tensorrt_rtx"):  # after the import of torch, which looks for them
        monkeypatch.setitem(sys.modules, flavor, ModuleType(flavor) if installed else None)
    out = tmp_path / "bundle"
    export(Path("weights/nano"), RECIPES / f"{target}.yaml", out, compile_=True, replace=False)
    assert built == ([out] if compiled else [])
    assert ("run there: thfm build bundle" in capsys.readouterr().out) != compiled
