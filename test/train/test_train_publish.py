"""A checkpoint as it ships: half precision, and a card that puts together what is known of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint, save_checkpoint
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.tasks import TASKS
from thfm_ros.train.publish import publish

STAGE = {"stage": "pixel", "clip": "48x32, 5 frames", "steps": 7, "batch": 2, "tasks_per_clip": 3, "samples": 42}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An untrained tiny network that says it has been through one stage, of still images."""
    preset = replace(PRESETS["tiny"], frames=1)
    prompts = {task: torch.ones(1, preset.text_length, preset.transformer["text_dim"]) for task in TASKS}
    config = CheckpointConfig.of(preset, notes={"stages": [{**STAGE, "seconds": 1800.0, "dropped": 1}]})
    return save_checkpoint(tmp_path / "model", Checkpoint(*build(preset, 0), prompts, config))


def test_weights_are_rounded_to_half_precision(model: Path, tmp_path: Path) -> None:
    size = publish(model, tmp_path / "out")
    before, after = load_checkpoint(model), load_checkpoint(tmp_path / "out")
    count = 0
    for name in ("vae", "transformer"):
        ours = getattr(after, name).state_dict()
        for key, weight in getattr(before, name).state_dict().items():
            assert torch.equal(ours[key], weight.half().to(weight.dtype)), key
        count += sum(p.numel() for p in getattr(after, name).parameters())
    assert size == pytest.approx(2 * count / 1e6)


def test_the_card_holds_real_pictures_first_and_stages_last(model: Path, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# Held-out synthetic clips\n\nsome table\n")
    (tmp_path / "remarks.md").write_text("## What this is\nA small one.\n")
    cv2.imwrite(str(tmp_path / "curves.png"), np.zeros((4, 4, 3), np.uint8))
    out = tmp_path / "out"
    for name in ("coco", "views"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.md").write_text(f"# Real pictures: {name}\n\n| {name} |\n")
    real = [tmp_path / "coco", tmp_path / "views"]
    publish(model, out, tmp_path / "report", tmp_path / "curves.png", tmp_path / "remarks.md", real=real)
    card = (out / "README.md").read_text()
    order = [
        "# THFM `tiny`",
        "## What this is",
        "\n## Real pictures: coco",
        "\n## Real pictures: views",
        "](training.png)",
        "\n## Held-out",
        "some table",
        "## Stages",
        "| pixel |",
    ]
    places = [card.index(part) for part in order]
    assert places == sorted(places)
    assert "| pixel | 48x32, 5 frames | 7 | 2 x 3 | 42 | 0.50 | 1 |" in card
    assert (out / "training.png").read_bytes() == (tmp_path / "curves.png").read_bytes()


def test_stills_ship_for_clips(model: Path, tmp_path: Path) -> None:
    publish(model, tmp_path / "out", frames=5)
    made = load_checkpoint(tmp_path / "out")
    assert made.config.frames == 5
    assert (made.transformer.config.attention, made.transformer.config.window) == ("causal", 1)
    with pytest.raises(UserError, match="4k \\+ 1 >= 5"):
        publish(model, tmp_path / "out", frames=6)


@pytest.mark.parametrize("missing", ["report", "curves", "remarks", "real"])
def test_a_missing_file_is_named_before_anything_is_replaced(model: Path, tmp_path: Path, missing: str) -> None:
    out = tmp_path / "out"
    publish(model, out)
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    with pytest.raises(UserError, match=f"cannot read .*{missing}"):
        publish(model, out, **{missing: [tmp_path / missing] if missing == "real" else tmp_path / missing})
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("remarks", "expected text in UTF-8"),
        ("report", "expected text in UTF-8"),
        ("curves", "expected a picture"),
    ],
)
def test_a_file_of_another_kind_is_named_before_anything_is_written(
    model: Path, tmp_path: Path, option: str, words: str
) -> None:
    (tmp_path / "report.md").write_bytes(b"\xff\xfe\x00picture")
    given = {"report": tmp_path}.get(option, tmp_path / "report.md")
    with pytest.raises(UserError, match=f"cannot read .*report.md: {words}"):
        publish(model, tmp_path / "out", **{option: given})
    assert not (tmp_path / "out").exists()


def test_too_many_weights_do_not_ship(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected at most 0 MB"):
        publish(model, tmp_path / "out", limit_mb=0)
    assert not (tmp_path / "out").exists()


def test_a_clip_of_five_equal_frames_ends_as_the_still(tmp_path: Path) -> None:
    """Nano, trained on stills, published for clips: later frames start from what stills have taught the first."""
    preset = PRESETS["nano"]
    preset = replace(
        preset,
        frames=1,
        vae={**preset.vae, "z_dim": 8, "widths": [8, 48, 16, 24]},
        transformer={**preset.transformer, "in_channels": 8, "out_channels": 8, "num_layers": 1, "text_dim": 16},
    )
    codec, transformer = build(preset, 0)
    for weight in (transformer.keypoint_tokens.head.heatmap.weight, transformer.keypoint_tokens.embedding):
        torch.nn.init.normal_(weight)
    prompts = {task: torch.randn(1, preset.text_length, 16) for task in TASKS}
    stills = save_checkpoint(tmp_path / "stills", Checkpoint(codec, transformer, prompts, CheckpointConfig.of(preset)))
    publish(stills, tmp_path / "shipped", frames=5)
    still = torch.rand(1, 3, 1, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1

    @torch.no_grad()
    def last(path: Path, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask and heatmaps of the last frame, every latent frame for itself."""
        made = load_checkpoint(path)
        features = made.vae.features(video)
        latents, how = made.vae.encode(features), {"attention": "causal", "window": 1}
        dense = made.transformer(latents, made.prompts["foreground"], **how)
        sparse = made.transformer(latents, made.prompts["keypoints_3d"], keypoints=True, features=features[1], **how)
        return made.vae.decode(-dense.sample, features)[:, :, -1], sparse.keypoints.heatmaps[:, -1]

    clip = still.expand(-1, -1, 5, -1, -1)
    (mask, alone), (ours, found), (_, before) = (
        last(path, video) for path, video in ((stills, still), (tmp_path / "shipped", clip), (stills, clip))
    )
    torch.testing.assert_close(ours, mask, atol=5e-3, rtol=0)  # half precision
    # Four tokens attend to the patches where the still has one, so the heatmaps are not quite the same.
    assert (found - alone).std() < 0.1 * alone.std() < 0.3 * (before - alone).std()
