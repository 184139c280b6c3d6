"""Encoded clips for stage 1, which looks at each of them many times."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from thfm_ros.files import atomic
from thfm_ros.train.config import DataConfig
from thfm_ros.train.data import kind_of_clips


class LatentCache:
    """Encoded clips by (clip number, task), float16: in memory, or one file each in a folder.

    The folder is one in `place`, named after the VAE and the clips: one place serves runs on different ones.
    """

    def __init__(self, place: str, vae: nn.Module, data: DataConfig) -> None:
        self.folder: Path | None = None
        if place not in ("", "memory"):
            self.folder = Path(place) / f"{fingerprint(vae)}-{_digest(kind_of_clips(data))}"
        self.memory: dict[tuple[int, str], Tensor] | None = {} if place == "memory" else None

    def _file(self, key: tuple[int, str]) -> Path:
        assert self.folder is not None
        return self.folder / f"{key[0]:010d}-{key[1]}.safetensors"

    def __contains__(self, key: tuple[int, str]) -> bool:
        if self.folder is not None:
            return self._file(key).exists()
        return self.memory is not None and key in self.memory

    def __getitem__(self, key: tuple[int, str]) -> Tensor:
        return self.memory[key] if self.memory is not None else load_file(self._file(key))["latents"]

    def update(self, latents: dict[tuple[int, str], Tensor]) -> None:
        for key, value in latents.items():
            value = value.half().cpu()
            if self.memory is not None:
                self.memory[key] = value
            elif self.folder is not None:
                with atomic(self._file(key)) as temporary:
                    save_file({"latents": value.contiguous()}, temporary)


def _digest(kind: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:12]


def fingerprint(network: nn.Module) -> str:
    """Digests a VAE's weights: latents of one VAE are never taken for those of another."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
