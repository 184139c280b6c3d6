"""What stands behind people in training: as much detail as they have, and other photographs in every view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from train_fakes import Discs, tiny

from thfm_ros.errors import UserError
from thfm_ros.synth.places import PictureFolder
from thfm_ros.train.augment import NOBODY, _with_somebody, augmented
from thfm_ros.train.backdrop import before_photographs
from thfm_ros.train.config import AugmentConfig, WindowConfig
from thfm_ros.train.data import draw
from thfm_ros.train.detail import MOST, OUTLINE, SPREAD, detailed
from thfm_ros.train.trainer import Trainer

SIZE = 144
KEYS = [(0, n) for n in range(40)]


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    """Three photographs of noise, of 160 pixels, that only hold blue."""
    for number in range(3):
        noise = np.random.default_rng(number).integers(100, 255, (160, 160)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.stack((noise, 0 * noise, 0 * noise), -1))
    return str(tmp_path)


@pytest.fixture
def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Forty pictures of a person of strong noise before weak noise, their masks, and nothing beyond their edges."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.zeros(len(KEYS), 1, 1, SIZE, SIZE)
    alpha[..., 30:110, 40:100] = 1.0
    noise = 0.1 * torch.randn((len(KEYS), 1, 1, SIZE, SIZE), generator=generator)
    rgb = (noise * (0.2 + 0.8 * alpha)).expand(-1, 3, -1, -1, -1).clone()
    return rgb, alpha, torch.zeros(len(KEYS), 1, 1, SIZE, SIZE, dtype=torch.bool)


def detail_ratios(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Of each picture: how much people change from one pixel to the next over how much surroundings do."""
    change = (rgb[..., 1:] - rgb[..., :-1]).square().mean(1, keepdim=True)
    inside, outside = (
        torch.nn.functional.max_pool2d(a.flatten(0, 2)[:, None], 2 * OUTLINE + 3, 1, OUTLINE + 1)[..., 1:] < 0.5
        for a in (1 - alpha, alpha)
    )
    means = [(change.flatten(0, 2)[:, None] * m).sum((1, 2, 3)) / m.sum((1, 2, 3)) for m in (inside, outside)]
    return (means[0] / means[1]).sqrt()


def test_people_have_as_much_detail_as_their_surroundings(scene: tuple[Tensor, Tensor, Tensor]) -> None:
    rgb, alpha, beyond = scene
    assert detail_ratios(rgb, alpha).median() > 4.5
    ratios = detail_ratios(detailed(rgb, alpha, beyond, KEYS), alpha).log()
    assert abs(float(ratios.median())) < 0.4
    assert 0.3 * SPREAD < float(ratios.std()) < 2 * SPREAD


def test_the_share_and_what_lies_beyond_stay_as_they_are(scene: tuple[Tensor, Tensor, Tensor]) -> None:
    rgb, alpha, beyond = scene
    beyond[..., :20] = True
    some = detailed(rgb, alpha, beyond, KEYS, 0.5)
    assert torch.equal(some, detailed(rgb, alpha, beyond, KEYS, 0.5))
    same = (some == rgb).flatten(1).all(1)
    assert 8 < int(same.sum()) < 32
    assert torch.equal(some[..., :20], rgb[..., :20])
    assert torch.equal(detailed(rgb, alpha, beyond, KEYS, 0.0), rgb)
    nobody = torch.zeros_like(alpha)
    assert torch.equal(detailed(rgb, nobody, beyond, KEYS), rgb)
    assert MOST * rgb.abs().max() >= detailed(rgb, alpha, beyond, KEYS).abs().max()


def test_photographs_stand_behind_people_alone(scene: tuple[Tensor, Tensor, Tensor], photographs: str) -> None:
    rgb, alpha, beyond = scene
    beyond[..., :20] = True
    alpha[1] = 0.0
    chosen = [n != 0 for n in range(len(KEYS))]
    folder = PictureFolder.at(photographs, "photographs")
    made, changed = before_photographs(rgb, alpha, beyond, chosen, folder, KEYS)
    assert changed.tolist() == [n > 1 for n in range(len(KEYS))]
    assert torch.equal(made[:2], rgb[:2])
    assert torch.equal(made[..., :20], rgb[..., :20])
    inner = torch.nn.functional.max_pool2d(1 - alpha[2:, :, 0], 3, 1, 1)[:, :, None].expand(-1, 3, -1, -1, -1) == 0
    assert_close(made[2:][inner], rgb[2:][inner])
    behind = made[2:, :, 0, :25, 25:]
    assert (behind[:, :2] == -1).all(), "red and green of the photographs"
    assert (behind[:, 2] > -0.3).all(), "their blue"
    assert len({float(x) for x in behind[:, 2].mean((1, 2))}) > 30, "another part in every view"


