"""PPM-100: {train|val}/{fg,matte}/<name>.jpg."""

from __future__ import annotations

from pathlib import Path

from thfm_ros.evaluate.readers.base import Recording, find_image, list_images, load_gray, load_rgb, need, some

SOURCE = "get PPM-100 from github.com/ZHKKKe/PPM (its README links the archive)"


def read(root: Path, split: str = "val") -> list[Recording]:
    """Each photo of the split as one frame with its alpha."""
    folder = need(root if (root / "fg").is_dir() else root / split, f"PPM-100's {split} photos", SOURCE)
    photos = some(list_images(folder / "fg"), folder, "fg/*.jpg", SOURCE)
    mattes = [find_image(folder / "matte" / p.stem) for p in photos]
    return [_recording(photo, matte) for photo, matte in zip(photos, mattes, strict=True)]


def _recording(photo: Path, matte: Path) -> Recording:
    return Recording(
        photo.stem, 1, 1.0, lambda _: load_rgb(photo), lambda _: {"alpha": load_gray(matte)}, files=(photo, matte)
    )
