"""Joint metrics, paper Table 5: MPJPE, PA-MPJPE, Accel, PCK, jitter. Metres in; millimetres and m/s^2 out; float64.

Sources: GVHMR and WHAM evaluation (24 SMPL joints, pelvis = mean of joints 1 and 2), EMDB's own evaluation_metrics,
SPIN (Human3.6M, 14 joints, root joint 0), jitter after PIP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PELVIS = (1, 2)  # the hips of SMPL-24: their mean is the root of EMDB and RICH

# 17 Human3.6M joints out of the 32 raw ones; two orders are in use.
H36M_RAW32_LEFT_FIRST = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
H36M_RAW32_RIGHT_FIRST = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
# The 14 joints of the table (right ankle .. left wrist, neck, head) out of either order.
H36M14_OF_LEFT_FIRST = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)
H36M14_OF_RIGHT_FIRST = (3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10)


def _pair(pred: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pred, true = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    if pred.shape != true.shape or pred.ndim != 3:
        raise ValueError(f"joints have the same shape (F, K, D), found {pred.shape} and {true.shape}")
    return pred, true


def _mean_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1).mean(-1)


def centre(joints: np.ndarray, root: Sequence[int] = PELVIS) -> np.ndarray:
    """(F, K, 3) relative to the mean of the root joints."""
    joints = np.asarray(joints, np.float64)
    return joints - joints[:, list(root)].mean(1, keepdims=True)


def similarity_align(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Each frame of pred (F, K, 3) moved onto true by the best similarity transform; reflections are not allowed.

    Procrustes: K = X1^T X2 = U S V^T, R = V Z U^T with Z = diag(1, 1, sign det(U V^T)), s = tr(R K) / sum X1^2.
    A prediction with all joints in one point has no scale: its frame is NaN.
    """
    pred, true = _pair(pred, true)
    mean_p, mean_t = pred.mean(1, keepdims=True), true.mean(1, keepdims=True)
    p, t = pred - mean_p, true - mean_t
    covariance = np.einsum("fki,fkj->fij", p, t)
    defined = np.isfinite(covariance).all((1, 2))
    u, s, vt = np.linalg.svd(np.where(defined[:, None, None], covariance, 0.0))
    sign = np.sign(np.linalg.det(u @ vt))
    u = u * np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)[:, None, :]
    s = s * np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)
    rotation = np.einsum("fji,fkj->fik", vt, u)  # V Z U^T
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = s.sum(-1) / np.square(p).sum((1, 2))
        return scale[:, None, None] * np.einsum("fij,fkj->fki", rotation, p) + mean_t


def mpjpe(pred: np.ndarray, true: np.ndarray, root: Sequence[int] | None = PELVIS) -> np.ndarray:
    """(F,) mean per-joint position error, mm, after both were centred on `root` (None: as they are)."""
    pred, true = _pair(pred, true)
    if root is not None:
        pred, true = centre(pred, root), centre(true, root)
    return 1000.0 * _mean_distance(pred, true)


