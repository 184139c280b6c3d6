"""PhotoMatte85: a flat folder of 85 RGBA photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import Recording, list_images, load_rgba, some

SOURCE = "get PhotoMatte85.zip from the Background Matting V2 project page"
COUNT = 85


def read(root: Path, background: float = 0.5, expect: int | None = COUNT) -> list[Recording]:
    """Each photo composed over a plain grey `background` in [0, 1], as one frame with its alpha.

    The paper does not say which backgrounds it composed over; the report names the value.
    """
    photos = some([p for p in list_images(root) if p.suffix.lower() == ".png"], root, "*.png", SOURCE)
    if expect is not None and len(photos) != expect:
        raise UserError(f"{root}: expected the {expect} photos of PhotoMatte85, found {len(photos)}; {SOURCE}")

    return [_recording(photo, background) for photo in photos]


def _recording(photo: Path, background: float) -> Recording:
    def image(_: int) -> np.ndarray:
        rgba = load_rgba(photo)
        alpha = rgba[..., 3:].astype(np.float32) / 255
        return np.round(rgba[..., :3] * alpha + 255 * background * (1 - alpha)).astype(np.uint8)

    return Recording(photo.stem, 1, 1.0, image, lambda _: {"alpha": load_rgba(photo)[..., 3]}, files=(photo,))
