"""3D geometry in plain numpy: intrinsics, projection, the person's root, metric scale of a disparity.

Camera frame: x right, y down, z forward, metres (OpenCV = ROS optical). Pixels are continuous coordinates:
pixel i covers [i, i + 1), its centre is i + 0.5, and cx = width / 2 is the middle of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera, in pixels of the (width, height) image it belongs to."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in values) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"intrinsics need finite values and focal lengths > 0, found fx, fy, cx, cy = {values}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"intrinsics need an image size > 0, found {self.width}x{self.height}")

    @classmethod
    def from_matrix(cls, matrix: np.ndarray, width: int, height: int) -> Intrinsics:
        """From a (3, 3) camera matrix in this module's pixel convention."""
        m = np.asarray(matrix, dtype=float)
        return cls(float(m[0, 0]), float(m[1, 1]), float(m[0, 2]), float(m[1, 2]), width, height)

    @classmethod
    def from_fov(cls, horizontal_deg: float, width: int, height: int) -> Intrinsics:
        """Square pixels, the principal point in the middle, a horizontal field of view in degrees."""
        if not 0 < horizontal_deg < 180:
            raise ValueError(f"a field of view lies between 0 and 180 degrees, found {horizontal_deg}")
        f = width / 2 / math.tan(math.radians(horizontal_deg) / 2)
        return cls(f, f, width / 2, height / 2, width, height)

    @property
    def matrix(self) -> np.ndarray:
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Intrinsics:
        """Gives the intrinsics of the same view resampled to another size."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, width, height)

    def cropped(self, x: float, y: float, width: int, height: int) -> Intrinsics:
        """Gives the intrinsics of the window whose top left corner is (x, y); negative values pad."""
        return Intrinsics(self.fx, self.fy, self.cx - x, self.cy - y, width, height)


def project(points: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Camera-frame points (..., 3) in metres to continuous pixels (..., 2); NaN where z <= 0."""
    points = np.asarray(points, dtype=float)
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    u = intrinsics.fx * points[..., 0] / z + intrinsics.cx
    v = intrinsics.fy * points[..., 1] / z + intrinsics.cy
    return np.stack([u, v], -1)


def pixel_rays(intrinsics: Intrinsics) -> np.ndarray:
    """(H, W, 3) rays (x/z, y/z, 1) through the pixel centres."""
    x = (np.arange(intrinsics.width) + 0.5 - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) + 0.5 - intrinsics.cy) / intrinsics.fy
    xx, yy = np.meshgrid(x, y)
    return np.stack([xx, yy, np.ones_like(xx)], -1)


