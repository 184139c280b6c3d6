"""Cameras: intrinsics, framing from face to full body, paths and handheld shake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thfm_ros.synth.rotations import from_rotvec, smooth_noise, to_matrix


@dataclass(frozen=True)
class Camera:
    """intrinsics (T, 4) fx fy cx cy in pixels; world_to_camera (T, 4, 4)."""

    intrinsics: np.ndarray
    world_to_camera: np.ndarray

    @property
    def matrices(self) -> np.ndarray:
        """(T, 3, 3)."""
        out = np.zeros((len(self.intrinsics), 3, 3))
        out[:, 0, 0], out[:, 1, 1], out[:, 0, 2], out[:, 1, 2] = self.intrinsics.T
        out[:, 2, 2] = 1
        return out

    @property
    def centres(self) -> np.ndarray:
        """(T, 3) positions in the world."""
        r = self.world_to_camera[:, :3, :3]
        return -np.einsum("tji,tj->ti", r, self.world_to_camera[:, :3, 3])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (T, N, 3) to pixels (T, N, 2) and camera-frame points (T, N, 3)."""
        c = np.einsum("tij,tnj->tni", self.world_to_camera[:, :3, :3], points) + self.world_to_camera[:, None, :3, 3]
        z = np.maximum(c[..., 2:], 1e-3)
        f, p = self.intrinsics[:, None, :2], self.intrinsics[:, None, 2:]
        return f * c[..., :2] / z + p, c


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(T, 4, 4) world to camera, from positions (T, 3) at targets (T, 3), the world's z up."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0, 1.0]))
    right = right / np.maximum(np.linalg.norm(right, axis=-1, keepdims=True), 1e-9)
    down = np.cross(forward, right)
    out = np.tile(np.eye(4), (len(eye), 1, 1))
    out[:, :3, :3] = np.stack([right, down, forward], 1)
    out[:, :3, 3] = -np.einsum("tij,tj->ti", out[:, :3, :3], eye)
    return out


OFF_MIDDLE = (0.12, 0.2, 0.0)  # standard deviations of where somebody far away is, in heights and widths of the picture
FRAMINGS = ("face", "bust", "half", "knees", "full", "far")


