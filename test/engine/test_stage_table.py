"""The one table of stages: shapes follow from a geometry, and docs/engine.md says the same."""

from __future__ import annotations

from pathlib import Path

from thfm_ros.engine.stage_table import STAGES, TENSORS, Geometry, TensorSpec, base_name, batch_of, batched

DOCS = Path(__file__).parents[2] / "docs" / "engine.md"


def test_shapes_follow_from_the_geometry() -> None:
    nano = Geometry(5, 144, 240, (64, 2, 9, 15), 32, (16, 384), ((2, 24), (4, 48)), (4,), (112, 160))
    assert nano.inputs("encode") == (TensorSpec("frames", (1, 5, 144, 240, 3), "uint8"),)
    assert [(t.name, t.shape) for t in nano.inputs("decode_x4")] == [
        ("latents", (4, 64, 2, 9, 15)),
        ("features_2", (1, 24, 5, 72, 120)),  # of the one clip, for all tasks
        ("features_4", (1, 48, 5, 36, 60)),
    ]
    assert [t.name for t in nano.inputs("keypoints")] == ["latents", "prompt", "features_4"]
    assert nano.inputs("windows_x2")[0].shape == (2, 5, 160, 112, 3)
    assert [t.shape for t in nano.outputs("windows_x2")] == [(2, 5, 32, 2), (2, 5, 32, 3), (2, 5, 32)]
    wan = Geometry(17, 480, 832, (16, 5, 60, 104), 32, (512, 4096))
    assert [t.name for t in wan.outputs("encode")] == ["latents"]


def test_names_of_batches() -> None:
    for stage, batch, name in (("decode", 1, "decode"), ("windows", 4, "windows_x4")):
        assert batched(stage, batch) == name
        assert (base_name(name), batch_of(name)) == (stage, batch)


def test_the_documentation_has_the_same_tables() -> None:
    text = DOCS.read_text()
    for name, stage in STAGES.items():
        assert f"| `{name}` | {', '.join(stage.inputs)} | {', '.join(stage.outputs)} |" in text
    for name, tensor in TENSORS.items():
        assert f"| `{name}` | {tensor.axes} |" in text
