"""Our own synthetic shards (`thfm generate`): a folder with manifest.json and tar files, random access by clip."""

from __future__ import annotations

import hashlib
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import Joints, Recording
from thfm_ros.skeleton import convert

if TYPE_CHECKING:
    from thfm_ros.synth.sample import Clip


class ShardedClips:
    """The clips of a folder; `settings` decide their content. Shards are verified when they are first opened."""

    def __init__(self, root: str | Path) -> None:
        from thfm_ros.synth.shards import read_manifest

        self.root = Path(root)
        manifest = read_manifest(self.root)
        self._shards: dict[str, dict[str, Any]] = manifest["shards"]
        # What decides the clips, and the clips themselves: a device may make others of the same settings.
        content = " ".join(entry["sha256"] for entry in self._shards.values())
        decides = {name: manifest[name] for name in ("seed", "assets", "generator")}
        shards = hashlib.sha256(content.encode()).hexdigest()[:12]
        self.settings: dict[str, Any] = {**manifest["config"], **decides, "shards": shards}
        self._places = [(name, k) for name, entry in self._shards.items() for k in range(entry["clips"])]
        self._shard = lru_cache(maxsize=2)(self._open)
        self.clip = lru_cache(maxsize=1)(self._decode)

    def __len__(self) -> int:
        return len(self._places)

    def _open(self, name: str) -> tuple[tarfile.TarFile, list[dict[str, tarfile.TarInfo]]]:
        from thfm_ros.synth.shards import verify

        verify(self.root / name, self._shards[name]["sha256"])
        archive = tarfile.open(self.root / name)  # noqa: SIM115 (kept open: clips are read from it later)
        clips: dict[str, dict[str, tarfile.TarInfo]] = {}
        for member in archive:
            key, suffix = member.name.split(".", 1)
            clips.setdefault(key, {})[suffix] = member
        if len(clips) != self._shards[name]["clips"]:
            raise UserError(f"{self.root / name}: expected {self._shards[name]['clips']} clips, found {len(clips)}")
        return archive, list(clips.values())

    def _decode(self, index: int) -> Clip:
        from thfm_ros.synth.shards import decode

        name, position = self._places[index]
        archive, clips = self._shard(name)
        contents = {}
        for suffix, member in clips[position].items():
            file = archive.extractfile(member)
            assert file is not None, f"{member.name} is no file"
            contents[suffix] = file.read()
        return decode(contents)


def read(root: Path) -> list[Recording]:
    """One recording a clip: alpha, depth, normals, mask of people, SMPL-24 joints of the main person."""
    clips = ShardedClips(root)
    return [_recording(clips, index) for index in range(len(clips))]


def _recording(clips: ShardedClips, index: int) -> Recording:
    settings = clips.settings

    def truth(i: int) -> dict[str, np.ndarray]:
        clip = clips.clip(index)
        return {"alpha": clip.alpha[i], "depth": clip.depth[i], "normals": clip.normals[i], "mask": clip.human_mask[i]}

    def joints() -> Joints:
        clip = clips.clip(index)
        inside = (clip.visibility > 0).mean(1) >= 0.5
        return Joints(convert(clip.keypoints_3d, "thfm32", "smpl24"), "smpl24", inside)

    return Recording(
        f"clip{index:06d}",
        int(settings["frames"]),
        float(settings["fps"]),
        lambda i: clips.clip(index).rgb[i],
        truth,
        joints,
        files=(clips.root / "manifest.json",),
    )
