"""Body motion on a 13-joint skeleton: motion capture, BVH, smooth random and agile motion, and their variations.

Axes are the body's: x to the person's left, y to the back, z up; the zero pose stands upright with the arms
straight down. Rotations are local quaternions (w, x, y, z); the root moves in leg lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thfm_ros.synth.rotations import from_rotvec, multiply, slerp, smooth_noise, to_matrix

JOINTS = [
    "root",
    "chest",
    "neck",
    "rhip",
    "rknee",
    "rankle",
    "rshoulder",
    "relbow",
    "lhip",
    "lknee",
    "lankle",
    "lshoulder",
    "lelbow",
]
PARENTS = (-1, 0, 1, 0, 3, 4, 1, 6, 0, 8, 9, 1, 11)
MIRROR = tuple(
    JOINTS.index({"r": "l", "l": "r"}[j[0]] + j[1:]) if j[0] in "rl" and j != "root" else JOINTS.index(j)
    for j in JOINTS
)

# Joint limits in radians, rotation vectors (lowest, highest) per axis for the left side; right mirrors y and z.
LIMITS = {
    "root": ((-0.15, 0.25), (-0.12, 0.12), (-0.5, 0.5)),
    "chest": ((-0.2, 0.6), (-0.3, 0.3), (-0.5, 0.5)),
    "neck": ((-0.4, 0.45), (-0.3, 0.3), (-0.9, 0.9)),
    "hip": ((-1.1, 0.25), (-0.45, 0.05), (-0.3, 0.3)),
    "knee": ((0.03, 1.6), (0.0, 0.0), (0.0, 0.0)),
    "ankle": ((-0.3, 0.3), (-0.1, 0.1), (-0.1, 0.1)),
    "shoulder": ((-2.4, 0.6), (-1.7, -0.06), (-0.7, 0.7)),
    "elbow": ((-2.2, -0.08), (0.0, 0.0), (0.0, 0.0)),
}
# pybullet's humanoid: x forward, y up, z right, to the body's axes.
_HUMANOID_AXES = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], float)
_HUMANOID_LEG = 0.83  # hip to ankle of its model, metres
CAPTURE_FPS = 30.0
LEVEL = -0.07  # radians above the horizon that upright people look, on average
_UNIT = 1000  # what 1 is in a capture: steps of a tenth of a degree, or a thousandth of a leg


@dataclass(frozen=True)
class Motion:
    """name; fps; rotations (N, 13, 4) local quaternions; root (N, 3) in leg lengths; loop: the end meets the start."""

    name: str
    fps: float
    rotations: np.ndarray
    root: np.ndarray
    loop: bool = False

    @property
    def duration(self) -> float:
        return (len(self.root) - 1) / self.fps


def from_humanoid(name: str, frames: np.ndarray, loop: bool) -> Motion:
    """From pybullet's 44 numbers a frame (dt, root xyz, then quaternions wxyz and 1-D knees and elbows about z)."""
    count, dt = len(frames), float(frames[0, 0])
    hinge = lambda a: from_rotvec(np.stack([0 * a, 0 * a, a], -1))  # noqa: E731
    columns = {
        "root": 4,
        "chest": 8,
        "neck": 12,
        "rhip": 16,
        "rankle": 21,
        "rshoulder": 25,
        "lhip": 30,
        "lankle": 35,
        "lshoulder": 39,
    }
    hinges = {"rknee": 20, "relbow": 29, "lknee": 34, "lelbow": 43}
    rotations = np.zeros((count, len(JOINTS), 4))
    for k, joint in enumerate(JOINTS):
        q = frames[:, columns[joint] : columns[joint] + 4] if joint in columns else hinge(frames[:, hinges[joint]])
        rotations[:, k, 0], rotations[:, k, 1:] = q[:, 0], q[:, 1:] @ _HUMANOID_AXES.T
    root = frames[:, 1:4] @ _HUMANOID_AXES.T / _HUMANOID_LEG
    return Motion(name, 1 / dt, rotations, root, loop)


def to_capture(motion: Motion) -> dict[str, np.ndarray]:
    """Rotations (N, 13, 4) and root (N, 3) for `from_capture`: int16 steps of 1 / `_UNIT` from frame to frame, which
    compress well, at `CAPTURE_FPS` frames a second."""
    times = np.arange(int(motion.duration * CAPTURE_FPS) + 1) / CAPTURE_FPS
    rotations, root = sample(motion, times)
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    counts = {"rotations": rotations, "root": root - root[0] * np.array([1, 1, 0])}
    return {k: np.diff(np.round(v * _UNIT), axis=0, prepend=0).astype(np.int16) for k, v in counts.items()}


