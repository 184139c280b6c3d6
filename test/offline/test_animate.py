"""The README's moving picture: every frame of a film at its own time, within a size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.video import VideoWriter

TOOL = Path(__file__).parents[2] / "tools" / "animate.py"


def animate(film: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), str(film), "--out", str(out), *arguments], capture_output=True, text=True
    )


def test_a_film_becomes_an_animation_that_is_small_enough_or_that_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "film.mp4", 10.0) as film:
        for n in range(6):
            image = cv2.resize(rng.integers(0, 255, (12, 20, 3), np.uint8), (160, 96))
            image[:, : 20 * n] = 250
            film.write(image)
    done = animate(tmp_path / "film.mp4", tmp_path / "film.webp", "--width", "80", "--most", "20000")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "film.webp").stat().st_size <= 20000
    _, found = cv2.imreadanimation(str(tmp_path / "film.webp"))
    assert len(found.frames) == 6
    assert found.frames[0].shape[:2] == (48, 80)
    assert set(found.durations) == {100}
    assert found.frames[5][:, :40].min() > 200
    small = animate(tmp_path / "film.mp4", tmp_path / "none.webp", "--most", "100")
    assert small.returncode
    assert "expected at most 100 bytes" in small.stderr
    assert not (tmp_path / "none.webp").exists()
