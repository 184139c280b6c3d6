"""One tiny checkpoint and its bundle, exported once for all tests of the engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from engine_checkpoints import make_checkpoint

torch = pytest.importorskip("torch")

RECIPES = Path(__file__).parents[2] / "engines"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read nor write the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is float32 on every machine: tests ask for equality, which bf16 cannot give."""
    monkeypatch.setattr("thfm_ros.engine.backends.openvino_backend.fast_bf16", lambda: False)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("tiny", tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never changed by a test: see `bundle`."""
    from thfm_ros.engine.export import export_bundle
    from thfm_ros.engine.recipes import load_recipe

    out = tmp_path_factory.mktemp("bundles") / "tiny-cpu"
    export_bundle(tiny_checkpoint, load_recipe(RECIPES / "cpu.yaml"), out)
    return out


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))
