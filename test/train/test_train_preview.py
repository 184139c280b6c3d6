"""The sheet of what training sees holds as many pictures as asked, and shows windows as well as whole images."""

from __future__ import annotations

from pathlib import Path

import cv2
import yaml
from train_fakes import tiny
from typer.testing import CliRunner

from thfm_ros.cli import build
from thfm_ros.train.preview import write_training_sheet


def test_a_sheet_shows_whole_images_and_windows(tmp_path: Path) -> None:
    table = {
        "data": {"clips": 0, "frames": 1, "height": 32, "width": 48, "settings": {"people": 2, "empty": 0.0}},
        "augment": {"windows": {"share": 0.5, "width": 16, "height": 24}, "appearance": {"share": 0.5}},
    }
    write_training_sheet(tiny(**table), tmp_path / "sheet.png", 12, columns=4)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * 64, 4 * 48, 3)  # each picture above itself
    tiles = [sheet[64 * r : 64 * r + 64, 48 * c : 48 * c + 48] for r in range(3) for c in range(4)]
    narrow = sum(tile[:, 16:].max() == 0 for tile in tiles)
    assert 0 < narrow < 12
    assert not list(tmp_path.glob(".*"))


def test_the_command_says_which_pictures_are_missing(tmp_path: Path) -> None:
    table = {
        "stage": "pixel",
        "data": {"clips": 0, "frames": 1, "height": 32, "width": 48, "settings": {"people": 1}},
        "augment": {"backdrops": 0.5},
    }
    config = tmp_path / "a.yaml"
    config.write_text(yaml.safe_dump(table))
    result = CliRunner().invoke(
        build(), ["preview-training", str(config), "--out", str(tmp_path / "a.png"), "--pictures", "2"]
    )
    assert result.exit_code == 0, result.output
    assert "no data.backgrounds" in result.output
    assert (tmp_path / "a.png").is_file()
