"""Rendering: sensor effects leave the truth alone, device tensors equal the host's, kernels compile for CUDA."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.on_device import generate_tensors
from thfm_ros.synth.scene import harmonics, rotate_harmonics
from thfm_ros.synth.sensor import rolling_exposure


def test_device_tensors_equal_the_clip(assets):
    torch = pytest.importorskip("torch")
    config = SynthConfig(frames=2, height=48, width=64, empty=0.0)
    clip = generate_clip(config, 1, 2, assets)
    tensors = generate_tensors(config, 1, 2, assets)
    for name in (
        "depth",
        "normals",
        "alpha",
        "dense_pose",
        "parts",
        "keypoints_2d",
        "keypoints_3d",
        "visibility",
        "intrinsics",
    ):
        assert isinstance(tensors[name], torch.Tensor)
        assert np.array_equal(tensors[name].numpy(), getattr(clip, name)), name
    if not {"jpeg", "h264"} & set(clip.meta["sensor"]):
        assert np.array_equal(tensors["rgb"].numpy(), clip.rgb)
    assert tensors["rgb"].dtype == torch.uint8


def test_more_samples_change_the_edges_only(assets):
    """Truth is evaluated at the pixel's centre whatever the number of samples."""
    from thfm_ros.synth import clip as module

    shots = {}
    for samples in (2, 4):
        config = SynthConfig(split="test", frames=1, height=64, width=64, samples=samples, empty=0.0, sensor=False)
        original = SynthConfig.digest
        SynthConfig.digest = lambda self: "ab"  # the same scene for both
        try:
            shots[samples] = module.generate_clip(config, 3, 5, assets)
        finally:
            SynthConfig.digest = original
    a, b = shots[2], shots[4]
    a.depth[~np.isfinite(a.depth)] = b.depth[~np.isfinite(b.depth)] = 0
    whole = (a.alpha == 1) & (b.alpha == 1)
    assert whole.sum() > 50
    assert np.median(np.abs(a.depth - b.depth)[whole]) < 1e-3
    clear = (a.alpha == 0) & (b.alpha == 0)
    assert np.median(np.abs(a.depth - b.depth)[clear]) < 1e-4


def test_rows_are_exposed_one_after_the_other():
    """A gain belongs to a moment: the frame that starts when another one is half read repeats its lower half."""
    banded = 0
    for seed in range(24):
        seconds = np.random.default_rng(seed).uniform(0.2, 1.0) / 12  # the first number drawn: a frame's read-out
        times = np.array([0.0, 0.5 * seconds])
        gain = rolling_exposure(np.random.default_rng(seed), times, 64, 12.0, 1.0)
        assert np.allclose(gain[1, :32], gain[0, 32:])
        assert gain.min() > 0.7
        assert gain.max() < 1.35
        banded += np.abs(np.diff(np.sign(np.diff(gain[0])))).sum() / 2 >= 3  # light and dark bands
    assert 2 <= banded <= 12
    assert (rolling_exposure(np.random.default_rng(0), np.zeros(2), 8, 12.0, 0.0) == 1).all()


def test_harmonics_of_a_uniform_sky_and_their_rotation():
    c = harmonics(np.ones((64, 128, 3)))
    assert np.allclose(c[0], 2 * np.sqrt(np.pi), rtol=1e-3)
    assert np.abs(c[1:]).max() < 1e-2
    rng = np.random.default_rng(0)
    image = rng.random((32, 64, 3))
    turned = rotate_harmonics(harmonics(image), 2 * np.pi * 16 / 64)
    assert np.allclose(turned, harmonics(np.roll(image, 16, 1)), atol=1e-3)


def test_rendering_on_a_device_needs_numpy_warp_and_torch_only():
    """An offline machine with a GPU has nothing else."""
    code = (
        "import sys; import thfm_ros.synth.on_device; "
        "print([m for m in ('cv2', 'scipy', 'anny', 'av', 'typer', 'rich', 'pybullet', 'skimage') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "[]"


def test_standard_output_is_the_callers_own():
    """Warp greets and notes every module that it loads; a command that prints a result must not carry that."""
    code = (
        "from thfm_ros.synth.assets import load_assets; from thfm_ros.synth.clip import generate_clip; "
        "from thfm_ros.synth.config import SynthConfig; "
        "generate_clip(SynthConfig(frames=1, height=16, width=16), 0, 0, load_assets())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == ""


@pytest.mark.slow
def test_kernels_compile_for_cuda(tmp_path):
    """To machine code of an Ampere GPU, without a GPU."""
    import warp as wp

    for name in ("raster", "resolve", "blur", "sensor"):
        wp.compile_aot_module(importlib.import_module(f"thfm_ros.synth.{name}"), arch=[80], module_dir=str(tmp_path))
    assert len(list(tmp_path.glob("*.cubin"))) == 4


@pytest.mark.slow
def test_cuda_agrees_with_the_cpu(assets):
    import warp as wp

    if not wp.is_cuda_available():
        pytest.skip("no CUDA device")
    config = SynthConfig(frames=3, height=96, width=96, empty=0.0, sensor=False)
    for index in range(4):
        a, b = (generate_clip(config, 0, index, assets, d) for d in ("cpu", "cuda:0"))
        assert (a.human_mask == b.human_mask).mean() > 0.995
        both = np.isfinite(a.depth) & np.isfinite(b.depth)
        assert np.median(np.abs(a.depth - b.depth)[both]) < 1e-3
        assert np.abs(a.rgb.astype(int) - b.rgb).mean() < 2
