"""The bundle of the shipped weights: what is said where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from thfm_ros.errors import UserError
from thfm_ros.stream import shipped


def test_a_robot_without_torch_is_told_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export runs in a real process of its own, in which torch cannot be found."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"No module named 'torch'; pip install torch .* or export elsewhere .*bundle"):
        shipped.shipped_bundle()


def test_a_checkpoint_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=f"cannot export {tmp_path / 'none'} to a bundle: .*none"):
        shipped.cpu_bundle(tmp_path / "none")
