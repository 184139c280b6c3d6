"""The picture of held-out metrics shows every run that was named, and what it cannot do is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thfm_ros.errors import UserError
from thfm_ros.train.plots import plot_runs, read_metrics

LINE = {"kind": "metrics", "step": 10, "samples": 40, "iou": 0.5}


def run_at(folder: Path, *more: object) -> Path:
    """A run's folder with two held-out lines in its log."""
    folder.mkdir(parents=True)
    lines = [LINE, {**LINE, "step": 20, "samples": 80}, *more]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_runs_of_one_name_have_a_curve_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run_at(tmp_path / name) for name in ("A/nano", "B/nano", "B/nano/more", "here")]
    monkeypatch.chdir(tmp_path / "here")
    plot_runs([*runs[:3], Path("."), Path("../B/nano")], tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert [drawn.count(f"<!-- {label} -->") for label in ("A/nano", "B/nano", "more", "here")] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("a.xyz", "expected a picture (.jpg, .jpeg, .png, .pdf, .svg) as --out"),
        ("folder.png", "it is a folder"),
        ("log/a.png", "choose another place"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_before_the_logs_are_read(tmp_path: Path, out: str, words: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "log").touch()
    with pytest.raises(UserError) as caught:
        plot_runs([tmp_path / "nowhere"], tmp_path / out)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_of_a_log_that_are_no_records_are_left_out(tmp_path: Path) -> None:
    assert len(read_metrics(run_at(tmp_path / "run", [1], "words", None))) == 2
