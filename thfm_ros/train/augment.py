"""More views of the clips there are: mirrored, cropped, rolled, in other colours, with ground truth that stays true.

A rolled camera and a window around somebody at the edge see what lies beyond the image too, where nothing was
rendered: the edge is repeated there, or it is black, as in the windows that a tracker cuts.
Cropping moves the principal point, which normals and 3D keypoints do not hear of: they stay in the whole camera's axes,
as at run time. A window at the edge of a wide image shows its person turned by 5 degrees (median), up to 30.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.model.readout import Keypoints
from thfm_ros.skeleton import DEFAULT_JOINT_SET, JOINT_SETS
from thfm_ros.synth.places import PictureFolder
from thfm_ros.tasks import get_task
from thfm_ros.train.appearance import Look, photographed
from thfm_ros.train.backdrop import before_photographs
from thfm_ros.train.config import AugmentConfig, TrainConfig, WindowConfig
from thfm_ros.train.data import Draw
from thfm_ros.train.detail import detailed
from thfm_ros.train.faces import covered
from thfm_ros.train.samples import ClipBatch, TrainingClip

LEAST = 0.003  # part of an image that shows a person whom a window may be around
HIDDEN = 0.1  # chance of windows around people of whom no joint is seen, where that of the others is 1
NOBODY = 0.2  # of the windows without anybody that stay in steps that learn joints alone
SMALLEST = 0.1  # height of a window without anybody, in those of the picture: what is taken for people is mostly small
SLACK = 2.0  # pixels around a window that its edge may be blended with
DARK = 0.8  # chance of black beyond the image, as a tracker's windows have it, instead of its edge repeated
PARTS = ("top", "bottom", "left", "right")  # of a person that a picture may hold, and the chances of each
PART_CHANCES = (0.6, 0.1, 0.15, 0.15)
SURFACES = ("alpha", "dense_pose", "normals", "scene_disparity", "human_disparity", "instances")
FLIPPED = list(JOINT_SETS[DEFAULT_JOINT_SET].flip)


class View(NamedTuple):
    """What one clip becomes: mirrored or not; the window around (x, y), in parts of the image, `zoom` times as high as
    the image; gains of red, green and blue, and an exponent, on values in [0, 1]; radians by which the camera is rolled
    (positive: what it sees turns from y to x). edges: left, top, right, bottom of what there is of the image; dark:
    beyond them all is black, else they are repeated. meant: whether the joints are those of the one in the middle."""

    mirror: bool
    zoom: float
    x: float
    y: float
    gains: tuple[float, float, float]
    gamma: float
    roll: float = 0.0
    edges: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    dark: bool = False
    meant: bool = False

    @classmethod
    def draw(cls, config: AugmentConfig, *key: int) -> View:
        """A function of the config and the key (seed, step, clip) alone."""
        rng = np.random.default_rng(key)
        zoom = float(rng.uniform(config.zoom, 1))
        x, y = (float(rng.uniform(zoom / 2, 1 - zoom / 2)) for _ in range(2))
        light = rng.normal(0, config.colour, 2)
        red, green, blue = (float(g) for g in np.exp(light[0] + rng.normal(0, config.colour / 3, 3)))
        return cls(bool(rng.random() < config.mirror), zoom, x, y, (red, green, blue), float(np.exp(light[1])))


def augmented(clips: Sequence[TrainingClip], part: Draw, config: TrainConfig, device: torch.device) -> ClipBatch:
    """The clips of a step, or of a part of it, as views and cameras show them: a function of (config, step, clips)."""
    how = config.augment
    keys = [(config.seed, part.step, clip) for clip in part.clips]
    if part.joints_alone:
        clips = _with_somebody(clips, keys)
    if how == AugmentConfig() and config.data.oversample == 1:
        return ClipBatch.of(clips, device)
    views = [View.draw(how, *key) for key in keys]
    width, height = part.width, part.height
    if height and width:
        size, parts = (width, height), []
        for view, clip, key in zip(views, clips, keys, strict=True):
            clip, view = around_one(view, clip, how.windows, size, *key, 1)
            parts.append(_seen_near(clip, view, width, height, device, part.joints_alone))
        batch, beyond = ClipBatch.join([b for b, _ in parts]), torch.cat([dark for _, dark in parts])
    else:
        batch = ClipBatch.of(clips, device)
        if config.data.oversample > 1:
            width, height = config.data.width, config.data.height
        batch, beyond = _seen(batch, views, width, height)
    if how.backdrops and config.data.backgrounds:
        batch = _before_photographs(batch, beyond, part, config, keys)
    if how.detail:
        shown = detailed(batch.rgb, batch.alpha, beyond, [(*key, 4) for key in keys], how.detail)
        batch = replace(batch, rgb=shown)
    if how.faces:
        hidden = covered(batch.rgb, batch.keypoints, [(*key, 8) for key in keys], how.faces)
        batch = replace(batch, rgb=torch.where(beyond, batch.rgb, hidden))
    if how.appearance.share:
        looks = [Look.draw(how.appearance, *key, 3) for key in keys]
        taken = photographed(batch.rgb, looks)
        batch = replace(batch, rgb=torch.where(beyond, batch.rgb, taken))  # no camera made what lies beyond its image
    return batch


def _before_photographs(
    batch: ClipBatch, beyond: Tensor, part: Draw, config: TrainConfig, keys: Sequence[tuple[int, ...]]
) -> ClipBatch:
    """The batch with other photographs behind its people, where no task asks about what was there."""
    # `rgb` is a modality of the autoencoder's stages, not a task: the picture itself, whatever is behind the people.
    about_people = [all(name == "rgb" or get_task(name).human for name in names) for names in part.tasks]
    chosen = [
        human and np.random.default_rng((*key, 6)).random() < config.augment.backdrops
        for human, key in zip(about_people, keys, strict=True)
    ]
    folder = _photographs(config.data.backgrounds)
    rgb, changed = before_photographs(batch.rgb, batch.alpha, beyond, chosen, folder, [(*key, 7) for key in keys])
    assert batch.scene is not None
    return replace(batch, rgb=rgb, scene=batch.scene & ~changed)


@cache
def _photographs(folder: str) -> PictureFolder:
    return PictureFolder.at(folder, "photographs")


def _with_somebody(clips: Sequence[TrainingClip], keys: Sequence[tuple[int, ...]]) -> list[TrainingClip]:
    """Most clips without anybody replaced by one of these that shows somebody: they teach joints' visibility alone."""
    shown = [clip.instances is not None and bool(clip.instances.any()) for clip in clips]
    found = [i for i, somebody in enumerate(shown) if somebody]
    if not found:
        return list(clips)
    kept = [
        somebody or np.random.default_rng((*key, 5)).random() < NOBODY
        for somebody, key in zip(shown, keys, strict=True)
    ]
    return [
        clip if keep else clips[found[i % len(found)]] for i, (clip, keep) in enumerate(zip(clips, kept, strict=True))
    ]