def make_camera(
    rng: np.random.Generator,
    joints: np.ndarray,
    head: np.ndarray,
    times: np.ndarray,
    height: int,
    width: int,
    yaw: float,
    away: float = 1.0,
) -> tuple[Camera, str]:
    """A camera for a person with world joints (T, K, 3) and head points (T, 2, 3) (head, head_top); yaw: the way
    they face; away: times as far as their frame asks for, and then they are not in its middle. Frames a part of the
    body, follows it, and keeps the head inside nearly always."""
    framing = str(rng.choice(FRAMINGS, p=[0.1, 0.14, 0.2, 0.14, 0.34, 0.08]))
    low, high = joints.min(1), joints.max(1)
    head_centre = head.mean(1)
    size = float(np.linalg.norm(head[0, 1] - head[0, 0]))
    if float(np.linalg.norm(np.ptp(head_centre, axis=0))) > 3 * size:  # nobody films a somersault close up
        framing = {"face": "knees", "bust": "full", "half": "full"}.get(framing, framing)
    body = float((high - low).max(-1).max()) + size
    reach = {"face": rng.uniform(1.9, 2.6), "bust": rng.uniform(3.2, 4.5), "half": 7.0, "knees": 9.5}.get(
        framing, 0
    ) * size
    whole = low + (high - low) / 2
    if framing in ("full", "far"):
        target, reach = whole, body * (1.12 if framing == "full" else rng.uniform(1.5, 2.6))
    else:
        share = np.clip((reach / 2 - 0.9 * size) / np.maximum(np.linalg.norm(whole - head_centre, axis=-1), 1e-3), 0, 1)
        target = head_centre + (whole - head_centre) * share[:, None]
        reach = min(reach, body * 1.12)
    follow = rng.uniform(0.55, 1.0)
    steady = target.mean(0) + (target - target.mean(0)) * follow
    lens = rng.uniform(0.85, 2.2) if framing not in ("face", "bust") else rng.uniform(1.2, 2.8)
    focal = lens * max(height, width) * 0.75
    # The reach must fit in the height, and the width of a spread or lying body in the width.
    across = float(np.linalg.norm((high - low)[:, :2], axis=-1).max())
    close = framing in ("face", "bust")
    fit = max(reach / height, (min(across, reach) + (0.0 if close else size)) / width)
    distance = fit * focal * rng.uniform(1.0, 1.25) + (0.06 if close else 0.25 * min(across, 1.0))
    distance = max(distance, 0.45) * away
    spread = np.pi if framing in ("full", "far") else 1.5
    azimuth = yaw + rng.uniform(-spread, spread) if rng.random() < 0.45 else yaw + rng.normal(0, 0.7)
    elevation = rng.normal(0.05, 0.16)
    if rng.random() < 0.08:
        elevation += rng.uniform(0.2, 0.7)
    sweep, dolly = rng.normal(0, 0.25), rng.normal(0, 0.08)
    if rng.random() < 0.25:
        sweep = dolly = 0.0
    a = np.linspace(-0.5, 0.5, len(times)) if len(times) > 1 else np.zeros(1)
    az, el, dist = azimuth + sweep * a, elevation + 0.1 * sweep * a, distance * (1 + dolly * a)
    direction = np.stack([np.sin(az) * np.cos(el), -np.cos(az) * np.cos(el), np.sin(el)], -1)
    shake = rng.choice([0.0, 0.004, 0.012], p=[0.3, 0.5, 0.2])
    eye = steady + direction * dist[:, None] + smooth_noise(rng, times, 3, 0.5) * shake * distance * 0.6
    for _ in range(8):  # back off until no limb is in the lens
        gap = np.linalg.norm(joints - eye[:, None], axis=-1).min()
        if gap > 0.5:
            break
        eye = eye + direction * (0.6 - gap)
    eye[:, 2] = np.maximum(eye[:, 2], 0.12)
    pose = look_at(eye, steady)
    wobble = smooth_noise(rng, times, 3, 0.35) * np.array([1, 1, 1.5]) * shake
    wobble += np.array([0, 0, rng.normal(0, 0.03)])
    if away > 1:
        wobble += rng.normal(0, OFF_MIDDLE) * np.array([height, width, 0]) / focal
    roll = to_matrix(from_rotvec(wobble))
    pose[:, :3] = roll @ pose[:, :3]
    k = np.array([focal, focal * rng.uniform(0.985, 1.015), width / 2, height / 2])
    k[2:] += rng.normal(0, 0.02, 2) * np.array([width, height])
    camera = Camera(np.tile(k, (len(times), 1)), pose)
    return _keep_head(camera, head, size, height, width), framing


def make_crowd_camera(
    rng: np.random.Generator, joints: np.ndarray, times: np.ndarray, height: int, width: int
) -> tuple[Camera, str]:
    """A camera at a robot's height that looks at people about, with world joints (T, N, 3), 1 to 12 m away."""
    low, high = joints.min((0, 1)), joints.max((0, 1))
    middle, radius = (low + high) / 2, float(np.linalg.norm((high - low)[:2])) / 2
    focal = rng.uniform(0.6, 1.3) * max(height, width)
    distance = rng.uniform(0.5 * radius + 1.0, max(12.0 - radius, 0.5 * radius + 2.0))
    azimuth, sweep, dolly = rng.uniform(-np.pi, np.pi), rng.normal(0, 0.08), rng.normal(0, 0.06)
    target = np.array([*(middle[:2] + rng.normal(0, 0.25 * radius, 2)), rng.uniform(0.6, 1.4)])
    a = np.linspace(-0.5, 0.5, len(times)) if len(times) > 1 else np.zeros(1)
    way = np.stack([np.sin(azimuth + sweep * a), -np.cos(azimuth + sweep * a), np.zeros(len(times))], -1)
    shake = rng.choice([0.0, 0.004, 0.012], p=[0.3, 0.5, 0.2])
    eye = target + way * (distance * (1 + dolly * a))[:, None] + smooth_noise(rng, times, 3, 0.5) * shake
    eye[:, 2] = rng.uniform(0.4, 2.0)
    for _ in range(12):  # nobody stands in the lens
        gap = float(np.linalg.norm((joints - eye[:, None])[..., :2], axis=-1).min())
        if gap > 0.9:
            break
        eye = eye + way * (1.1 - gap)
    pose = look_at(eye, np.broadcast_to(target, eye.shape))
    wobble = smooth_noise(rng, times, 3, 0.35) * np.array([1, 1, 1.5]) * shake + [0, 0, rng.normal(0, 0.03)]
    pose[:, :3] = to_matrix(from_rotvec(wobble)) @ pose[:, :3]
    k = np.array([focal, focal * rng.uniform(0.985, 1.015), width / 2, height / 2])
    k[2:] += rng.normal(0, 0.02, 2) * np.array([width, height])
    return Camera(np.tile(k, (len(times), 1)), pose), "crowd"


