"""Nothing here needs a GPU, or torch."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
from cuda_driver import Driver, compile_driver


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read nor write the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("cuda") / "libcuda.so.1")


@pytest.fixture
def driver(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    own = shutil.copy(library, tmp_path / "libcuda.so.1")  # with counters of its own
    monkeypatch.setattr("thfm_ros.engine.device.CUDA_DRIVER", str(own))
    return Driver(ctypes.CDLL(str(own)))