def around_one(
    view: View, clip: TrainingClip, config: WindowConfig, size: tuple[int, int], *key: int
) -> tuple[TrainingClip, View]:
    """A window of `size` (width, height) around one of the visible people, drawn by the key, and the clip with their
    joints as the main ones. Where nobody is seen, and now and then beside people: a window anywhere, without joints."""
    rng = np.random.default_rng(key)
    height, width = clip.rgb.shape[1:3]
    assert clip.instances is not None
    pixels = np.bincount(clip.instances.ravel())
    seen = np.flatnonzero(pixels[1:] >= LEAST * clip.instances.size) + 1
    dark = bool(rng.random() < DARK)
    empty = _nobody(rng, clip.instances, size) if not len(seen) or rng.random() < config.elsewhere else None
    if empty is not None or not len(seen):
        zoom, x, y = empty or (1.0, 0.5, 0.5)  # the whole picture, whose people are too small to be meant
        return clip.without_joints(), view._replace(zoom=zoom, x=x, y=y, dark=dark, meant=True)
    weight = np.sqrt(pixels[seen])  # small people are many, and say little
    if clip.people_visibility is not None:  # a tracker's windows are around people who can be seen
        weight = weight * (HIDDEN + (1 - HIDDEN) * (clip.people_visibility[:, seen - 1] == 1).mean((0, 2)))
    person = int(rng.choice(seen, p=weight / weight.sum()))
    mask = (clip.instances == person).any(0)
    edges = [0, 0, width, height]
    if rng.random() < config.part:
        edges = _cut(rng, mask)
        mask = mask & _inside(mask.shape, edges)
    left, top, right, bottom = _box(mask)
    across, down = right - left, bottom - top
    least, most = np.log(config.scale)
    high = max(down, across * size[1] / size[0]) * config.margin * float(np.exp(rng.uniform(least, most)))
    x = (left + right) / 2 + rng.normal(0, config.place) * across
    y = (top + bottom) / 2 + rng.normal(0, config.place) * down
    return clip.meaning(person - 1), view._replace(
        zoom=max(high, 8.0) / height,
        x=float(x) / width,
        y=float(y) / height,
        roll=float(rng.normal(0, config.tilt)),
        edges=(edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height),
        dark=dark,
        meant=True,
    )


