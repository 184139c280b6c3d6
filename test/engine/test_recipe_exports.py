"""Every recipe is followed as far as this machine can: ONNX of every stage and a manifest that passes all checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from thfm_ros.engine.build_trt import build_bundle
from thfm_ros.engine.device import current_gpu
from thfm_ros.engine.export import _is_same, export_bundle, stage_modules, weights_digest
from thfm_ros.engine.golden import SEED, TOLERANCE, allowed, difference, golden_inputs, statistics
from thfm_ros.engine.golden_seeds import MANTISSA, Rounding, choose_golden
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.manifest import EngineInfo
from thfm_ros.engine.modules import StageModule, geometry_of
from thfm_ros.engine.recipes import TensorRTOptions, load_recipe
from thfm_ros.engine.stage_table import WHOLE_CLIP, WINDOWS, TensorSpec, base_name, batched
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import load_checkpoint

RECIPES = Path(__file__).parents[2] / "engines"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["orin", "thor", "datacenter"])
def test_recipes_for_full_tensorrt(target: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    import onnx

    recipe = load_recipe(RECIPES / f"{target}.yaml")
    manifest = export_bundle(tiny_checkpoint, recipe, tmp_path / target)
    assert manifest.target == target
    assert {base_name(name) for name in manifest.stages} == {*WHOLE_CLIP, WINDOWS}
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
        recipe = replace(recipe, precision={**recipe.precision, "transform": "int8", "keypoints": "int8"})
    export_bundle(tiny_checkpoint, recipe, tmp_path / "bundle")
    runtime = load_runtime(tmp_path / "bundle", check="never" if int8 else "always")
    reference = load_runtime(tiny_checkpoint)
    assert runtime.manifest.backend == "onnxruntime"
    clip = np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), np.uint8)
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
        return torch.where(x > self.middle, 1.0, 0.0)


def test_golden_seeds_are_such_that_rounding_decides_nothing() -> None:
    """Whatever a stage may run in: a bundle of precision auto meets CPUs that compute in bf16."""
    spec, out = TensorSpec("latents", (1, 1, 1, 2, 2)), TensorSpec("xy", (1, 1, 1, 2, 2))
    on_the_edge = float(golden_inputs("keypoints", [spec], {}, SEED)["latents"].flatten()[0])

    def chosen(precision: str, middle: float, *names: str) -> dict[str, int]:
        stages = {name: StageModule(Choice(middle), (spec,), (out,)) for name in names or ("keypoints",)}
        return choose_golden(stages, {}, lambda name: precision).seeds

    for precision, bits in MANTISSA.items():
        assert chosen(precision, 100.0) == {"keypoints": SEED}  # nothing is near the middle
        seed = chosen(precision, on_the_edge)["keypoints"]
        assert seed != SEED
        values = golden_inputs("keypoints", [spec], {}, seed)["latents"]
        assert (abs(values / on_the_edge - 1) > 2.0 ** -(bits + 1)).all()
    assert chosen("fp32", on_the_edge) == {"keypoints": SEED}  # nothing is rounded
    both = chosen("bf16", on_the_edge, "keypoints", "windows")
    assert set(both) == {"keypoints", "windows"}  # each stage has its own


class Shown(torch.nn.Module):
    """A picture that is black but where the latents are above a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.where(x > self.threshold, 1.0, -1.0),)


def test_golden_seeds_are_such_that_a_mixed_up_batch_shows() -> None:
    """Not one on which all items of a batch are black, where another seed shows something."""
    one, four = (TensorSpec("latents", (n, 1, 1, 4, 4)) for n in (1, 4))
    latents = [golden_inputs("decode_x4", [four], {}, SEED + i)["latents"] for i in range(3)]
    stages = {
        name: StageModule(Shown(float(latents[0].max())), (spec,), (TensorSpec("video", spec.shape),))
        for name, spec in (("decode", one), ("decode_x4", four))
    }
    golden = choose_golden(stages, {}, lambda name: "bf16")
    assert golden.seeds["decode"] != SEED
    inputs = golden_inputs("decode_x4", [four], {}, golden.seeds["decode"])
    video = stages["decode_x4"](inputs)["video"]
    assert difference(stages["decode_x4"].outputs[0], statistics(video), statistics(video[::-1])) > TOLERANCE["bf16"]


def test_rounding_keeps_as_many_bits_as_the_type() -> None:
    x = torch.randn(1000) * torch.logspace(-6, 6, 1000)
    with torch.inference_mode(), Rounding(MANTISSA["bf16"]):
        rounded = x + 0.0
    assert (rounded == x.bfloat16().float()).float().mean() > 0.99  # but for ties, which go up
    assert ((rounded - x).abs() <= x.abs() * 2.0**-8).all()


