"""Named joint sets and the maps between them, by joint name.

The network predicts `thfm32`: the 24 SMPL joints plus the face, the head's top and the heels, from which every
other set here follows by name or by a convex combination of names. Sets with COCO's definitions have some joints where
its annotators mark them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from thfm_ros.errors import UserError

DEFAULT_JOINT_SET = "thfm32"


@dataclass(frozen=True)
class JointSet:
    """A named, ordered set of joints; `bones` are index pairs (parent, child)."""

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        return self.joints.index(joint)

    @property
    def flip(self) -> tuple[int, ...]:
        """The joint that each joint becomes in a mirrored image."""

        def mirrored(name: str) -> str:
            if name.startswith("left_"):
                return "right_" + name[5:]
            return "left_" + name[6:] if name.startswith("right_") else name

        return tuple(self.joints.index(mirrored(j)) for j in self.joints)


def _joint_set(name: str, joints: str, bones: str) -> JointSet:
    names = tuple(joints.split())
    pairs = tuple((names.index(a), names.index(b)) for a, b in (bone.split("-") for bone in bones.split()))
    return JointSet(name, names, pairs)


_SMPL24 = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "left_hand right_hand"
)
_SMPL_BONES = (
    "pelvis-left_hip pelvis-right_hip pelvis-spine1 left_hip-left_knee right_hip-right_knee spine1-spine2 "
    "left_knee-left_ankle right_knee-right_ankle spine2-spine3 left_ankle-left_foot right_ankle-right_foot "
    "spine3-neck spine3-left_collar spine3-right_collar neck-head left_collar-left_shoulder "
    "right_collar-right_shoulder left_shoulder-left_elbow right_shoulder-right_elbow left_elbow-left_wrist "
    "right_elbow-right_wrist left_wrist-left_hand right_wrist-right_hand"
)
_LIMBS = (
    "left_shoulder-left_elbow left_elbow-left_wrist right_shoulder-right_elbow right_elbow-right_wrist "
    "left_hip-left_knee left_knee-left_ankle right_hip-right_knee right_knee-right_ankle"
)

JOINT_SETS: dict[str, JointSet] = {
    s.name: s
    for s in (
        _joint_set(
            "thfm32",
            _SMPL24 + " nose left_eye right_eye left_ear right_ear head_top left_heel right_heel",
            _SMPL_BONES + " head-nose nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear head-head_top "
            "left_ankle-left_heel right_ankle-right_heel",
        ),
        _joint_set("smpl24", _SMPL24, _SMPL_BONES),
        _joint_set(
            "coco17",
            "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
            "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
            _LIMBS + " nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear left_ear-left_shoulder "
            "right_ear-right_shoulder left_shoulder-right_shoulder "
            "left_hip-right_hip left_shoulder-left_hip right_shoulder-right_hip",
        ),
        # Right leg first, the order of raw joints [0,1,2,3,6,7,8,12,13,14,15,17,18,19,25,26,27].
        _joint_set(
            "h36m17",
            "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose head_top "
            "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
            _LIMBS + " pelvis-right_hip pelvis-left_hip pelvis-spine spine-thorax thorax-nose nose-head_top "
            "thorax-left_shoulder thorax-right_shoulder",
        ),
        _joint_set(
            "h36m14",
            "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
            "left_shoulder left_elbow left_wrist neck head_top",
            _LIMBS + " left_hip-right_hip neck-left_hip neck-right_hip neck-left_shoulder neck-right_shoulder "
            "neck-head_top",
        ),
        # hri_msgs/Skeleton2D (REP-155).
        _joint_set(
            "hri18",
            "nose neck_hri right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
            "right_knee right_ankle left_hip left_knee left_ankle left_eye right_eye left_ear right_ear",
            _LIMBS + " nose-neck_hri neck_hri-right_shoulder neck_hri-left_shoulder neck_hri-right_hip "
            "neck_hri-left_hip nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear",
        ),
    )
}

# Joints that a source set lacks by name, as convex combinations of what it has; the first that applies is used.
_SYNTHESISED: dict[str, tuple[dict[str, float], ...]] = {
    "neck_hri": ({"left_shoulder": 0.5, "right_shoulder": 0.5},),
    "neck": ({"thorax": 1.0}, {"neck_hri": 1.0}, {"left_shoulder": 0.5, "right_shoulder": 0.5}),
    "thorax": ({"neck": 1.0}, {"left_shoulder": 0.5, "right_shoulder": 0.5}),
    "pelvis": ({"left_hip": 0.5, "right_hip": 0.5},),
    "spine": ({"spine2": 1.0}, {"pelvis": 0.5, "thorax": 0.5}),
}

# COCO's annotators mark shoulders, elbows and hips beside the joints of a body model: each lies on the line to another
# joint of its side, at this share of the way. Measured with a network that learned COCO's joints, MoveNet, on 604
# generated people (docs/evaluate.md). OpenPose, whose joints hri18 has, learned them too.
_MARKED_SETS = ("coco17", "hri18")
_MARKED_TOWARDS = {"shoulder": ("ear", 0.16), "elbow": ("shoulder", 0.09), "hip": ("knee", 0.065)}


def get_joint_set(name: str) -> JointSet:
    """The joint set of that name; UserError that lists the known ones otherwise."""
    try:
        return JOINT_SETS[name]
    except KeyError:
        raise UserError(f"unknown joint set '{name}': expected one of {', '.join(JOINT_SETS)}") from None


def _as_marked(source: JointSet) -> np.ndarray:
    """(K, K) convex weights: the joints where COCO's annotators mark them, from those of a body model."""
    weights = np.eye(len(source))
    for joint, (towards, share) in _MARKED_TOWARDS.items():
        for side in ("left", "right"):
            row = source.index(f"{side}_{joint}")
            weights[row, [row, source.index(f"{side}_{towards}")]] = 1 - share, share
    return weights


@cache
def mapping(src: str, dst: str) -> np.ndarray:
    """(K_dst, K_src) convex weights: joints of `dst` from those of `src`; rows sum to 1.

    Raises UserError naming the joints that `src` cannot give.
    """
    source, target = get_joint_set(src), get_joint_set(dst)
    weights = np.zeros((len(target), len(source)))
    missing = []
    for row, joint in enumerate(target.joints):
        recipes = ({joint: 1.0}, *_SYNTHESISED.get(joint, ()))
        recipe = next((r for r in recipes if set(r) <= set(source.joints)), None)
        if recipe is None:
            missing.append(joint)
            continue
        for name, weight in recipe.items():
            weights[row, source.index(name)] = weight
    if missing:
        raise UserError(f"joint set '{src}' cannot give {', '.join(missing)} of '{dst}'")
    if src == DEFAULT_JOINT_SET and dst in _MARKED_SETS:
        weights = weights @ _as_marked(source)
    weights.setflags(write=False)
    return weights


def convert(points: np.ndarray, src: str, dst: str) -> np.ndarray:
    """Points (..., K_src, D) of one joint set as (..., K_dst, D) of another; whole numbers become float."""
    weights = mapping(src, dst)
    points = np.asarray(points)
    points = points.astype(np.result_type(points, np.float32), copy=False)
    if points.ndim < 2 or points.shape[-2] != weights.shape[1]:
        raise ValueError(f"points of '{src}' have shape (..., {weights.shape[1]}, D), found {points.shape}")
    return np.einsum("ij,...jd->...id", weights.astype(points.dtype), points)