def pa_mpjpe(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(F,) the same after Procrustes alignment of every frame, mm."""
    pred, true = _pair(pred, true)
    return 1000.0 * _mean_distance(similarity_align(pred, true), true)


def accel(
    pred: np.ndarray,
    true: np.ndarray,
    fps: float,
    root: Sequence[int] | None = PELVIS,
    visible: np.ndarray | None = None,
    trim: bool = False,
) -> np.ndarray:
    """(F - 2,) acceleration error in m/s^2: the norm of the second difference's error, mean over the joints, x fps^2.

    visible: (F,) bool; a value is kept where all its three frames are visible. trim: leave out the first and the last
    value, as WHAM's EMDB script does. Fewer than 3 frames: empty.
    """
    pred, true = _pair(pred, true)
    if len(pred) < 3:
        return np.zeros(0)
    if root is not None:
        pred, true = centre(pred, root), centre(true, root)
    values = np.linalg.norm(np.diff(pred - true, 2, axis=0), axis=-1).mean(-1) * fps**2
    if visible is not None:
        seen = np.asarray(visible, bool)
        values = values[seen[:-2] & seen[1:-1] & seen[2:]]
    return values[1:-1] if trim else values


def jitter(joints: np.ndarray, fps: float, visible: np.ndarray | None = None) -> np.ndarray:
    """(F - 3,) mean norm of the third difference, in 10 m/s^3 (PIP's unit); of a prediction or of a truth alone.

    visible: (F,) bool; a value is kept where all its four frames are visible.
    """
    joints = np.asarray(joints, np.float64)
    if len(joints) < 4:
        return np.zeros(0)
    values = np.linalg.norm(np.diff(joints, 3, axis=0), axis=-1).mean(-1) * fps**3 / 10.0
    if visible is None:
        return values
    seen = np.asarray(visible, bool)
    return values[seen[:-3] & seen[1:-2] & seen[2:-1] & seen[3:]]


def pck(
    pred: np.ndarray, true: np.ndarray, scale: np.ndarray | float, threshold: float, visible: np.ndarray | None = None
) -> float:
    """Share in [0, 1] of the visible joints within threshold * scale of the truth; NaN without a visible joint.

    pred, true: (F, K, D). scale: (F,) in the joints' unit, for 2D usually the longer side of the person's box.
    """
    pred, true = _pair(pred, true)
    limit = threshold * np.broadcast_to(np.asarray(scale, np.float64), (len(pred),))
    hit = np.linalg.norm(pred - true, axis=-1) <= limit[:, None]
    seen = np.ones(hit.shape, bool) if visible is None else np.asarray(visible, bool)
    return float(hit[seen].mean()) if seen.any() else float("nan")


def to_camera(joints_world: np.ndarray, world_to_camera: np.ndarray) -> np.ndarray:
    """(F, K, 3) world -> camera by (F, 4, 4)."""
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
    return np.einsum("fij,fkj->fki", rotation, np.asarray(joints_world, np.float64)) + translation[:, None]


def sequence_metrics(
    pred: np.ndarray, true: np.ndarray, fps: float, mask: np.ndarray | None = None, root: Sequence[int] = PELVIS
) -> dict[str, np.ndarray]:
    """Per-frame mpjpe, pa_mpjpe (F') and accel (F' - 2) of a sequence (F, K, 3).

    mask (F,) is applied first, as the public scripts do: differences then run over the remaining frames.
    """
    if mask is not None:
        keep = np.asarray(mask, bool)
        pred, true = np.asarray(pred)[keep], np.asarray(true)[keep]
    pred, true = centre(pred, root), centre(true, root)
    return {
        "mpjpe": mpjpe(pred, true, None),
        "pa_mpjpe": pa_mpjpe(pred, true),
        "accel": accel(pred, true, fps, None),
    }


def pool(sequences: Sequence[dict[str, np.ndarray]]) -> dict[str, float]:
    """Mean over all frames of all sequences; NaN where there is none."""
    names = sequences[0].keys() if sequences else ()
    pooled = {name: np.concatenate([s[name] for s in sequences]) for name in names}
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in pooled.items()}


def h36m14(joints17: np.ndarray, left_first: bool = False) -> np.ndarray:
    """(F, 17, 3) in either order -> (F, 14, 3), relative to the hip centre (joint 0)."""
    joints17 = np.asarray(joints17, np.float64)
    index = H36M14_OF_LEFT_FIRST if left_first else H36M14_OF_RIGHT_FIRST
    return joints17[:, list(index)] - joints17[:, :1]


def h36m17(raw32_mm: np.ndarray, left_first: bool = False) -> np.ndarray:
    """Raw (F, 32, 3) millimetres -> (F, 17, 3) metres."""
    index = H36M_RAW32_LEFT_FIRST if left_first else H36M_RAW32_RIGHT_FIRST
    return np.asarray(raw32_mm, np.float64)[:, list(index)] / 1000.0