def make_rows_camera(
    rng: np.random.Generator, people: list[np.ndarray], yaw: float, times: np.ndarray, height: int, width: int
) -> tuple[Camera, str]:
    """A camera before people in rows, with world joints (T, K, 3) each, who face `yaw` (radians about z, 0 is -y); now
    and then behind them. The first one hides part of the next."""
    everyone = np.concatenate(people, 1)
    some = people[int(rng.integers(len(people)))].mean(0)
    top = float(np.median([p[..., 2].max() for p in people]))
    target = np.array([*some[:, :2].mean(0), top - rng.uniform(0.0, 0.8)])
    azimuth = yaw + rng.normal(0, 0.4) + (np.pi if rng.random() < 0.2 else 0.0)
    elevation, distance = rng.normal(0.05, 0.12), float(np.exp(rng.uniform(np.log(1.8), np.log(9.0))))
    way = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    drift = smooth_noise(rng, times, 3, 0.5) * rng.choice([0.0, 0.004, 0.012], p=[0.3, 0.5, 0.2])
    eye = target + way * distance + drift
    eye[:, 2] = np.maximum(eye[:, 2], 0.3)
    for _ in range(16):  # nobody stands in the lens
        gap = float(np.linalg.norm(everyone - eye[:, None], axis=-1).min())
        if gap > 0.6:
            break
        eye = eye + np.array([*way[:2], 0.0]) * (0.7 - gap)
    return _beside(rng, eye, target, (0.06, 0.1, 0.04), (0.6, 1.5), height, width), "rows"


def make_still_camera(
    rng: np.random.Generator, middle: np.ndarray, times: np.ndarray, height: int, width: int
) -> tuple[Camera, str]:
    """A camera half a metre to three from things about a point (3,) of the floor, which fill the picture; often from
    above, as one looks upon a table."""
    target = middle * [1, 1, 0] + [*rng.normal(0, 0.3, 2), rng.uniform(0.2, 1.1)]
    azimuth, distance = rng.uniform(-np.pi, np.pi), float(np.exp(rng.uniform(np.log(0.6), np.log(3.2))))
    elevation = rng.uniform(0.0, 1.1) if rng.random() < 0.6 else rng.normal(0.05, 0.1)
    way = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    drift = smooth_noise(rng, times, 3, 0.5) * rng.choice([0.0, 0.004, 0.012], p=[0.3, 0.5, 0.2])
    eye = target + way * distance + drift
    eye[:, 2] = np.maximum(eye[:, 2], 0.2)
    return _beside(rng, eye, target, (0.06, 0.1, 0.06), (0.6, 1.4), height, width), "still"


def _beside(
    rng: np.random.Generator,
    eye: np.ndarray,
    target: np.ndarray,
    turns: tuple[float, float, float],
    focal: tuple[float, float],
    height: int,
    width: int,
) -> Camera:
    """A camera at eye (T, 3) that looks past a point: turned by a rotation vector of these standard deviations.

    focal: least and largest focal length, in longer sides of the picture.
    """
    pose = look_at(eye, np.broadcast_to(target, eye.shape))
    turn = np.array([rng.normal(0, deviation) for deviation in turns])
    pose[:, :3] = to_matrix(from_rotvec(turn)) @ pose[:, :3]
    pixels = rng.uniform(*focal) * max(height, width)
    return Camera(np.tile(np.array([pixels, pixels, width / 2, height / 2]), (len(eye), 1)), pose)


