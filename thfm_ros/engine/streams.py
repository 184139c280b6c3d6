"""The VAE as a stream: only new frames are encoded, only the new latent frame is decoded, caches live in between.

Streamed latents equal those of the whole history since `reset`, NOT those of a re-encoded window, so a model that
reads them must have been trained on them. A step costs about a quarter of a 17-frame clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from thfm_ros.errors import UserError

if TYPE_CHECKING:
    from thfm_ros.engine.runtime import StageRuntime

Part = Literal["encode", "decode"]


class CodecStream:
    """One stream through `part` of the VAE. Any number of them share a runtime; each has caches of its own."""

    def __init__(self, runtime: StageRuntime, part: Part) -> None:
        check_stream_stages(runtime, part)
        self._runtime, self._part = runtime, part
        self._caches: list[np.ndarray] | None = None

    def reset(self) -> None:
        """The next call starts a new stream."""
        self._caches = None

    def push(self, x: np.ndarray) -> np.ndarray:
        """encode: video (1, 3, 1, H, W) at the start, (1, 3, 4, H, W) after it -> latents (1, C, 1, h, w).
        decode: latents (1, C, 1, h, w) -> video of 1 frame at the start, 4 frames after it."""
        name = f"{self._part}_{'init' if self._caches is None else 'step'}"
        check_stream_input(self._runtime, name, x)
        out, *self._caches = self._runtime.run(name, [np.ascontiguousarray(x, np.float32), *(self._caches or [])])
        return out


def check_stream_stages(runtime: StageRuntime, part: Part) -> None:
    if f"{part}_step" not in runtime.manifest.stages:
        raise UserError(
            f"{runtime.manifest.root}: expected the stages of a stream, found {', '.join(runtime.manifest.stages)}: "
            "export with a recipe that has stream: true"
        )


def check_stream_input(runtime: StageRuntime, name: str, x: np.ndarray) -> None:
    expected = runtime.manifest.stages[name].inputs[0]
    if x.shape != expected.shape:
        raise UserError(f"expected {expected.name} of shape {expected.shape} for {name}, found {x.shape}")
