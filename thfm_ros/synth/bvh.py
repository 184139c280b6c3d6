"""BVH motion capture under the common naming habits: CMU's conversions, MotionBuilder's, Mixamo's, Daz's, Biped's.

Units do not matter (the root is scaled by the leg), nor does the order of the channels or which axis is up; joints are
found by name, whatever the prefix ("mixamorig:"), the case and the mark of the side (Left, l, _L).
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.files import files_below
from thfm_ros.synth.motion import JOINTS, PARENTS, Motion
from thfm_ros.synth.rotations import between, from_rotvec, multiply

# What a joint may be called without its side, the likeliest first ("shoulder" may also mean the collar bone).
_MIDDLE = {
    "root": ("hips", "hip", "pelvis", "root"),
    "chest": ("spine1", "chest2", "spine02", "chest", "upperchest", "spine2", "torso", "spine", "abdomen"),
    "neck": ("head", "neck"),
}
_SIDED = {
    "hip": ("upleg", "thigh", "upperleg", "hip"),
    "knee": ("leg", "lowerleg", "shin", "calf", "knee"),
    "ankle": ("foot", "ankle"),
    "shoulder": ("arm", "upperarm", "uparm", "shldr", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow"),
    "hand": ("hand", "wrist"),
}
# The joint that a limb's zero pose must point down to.
_NEXT = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "hand"}
_PREFIX = re.compile(r"^(mixamorig|bip|character|skeleton)\d*(?=[a-z])")


@dataclass(frozen=True)
class _Joint:
    name: str
    parent: int
    offset: np.ndarray
    channels: list[str]


def _parse(path: Path) -> tuple[list[_Joint], np.ndarray, float]:
    """Joints in the order of the file, numbers (N, channels), seconds a frame. ValueError says what is wrong."""
    words = iter(path.read_text(encoding="utf-8-sig", errors="replace").split())
    first = next(words, "nothing")
    if first.upper() != "HIERARCHY":
        raise ValueError(f"expected it to start with HIERARCHY, found {first[:20]!r}")
    joints: list[_Joint] = []
    stack: list[int] = []
    name = ""
    for word in words:
        if word in ("ROOT", "JOINT", "End"):
            parts = []
            while (part := next(words)) != "{":
                parts.append(part)
            name = " ".join(parts) if word != "End" else f"{joints[stack[-1]].name} end"
        elif word == "OFFSET":
            offset = np.array([float(next(words)) for _ in range(3)])
            joints.append(_Joint(name, stack[-1] if stack else -1, offset, []))
            stack.append(len(joints) - 1)
        elif word == "CHANNELS":
            channels = [next(words) for _ in range(int(next(words)))]
            strange = [c for c in channels if not re.fullmatch(r"[XYZxyz](position|rotation)", c)]
            if strange:
                raise ValueError(f"expected channels like Xrotation, found {strange[0][:20]!r} of {name}")
            joints[-1].channels.extend(c[0].upper() + c[1:] for c in channels)
        elif word == "}":
            stack.pop()
        elif word == "MOTION":
            break
    labels = [next(words, "nothing") for _ in range(5)]
    if [w.rstrip(":") for w in (labels[0], *labels[2:4])] != ["Frames", "Frame", "Time"]:
        raise ValueError(f"expected 'Frames: N' and 'Frame Time: S' after MOTION, found '{' '.join(labels)[:40]}'")
    frames, seconds = int(labels[1]), float(labels[4])
    if not 1e-4 < seconds < 1:
        raise ValueError(f"expected a frame time between 0.0001 and 1 s, found {seconds}")
    data = np.array([float(w) for w in words])
    columns = sum(len(j.channels) for j in joints)
    if frames < 2 or data.size != frames * columns:
        raise ValueError(
            f"expected {frames} frames (2 or more) of {columns} numbers, found {data.size} numbers; the file may be cut"
        )
    return joints, data.reshape(frames, columns), seconds


def _plain(name: str) -> str:
    """'mixamorig:LeftUpLeg' and 'Bip01 L Thigh' as 'leftupleg' and 'lthigh'."""
    return _PREFIX.sub("", re.sub(r"[^a-z0-9]", "", name.rpartition(":")[2].lower()))


def _roles(joints: list[_Joint]) -> dict[str, int]:
    """Row of every joint of ours, and of lhand and rhand. ValueError names the one that is missing."""
    rows = {_plain(j.name): i for i, j in reversed(list(enumerate(joints)))}
    wanted = dict(_MIDDLE)
    for side, word in (("l", "left"), ("r", "right")):
        for part, stems in _SIDED.items():
            wanted[side + part] = tuple(f for s in stems for f in (word + s, side + s, s + word, s + side))
    found = {role: next((rows[n] for n in names if n in rows), -1) for role, names in wanted.items()}
    missing = next((role for role, row in found.items() if row < 0), None)
    if missing is not None:
        names = ", ".join(j.name for j in joints if j.channels)
        raise ValueError(
            f"no joint for {missing!r}: expected a name like {', '.join(wanted[missing][:3])}, found {names[:150]}; "
            "rename the joint"
        )
    return found


def _axes(rest: np.ndarray, roles: dict[str, int]) -> np.ndarray:
    """(3, 3) the file's axes to the body's (x left, y back, z up), from where the rest pose has head and hips."""

    def nearest(v: np.ndarray) -> np.ndarray:
        k = int(np.argmax(np.abs(v)))
        return np.eye(3)[k] * np.sign(v[k])

    up, left = nearest(rest[roles["neck"]] - rest[roles["root"]]), nearest(rest[roles["lhip"]] - rest[roles["rhip"]])
    if abs(up @ left) > 0.5:
        raise ValueError("expected the rest pose to have its head above its hips; export it in a T pose")
    return np.stack([left, np.cross(up, left), up])


def _convert(name: str, joints: list[_Joint], data: np.ndarray, seconds: float) -> Motion:
    step = max(1, round(1 / 30 / seconds))
    data, seconds = data[::step], seconds * step
    roles = _roles(joints)
    rest = np.zeros((len(joints), 3))
    for i, j in enumerate(joints):
        rest[i] = j.offset + (rest[j.parent] if j.parent >= 0 else 0)
    axes = _axes(rest, roles)
    world: list[np.ndarray] = []
    position = np.zeros((len(data), 3))
    column = 0
    for j in joints:
        q = np.zeros((len(data), 4))
        q[:, 0] = 1
        for channel in j.channels:
            axis = "XYZ".index(channel[0])
            if channel.endswith("rotation"):
                q = multiply(q, from_rotvec(np.radians(data[:, column])[:, None] * np.eye(3)[axis]))
            elif j.parent < 0:
                position[:, axis] = data[:, column]
            column += 1
        world.append(q if j.parent < 0 else multiply(world[j.parent], q))
    turned = {}
    for joint in JOINTS:
        q = world[roles[joint]].copy()
        q[:, 1:] = q[:, 1:] @ axes.T
        child = _NEXT.get(joint[1:])
        if child is not None and joint[0] in "lr":
            bone = rest[roles[joint[0] + child]] - rest[roles[joint]]
            q = multiply(q, np.broadcast_to(between(np.array([0.0, 0, -1]), axes @ bone), q.shape))
        turned[joint] = q
    conjugate = np.array([1, -1, -1, -1])
    rotations = np.stack(
        [
            turned[j] if p < 0 else multiply(turned[JOINTS[p]] * conjugate, turned[j])
            for j, p in zip(JOINTS, PARENTS, strict=True)
        ],
        1,
    )
    chain = [rest[roles[k]] for k in ("lhip", "lknee", "lankle")]
    leg = float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())
    if not leg > 0:
        raise ValueError("expected legs longer than 0, found offsets of 0; export the skeleton with its bones' lengths")
    return Motion(name, 1 / seconds, rotations, position @ axes.T / leg)


def load(path: str | Path) -> Motion:
    """One BVH file as a Motion at about 30 fps; UserError names the file and what is wrong with it."""
    path = Path(path)
    try:
        return _convert(path.stem, *_parse(path))
    except (StopIteration, IndexError):
        raise UserError(f"{path} is not a usable BVH file: its hierarchy is cut short; restore or export it") from None
    except ValueError as error:
        raise UserError(f"{path} is not a usable BVH file: {error}") from None


def _files(folder: str | Path) -> list[Path]:
    paths = [path for path in files_below(folder) if path.suffix.lower() == ".bvh"]
    if not paths:
        raise UserError(f"no .bvh files in {folder}")
    return paths


def load_folder(folder: str | Path) -> list[Motion]:
    """Every *.bvh below the folder (*.BVH too), in the order of their paths; UserError where there is none."""
    return [load(p) for p in _files(folder)]


def _folder_digest(folder: str | Path) -> str:
    """SHA-256 of the files' names below the folder and their contents; where the folder lies does not matter."""
    total = hashlib.sha256()
    for path in _files(folder):
        total.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@dataclass(frozen=True)
class BvhFolder:
    """A folder of BVH files as it was when a run began. Equal where names and contents are, wherever they lie, as
    the clips are then the same."""

    folder: str = field(compare=False)  # absolute: a worker may run in another directory
    sha256: str

    @classmethod
    def at(cls, folder: str | Path) -> BvhFolder:
        path = Path(folder).expanduser().resolve()
        if not path.is_dir():
            raise UserError(f"the BVH folder {folder} does not exist")
        return cls(str(path), _folder_digest(path))

    def load(self) -> list[Motion]:
        """Its motions; UserError where the files are no longer those of the digest, so that data never mix."""
        found = BvhFolder.at(self.folder).sha256
        if found != self.sha256:
            raise UserError(
                f"the BVH files in {self.folder} are not those that this run began with (expected SHA-256 "
                f"{self.sha256[:12]}, found {found[:12]}): restore them, or start again in an empty output folder"
            )
        return load_folder(self.folder)