def from_capture(name: str, rotations: np.ndarray, root: np.ndarray) -> Motion:
    """The Motion that begins at (0, 0), from the arrays of `to_capture`."""
    turned, moved = (np.cumsum(v, axis=0) / _UNIT for v in (rotations, root))
    return Motion(name, CAPTURE_FPS, turned / np.linalg.norm(turned, axis=-1, keepdims=True), moved)


def sample(motion: Motion, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 13, 4) and root (T, 3) at times in seconds: loops repeat and walk on, others hold their ends."""
    length = motion.duration
    cycle = np.floor(times / length) if motion.loop else np.zeros_like(times)
    t = np.clip((times - cycle * length) * motion.fps, 0, len(motion.root) - 1.0001)
    i = t.astype(int)
    w = t - i
    step = (motion.root[-1] - motion.root[0]) * np.array([1, 1, 0])
    root = motion.root[i] * (1 - w)[:, None] + motion.root[i + 1] * w[:, None] + cycle[:, None] * step
    rotations = slerp(
        motion.rotations[i], motion.rotations[i + 1], np.broadcast_to(w[:, None, None], (len(t), len(JOINTS), 1))
    )
    return rotations, root


def mirrored(motion: Motion) -> Motion:
    """Left and right exchanged."""
    rotations = motion.rotations[:, MIRROR] * np.array([1, 1, -1, -1])
    return replace(motion, rotations=rotations, root=motion.root * np.array([-1, 1, 1]), name=motion.name + "~")


def levelled(motion: Motion) -> Motion:
    """The same motion with the head turned up or down by one angle, so that its median pitch is `LEVEL` where the trunk
    is upright. Every skeleton has its own zero of the head: captured ones look down by up to 40 degrees without it."""
    turns = to_matrix(global_rotations(motion.rotations))
    upright = turns[:, JOINTS.index("chest"), 2, 2] > 0.8
    if upright.sum() < 5:
        return motion
    pitch = np.arcsin(np.clip(-turns[upright, JOINTS.index("neck"), 2, 1], -1, 1))  # of the head's -y
    down = np.clip(np.median(pitch) - LEVEL, -0.8, 0.8)
    rotations = motion.rotations.copy()
    neck = JOINTS.index("neck")
    rotations[:, neck] = multiply(rotations[:, neck], from_rotvec(np.array([down, 0.0, 0.0])))
    return replace(motion, rotations=rotations)


def random_motion(rng: np.random.Generator, duration: float) -> Motion:
    """Smooth random motion inside LIMITS around a random posture, 30 fps, feet near the ground."""
    fps = 30.0
    times = np.arange(int(duration * fps) + 2) / fps
    liveliness = rng.uniform(0.08, 0.45)
    # Legs move little in most clips: standing people dominate; some squat or stride.
    leg = rng.choice([0.06, 0.25, 0.8], p=[0.55, 0.3, 0.15])
    vectors = np.zeros((len(times), len(JOINTS), 3))
    for k, joint in enumerate(JOINTS):
        kind = joint if joint in LIMITS else joint[1:]
        low, high = np.array(LIMITS[kind]).T
        rest = np.clip(np.zeros(3), low, high)
        if kind == "shoulder":  # arms hang more often than they fly
            rest = np.array([0.0, -0.12, 0.0])
        spread = leg if kind in ("hip", "knee", "ankle") else (0.5 if kind in ("root", "chest") else 1.0)
        posture = rest + (rng.uniform(low, high) - rest) * spread * rng.beta(0.7, 1.8 if kind == "shoulder" else 1.1)
        noise = smooth_noise(rng, times, 3, rng.uniform(0.5, 1.2))
        value = np.clip(posture + noise * (high - low) * 0.35 * liveliness * spread, low, high)
        vectors[:, k] = value * (np.array([1, -1, -1]) if joint[0] == "r" and joint != "root" else 1)
    root = np.zeros((len(times), 3))
    root[:, 2] = 1.0
    return Motion("random", fps, from_rotvec(vectors), root)


def agile_motion(rng: np.random.Generator, duration: float) -> Motion:
    """From one wide posture to the next (`_wide`): kicks, lunges, bends, balances and floor work, 30 fps."""
    fps = 30.0
    times = np.arange(int(duration * fps) + 2) / fps
    period = rng.uniform(0.5, 1.4)
    postures = np.stack([_wide(rng) for _ in range(int(np.ceil(times[-1] / period)) + 2)])
    phase = times / period + rng.random()
    i = phase.astype(int)
    w = phase - i
    w = w * w * (3 - 2 * w)  # at rest in every posture
    root = np.tile([0.0, 0.0, 1.0], (len(times), 1))
    return Motion("agile", fps, slerp(postures[i], postures[i + 1], w[:, None, None]), root)


def _wide(rng: np.random.Generator) -> np.ndarray:
    """(13, 4) a posture at the ends of what joints do: on one leg with the other anywhere, on both, or on the floor."""
    roll = rng.random()
    lean, way = (rng.uniform(0.2, 1.6), rng.normal(0, 1.0)) if rng.random() < 0.55 else (rng.normal(0.1, 0.25), 0.0)
    vectors = {
        "root": np.array([lean * np.cos(way), lean * np.sin(way), 0]),
        "chest": rng.uniform((-0.4, -0.4, -0.7), (0.9, 0.4, 0.7)) * rng.beta(1, 1.3),
        "neck": rng.uniform((-0.7, -0.4, -1.1), (0.6, 0.4, 1.1)) * rng.beta(1, 1.3),
    }
    for side in "lr":
        bent = rng.beta(0.9, 1.6)
        vectors[f"{side}hip"] = rng.uniform((-2.1, -1.4, -0.6), (0.7, 0.3, 0.6))
        vectors[f"{side}knee"] = np.array([0.03 + 2.3 * bent, 0, 0])
        vectors[f"{side}ankle"] = rng.uniform((-0.5, -0.15, -0.15), (0.7, 0.15, 0.15))
        vectors[f"{side}shoulder"] = rng.uniform((-3.0, -2.2, -0.9), (1.0, 0.1, 0.9)) * rng.beta(1.2, 0.8)
        vectors[f"{side}elbow"] = np.array([-0.05 - 2.3 * rng.beta(0.9, 1.4), 0, 0])
    for k in vectors:
        if k[0] == "r" and k != "root":
            vectors[k] = vectors[k] * np.array([1, -1, -1])
    posture = np.stack([from_rotvec(vectors[j]) for j in JOINTS])
    if roll < 0.15:  # on the floor: the pelvis lies any way
        way = rng.uniform(-np.pi, np.pi)
        posture[0] = from_rotvec(rng.uniform(1.0, 1.9) * np.array([np.cos(way), np.sin(way), 0]))
        return posture
    upright = posture[0] * np.array([1, -1, -1, -1])
    both = roll < 0.45
    for side in "lr" if both else str(rng.choice(["l", "r"])):  # legs that carry stand upright, however the body leans
        bent = 1.9 * rng.beta(0.8, 2.0)
        stride = rng.uniform(-0.7, 0.7) if both else rng.normal(0, 0.15)
        apart = abs(rng.normal(0, 0.35 if both else 0.15)) * (-1 if side == "l" else 1)
        thigh = from_rotvec(np.array([stride - 0.5 * bent, apart, rng.normal(0, 0.2)]))
        posture[JOINTS.index(f"{side}hip")] = multiply(upright, thigh)
        posture[JOINTS.index(f"{side}knee")] = from_rotvec(np.array([0.03 + bent, 0, 0]))
        flat = np.clip(rng.normal(0, 0.1) - 0.5 * bent - stride, -0.7, 0.7)
        posture[JOINTS.index(f"{side}ankle")] = from_rotvec(np.array([flat, 0, 0]))
    return posture


def blended(a: Motion, b: Motion, weight: float, duration: float | None = None) -> Motion:
    """Constant blend of two motions over a duration in seconds (None: of the shorter one); the root follows a."""
    times = np.arange(int((min(a.duration, b.duration) if duration is None else duration) * 30)) / 30
    (qa, root), (qb, _) = sample(a, times), sample(b, times)
    mixed = qa.copy()
    mixed[:, 1:] = slerp(qa[:, 1:], qb[:, 1:], np.full((*qa[:, 1:].shape[:2], 1), weight))
    return Motion(f"{a.name}+{b.name}", 30.0, mixed, root)


def joint_noise(rng: np.random.Generator, rotations: np.ndarray, times: np.ndarray, radians: float) -> np.ndarray:
    """Smooth small rotations added to every joint but the root."""
    noise = smooth_noise(rng, times, (len(JOINTS) - 1) * 3, 0.7).reshape(len(times), -1, 3) * radians
    noise += rng.normal(0, radians, (1, len(JOINTS) - 1, 3))  # a personal posture
    out = rotations.copy()
    out[:, 1:] = multiply(rotations[:, 1:], from_rotvec(noise))
    return out


def global_rotations(rotations: np.ndarray) -> np.ndarray:
    """(T, 13, 4) local to global."""
    out = rotations.copy()
    for k, parent in enumerate(PARENTS):
        if parent >= 0:
            out[:, k] = multiply(out[:, parent], rotations[:, k])
    return out
