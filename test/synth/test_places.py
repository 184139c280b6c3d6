"""Folders of panoramas and photographs: what they become, and what is said of those that cannot be used."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.synth import places
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.places import PictureFolder, read_panorama, read_photograph, with_environments
from thfm_ros.synth.shards import decode, encode

SMALL = {"frames": 2, "height": 48, "width": 64, "empty": 0.0}
# The photographs' colour is like nothing that the generator makes: pure green, at half of its brightness.
GREEN = np.array([0, 150, 0])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for n in range(3):
        image = np.full((90 + 10 * n, 120, 3), GREEN[::-1], np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), image)
    return folder


@pytest.fixture
def panoramas(tmp_path: Path) -> Path:
    """One with a lamp straight ahead and half up, another that is grey and has eight bits."""
    folder = tmp_path / "panoramas"
    folder.mkdir()
    image = np.full((128, 256, 3), 0.1, np.float32)
    image[28:36, 124:132] = 900.0
    cv2.imwrite(str(folder / "lamp.hdr"), image)
    cv2.imwrite(str(folder / "grey.jpg"), np.full((300, 600, 3), 128, np.uint8))
    return folder


def test_panoramas_become_linear_radiance_of_one_size(panoramas: Path) -> None:
    lamp, grey = read_panorama(panoramas / "lamp.hdr"), read_panorama(panoramas / "grey.jpg")
    assert lamp.shape == grey.shape == (256, 512, 3)
    assert lamp.max() == pytest.approx(900, rel=0.02)
    assert grey.mean() == pytest.approx((128 / 255) ** 2.2, rel=0.02)


def test_other_kinds_of_photographs_count_and_other_files_are_named(photographs: Path) -> None:
    for suffix in (".webp", ".tif", ".tiff", ".bmp", ".JPG"):
        cv2.imwrite(str(photographs / f"more{suffix}"), np.full((90, 120, 3), GREEN[::-1], np.uint8))
    assert places.left_out(photographs, "photographs") == ""
    (photographs / "notes.txt").touch()
    (photographs / ".DS_Store").touch()
    folder = PictureFolder.at(photographs, "photographs")
    assert len(folder.files) == 8
    for file in folder.files:
        assert np.abs(read_photograph(file).mean((0, 1)) - GREEN).max() < 8
    assert places.left_out(photographs, "photographs") == "8 photographs, 1 other files left out"
    assert places.left_out(photographs, "panoramas") == "4 panoramas, 5 other files left out"


def test_they_stand_beside_the_artefacts_own_and_light_scenes(assets, panoramas: Path) -> None:
    more = with_environments(assets, PictureFolder.at(panoramas, "panoramas"))
    assert len(more.environments) == len(assets.environments) + 2
    assert more.digest != assets.digest
    config = SynthConfig(**SMALL, outdoor=1.0, environments=panoramas)
    seen = {generate_clip(config, 0, i, assets).meta["environment"] for i in range(16)}
    assert any(name.endswith(("lamp.hdr", "grey.jpg")) for name in seen)
    assert any(name in assets.environments for name in seen)


def test_a_header_that_claims_too_many_pixels_is_one_line(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.full((128, 256, 3), 128, np.uint8))[1].tobytes()
    at = data.index(b"\xff\xc0") + 5
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\xf0\xf0\xf0\xf0" + data[at + 4 :])
    with pytest.raises(UserError, match=r"a\.jpg is no picture that can be read"):
        PictureFolder.at(tmp_path, "panoramas")
    for read in (read_photograph, read_panorama):
        with pytest.raises(UserError, match=r"a\.jpg is no picture that can be read"):
            read(tmp_path / "a.jpg")


def test_panoramas_are_kept_and_a_broken_or_missing_cache_is_no_obstacle(panoramas, tmp_path, monkeypatch) -> None:
    folder = PictureFolder.at(panoramas, "panoramas")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = places._panoramas(folder)
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    monkeypatch.setattr(places, "read_panorama", lambda file: 1 / 0)
    assert np.array_equal(places._panoramas(folder), first)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept.write_bytes(b"PK damaged")
    assert np.array_equal(places._panoramas(folder), first)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert np.array_equal(places._panoramas(folder), first)


def is_green(rgb: np.ndarray) -> np.ndarray:
    """Green as the photographs are, whatever exposure made of its brightness."""
    red, green, blue = np.moveaxis(rgb.astype(int), -1, 0)
    return (green > 60) & (red < 0.3 * green) & (blue < 0.3 * green)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_photograph_stands_behind_people_who_stay_as_they_are(assets, photographs: Path, frames: int) -> None:
    config = SynthConfig(
        frames=frames,
        height=48,
        width=64,
        empty=0.0,
        sensor=False,
        occluders=0.0,
        identities=4 if frames == 1 else 1,
        backgrounds=photographs,
        composed=1.0,
        nobody=0.0,
    )
    for index in range(4):
        clip = generate_clip(config, 3, index, assets)
        assert not clip.has_scene
        assert clip.meta["photograph"].endswith(".png")
        people = clip.alpha == 1
        nothing = ~np.isfinite(clip.depth) & (clip.alpha == 0)
        assert people.any()
        assert is_green(clip.rgb)[nothing].mean() > 0.95
        assert is_green(clip.rgb)[people].mean() < 0.1
        assert np.isfinite(clip.depth[people]).all()
        assert (np.abs(np.linalg.norm(clip.normals[people], axis=-1) - 1) < 1e-3).all()
        assert (clip.normals[nothing] == 0).all()


def test_photographs_with_nobody_have_no_mask_and_no_joints(assets, photographs: Path) -> None:
    config = SynthConfig(**SMALL, backgrounds=photographs, composed=0.0, nobody=0.3)
    made = [generate_clip(config, 0, i, assets) for i in range(40)]
    empty = [c for c in made if not c.people]
    assert 4 < len(empty) < 22
    for clip in empty:
        assert clip.rgb.shape == (2, 48, 64, 3)
        assert is_green(clip.rgb).all()
        assert not clip.has_scene
        assert clip.alpha.max() == clip.instances.max() == 0
        assert (clip.visibility == 0).all()
    assert all(c.has_scene for c in made if c.people)
    again = generate_clip(config, 0, empty[0].meta["index"], assets)
    assert np.array_equal(again.rgb, empty[0].rgb)


def test_shards_keep_what_is_known(assets, photographs: Path) -> None:
    config = SynthConfig(**SMALL, backgrounds=photographs, composed=1.0, nobody=0.0, people=3)
    for index in range(6):
        clip = generate_clip(config, 1, index, assets)
        back = decode(encode(clip))
        assert back.has_scene is False
        assert np.array_equal(back.instances, clip.instances)


def test_without_folders_nothing_changes(photographs: Path) -> None:
    plain = SynthConfig(**SMALL)
    assert plain.digest() == replace(plain, composed=0.9, nobody=0.9).digest()
    assert plain.digest() != SynthConfig(**SMALL, backgrounds=photographs).digest()


def test_a_folder_is_its_contents_wherever_it_lies(photographs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(photographs, moved)
    here, there = (SynthConfig(**SMALL, backgrounds=f) for f in (photographs, moved))
    assert here == there
    assert here.digest() == there.digest()
    cv2.imwrite(str(moved / "more.png"), np.zeros((80, 80, 3), np.uint8))
    assert SynthConfig(**SMALL, backgrounds=moved).digest() != here.digest()


def test_what_cannot_be_used_is_named(photographs: Path, panoramas: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        SynthConfig(backgrounds=tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"no photographs in .*none"):
        SynthConfig(backgrounds=tmp_path / "none")
    (photographs / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.jpg is no picture"):
        SynthConfig(backgrounds=photographs)
    (photographs / "bad.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"bad\.jpg is no picture"):
        SynthConfig(backgrounds=photographs)
    cv2.imwrite(str(photographs / "bad.jpg"), np.zeros((10, 200, 3), np.uint8))
    with pytest.raises(UserError, match=r"bad\.jpg is 200x10"):
        SynthConfig(backgrounds=photographs)
    cv2.imwrite(str(panoramas / "square.png"), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(UserError, match=r"square\.png is 100x100: expected an equirectangular"):
        SynthConfig(environments=panoramas)
    with pytest.raises(UserError, match="composed is a share in 0"):
        SynthConfig(composed=1.5)


def test_large_photographs_are_shrunk_and_grey_ones_have_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.jpg"), np.zeros((900, 2000), np.uint8))
    assert read_photograph(tmp_path / "large.jpg").shape == (288, 640, 3)


def test_a_small_photograph_fills_any_picture(photographs: Path) -> None:
    folder = PictureFolder.at(photographs, "photographs")
    rng = np.random.default_rng(0)
    for height, width in ((300, 40), (40, 300), (17, 18), (90, 120)):
        made, name = places.views(rng, folder, 3, height, width)
        assert made.shape == (3, height, width, 3)
        assert is_green(made).all()
        assert name.endswith(".png")