class Scaled(torch.nn.Module):
    """Counts its runs."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.runs = factor, 0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        self.runs += 1
        return ((x * self.factor) / self.factor,)


def test_a_stage_that_float16_cannot_hold_is_refused() -> None:
    """By what it computes on the way, not by what comes out."""
    spec = TensorSpec("latents", (1, 1, 1, 4, 4))

    def chosen(factor: float, precision: str) -> object:
        stage = StageModule(Scaled(factor), (spec,), (TensorSpec("target", spec.shape),))
        return choose_golden({"transform": stage}, {}, lambda name: precision)

    assert chosen(1e3, "fp16")
    assert chosen(1e5, "bf16")
    with pytest.raises(UserError, match=r"transform in fp16: expected values below 30000, found \S+, .*bf16 or tf32"):
        chosen(1e5, "fp16")


@pytest.mark.parametrize(
    ("stage", "output", "jumps", "batches", "runs"),
    [
        ("keypoints", "xy", False, (1,), 1),
        ("windows", "xy", False, (1, 2, 4), 2),  # for two items that differ, which the batches repeat
        ("keypoints", "xy", True, (1,), 4),  # thrice with rounding
        ("decode", "video", True, (1, 4), 5),
    ],
)
def test_golden_outputs_cost_few_runs(
    stage: str, output: str, jumps: bool, batches: tuple[int, ...], runs: int
) -> None:
    """A run of a large network takes a CPU minutes."""
    module, stages = Scaled(2.0), {}
    for n in batches:
        spec = TensorSpec("latents", (n, 1, 1, 4, 4))
        stages[batched(stage, n)] = StageModule(module, (spec,), (TensorSpec(output, spec.shape),))
    golden = choose_golden(stages, {}, lambda name: "bf16", jumps)
    assert module.runs == runs
    assert set(golden.stages) == set(stages)


def test_another_list_of_gpus_is_another_bundle(tiny_checkpoint: Path) -> None:
    """As are other memory and another flavor; full TensorRT finds the list on the machine."""
    recipe, checkpoint = load_recipe(RECIPES / "rtx.yaml"), load_checkpoint(tiny_checkpoint)
    assert recipe.tensorrt is not None
    assert recipe.windows is not None
    clip = geometry_of(checkpoint, windows=recipe.windows.size)

    def same(options: TensorRTOptions, found: EngineInfo) -> bool:
        there = SimpleNamespace(
            **{name: getattr(clip, name) for name in ("frames", "height", "width", "windows")},
            weights_sha256=weights_digest(tiny_checkpoint),
            target="rtx",
            backends=("tensorrt",),
            stages={name: SimpleNamespace(precision="fp16") for name in stage_modules(checkpoint, clip, recipe)},
            engine=found,
        )
        return _is_same(there, tiny_checkpoint, checkpoint, clip, replace(recipe, tensorrt=options))

    rtx = TensorRTOptions("tensorrt_rtx", ("SM86", "SM89"), 4096)
    built = EngineInfo("tensorrt_rtx", "1.4", ("SM86", "SM89"), "Linux-x86_64", 4096)
    assert same(rtx, built)
    assert not same(replace(rtx, compute_capabilities=("SM75", "SM86", "SM89")), built)
    assert not same(replace(rtx, workspace_mb=1024), built)
    assert not same(TensorRTOptions("tensorrt", (), 4096), built)
    assert same(TensorRTOptions("tensorrt", (), 4096), replace(built, flavor="tensorrt"))


def test_clips_that_fill_a_machine_have_no_batches(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, recipe = load_checkpoint(tiny_checkpoint), load_recipe(RECIPES / "rtx.yaml")
    clip = geometry_of(checkpoint)  # 2 latent frames of 2 x 3
    monkeypatch.setattr("thfm_ros.engine.export.MOST_TOKENS", 12)
    assert {"transform_x4", "decode_x4"} <= set(stage_modules(checkpoint, clip, recipe))
    monkeypatch.setattr("thfm_ros.engine.export.MOST_TOKENS", 11)
    names = [name for name in stage_modules(checkpoint, clip, recipe) if not name.startswith("windows")]
    assert set(names) == {"encode", "transform", "keypoints", "decode"}


def test_places_may_jump_where_rounding_is_coarse_and_joints_in_space_may_not() -> None:
    for precision in ("tf32", "fp16", "bf16", "int8"):
        assert allowed(0.1, "xy", precision) == allowed(0.1, "visibility", precision) > 0.5
        assert allowed(0.1, "xyz", precision) == allowed(0.1, "latents", precision) == 0.1
    assert all(allowed(1e-4, output, "fp32") == 1e-4 for output in ("xy", "xyz", "visibility", "video"))