def _nobody(
    rng: np.random.Generator, instances: np.ndarray, size: tuple[int, int]
) -> tuple[float, float, float] | None:
    """Zoom and middle of a window of that aspect with nobody in it; None where a few draws found none."""
    height, width = instances.shape[1:]
    anybody = (instances > 0).any(0)
    for _ in range(8):
        zoom, (x, y) = float(np.exp(rng.uniform(np.log(SMALLEST), 0.0))), rng.uniform(0.1, 0.9, 2).tolist()
        down, across = zoom * height / 2, zoom * height / 2 * size[0] / size[1]
        rows = slice(max(0, int(y * height - down)), int(y * height + down) + 1)
        columns = slice(max(0, int(x * width - across)), int(x * width + across) + 1)
        if not anybody[rows, columns].any():
            return zoom, x, y
    return None


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the True pixels, outer edges."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _inside(shape: tuple[int, ...], edges: list[int]) -> np.ndarray:
    inside = np.zeros(shape, bool)
    inside[edges[1] : edges[3], edges[0] : edges[2]] = True
    return inside


def _cut(rng: np.random.Generator, mask: np.ndarray) -> list[int]:
    """Edges of a picture that ends within the person: 0.3 to 0.9 of them are left, the upper part the likeliest."""
    height, width = mask.shape
    left, top, right, bottom = _box(mask)
    edges, share = [0, 0, width, height], rng.uniform(0.3, 0.9)
    match PARTS[int(rng.choice(len(PARTS), p=PART_CHANCES))]:
        case "top":
            edges[3] = top + max(1, round(share * (bottom - top)))
        case "bottom":
            edges[1] = bottom - max(1, round(share * (bottom - top)))
        case "left":
            edges[2] = left + max(1, round(share * (right - left)))
        case "right":
            edges[0] = right - max(1, round(share * (right - left)))
    return edges


def augment(batch: ClipBatch, views: Sequence[View], width: int | None = None, height: int | None = None) -> ClipBatch:
    """Each clip of the batch as its view shows it; width, height: of what is seen, in pixels (None: the clips')."""
    return _seen(batch, views, width, height)[0]


def _seen_near(
    clip: TrainingClip, view: View, width: int, height: int, device: torch.device, joints_alone: bool = False
) -> tuple[ClipBatch, Tensor]:
    """What `_seen` says of one clip and a small window: only the pixels around it are looked at."""
    whole = clip.rgb.shape[1:3][::-1]
    half = view.zoom * whole[1] / 2 * np.array([width / height, 1.0])
    cos, sin = abs(np.cos(view.roll)), abs(np.sin(view.roll))
    reach = np.array([cos * half[0] + sin * half[1], sin * half[0] + cos * half[1]]) + SLACK
    middle = np.array([view.x, view.y]) * whole
    low = np.clip(np.floor(middle - reach), 0, np.array(whole) - 1).astype(int)
    high = np.clip(np.ceil(middle + reach), low + 1, whole).astype(int)
    size = high - low

    def moved(x: float, y: float) -> tuple[float, float]:
        return (float(x * whole[0] - low[0]) / int(size[0]), float(y * whole[1] - low[1]) / int(size[1]))

    x, y = moved(view.x, view.y)
    edges = np.clip([*moved(*view.edges[:2]), *moved(*view.edges[2:])], 0.0, 1.0).tolist()
    near = view._replace(x=x, y=y, zoom=view.zoom * whole[1] / int(size[1]), edges=tuple(edges))
    return _seen(ClipBatch.of([clip.cut(*low, *high)], device), [near], width, height, joints_alone)


