"""The stages of a network: what each takes and gives, by name, in shapes that follow from the geometry.

Export, checks, golden outputs, backends and docs/engine.md read this one table. The standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a stage. dtype by its numpy name ("bfloat16" besides)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class Tensor(NamedTuple):
    """axes: letters as in `Geometry`, N the batch. scale: of an output, about a twentieth of its range."""

    axes: str
    dtype: str = "float32"
    scale: float = 0.1


class Takes(NamedTuple):
    """Names of what a stage takes and gives."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


FEATURES = "features"  # of nano, in the place of this name: features_2, features_4, ... by stride s, channels C_s
WINDOWS = "windows"  # encode and keypoints of clips around one person each, at a size of their own
KEYPOINTS = ("xy", "xyz", "visibility")
TENSORS = {
    "frames": Tensor("N T H W 3", "uint8"),  # RGB
    "video": Tensor("N 3 T H W"),  # RGB in [-1, 1]
    "latents": Tensor("N C T' h w"),  # of unit variance
    "target": Tensor("N C T' h w"),
    "prompt": Tensor("N L D"),
    FEATURES: Tensor("1 C_s T H/s W/s"),
    "xy": Tensor("N T K 2", scale=0.05),  # in [0, 1]
    "xyz": Tensor("N T K 3", scale=0.05),  # metres
    "visibility": Tensor("N T K", scale=0.5),  # logits
}
STAGES = {
    "encode": Takes(("frames",), ("latents", FEATURES)),
    "transform": Takes(("latents", "prompt"), ("target",)),
    "keypoints": Takes(("latents", "prompt", FEATURES), KEYPOINTS),
    "decode": Takes(("latents", FEATURES), ("video",)),
    WINDOWS: Takes(("frames", "prompt"), KEYPOINTS),
}
WHOLE_CLIP = tuple(name for name in STAGES if name != WINDOWS)


@dataclass(frozen=True)
class Geometry:
    """What the shapes of all stages follow from.

    frames T, height H and width W of a clip; latent_shape (C, T', h, w); joints K; prompt (L, D).
    features: stride -> channels of what `encode` gives besides. seen: strides of those that `keypoints` takes.
    windows: width and height around one person, which take the place of W and H there; None: no such stage.
    """

    frames: int
    height: int
    width: int
    latent_shape: tuple[int, int, int, int]
    joints: int
    prompt: tuple[int, ...]
    features: tuple[tuple[int, int], ...] = ()
    seen: tuple[int, ...] = ()
    windows: tuple[int, int] | None = None

    def inputs(self, stage: str) -> tuple[TensorSpec, ...]:
        """What a stage takes, in the order of its module's arguments. stage: also of a batch, such as decode_x4."""
        return self._specs(stage, STAGES[base_name(stage)].inputs)

    def outputs(self, stage: str) -> tuple[TensorSpec, ...]:
        """What a stage gives."""
        return self._specs(stage, STAGES[base_name(stage)].outputs)

    def _specs(self, stage: str, names: Sequence[str]) -> tuple[TensorSpec, ...]:
        base = base_name(stage)
        width, height = (self.windows or (0, 0)) if base == WINDOWS else (self.width, self.height)
        sizes = dict(zip(("C", "T'", "h", "w"), self.latent_shape, strict=True))
        sizes |= {"N": batch_of(stage), "T": self.frames, "H": height, "W": width, "K": self.joints}
        sizes |= dict(zip("LD", self.prompt, strict=True))
        specs = []
        for name in names:
            if name != FEATURES:
                tensor = TENSORS[name]
                shape = tuple(sizes[axis] if axis in sizes else int(axis) for axis in tensor.axes.split())
                specs.append(TensorSpec(name, shape, tensor.dtype))
                continue
            for stride, channels in self.features:
                if base != "keypoints" or stride in self.seen:
                    shape = (1, channels, self.frames, height // stride, width // stride)
                    specs.append(TensorSpec(f"{FEATURES}_{stride}", shape))
        return tuple(specs)


def base_name(stage: str) -> str:
    """ "decode_x4" -> "decode"."""
    head, _, tail = stage.rpartition("_x")
    return head if head and tail.isdecimal() else stage


def batch_of(stage: str) -> int:
    """ "decode_x4" -> 4, "decode" -> 1."""
    suffix = stage.removeprefix(base_name(stage))
    return int(suffix[2:]) if suffix else 1


def batched(stage: str, batch: int) -> str:
    """ "decode", 4 -> "decode_x4"."""
    return stage if batch == 1 else f"{stage}_x{batch}"


def gives_joints(stage: str) -> bool:
    """Whether keypoints come out of a stage."""
    return KEYPOINTS[0] in STAGES[base_name(stage)].outputs
