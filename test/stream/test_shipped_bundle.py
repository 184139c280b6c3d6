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


def test_a_bundle_is_made_anew_when_the_weights_or_the_networks_code_change(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("cpu.yaml", "weights/w.safetensors", "thfm_ros/model/readout.py")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("before")

    def place() -> Path:
        return shipped._place(tmp_path / "weights", files[0], tmp_path / "thfm_ros")

    first = place()
    assert place() == first
    (tmp_path / "thfm_ros" / "nodes.py").write_text("nothing of the network's")
    assert place() == first
    places = {first}
    for file in files:
        file.write_text("after")
        places.add(place())
    assert len(places) == 4
