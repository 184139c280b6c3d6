"""What continuous integration must prove without a GPU: nano, every stage, becomes TensorRT engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_checkpoints import make_checkpoint

from thfm_ros.engine.build_trt import build_bundle
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.device import platform_name
from thfm_ros.engine.stage_table import WHOLE_CLIP, WINDOWS

trt = pytest.importorskip("tensorrt_rtx")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nano_becomes_engines(tmp_path: Path) -> None:
    from thfm_ros.engine.export import export_bundle
    from thfm_ros.engine.recipes import load_recipe

    shipped = ROOT / "weights" / "nano"
    checkpoint = shipped if (shipped / "thfm.json").is_file() else make_checkpoint("nano", tmp_path / "nano")
    recipe = load_recipe(ROOT / "engines" / "rtx.yaml")
    assert recipe.windows is not None
    recipe = replace(recipe, batch=(1,), windows=replace(recipe.windows, batch=(1,)))
    export_bundle(checkpoint, recipe, tmp_path / "bundle")
    build_bundle(tmp_path / "bundle")
    manifest = open_bundle(tmp_path / "bundle")
    assert manifest.preset == "nano"
    assert manifest.engine is not None
    assert (manifest.engine.version, manifest.engine.platform) == (trt.__version__, platform_name())
    assert manifest.engine.compute_capabilities == ("SM86", "SM89", "SM120", "SM121")
    assert set(manifest.stages) == {*WHOLE_CLIP, WINDOWS}
    precisions = {name: stage.precision for name, stage in manifest.stages.items()}
    assert set(precisions.values()) == {"fp16"}
    for stage in manifest.stages.values():
        assert stage.engine is not None
        assert manifest.path(stage.engine).read_bytes()[:4] == b"vtrt"
    assert manifest.golden is not None
    assert set(manifest.golden.stages) == set(manifest.stages)
