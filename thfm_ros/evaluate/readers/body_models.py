"""Joints of the SMPL family's bodies. The models are licensed: users register and download them themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError

SITES = {"smpl": "https://smpl.is.tue.mpg.de", "smplx": "https://smpl-x.is.tue.mpg.de"}
# SMPL's hands (22, 23) out of SMPL-X's joints: the middle fingers' first knuckles; 0-21 are the same in both.
SMPL24_OF_SMPLX = (*range(22), 28, 43)


def load_precomputed(path: Path, frames: int) -> np.ndarray | None:
    """(frames, K, 3) metres from `joints` of an .npz that lies beside a sequence; None where there is none."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        if "joints" not in stored.files:
            raise UserError(f"{path}: expected an array 'joints' (frames, K, 3) in metres, found {stored.files}")
        joints = np.asarray(stored["joints"], np.float64)
    if joints.ndim != 3 or joints.shape[0] != frames or joints.shape[2] != 3:
        raise UserError(f"{path}: expected joints of shape ({frames}, K, 3), found {joints.shape}")
    return joints


def _model(kind: str, gender: str, folder: Path | None, frames: int, precomputed: Path, **options: Any) -> Any:
    names = [f"{kind.upper()}_{gender.upper()}.{suffix}" for suffix in ("npz", "pkl")]
    places = [] if folder is None else [folder / sub / n for sub in (kind, ".") for n in names]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        where = f"{folder}/{kind}/{names[0]} or .pkl" if folder else "--body-models DIR"
        raise UserError(
            f"the {kind.upper()} body model ({gender}) is not here: expected {where}; it is licensed, get it from "
            f"{SITES[kind]}, or put joints computed elsewhere into {precomputed} (array 'joints', metres)"
        )
    try:
        import smplx
    except ImportError:
        raise UserError("reading SMPL bodies needs the smplx package: pip install smplx") from None
    classes = {"smpl": smplx.SMPL, "smplx": smplx.SMPLX}
    try:
        return classes[kind](str(path), gender=gender, batch_size=frames, **options)
    except Exception as error:  # smplx raises whatever the file provokes
        raise UserError(f"cannot load the body model {path}: {error}") from None


def smpl24(
    gender: str,
    root: np.ndarray,
    body: np.ndarray,
    betas: np.ndarray,
    translation: np.ndarray,
    models: Path | None,
    precomputed: Path,
) -> np.ndarray:
    """(F, 24, 3) SMPL joints in the parameters' own frame from axis-angle root (F, 3), body (F, 69), betas (10,)."""
    ready = load_precomputed(precomputed, len(root))
    if ready is not None:
        return ready
    model = _model("smpl", gender, models, len(root), precomputed)
    import torch

    tensors = [torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in (betas, body, root, translation)]
    shape = tensors[0].reshape(1, -1).expand(len(root), -1)
    with torch.no_grad():
        out = model(betas=shape, body_pose=tensors[1], global_orient=tensors[2], transl=tensors[3])
    return out.joints[:, :24].double().numpy()


def smplx24(parameters: list[dict[str, np.ndarray]], gender: str, models: Path | None, precomputed: Path) -> np.ndarray:
    """(F, 24, 3) SMPL joints of SMPL-X parameters, one table a frame (RICH); hands at the middle knuckles."""
    ready = load_precomputed(precomputed, len(parameters))
    if ready is not None:
        return ready
    first = {k: np.asarray(v).reshape(1, -1) for k, v in parameters[0].items() if not isinstance(v, str)}
    hand = first.get("left_hand_pose")
    components = 45 if hand is None else hand.shape[1]
    model = _model(
        "smplx",
        gender,
        models,
        len(parameters),
        precomputed,
        use_pca=components != 45,
        num_pca_comps=components,
        num_betas=first["betas"].shape[1] if "betas" in first else 10,
        flat_hand_mean=False,
    )
    import torch

    known = ("betas", "global_orient", "body_pose", "transl", "left_hand_pose", "right_hand_pose")
    given = {
        name: torch.as_tensor(
            np.concatenate([np.asarray(p[name]).reshape(1, -1) for p in parameters]), dtype=torch.float32
        )
        for name in known
        if name in first
    }
    with torch.no_grad():
        out = model(**given)
    return out.joints[:, list(SMPL24_OF_SMPLX)].double().numpy()