def test_a_step_shows_photographs_where_no_task_asks_about_the_scene(photographs: str) -> None:
    clips = [Discs()(i) for i in range(4)]

    def step(task: str):
        config = tiny(augment={"backdrops": 1.0}, tasks={task: 1.0})
        config = replace(config, data=replace(config.data, backgrounds=photographs))
        plain = replace(config, augment=AugmentConfig(colour=1e-9))
        where = torch.device("cpu")
        return augmented(clips, draw(config, 3), config, where), augmented(clips, draw(config, 3), plain, where)

    seen, plain = step("foreground")
    assert not seen.scene.any()
    assert (seen.rgb - plain.rgb)[plain.alpha.expand_as(plain.rgb) == 0].abs().mean() > 0.1
    seen, plain = step("scene_depth")
    assert seen.scene.all()
    assert_close(seen.rgb, plain.rgb)


@pytest.mark.parametrize("stage", ["vae", "decoder"])
def test_the_autoencoder_sees_photographs_behind_people_too(tmp_path: Path, photographs: str, stage: str) -> None:
    """Its samples are the video itself and modalities of people and scenes."""
    data = {"backgrounds": photographs}
    decoder = {"widths": [8, 8, 8, 8], "blocks": 1} if stage == "decoder" else {}
    tasks = {"rgb": 1.0, "foreground": 1.0, "scene_depth": 1.0}
    config = tiny(stage=stage, steps=1, augment={"backdrops": 1.0}, data=data, tasks=tasks, decoder=decoder)
    assert Trainer(config, tmp_path / "run", Discs()).fit()


def test_a_run_says_how_many_files_are_no_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((64, 64, 3), np.uint8))
    config = tiny(data={"backgrounds": str(folder)})
    Trainer(config, tmp_path / "one", Discs())
    assert "left out" not in capsys.readouterr().out
    (folder / "a.heic").touch()
    Trainer(config, tmp_path / "two", Discs())
    assert "data.backgrounds: 1 photographs, 1 other files left out" in capsys.readouterr().out


def test_a_run_without_photographs_says_so_and_keeps_what_was_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(augment={"backdrops": 1.0, "mirror": 0.5})
    Trainer(config, tmp_path, Discs())
    assert "no data.backgrounds" in capsys.readouterr().out
    plain = replace(config, augment=AugmentConfig(mirror=0.5))
    clips, where = [Discs()(i) for i in range(4)], torch.device("cpu")
    seen, kept = (augmented(clips, draw(c, 3), c, where) for c in (config, plain))
    assert torch.equal(seen.rgb, kept.rgb)
    assert torch.equal(seen.scene, kept.scene)


@pytest.mark.parametrize("wrong", [{"backdrops": 1.5}, {"detail": -0.1}, {"faces": 1.5}])
def test_shares_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"backdrops, detail and faces in 0 \.\. 1"):
        AugmentConfig(**wrong)


def test_steps_of_joints_alone_show_somebody_in_most_windows() -> None:
    shown, empty = Discs(frames=1)(3), Discs(frames=1)(4)
    empty.instances[:], empty.alpha[:] = 0, 0
    keys = [(0, 1, n) for n in range(100)]
    clips = [empty] * 60 + [shown] * 40
    made = _with_somebody(clips, keys)
    assert all(clip is shown for clip in made[60:])
    left = sum(clip is empty for clip in made)
    assert 0.3 * NOBODY * 60 < left < 2 * NOBODY * 60
    assert _with_somebody([empty] * 3, keys[:3]) == [empty] * 3
    windows = WindowConfig(share=1.0, width=32, height=32, joints=1.0)
    config = replace(tiny(), augment=AugmentConfig(windows=windows))
    part = draw(config, 0)
    seen = augmented([empty] * (len(part.clips) - 1) + [shown], part, config, torch.device("cpu"))
    assert seen.alpha.flatten(1).any(1).float().mean() > 0.5