def _seen(
    batch: ClipBatch, views: Sequence[View], width: int | None, height: int | None, joints_alone: bool = False
) -> tuple[ClipBatch, Tensor]:
    """What `augment` says, and (B, 1, 1, H, W) bool, where it is black because the image ends before.

    joints_alone: what no joint's loss asks for is left out, and 0 everywhere.
    """
    device = batch.rgb.device
    size = (height or batch.rgb.shape[-2], width or batch.rgb.shape[-1])
    share = size[1] / size[0] * batch.rgb.shape[-2] / batch.rgb.shape[-1]  # of a window as high as the image
    mirror = torch.tensor([v.mirror for v in views], device=device)
    window = torch.tensor([[v.zoom * share * (-1 if v.mirror else 1), v.zoom] for v in views], device=device)  # x, y
    centre = torch.tensor([[v.x, v.y] for v in views], device=device)
    angle = torch.tensor([v.roll for v in views], device=device)
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).unflatten(-1, (2, 2))  # view to clip
    aspect = turn.new_tensor([batch.rgb.shape[-1], batch.rgb.shape[-2]])
    linear = turn * aspect / aspect[:, None] * window[:, None]  # a turn of pixels, in parts of the image
    edges = torch.tensor([v.edges for v in views], device=device)
    dark = torch.tensor([v.dark for v in views], device=device)

    theta = torch.cat((linear, (2 * centre - 1)[..., None]), 2)

    def looked_up(names: tuple[str, ...], mode: str, finer: int = 1) -> tuple[dict[str, Tensor], Tensor]:
        grid = F.affine_grid(theta.to(batch.rgb), [len(views), 1, *(finer * n for n in size)], align_corners=False)
        return _resample(batch, names, grid, edges, dark, mode)

    # A window of more pixels than are asked: the mean of four places each, so that none is skipped.
    finer = 2 if max(v.zoom for v in views) * batch.rgb.shape[-2] / size[0] > 1.2 else 1
    seen, _ = looked_up(("rgb",), "bilinear", finer)
    seen["rgb"] = F.avg_pool3d(seen["rgb"], (1, finer, finer)) if finer > 1 else seen["rgb"]
    # All of these end where the person does.
    truth, beyond = looked_up(("alpha",) if joints_alone else SURFACES, "nearest")
    seen |= truth
    if joints_alone:
        seen |= {name: _nothing(getattr(batch, name), seen["alpha"]) for name in SURFACES[1:]}
    flip = mirror.view(-1, 1, 1, 1)
    pose, normals, alpha = seen["dense_pose"], seen["normals"], seen["alpha"]
    # Canonical x runs from one side of the body to the other over [0, 1]; there is no body at (0, 0, 0).
    body = pose.sum(1) > 0
    pose[:, 0] = torch.where(flip & body, 1 - pose[:, 0], pose[:, 0])
    normals[:, :2] = torch.einsum("bji,bj...->bi...", turn, normals[:, :2])
    normals[:, 0] = torch.where(flip, -normals[:, 0], normals[:, 0])
    meant = torch.tensor([v.meant for v in views], device=device)
    someone = (alpha > 0.5).flatten(1).any(1) & ~meant
    made = ClipBatch(
        rgb=_colours(seen["rgb"], views),
        alpha=alpha,
        dense_pose=pose,
        normals=normals,
        scene_disparity=_stretch(seen["scene_disparity"], torch.ones_like(alpha, dtype=torch.bool)),
        human_disparity=_stretch(seen["human_disparity"], alpha > 0.5),
        keypoints=_keypoints(batch.keypoints, mirror, turn, linear, centre, edges, someone),
        instances=seen["instances"],
        scene=batch.scene,
    )
    return made, beyond