def make_close_camera(
    rng: np.random.Generator, joints: np.ndarray, times: np.ndarray, height: int, width: int
) -> tuple[Camera, str]:
    """A camera an arm's length from a person with world joints (T, K, 3), of whom an edge of the picture cuts off a
    part: half a face, an arm and a back, legs behind a desk. It looks at one joint and shows it off the middle."""
    shown = joints.mean(0)
    weight = np.where(shown[:, 2] > shown[:, 2].mean(), 3.0, 1.0)  # heads and trunks rather than feet
    target = joints[:, int(rng.choice(len(shown), p=weight / weight.sum()))]
    focal = rng.uniform(0.6, 1.2) * max(height, width)
    distance, azimuth, elevation = rng.uniform(0.4, 1.5), rng.uniform(-np.pi, np.pi), rng.normal(0.1, 0.2)
    way = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    eye = target.mean(0) + way * distance + smooth_noise(rng, times, 3, 0.5) * rng.choice([0.0, 0.004, 0.01])
    for _ in range(10):  # nothing of them is in the lens
        gap = float(np.linalg.norm(joints - eye[:, None], axis=-1).min())
        if gap > 0.38:
            break
        eye = eye + way * (0.42 - gap)
    eye[:, 2] = np.maximum(eye[:, 2], 0.1)
    pose = look_at(eye, np.broadcast_to(target.mean(0), eye.shape))
    side = rng.choice([-1, 1]) * rng.uniform(0.2, 0.52) * width if rng.random() < 0.8 else rng.normal(0, 0.1) * width
    up = rng.normal(0, 0.2) * height
    turn = to_matrix(from_rotvec(np.array([np.arctan(up / focal), -np.arctan(side / focal), rng.normal(0, 0.05)])))
    pose[:, :3] = turn @ pose[:, :3]
    k = np.array([focal, focal, width / 2, height / 2])
    return Camera(np.tile(k, (len(times), 1)), pose), "close"


def make_shoulder_camera(
    rng: np.random.Generator, people: list[np.ndarray], times: np.ndarray, height: int, width: int
) -> tuple[Camera, str]:
    """A camera behind one of at least two people with world joints (T, K, 3) each, that looks past them at the others:
    an arm and half a back fill a side of the picture."""
    own = int(rng.integers(len(people)))
    near = people[own]
    target = np.concatenate([p for n, p in enumerate(people) if n != own], 1).mean((0, 1))
    beside = near[..., :2].mean((0, 1))
    way = target[:2] - beside
    way = way / max(float(np.linalg.norm(way)), 1e-6)
    across = np.array([-way[1], way[0]]) * rng.choice([-1, 1])
    top = float(near[..., 2].max())
    eye = np.array([*(beside - way * rng.uniform(0.4, 0.9) + across * rng.uniform(0.2, 0.5)), 0.0])
    eye[2] = max(top - rng.uniform(0.0, 0.45), 0.3)
    eye = eye + smooth_noise(rng, times, 3, 0.5) * rng.choice([0.0, 0.004, 0.012])
    everyone = np.concatenate(people, 1)
    for _ in range(12):  # nothing of anybody is in the lens
        gap = float(np.linalg.norm(everyone - eye[:, None], axis=-1).min())
        if gap > 0.35:
            break
        eye = eye - np.array([*way, 0.0]) * (0.4 - gap)
    target[2] = rng.uniform(0.7, 1.5)
    return _beside(rng, eye, target, (0.08, 0.12, 0.04), (0.55, 1.1), height, width), "shoulder"


def _keep_head(camera: Camera, head: np.ndarray, size: float, height: int, width: int) -> Camera:
    """Turns the camera towards the head where it would leave the image."""
    pixels, points = camera.project(head)
    margin = 0.9 * size * camera.intrinsics[:, :1] / np.maximum(points[:, 0, 2:], 0.2)  # (T, 1)
    limit = np.array([width, height])
    margin = np.minimum(margin, 0.35 * limit)
    low, high = pixels.min(1), pixels.max(1)
    move = np.maximum(margin - low, 0) - np.maximum(high - (limit - margin), 0)
    both = (margin - low > 0) & (high - (limit - margin) > 0)
    move = np.where(both, 0.5 * (limit - low - high), move)
    kernel = np.ones(min(len(move), 9)) / min(len(move), 9)
    pad = len(kernel) // 2
    padded = np.pad(move, ((pad, pad), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, i], kernel, "valid")[: len(move)] for i in range(2)], 1)
    angle = smooth / camera.intrinsics[:, :2]
    turn = to_matrix(from_rotvec(np.stack([-angle[:, 1], angle[:, 0], 0 * angle[:, 0]], -1)))
    pose = camera.world_to_camera.copy()
    pose[:, :3] = turn @ pose[:, :3]
    return Camera(camera.intrinsics, pose)
