"""Joints of SMPL and SMPL-X bodies from their pose and shape. The models are licensed: users download them themselves.

Joints need only a small part of a body model: the rest pose's joints (a linear map of the shape) and the kinematic
tree. So neither torch nor another package is needed, and nothing in a model file is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers import pickles
from thfm_ros.evaluate.readers.base import load_npz, numbers

SITES = {"smpl": "https://smpl.is.tue.mpg.de", "smplx": "https://smpl-x.is.tue.mpg.de"}
# SMPL's hands (22, 23) out of SMPL-X's joints: the middle fingers' first knuckles; 0-21 are the same in both.
SMPL24_OF_SMPLX = (*range(22), 28, 43)
_FIELDS = ("v_template", "shapedirs", "J_regressor", "kintree_table")


@dataclass(frozen=True)
class BodyModel:
    """joints (K, 3) of the mean shape, their change (K, 3, S) a shape coefficient, parents (K,) (-1: the root)."""

    joints: np.ndarray
    shape: np.ndarray
    parents: np.ndarray

    def pose(self, rotations: np.ndarray, betas: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """(F, K, 3) metres. rotations: axis-angle (F, R, 3) of the first R joints, the others at rest; betas: (S',)."""
        betas = np.ravel(betas).astype(float)[: self.shape.shape[2]]
        rest = self.joints + self.shape[..., : len(betas)] @ betas
        local = np.broadcast_to(np.eye(3), (len(rotations), len(rest), 3, 3)).copy()
        local[:, : rotations.shape[1]] = rotation_matrices(rotations)
        turned, placed = local.copy(), np.broadcast_to(rest, (len(rotations), *rest.shape)).copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                turned[:, joint] = turned[:, parent] @ local[:, joint]
                placed[:, joint] = placed[:, parent] + turned[:, parent] @ (rest[joint] - rest[parent])
        return placed + np.asarray(translation, float)[:, None]


def rotation_matrices(axis_angle: np.ndarray) -> np.ndarray:
    """(..., 3) radians -> (..., 3, 3) (Rodrigues)."""
    axis_angle = np.asarray(axis_angle, float)
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle / np.maximum(angle[..., 0], 1e-12), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def load_precomputed(path: Path, frames: int) -> np.ndarray | None:
    """(frames, 24, 3) metres from `joints` of an .npz that lies beside a sequence; None where there is none."""
    if not path.is_file():
        return None
    joints = load_npz(path, ("joints",), f"it holds 'joints' ({frames}, 24, 3) in metres, world frame")["joints"]
    return numbers(joints, (frames, 24, 3), path, "joints")


def model_files(kind: str, folder: Path | None) -> tuple[Path, ...]:
    """The body models of a kind that `find_model` may choose from."""
    if folder is None:
        return ()
    found = (p for sub in (kind, ".") for p in (folder / sub).glob(f"{kind.upper()}_*"))
    return tuple(sorted(p for p in found if p.suffix in (".npz", ".pkl")))


def find_model(kind: str, gender: str, folder: Path | None, precomputed: Path) -> BodyModel:
    """FOLDER/{kind}/{KIND}_{GENDER}.npz or .pkl (or without the subfolder); UserError that says where to get it."""
    names = [f"{kind.upper()}_{gender.upper()}.{suffix}" for suffix in ("npz", "pkl")]
    places = [] if folder is None else [folder / sub / n for sub in (kind, ".") for n in names]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        where = f"{folder}/{kind}/{names[0]} or .pkl" if folder else "--body-models DIR"
        raise UserError(
            f"the {kind.upper()} body model ({gender}) is not here: expected {where}; it is licensed, get it from "
            f"{SITES[kind]}, or put joints computed elsewhere into {precomputed} (array 'joints', metres)"
        )
    return _load(path)


@lru_cache(maxsize=3)
def _load(path: Path) -> BodyModel:
    if path.suffix == ".npz":
        table: dict[str, Any] = load_npz(path, _FIELDS, "download the body model again")
    else:
        table = pickles.load(path, pickles.BODY_MODELS)
    values = {name: _plain(pickles.entry(table, path, name)) for name in _FIELDS}
    template = numbers(values["v_template"], (-1, 3), path, "v_template")
    shape = numbers(values["shapedirs"], (len(template), 3, -1), path, "shapedirs")
    regressor = numbers(values["J_regressor"], (-1, len(template)), path, "J_regressor")
    tree = numbers(values["kintree_table"], (2, len(regressor)), path, "kintree_table")
    parents = tree[0].astype(np.int64)
    parents[0] = -1  # stored as 2^32 - 1
    return BodyModel(regressor @ template, np.einsum("kv,vds->kds", regressor, shape), parents)


def _plain(value: Any) -> Any:
    """Makes plain values of what model files hold: arrays, sparse matrices, and the arrays inside chumpy's objects."""
    value = getattr(value, "x", value)
    return value.toarray() if hasattr(value, "toarray") else value


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
    model = find_model("smpl", gender, models, precomputed)
    rotations = np.concatenate([root, body], 1).reshape(len(root), -1, 3)
    return model.pose(rotations, betas, translation)[:, :24]


def smplx24(parameters: list[dict[str, Any]], gender: str, models: Path | None, precomputed: Path) -> np.ndarray:
    """(F, 24, 3) SMPL joints of SMPL-X parameters, one table a frame (RICH); hands at the middle fingers' knuckles.

    Fingers and face move none of these joints, so their poses are not needed; expressions are left out.
    `precomputed`: the file that can stand in for a missing body model, named in its error.
    """
    model = find_model("smplx", gender, models, precomputed)
    frames = []
    for table in parameters:
        root, body, betas, translation = (
            numbers(np.ravel(pickles.entry(table, precomputed.parent, name)), (size,), precomputed.parent, name)[None]
            for name, size in (("global_orient", 3), ("body_pose", 63), ("betas", -1), ("transl", 3))
        )
        rotations = np.concatenate([root, body], 1).reshape(1, -1, 3)
        frames.append(model.pose(rotations, betas, translation)[0, list(SMPL24_OF_SMPLX)])
    return np.stack(frames)
