"""Pictures as bad cameras make them: what a look does, and that it is drawn once a clip."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from train_fakes import Discs, tiny

from thfm_ros.errors import UserError
from thfm_ros.train.appearance import Look, jpeg, photographed
from thfm_ros.train.augment import augmented
from thfm_ros.train.config import AppearanceConfig
from thfm_ros.train.data import draw


@pytest.fixture
def video() -> Tensor:
    """(1, 3, 4, 40, 56): smooth colours with an edge, four frames alike."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 56), indexing="ij")
    disc = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1).float()
    frame = torch.stack((x, y, 1 - x)) * 0.8 + disc * 0.4 - 0.6
    return frame[None, :, None].repeat(1, 1, 4, 1, 1)


def test_the_plain_look_changes_nothing(video: Tensor) -> None:
    assert torch.equal(photographed(video, [Look()]), video)


@pytest.mark.parametrize(
    "look",
    [
        Look(gain=0.4),
        Look(gamma=1.8),
        Look(contrast=0.5),
        Look(brightness=-0.2),
        Look(balance=(1.3, 1.0, 0.7)),
        Look(hue=0.5),
        Look(saturation=0.3),
        Look(vignette=0.8),
        Look(blur=5.0),
        Look(streak=(12.0, 0.7)),
        Look(size=0.4),
        Look(size=0.4, enlarge="nearest"),
        Look(sharpen=1.0),
        Look(noise=0.05),
        Look(jpeg=20),
    ],
)
def test_every_fault_changes_the_picture_within_its_range_and_all_frames_alike(video: Tensor, look: Look) -> None:
    seen = photographed(video, [look])
    assert seen.shape == video.shape
    assert seen.min() >= -1
    assert seen.max() <= 1
    assert (seen - video).abs().mean() > 1e-3
    same = [torch.equal(seen[:, :, 0], seen[:, :, t]) for t in range(1, 4)]
    assert not any(same) if look.noise else all(same)


def test_colours_do_what_their_names_say(video: Tensor) -> None:
    grey = photographed(video, [Look(saturation=0.0)])
    assert_close(grey[:, 0], grey[:, 1], atol=1e-5, rtol=0)
    white = torch.zeros(1, 3, 1, 16, 16)
    red, green, blue = photographed(white, [Look(balance=(1.2, 1.0, 0.8))])[0, :, 0, 0, 0] / 2 + 0.5
    assert (red.item(), green.item(), blue.item()) == pytest.approx((0.6, 0.5, 0.4), abs=1e-5)
    assert_close(photographed(white, [Look(hue=1.0)]), white, atol=1e-5, rtol=0)  # grey has no hue
    corner = photographed(white, [Look(vignette=0.5)])[0, 0, 0]
    assert corner[0, 0] == pytest.approx(-0.5, abs=1e-5)
    assert corner[8, 8] > -0.01


def test_a_motion_smears_along_its_way_alone() -> None:
    line = torch.full((1, 3, 1, 144, 145), -1.0)
    line[..., 72] = 1
    along = photographed(line, [Look(streak=(8.0, np.pi / 2))])
    assert_close(along, line, atol=1e-4, rtol=0)
    across = photographed(line, [Look(streak=(8.0, 0.0))])[0, 0, 0, 50] / 2 + 0.5
    assert across.sum() == pytest.approx(1.0, abs=1e-4)
    assert 8 <= (across > 0.01).sum() <= 10


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 92])
def test_jpeg_is_what_a_library_makes_of_it(quality: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 6, 9), np.float32))
    picture = torch.nn.functional.interpolate(coarse, size=(50, 72), mode="bicubic").clamp(0, 1)
    pixels = (picture[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    memory = io.BytesIO()
    image_module.fromarray(pixels).save(memory, "JPEG", quality=quality, subsampling=2)
    expected = np.asarray(image_module.open(memory), np.float32) / 255
    found = jpeg(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, quality)[0].permute(1, 2, 0).numpy()
    lost = np.abs(expected - pixels / 255).mean()
    assert np.abs(found - expected).mean() < max(0.25 * lost, 0.004)


def test_looks_are_a_function_of_their_key_and_as_frequent_as_asked() -> None:
    config = AppearanceConfig(share=0.8)
    looks = [Look.draw(config, 1, 2, clip) for clip in range(400)]
    assert looks == [Look.draw(config, 1, 2, clip) for clip in range(400)]
    plain = sum(look == Look() for look in looks)
    assert 50 < plain < 110
    touched = [look for look in looks if look != Look()]
    assert 0.04 < np.mean([look.saturation == 0 for look in touched]) < 0.18
    assert 0.3 < np.mean([look.jpeg > 0 for look in touched]) < 0.5
    assert all(1 <= look.jpeg <= 100 for look in touched if look.jpeg)
    assert all(Look.draw(AppearanceConfig(), clip) == Look() for clip in range(20))


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_any_draw_stays_a_picture(video: Tensor, strength: float) -> None:
    looks = [Look.draw(AppearanceConfig(share=1.0, strength=strength), clip) for clip in range(60)]
    seen = photographed(video.expand(60, -1, -1, -1, -1), looks)
    assert torch.isfinite(seen).all()
    assert seen.abs().max() <= 1


def test_a_step_shows_them_and_leaves_the_truth_alone() -> None:
    clips = [Discs()(i) for i in range(4)]

    def batch(share: float):
        config = tiny(augment={"mirror": 0.5, "appearance": {"share": share}})
        return augmented(clips, draw(config, 3), config, torch.device("cpu"))

    plain, seen, again = batch(0.0), batch(1.0), batch(1.0)
    assert torch.equal(seen.rgb, again.rgb)
    assert all((a - b).abs().mean() > 1e-3 for a, b in zip(plain.rgb, seen.rgb, strict=True))
    for name in ("alpha", "normals", "dense_pose", "scene_disparity"):
        assert torch.equal(getattr(plain, name), getattr(seen, name))


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"jpeg": -0.1}, {"strength": -1.0}])
def test_bad_chances_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"appearance\.{next(iter(wrong))}"):
        AppearanceConfig(**wrong)
