import pytest

from thfm_ros.synth.assets import Assets, load_assets
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip


@pytest.fixture(scope="session")
def assets() -> Assets:
    return load_assets()


@pytest.fixture(scope="session")
def clips(assets: Assets) -> list[Clip]:
    """Three clips without sensor effects, indoors and outdoors."""
    config = SynthConfig(frames=3, height=128, width=128, samples=3, empty=0.0, sensor=False, fps=10)
    return [generate_clip(config, 11, i, assets) for i in range(6)]