def unproject(depth: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Depth (..., H, W) along z in metres to camera-frame points (..., H, W, 3)."""
    depth = np.asarray(depth, dtype=float)
    if depth.shape[-2:] != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"depth has size {depth.shape[-1]}x{depth.shape[-2]}, its intrinsics are for "
            f"{intrinsics.width}x{intrinsics.height}: use Intrinsics.resized"
        )
    return depth[..., None] * pixel_rays(intrinsics)


def at_depth(xy_px: np.ndarray, z: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Continuous pixels (N, 2) and their depths (N,) along z in metres to camera-frame points (N, 3)."""
    x = (xy_px[:, 0] - intrinsics.cx) / intrinsics.fx
    y = (xy_px[:, 1] - intrinsics.cy) / intrinsics.fy
    return np.stack([x * z, y * z, z], -1)


def normals_from_depth(depth: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Unit normals (H, W, 3) facing the camera by central differences; NaN at borders and holes."""
    points = unproject(depth, intrinsics)
    normals = np.full_like(points, np.nan)
    dx = points[1:-1, 2:] - points[1:-1, :-2]
    dy = points[2:, 1:-1] - points[:-2, 1:-1]
    n = np.cross(dy, dx)  # y down, x right: dy x dx points to the camera
    with np.errstate(invalid="ignore", divide="ignore"):
        normals[1:-1, 1:-1] = n / np.linalg.norm(n, axis=-1, keepdims=True)
    return normals


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """(x, y, z, w), unit, w >= 0, of a rotation matrix (3, 3)."""
    m = np.asarray(rotation, dtype=float)
    # Of the four squares the largest is at least 1/4: its root divides well.
    squares = 1 + np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]]) @ np.diag(m)
    x, y, z = m[2, 1], m[0, 2], m[1, 0]
    a, b, c = m[1, 2], m[2, 0], m[0, 1]
    table = np.array(
        [
            [squares[0], z + c, y + b, x - a],
            [z + c, squares[1], x + a, y - b],
            [y + b, x + a, squares[2], z - c],
            [x - a, y - b, z - c, squares[3]],
        ]
    )
    q = table[int(np.argmax(squares))]
    q = q / np.linalg.norm(q) * (1.0 if q[3] >= 0 else -1.0)
    return float(q[0]), float(q[1]), float(q[2]), float(q[3])


def solve_root(
    xy_px: np.ndarray, xyz_rel: np.ndarray, weights: np.ndarray | None, intrinsics: Intrinsics
) -> np.ndarray:
    """The root's position in the camera frame from 2D keypoints and root-relative 3D ones.

    Each joint lies on its ray: (X + tx) - x (Z + tz) = 0 and (Y + ty) - y (Z + tz) = 0 with x, y the normalised
    image coordinates. That is linear in t = (tx, ty, tz); the weighted least squares solution is closed form.

    Args:
        xy_px: (K, 2) continuous pixels. xyz_rel: (K, 3) metres. weights: (K,) >= 0, None: all equal.
    Returns:
        (3,) metres; NaN where fewer than two joints count, or the person would be behind the camera.
    """
    xy_px, xyz_rel = np.asarray(xy_px, dtype=float), np.asarray(xyz_rel, dtype=float)
    if xy_px.shape != (len(xyz_rel), 2) or xyz_rel.shape != (len(xyz_rel), 3):
        raise ValueError(f"expected (K, 2) pixels and (K, 3) metres, found {xy_px.shape} and {xyz_rel.shape}")
    w = np.ones(len(xyz_rel)) if weights is None else np.asarray(weights, dtype=float)
    w = np.where(np.isfinite(xy_px).all(1) & np.isfinite(xyz_rel).all(1) & np.isfinite(w), w, 0.0)
    used = w > 0
    failed = np.full(3, np.nan)
    if used.sum() < 2:
        return failed
    w, (x_rel, y_rel, z_rel) = w[used], xyz_rel[used].T
    x = (xy_px[used, 0] - intrinsics.cx) / intrinsics.fx
    y = (xy_px[used, 1] - intrinsics.cy) / intrinsics.fy
    sw, sx, sy = w.sum(), (w * x).sum(), (w * y).sum()
    normal = np.array([[sw, 0.0, -sx], [0.0, sw, -sy], [-sx, -sy, (w * (x * x + y * y)).sum()]])
    rx, ry = x * z_rel - x_rel, y * z_rel - y_rel
    right = np.array([(w * rx).sum(), (w * ry).sum(), -(w * (x * rx + y * ry)).sum()])
    if np.linalg.cond(normal) > 1e12:
        return failed
    root = np.linalg.solve(normal, right)
    return root if np.average(z_rel, weights=w) + root[2] > 0 else failed


def _weighted(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Flat values, their weights (1 where none are given) and the sum of those."""
    x, y = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float).ravel()
    return x, y, w, w.sum()


def fit_affine(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """(scale, shift) that minimise sum w (scale x + shift - y)^2; NaN twice without any weight.

    Where x is constant only the shift can be known, and the scale is 1.
    """
    x, y, w, total = _weighted(x, y, weights)
    if not total > 0:
        return math.nan, math.nan
    mean_x, mean_y = (w * x).sum() / total, (w * y).sum() / total
    dx, dy = x - mean_x, y - mean_y  # centred first: the textbook determinant cancels badly
    variance = (w * dx * dx).sum()
    if variance <= 1e-12 * max(total * mean_x * mean_x, 1e-12):
        return 1.0, mean_y - mean_x
    scale = (w * dx * dy).sum() / variance
    return float(scale), float(mean_y - scale * mean_x)


def match_affine(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """(scale, shift) that give x the weighted mean and spread of y: the geometric mean of both regressions.

    For chains of fits. Least squares takes noise in x for part of y and so shrinks every link (regression dilution);
    this slope treats x and y alike. It is positive: disparity never turns round. NaN twice without any weight; the
    scale is 1 where x or y is constant.
    """
    x, y, w, total = _weighted(x, y, weights)
    if not total > 0:
        return math.nan, math.nan
    mean_x, mean_y = (w * x).sum() / total, (w * y).sum() / total
    variance_x, variance_y = (w * (x - mean_x) ** 2).sum() / total, (w * (y - mean_y) ** 2).sum() / total
    known = variance_x > 1e-12 * max(mean_x**2, 1e-12) and variance_y > 1e-12 * max(mean_y**2, 1e-12)
    scale = math.sqrt(variance_y / variance_x) if known else 1.0
    return scale, float(mean_y - scale * mean_x)


def metric_disparity(
    disparity: np.ndarray,
    xy_px: np.ndarray,
    z_m: np.ndarray,
    weights: np.ndarray,
    ridge: float = 1e-2,
) -> tuple[float, float]:
    """(scale, shift) with 1/z = scale * disparity + shift, from joints whose depth is known.

    A person covers a narrow range of depth, so the shift is weakly determined: it is drawn towards 0 (the far
    end of the disparity is far away) by `ridge`, a fraction of the joints' own weight.

    Args:
        disparity: (H, W). xy_px: (K, 2) continuous pixels of that image. z_m: (K,) metres. weights: (K,) >= 0.
    Returns:
        NaN twice where fewer than three joints fall into the image, or no positive scale explains them.
    """
    disparity = np.asarray(disparity, dtype=float)
    height, width = disparity.shape
    xy_px, z_m, weights = np.asarray(xy_px, float), np.asarray(z_m, float), np.asarray(weights, float)
    inside = (
        np.isfinite(xy_px).all(1)
        & (xy_px >= 0).all(1)
        & (xy_px[:, 0] < width)
        & (xy_px[:, 1] < height)
        & (z_m > 0)
        & (weights > 0)
    )
    if inside.sum() < 3:
        return math.nan, math.nan
    column, row = xy_px[inside].astype(int).T
    d, q, w = disparity[row, column], 1.0 / z_m[inside], weights[inside]
    known = np.isfinite(d) & np.isfinite(q)
    d, q, w = d[known], q[known], w[known]
    total = w.sum()
    if len(d) < 3:
        return math.nan, math.nan
    a = np.array([[(w * d * d).sum(), (w * d).sum()], [(w * d).sum(), (1.0 + ridge) * total]])
    b = np.array([(w * d * q).sum(), (w * q).sum()])
    scale, shift = np.linalg.solve(a + 1e-12 * total * np.eye(2), b)
    if scale <= 0 or shift < 0:  # more disparity must be nearer, and nothing lies beyond infinity
        scale, shift = (w * d * q).sum() / max((w * d * d).sum(), 1e-12 * total), 0.0
    return (float(scale), float(shift)) if scale > 0 else (math.nan, math.nan)
