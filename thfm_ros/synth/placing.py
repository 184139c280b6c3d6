"""Where things stand in each shot: about the people, and before them at the picture's lower edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.action import Action
from thfm_ros.synth.body import Body
from thfm_ros.synth.camera import Camera
from thfm_ros.synth.clutter import HOLDINGS, Maker, about_z, holding, photographed, sheet
from thfm_ros.synth.furniture import Piece
from thfm_ros.synth.posture import POSTURES
from thfm_ros.synth.things import make_horse, make_pram, make_ride, make_seat, make_table, make_thing, make_wheelchair

JOINTS = JOINT_SETS["thfm32"].joints

AWAY = np.array([0.0, 0.0, -500.0])  # where a thing is while it has no place


@dataclass(frozen=True)
class Placed:
    """A thing and, frame by frame, how it is turned and scaled (T, 3, 3) and shifted (T, 3)."""

    piece: Piece
    turns: np.ndarray
    shifts: np.ndarray


@dataclass(frozen=True)
class Shot:
    """A camera and the joints (T, N, 3) of everybody before it, in the frames that it takes; main: the joints (T, K, 3)
    of whom it shows, `head` (T, 2, 3) of theirs."""

    camera: Camera
    joints: np.ndarray
    main: np.ndarray
    head: np.ndarray
    size: tuple[int, int]  # height, width


def place_things(rng: np.random.Generator, split: str, shots: list[Shot], frames: int) -> list[Placed]:
    """Two to five things, each with a place of its own in every shot: with many cameras (stills) they move between."""
    out = []
    before = int(rng.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))
    for k in range(before + int(rng.integers(2, 4))):
        front = k < before
        out.append(place_piece(rng, make_thing(rng, split, front), shots, frames, front))
    return out


def place_piece(rng: np.random.Generator, piece: Piece, shots: list[Shot], frames: int, front: bool = False) -> Placed:
    """A thing beside, behind or (front) before the people of every shot; away from those where it finds no place."""
    turns, shifts = np.zeros((frames, 3, 3)), np.zeros((frames, 3))
    start = 0
    for shot in shots:
        own = slice(start, start + len(shot.main))
        start = own.stop
        turns[own], shifts[own] = _place(rng, piece, shot, front)
    return Placed(piece, turns, shifts)


def still_life(rng: np.random.Generator, split: str, middle: np.ndarray, frames: int) -> list[Placed]:
    """Things close together about a point (3,) of the floor where nobody is, a laid table among them half of the
    time."""
    out = []
    for k in range(int(rng.integers(2, 6))):
        piece = make_table(rng) if k == 0 and rng.random() < 0.5 else make_thing(rng, split)
        angle, far = rng.uniform(-np.pi, np.pi), 0.0 if k == 0 else rng.uniform(0.4, 1.6)
        shift = (middle + far * np.array([np.cos(angle), np.sin(angle), 0.0])) * [1, 1, 0]
        out.append(_still(piece, about_z(rng.uniform(-np.pi, np.pi)) * rng.uniform(0.8, 1.2), shift, frames))
    return out


def furniture_of(rng: np.random.Generator, action: Action) -> list[Placed]:
    """What somebody at rest sits on, and often a table before them; [] for others. It stands still."""
    if action.name not in ("seated", "bent", "riding", "mounted", "wheeled", "pushing"):
        return []
    joint = {n: action.joints[:, JOINTS.index(n)] for n in ("pelvis", "left_hip", "left_knee", "left_wrist")}
    frames, pelvis = len(action.joints), joint["pelvis"].mean(0)
    size = float(np.clip(np.linalg.norm(joint["left_hip"] - joint["left_knee"], axis=-1).mean() / 0.42, 0.5, 1.2))
    facing, out = about_z(action.yaw), []
    seated = action.name == "seated"
    below = float(action.joints[:, [JOINTS.index("left_hip"), JOINTS.index("right_hip")], 2].mean()) - 0.1 * size
    if action.name == "wheeled":
        return [_still(make_wheelchair(rng, max(below, 0.2) / size), facing * size, pelvis * [1, 1, 0], frames)]
    if action.name == "pushing":
        hands = action.joints[:, [JOINTS.index("left_hand"), JOINTS.index("right_hand")]].mean((0, 1))
        turn = facing @ np.diag([1.0, 1.0, hands[2] / 1.0])
        return [_still(make_pram(rng), turn, hands * [1, 1, 0], frames)]
    if action.name in ("riding", "mounted"):
        ride, saddle = make_ride(rng) if action.name == "riding" else make_horse(rng)
        scale = (below + 0.02 * size) / saddle[2]
        turn = about_z(action.yaw - np.pi / 2) * scale
        return [_still(ride, turn, pelvis * [1, 1, 0] - turn @ (saddle * [1, 1, 0]), frames)]
    if seated and below > 0.08:
        out.append(_still(make_seat(rng, below / size), facing * size, pelvis * [1, 1, 0], frames))
    if rng.random() < (0.45 if seated else 0.75):
        piece = make_table(rng)
        points = np.concatenate([m.vertices for m in piece.meshes[:1]])
        top, half = points[:, 2].max(), np.ptp(points[:, 1]) / 2
        high = pelvis[2] + 0.2 * size if seated else float(np.clip(joint["left_wrist"][:, 2].mean() - 0.03, 0.45, 1.15))
        ahead = (half + (0.14 if seated else 0.22) * size) * (facing @ np.array([0.0, -1.0, 0.0]))
        turn = facing @ about_z(np.pi) @ np.diag([1.0, 1.0, high / top])
        out.append(_still(piece, turn, (pelvis + ahead) * [1, 1, 0], frames))
    return out


def out_of_the_way(rng: np.random.Generator, placed: Placed, shots: list[Shot]) -> Placed:
    """The same thing, gone in shots where it is at the lens or hides the person."""
    points = np.concatenate([m.vertices for m in placed.piece.meshes])
    low, high = points.min(0), points.max(0)
    shifts, start = placed.shifts.copy(), 0
    for shot in shots:
        own = slice(start, start + len(shot.main))
        start = own.stop
        if not _shows_people(rng, placed.turns[own][0], shifts[own][0], low, high, shot):
            shifts[own] = AWAY
    return Placed(placed.piece, placed.turns, shifts)


def _still(piece: Piece, turn: np.ndarray, shift: np.ndarray, frames: int) -> Placed:
    return Placed(piece, np.tile(turn, (frames, 1, 1)), np.tile(shift, (frames, 1)))


def in_hand(rng: np.random.Generator, body: Body, action: Action) -> list[Placed]:
    """What the hand of somebody who holds something has in it; it moves with the hand."""
    if action.holds is None:
        return []
    if action.name == "skiing":
        return [_in_fist(rng, body, action, side, ("stick",)) for side in "LR"]
    return [_in_fist(rng, body, action, action.holds, GEAR.get(action.name, HOLDINGS))]


def _in_fist(rng: np.random.Generator, body: Body, action: Action, side: str, kinds: tuple[str, ...]) -> Placed:
    bone = body.index[f"wrist.{side}"]
    at = {n: body.template_heads[body.index[f"{n}.{side}"]] for n in ("wrist", "finger2-1", "finger3-1", "finger5-1")}
    along, across = at["finger3-1"] - at["wrist"], at["finger2-1"] - at["finger5-1"]
    along = along / np.linalg.norm(along)
    across = across - along * (along @ across)
    across /= np.linalg.norm(across)
    palm = np.cross(along, across) * (1.0 if side == "L" else -1.0)
    own = np.stack([palm, np.cross(across, palm), across], 1) @ about_z(rng.normal(0, 0.3) + np.pi * rng.integers(2))
    # The template's hand stands for this person's: offsets are of the posed hand, so that sizes of arms do not matter.
    joint = action.joints[:, JOINTS.index("left_hand" if side == "L" else "right_hand")]
    turns = action.deltas[:, bone].astype(float)
    return Placed(holding(rng, kinds), turns @ own, joint + turns @ (palm * 0.035))


GEAR = {"swinging": ("stick", "stick", "racket"), "serving": ("racket", "ball", "stick")}  # what a player's hand holds
FEET = 0.2  # chance of something under the feet of those who stand and hold something


def under_feet(rng: np.random.Generator, action: Action) -> list[Placed]:
    """Skis, or a board that both feet stand on, of some who hold something and of who slides; it moves with them."""
    slides = action.name in ("skiing", "boarding")
    if not slides and (action.holds is None or action.name in POSTURES or rng.random() > FEET):
        return []
    at = {n: action.joints[:, JOINTS.index(n)] for n in ("left_ankle", "left_foot", "right_ankle", "right_foot")}
    make = Maker(rng)
    if action.name == "skiing" or (not slides and rng.random() < 0.4):
        long, wide = rng.uniform(0.7, 1.0), rng.uniform(0.035, 0.06)
        make.add(sheet(_bent_strip(long, wide)), photographed(rng))
        ski, sides = make.piece("ski"), ("left", "right")
        return [_sole(ski, at[f"{s}_foot"] - at[f"{s}_ankle"], (at[f"{s}_foot"] + at[f"{s}_ankle"]) / 2) for s in sides]
    long, wide = rng.uniform(0.35, 1.0), rng.uniform(0.1, 0.25)
    make.add(sheet(_bent_strip(long, wide)), photographed(rng))
    left, right = ((at[f"{s}_foot"] + at[f"{s}_ankle"]) / 2 for s in ("left", "right"))
    return [_sole(make.piece("board"), left - right, (left + right) / 2)]


def _bent_strip(half: float, wide: float) -> np.ndarray:
    """(12, 2, 3) along y, its ends turned up."""
    y = np.linspace(-half, half, 12)
    up = np.maximum(np.abs(y) - 0.8 * half, 0) * 0.8
    return np.stack([np.stack([side * wide * np.ones(12), y, up], 1) for side in (-1, 1)], 1)


def _sole(piece: Piece, along: np.ndarray, middle: np.ndarray) -> Placed:
    """A strip along a direction (T, 3) below points (T, 3) of feet, upper side up."""
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    side = np.cross(along, [0.0, 0.0, 1.0])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    up = np.cross(side, along)
    return Placed(piece, np.stack([side, along, up], 2), middle - up * 0.09)


def _place(rng: np.random.Generator, piece: Piece, shot: Shot, front: bool) -> tuple[np.ndarray, np.ndarray]:
    """A turn with scale (3, 3) and a shift (3,); far below where no place was found."""
    eye, pose = shot.camera.centres.mean(0), shot.camera.world_to_camera[0, :3, :3]
    height, width = shot.size
    fx, fy, _, cy = shot.camera.intrinsics[0]
    ahead, right = pose[2] * [1, 1, 0], pose[0] * [1, 1, 0]
    if np.linalg.norm(ahead) < 0.3:  # straight down or up
        return np.eye(3), AWAY
    ahead, right = ahead / np.linalg.norm(ahead), right / max(float(np.linalg.norm(right)), 1e-6)
    depth = float(((shot.main.mean((0, 1)) - eye) * ahead).sum())
    points = np.concatenate([m.vertices for m in piece.meshes])
    low, high = points.min(0), points.max(0)
    bearing = float(np.arctan2(ahead[1], ahead[0])) - np.pi / 2  # local -y looks into the camera
    for _ in range(8):
        scale = float(np.exp(rng.normal(0, 0.18)))
        if front:
            yaw = bearing + rng.normal(0, 0.35)
            far = rng.uniform(0.3, 0.95) * depth
            side = rng.normal(0, 0.35) * 0.5 * width / fx * far
        else:
            yaw = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else bearing + rng.normal(0, 0.5)
            far = depth * rng.uniform(0.6, 1.7) + rng.uniform(-0.3, 0.5)
            side = rng.uniform(-1.1, 1.1) * 0.5 * width / fx * far
        shift = np.array([*eye[:2], 0.0]) + ahead * far + right * side
        turn = about_z(yaw) * scale
        if front and rng.random() < 0.75:  # its top shows in the lower part of the picture
            row = rng.uniform(0.5, 0.95) * height
            level = eye[2] + pose[1, 2] * (row - cy) / fy * far + pose[2, 2] * far
            shift[2] = np.clip(level - high[2] * scale, -0.3 * high[2] * scale, 0.7)
        if _is_clear(turn, shift, low, high, scale, shot, eye) and _shows_people(rng, turn, shift, low, high, shot):
            return turn, shift
    return np.eye(3), AWAY


def _is_clear(
    turn: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray, scale: float, shot: Shot, eye: np.ndarray
) -> bool:
    """Whether the thing's box holds no joint and is not at the lens."""
    inverse = turn.T / scale**2
    own = (shot.joints.reshape(-1, 3) - shift) @ inverse.T
    room = 0.08 / scale
    inside = ((own > low - room) & (own < high + room)).all(1)
    seen = inverse @ (eye - shift)
    return not inside.any() and not ((seen > low - 0.2) & (seen < high + 0.2)).all()


def _shows_people(
    rng: np.random.Generator, turn: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray, shot: Shot
) -> bool:
    """Whether a third of the joints in the picture and, mostly, the head are not behind the thing's box."""
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T @ turn.T + shift
    n = len(shot.main)
    box, at = shot.camera.project(np.broadcast_to(corners, (n, 8, 3)))
    near = at[..., 2].min(1)
    if (near < 0.1).any():  # some of it is beside or behind the camera
        return bool(at[..., 2].max() < 0.05)
    height, width = shot.size
    left, right = box.min(1), box.max(1)
    if not ((right > 0) & (left < [width, height])).all(1).any():
        return False  # seen in no frame
    hidden = shown = 0
    for joints in (shot.main, shot.head):
        xy, points = shot.camera.project(joints)
        inside = ((xy > 0) & (xy < [width, height])).all(-1) & (points[..., 2] > 0.1)
        behind = inside & ((xy > left[:, None]) & (xy < right[:, None])).all(-1) & (points[..., 2] > near[:, None])
        hidden, shown = behind.sum(), inside.sum()
        if joints is shot.main and hidden > 0.65 * shown:
            return False
    return hidden == 0 or rng.random() < 0.15
