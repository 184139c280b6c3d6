"""Every recipe is followed as far as this machine can: ONNX of every stage and a manifest that passes all checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from thfm_ros.engine.build_trt import build_bundle
from thfm_ros.engine.device import current_gpu
from thfm_ros.engine.export import NUDGE, export_bundle, steady_seeds
from thfm_ros.engine.golden import SEED, golden_inputs
from thfm_ros.engine.manifest import STREAM, WHOLE_CLIP, TensorSpec, base_name
from thfm_ros.engine.modules import StageModule
from thfm_ros.engine.recipes import load_recipe
from thfm_ros.engine.runtime import load_runtime
from thfm_ros.errors import UserError

RECIPES = Path(__file__).parents[2] / "engines"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["orin", "thor", "datacenter"])
def test_recipes_for_full_tensorrt(target: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    import onnx

    recipe = load_recipe(RECIPES / f"{target}.yaml")
    manifest = export_bundle(tiny_checkpoint, recipe, tmp_path / target)
    assert manifest.target == target
    assert {base_name(name) for name in manifest.stages} == set(WHOLE_CLIP + STREAM)
    assert {"transform_x4", "decode_x4"} < set(manifest.stages)
    for name, stage in manifest.stages.items():
        assert stage.precision == recipe.precision_of(name)
        assert stage.onnx is not None
        assert stage.gflop > 0
        graph = onnx.load(manifest.path(stage.onnx)).graph
        assert [x.name for x in graph.input] == [t.name for t in stage.inputs]
        kinds = {onnx.TensorProto.DataType.Name(t.data_type) for t in graph.initializer}
        assert ("BFLOAT16" in kinds) == (stage.precision == "bf16")
    engine = manifest.engine
    assert engine is not None
    assert (engine.flavor, engine.version, engine.compute_capabilities) == ("tensorrt", "", ())
    if current_gpu() is None:  # the rest is for the device
        with pytest.raises(UserError, match=r"expected the package tensorrt, found|expected an NVIDIA GPU, found none"):
            build_bundle(tmp_path / target)
        with pytest.raises(UserError, match="no backend works here"):
            load_runtime(tmp_path / target)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("int8", [False, True])
def test_recipe_for_onnx_runtime(int8: bool, tiny_checkpoint: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "cpu-onnx.yaml")
    if int8:  # no recipe ships with it, because it did not help: a user's own may
        recipe = replace(recipe, stream=False, precision={**recipe.precision, "transform": "int8", "keypoints": "int8"})
    export_bundle(tiny_checkpoint, recipe, tmp_path / "bundle")
    runtime = load_runtime(tmp_path / "bundle", check="never" if int8 else "always")
    reference = load_runtime(tiny_checkpoint)
    assert runtime.manifest.backend == "onnxruntime"
    clip = np.random.default_rng(5).uniform(-1, 1, (1, 3, 5, 32, 48)).astype(np.float32)
    found, expected = (r.predict(clip, ["foreground"]).dense["foreground"] for r in (runtime, reference))
    difference = np.abs(found - expected).max()
    if int8:
        assert 1e-5 < difference < 0.2  # quantised, and of some use
    else:
        assert difference < 2e-5


class Choice(torch.nn.Module):
    """Tells of every value whether it is above the middle: where one is close to it, rounding decides."""

    def __init__(self, middle: float) -> None:
        super().__init__()
        self.middle = middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(1e6 * (x - self.middle))


def test_golden_seeds_are_such_that_rounding_decides_nothing() -> None:
    spec = TensorSpec("latents", (1, 1, 1, 2, 2))

    def stages(middle: float, name: str = "keypoints") -> dict[str, StageModule]:
        return {name: StageModule(Choice(middle), (spec,), (TensorSpec("xy", spec.shape),))}

    assert steady_seeds(stages(100.0), {}) == {"keypoints": SEED}  # nothing is near the middle
    on_the_edge = float(golden_inputs("keypoints", [spec], {}, SEED)[0].flatten()[0])
    chosen = steady_seeds(stages(on_the_edge), {})["keypoints"]
    assert chosen != SEED
    values = golden_inputs("keypoints", [spec], {}, chosen)[0]
    assert (abs(values / on_the_edge - 1) > NUDGE).all()
    assert steady_seeds(stages(on_the_edge, "decode"), {}) == {"decode": SEED}  # pictures choose nothing
    both = stages(on_the_edge) | stages(100.0, "keypoints_init")
    assert steady_seeds(both, {}) == {"keypoints": chosen, "keypoints_init": SEED}  # each stage has its own
