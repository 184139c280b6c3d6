"""One frame of the camera, as the estimator keeps it while it is in the clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thfm_ros.geometry import Intrinsics
from thfm_ros.stream.lens import Lens


@dataclass(frozen=True)
class Frame:
    """A frame at the model's size, and what belongs to it."""

    stamp_ns: int
    pixels: np.ndarray  # (H, W, 3) uint8, the model's size, letterboxed
    image: np.ndarray | None  # the camera's own image, where windows or outputs are cut from it
    intrinsics: Intrinsics | None  # of the camera's image
    depth: np.ndarray | None  # (h, w) metres, registered to the camera's image
    lens: Lens | None  # of an image that is not rectified
