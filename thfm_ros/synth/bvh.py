"""BVH motion capture with CMU's joint names (cgspeed's conversions and their MotionBuilder-friendly naming)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.synth.motion import JOINTS, PARENTS, Motion
from thfm_ros.synth.rotations import between, from_rotvec, multiply

# Our joint: the BVH joint that turns it, and the child that its zero pose must point down to (limbs only).
_CMU = {
    "root": ("Hips", None),
    "chest": ("Spine1", None),
    "neck": ("Head", None),
    "rhip": ("RightUpLeg", "RightLeg"),
    "rknee": ("RightLeg", "RightFoot"),
    "rankle": ("RightFoot", None),
    "lhip": ("LeftUpLeg", "LeftLeg"),
    "lknee": ("LeftLeg", "LeftFoot"),
    "lankle": ("LeftFoot", None),
    "rshoulder": ("RightArm", "RightForeArm"),
    "relbow": ("RightForeArm", "RightHand"),
    "lshoulder": ("LeftArm", "LeftForeArm"),
    "lelbow": ("LeftForeArm", "LeftHand"),
}
_BUILDER = {
    "root": ("Hips", None),
    "chest": ("Chest2", None),
    "neck": ("Head", None),
    "rhip": ("RightHip", "RightKnee"),
    "rknee": ("RightKnee", "RightAnkle"),
    "rankle": ("RightAnkle", None),
    "lhip": ("LeftHip", "LeftKnee"),
    "lknee": ("LeftKnee", "LeftAnkle"),
    "lankle": ("LeftAnkle", None),
    "rshoulder": ("RightShoulder", "RightElbow"),
    "relbow": ("RightElbow", "RightWrist"),
    "lshoulder": ("LeftShoulder", "LeftElbow"),
    "lelbow": ("LeftElbow", "LeftWrist"),
}
_AXES = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)  # BVH: x left, y up, z forward


@dataclass(frozen=True)
class _Joint:
    name: str
    parent: int
    offset: np.ndarray
    channels: list[str]


def _parse(path: Path) -> tuple[list[_Joint], np.ndarray, float]:
    lines = path.read_text().splitlines()
    joints: list[_Joint] = []
    stack: list[int] = []
    frame_time, start = 0.0, len(lines)
    name, parent = "", -1
    for n, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        if words[0] in ("ROOT", "JOINT", "End"):
            parent = stack[-1] if stack else -1
            name = words[1] if words[0] != "End" else f"{joints[parent].name}.end"
        elif words[0] == "OFFSET":
            joints.append(_Joint(name, parent, np.array([float(w) for w in words[1:4]]), []))
            stack.append(len(joints) - 1)
        elif words[0] == "CHANNELS":
            joints[-1].channels.extend(words[2:])
        elif words[0] == "}":
            stack.pop()
        elif words[0] == "Frame" and len(words) == 3:
            frame_time, start = float(words[2]), n + 1
            break
    data = np.array([[float(w) for w in line.split()] for line in lines[start:] if line.strip()])
    expected = sum(len(j.channels) for j in joints)
    if not joints or frame_time <= 0 or data.ndim != 2 or data.shape[1] != expected:
        raise UserError(f"{path} is not a usable BVH file: expected {expected} numbers a frame, found {data.shape}")
    return joints, data, frame_time


def load(path: str | Path) -> Motion:
    """One BVH file as a Motion at about 30 fps; UserError names the file and the joint it lacks."""
    path = Path(path)
    try:
        joints, data, dt = _parse(path)
    except (ValueError, IndexError, UnicodeDecodeError):
        raise UserError(f"{path} is not a readable BVH file") from None
    step = max(1, round(1 / 30 / dt))
    data, dt = data[::step], dt * step
    index = {j.name: i for i, j in enumerate(joints)}
    scheme = next((s for s in (_CMU, _BUILDER) if all(a in index for a, _ in s.values())), None)
    if scheme is None:
        missing = [a for a, _ in _CMU.values() if a not in index]
        raise UserError(f"{path} lacks the joint '{missing[0]}': expected CMU's joint names")
    world: list[np.ndarray] = []
    position = np.zeros((len(data), 3))
    column = 0
    for j in joints:
        q = np.zeros((len(data), 4))
        q[:, 0] = 1
        for channel in j.channels:
            axis = np.eye(3)["XYZ".index(channel[0])]
            if channel.endswith("rotation"):
                q = multiply(q, from_rotvec(np.radians(data[:, column])[:, None] * axis))
            elif j.parent < 0:
                position[:, "XYZ".index(channel[0])] = data[:, column]
            column += 1
        world.append(q if j.parent < 0 else multiply(world[j.parent], q))
    turned = {}
    for joint, (source, child) in scheme.items():
        q = world[index[source]].copy()
        q[:, 1:] = q[:, 1:] @ _AXES.T
        if child is not None:
            down = between(np.array([0.0, 0, -1]), _AXES @ joints[index[child]].offset)
            q = multiply(q, np.broadcast_to(down, q.shape))
        turned[joint] = q
    conjugate = np.array([1, -1, -1, -1])
    rotations = np.stack(
        [
            turned[j] if p < 0 else multiply(turned[JOINTS[p]] * conjugate, turned[j])
            for j, p in zip(JOINTS, PARENTS, strict=True)
        ],
        1,
    )
    leg = sum(np.linalg.norm(joints[index[scheme[k][1]]].offset) for k in ("lhip", "lknee"))
    return Motion(path.stem, 1 / dt, rotations, position @ _AXES.T / leg)


def load_folder(folder: str | Path) -> list[Motion]:
    """Every *.bvh below the folder, in the order of their paths; UserError where there is none."""
    paths = sorted(Path(folder).rglob("*.bvh"))
    if not paths:
        raise UserError(f"no .bvh files in {folder}")
    return [load(p) for p in paths]