def _nothing(video: Tensor, seen: Tensor) -> Tensor:
    """Zeros with the channels of `video` (B, C, ...) and the other sizes of `seen`."""
    return seen.new_zeros(len(seen), video.shape[1], *seen.shape[2:])


def _resample(
    batch: ClipBatch, names: Sequence[str], grid: Tensor, edges: Tensor, dark: Tensor, mode: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Those videos (B, C, T, H, W) of the batch at the grid's places (B, h, w, 2), within the edges; beyond them black
    (and nothing) where it is dark, else what the nearest edge shows. And where it is dark, (B, 1, 1, h, w)."""
    videos = [getattr(batch, name) for name in names]
    stacked = torch.cat(videos, 1)
    t, h, w = stacked.shape[2:]
    half = edges.new_tensor([0.5 / w, 0.5 / h])
    low, high = ((2 * e - 1)[:, None, None] for e in (edges[:, :2] + half, edges[:, 2:] - half))
    inside = torch.minimum(torch.maximum(grid, low), high)
    out = F.grid_sample(stacked.flatten(1, 2), inside, mode, "border", align_corners=False).unflatten(1, (-1, t))
    beyond = (((grid - inside).abs() > 2 * half).any(-1) & dark[:, None, None])[:, None, None]
    out = torch.where(beyond, -1.0 if names[0] == "rgb" else 0.0, out)
    return dict(zip(names, out.split([v.shape[1] for v in videos], 1), strict=True)), beyond


def _colours(rgb: Tensor, views: Sequence[View]) -> Tensor:
    gains = rgb.new_tensor([v.gains for v in views]).view(-1, 3, 1, 1, 1)
    gamma = rgb.new_tensor([v.gamma for v in views]).view(-1, 1, 1, 1, 1)
    return (((rgb / 2 + 0.5) * gains).clamp(0, 1) ** gamma) * 2 - 1


def _stretch(disparity: Tensor, mask: Tensor) -> Tensor:
    """To [0, 1] over what the mask keeps of each clip, 0 elsewhere: as `normalise_disparity` leaves it."""
    flat = disparity.flatten(1)
    inside = mask.flatten(1)
    low = torch.where(inside, flat, torch.inf).amin(1)
    high = torch.where(inside, flat, -torch.inf).amax(1)
    shape = (-1, 1, 1, 1, 1)
    scaled = (disparity - low.view(shape)) / (high - low).clamp_min(1e-6).view(shape)
    return torch.where(mask, scaled, 0.0)


def _keypoints(
    points: Keypoints, mirror: Tensor, turn: Tensor, linear: Tensor, centre: Tensor, edges: Tensor, someone: Tensor
) -> Keypoints:
    """turn: (B, 2, 2) from the view's axes to the clip's; linear: the same in parts of the view and of the image;
    edges: (B, 4) of the image; someone: (B,) whether the view shows anybody who may be meant instead."""
    flip = mirror.view(-1, 1, 1)
    xy = torch.einsum("bij,btkj->btki", torch.linalg.inv(linear), points.xy - centre[:, None, None]) + 0.5
    seen = torch.einsum("bji,btkj->btki", turn, points.xyz[..., :2])
    xyz = torch.cat((seen, points.xyz[..., 2:]), -1)
    xyz = torch.where(flip[..., None], xyz * xyz.new_tensor([-1, 1, 1]), xyz)
    low, high = edges[:, None, None, :2], edges[:, None, None, 2:]
    inside = ((xy >= 0) & (xy <= 1) & (points.xy >= low) & (points.xy <= high)).all(-1)
    visibility = torch.where(inside, points.visibility, points.visibility.clamp_max(0))
    # Mostly cut away, they may not be the most prominent person any more: who is seen may have other joints. (Alone,
    # their joints are not asked for either: nobody counts the people of a window.)
    left, before = ((v > 0).sum((1, 2), keepdim=True) for v in (visibility, points.visibility))
    visibility = torch.where((2 * left < before) & someone.view(-1, 1, 1), -1.0, visibility)

    def swap(x: Tensor) -> Tensor:
        return torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x[:, :, FLIPPED], x)

    return Keypoints(swap(xy), swap(xyz), swap(visibility))
