"""The distortion of a real lens, taken off the pixels whose rays are needed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from thfm_ros.geometry import Intrinsics

FISHEYE = ("equidistant", "fisheye")
LENGTHS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), **dict.fromkeys(FISHEYE, (4,))}
TOLERANCE_PX = 1.0


@dataclass(frozen=True)
class Lens:
    """A model of sensor_msgs/CameraInfo (`distortion_model`, "" counts as plumb_bob) and its coefficients."""

    model: str
    coefficients: tuple[float, ...]

    @property
    def known(self) -> bool:
        """True where the model is one of LENGTHS, with a number of coefficients that it has."""
        return len(self.coefficients) in LENGTHS.get(self.model or "plumb_bob", ())

    def straightened(self, xy: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        """Where a pinhole camera of these intrinsics would see what this lens shows at `xy`.

        Args:
            xy: (K, 2) continuous pixels.
        Returns:
            (K, 2); NaN where the model has no such pixel (far outside the image). `xy` itself for an unknown model.
        """
        if not self.known:
            return xy
        k, d = intrinsics.matrix, np.array(self.coefficients)
        pixels = np.ascontiguousarray(xy, dtype=float)[None]
        try:
            if self.model in FISHEYE:
                rays = cv2.fisheye.undistortPoints(pixels, k, d)
                back = cv2.fisheye.distortPoints(rays, k, d)
            else:
                rays = cv2.undistortPoints(pixels, k, d)
                points = np.concatenate((rays.reshape(-1, 2), np.ones((len(xy), 1))), 1)
                back, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), k, d)
        except cv2.error:
            return np.full_like(pixels[0], np.nan)
        straight = rays.reshape(-1, 2) * (intrinsics.fx, intrinsics.fy) + (intrinsics.cx, intrinsics.cy)
        with np.errstate(invalid="ignore"):
            exact = (np.abs(back.reshape(-1, 2) - xy) < TOLERANCE_PX).all(1)
        return np.where(exact[:, None], straight, np.nan)
