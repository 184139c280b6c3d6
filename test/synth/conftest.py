from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from thfm_ros.synth import action
from thfm_ros.synth.assets import Assets, load_assets
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip


@pytest.fixture(scope="session")
def assets() -> Assets:
    return load_assets()


@contextmanager
def calm() -> Iterator[None]:
    """Nobody runs, kicks, dances or moves in an agile way: limits on what may change between frames suppose that
    little does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(action.MADE, "train", ())
        yield


@pytest.fixture(scope="session", name="calm")
def calm_fixture() -> Callable[[], AbstractContextManager[None]]:
    return calm


@pytest.fixture(scope="session")
def clips(assets: Assets) -> list[Clip]:
    """Six clips without sensor effects, indoors and outdoors."""
    config = SynthConfig(frames=3, height=128, width=128, samples=3, empty=0.0, sensor=False, fps=10)
    with calm():
        return [generate_clip(config, 11, i, assets) for i in range(6)]
