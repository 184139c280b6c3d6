"""Streams: only what is new is computed, caches live in between.

Two kinds. The VAE: new frames are encoded, the new latent frame is decoded; streamed latents equal those of the whole
history since `reset`, NOT those of a re-encoded window, so a model that reads them must have been trained on them. A
step costs about a quarter of a 17-frame clip. The causal transformer: the new latent frame of one task, with keys and
values of those before it; it equals the full causal pass over the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np

from thfm_ros.engine.manifest import Manifest, is_cache
from thfm_ros.engine.results import Keypoints, probabilities
from thfm_ros.errors import UserError

Part = Literal["encode", "decode"]


class StageRunner(Protocol):
    """What a stream needs of a runtime."""

    manifest: Manifest

    def run(self, stage: str, inputs: Sequence[np.ndarray]) -> list[np.ndarray]: ...

    def require(self, stages: Iterable[str]) -> None: ...


class StageStream:
    """One stream through `base`_init and `base`_step. Any number of them share a runtime; each has its own caches.

    constants: inputs that stay the same (a task's prompt), behind the one that changes.
    """

    def __init__(self, runtime: StageRunner, base: str, constants: Sequence[np.ndarray] = ()) -> None:
        check_stream_stages(runtime, base)
        self._runtime, self._base, self._constants = runtime, base, constants
        self._caches: list[np.ndarray] | None = None

    def reset(self) -> None:
        """The next call starts a new stream."""
        self._caches = None

    def advance(self, x: np.ndarray) -> list[np.ndarray]:
        """The data that the stage's outputs hold besides the caches."""
        name = f"{self._base}_{'init' if self._caches is None else 'step'}"
        check_stream_input(self._runtime, name, x)
        inputs = [np.ascontiguousarray(x, np.float32), *self._constants, *(self._caches or [])]
        outputs = self._runtime.run(name, inputs)
        results = sum(not is_cache(t) for t in self._runtime.manifest.stages[name].outputs)
        self._caches = outputs[results:]
        return outputs[:results]


class _Stream:
    def __init__(self, stream: StageStream) -> None:
        self._stream = stream

    def reset(self) -> None:
        """The next call starts a new stream."""
        self._stream.reset()


class CodecStream(_Stream):
    """The VAE's encoder or decoder."""

    def push(self, x: np.ndarray) -> np.ndarray:
        """encode: video (1, 3, 1, H, W) at the start, (1, 3, 4, H, W) after it -> latents (1, C, 1, h, w).
        decode: latents (1, C, 1, h, w) -> video of 1 frame at the start, 4 frames after it."""
        return self._stream.advance(x)[0]


class TaskStream(_Stream):
    """The causal transformer for one task."""

    def push(self, x: np.ndarray) -> np.ndarray | Keypoints:
        """Latents (1, C, W, h, w) at the start, W the manifest's window, (1, C, 1, h, w) after it -> the task's
        latents of the same shape; of a keypoint task `Keypoints` of the frames behind them (4 W - 3, then 4)."""
        out = self._stream.advance(x)
        if len(out) == 1:
            return out[0]
        xy, xyz, logits = (a[0] for a in out)
        return Keypoints(xy, xyz, probabilities(logits))


def check_stream_stages(runtime: StageRunner, base: str) -> None:
    """UserError unless the bundle has the stages of this stream, and they compute here what they should."""
    if f"{base}_step" not in runtime.manifest.stages:
        raise UserError(
            f"{runtime.manifest.root}: expected the stages of a stream of {base}, found "
            f"{', '.join(runtime.manifest.stages)}: export with --stream"
            + ("" if base in ("encode", "decode") else ", a checkpoint trained with the causal mask and a window")
        )
    runtime.require([f"{base}_init", f"{base}_step"])


def check_stream_input(runtime: StageRunner, name: str, x: np.ndarray) -> None:
    """UserError unless x has the shape of the input that changes with every call."""
    expected = runtime.manifest.stages[name].inputs[0]
    if x.shape != expected.shape:
        raise UserError(f"expected {expected.name} of shape {expected.shape} for {name}, found {x.shape}")
