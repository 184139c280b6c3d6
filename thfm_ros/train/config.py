"""Training configs: YAML tables with every key known; one file an experiment (config/train/)."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from thfm_ros.errors import UserError
from thfm_ros.schema import parse, read_yaml
from thfm_ros.tasks import TASKS

WITHOUT_TASKS = ("vae", "decoder")  # stages whose samples are modalities, and the video itself (`rgb`); no prompts
WITH_LORA = ("latent", "pixel")  # stages that train a transformer alone, or mostly
Range = tuple[float, float]  # lowest and highest, both allowed
COUNT, SOME, SHARE = (0, math.inf), (1, math.inf), (0, 1)
DATA_RANGES: dict[str, Range] = {
    **dict.fromkeys(("clips", "height", "width", "frames", "fps", "workers"), COUNT),
    **dict.fromkeys(("oversample", "repeats"), SOME),
    "seed": (0, 2**63 - 1),
}
OPTIM_RANGES: dict[str, Range] = {
    **dict.fromkeys(("lr", "clip", "drop"), COUNT),
    **dict.fromkeys(("warmup", "ema", "betas"), SHARE),
}
RANGES: dict[str, Range] = {
    **dict.fromkeys(("steps", "batch", "accumulate", "tasks_per_clip", "keep"), SOME),
    **dict.fromkeys(("log_every", "evaluate_every", "evaluate_clips", "checkpoint_every"), COUNT),
    **dict.fromkeys(("tasks", "loss_weights", "attention", "keypoints", "aligned"), COUNT),
    **dict.fromkeys(("latent_noise", "anchor", "background", "overlap", "encoder_rate"), COUNT),
    **dict.fromkeys(("decode_latents", "lora"), COUNT),
    "stream": SHARE,
    "freeze_blocks": (0, 16),  # all that EfficientNet-Lite0 has
    "seed": (0, 2**63 - 1),
}


def check_ranges(config: Any, ranges: dict[str, Range], prefix: str = "") -> None:
    """UserError for the first number, or number in a list or table, that is not within its field's range."""
    for name, (lowest, highest) in ranges.items():
        value = getattr(config, name)
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        if not all(lowest <= part <= highest for part in parts):  # NaN is within none
            expected = f"{lowest} or more" if highest == math.inf else f"{lowest} .. {highest}"
            raise UserError(f"{prefix}{name}: expected {expected}, found {value}")


def _check_names(key: str, table: dict[str, float], known: Collection[str]) -> None:
    if odd := [name for name in table if name not in known]:
        raise UserError(f"{key}: expected names out of {', '.join(known)}, found {', '.join(odd)}")


@dataclass(frozen=True)
class DataConfig:
    """Synthetic clips, numbered from 0; clip i is a function of (settings, seed, i) alone.

    source: `generate` makes every clip when it is needed; `cache` also keeps it in the folder `path` and reads it from
        there the next time; `folder` reads `path` only, and a missing file is an error.
    clips: how many different ones training draws from; 0: without end (every sample is new).
    height, width, frames, fps: 0 means the preset's. frames 1: still images.
    oversample: the generator renders that many times as wide and high. Windows around people are then as sharp as
        those that are cut from a camera's own image; whole images are reduced.
    repeats: how many steps see every clip, some steps apart, each through a view of its own (`augment`): rendering
        costs as much as learning, and a window shows one person of those in a clip.
    settings: further keys of the generator's configuration, for what is trained on; held-out clips have none of them.
    environments: folder of panoramas that light its scenes. backgrounds: folder of photographs without people, behind
        its people (`settings: {composed: 0.5}`) and as pictures with nobody in them (`settings: {nobody: 0.1}`).
    device: where the generator runs; `auto`: on the GPU if there is one.
    workers: processes that prepare clips ahead of time; 0: the trainer makes them itself, when it needs them.
    """

    source: Literal["generate", "cache", "folder"] = "generate"
    path: str = ""
    clips: int = 0
    seed: int = 0
    height: int = 0
    width: int = 0
    frames: int = 0
    fps: float = 0.0
    oversample: int = 1
    repeats: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 0
    environments: str = ""
    backgrounds: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(self, DATA_RANGES, "data.")
        if self.repeats > 1 and self.clips:
            raise UserError(f"data.repeats: {self.clips} clips come again anyway; expected clips: 0 or repeats: 1")


@dataclass(frozen=True)
class AppearanceConfig:
    """Pictures as bad cameras make them (`train.appearance`): a share of the clips, and the chance of each fault there.

    share: of the clips that another camera made; 0: off. strength: of all faults, 1 reaches bad cameras.
    dark: under-exposure. contrast: with it brightness. resample: a sensor of fewer pixels. grey: no colours at all.
    """

    share: float = 0.0
    strength: float = 1.0
    gamma: float = 0.6
    contrast: float = 0.6
    dark: float = 0.08
    white_balance: float = 0.5
    saturation: float = 0.5
    grey: float = 0.08
    hue: float = 0.2
    vignette: float = 0.25
    blur: float = 0.25
    motion_blur: float = 0.1
    resample: float = 0.3
    sharpen: float = 0.2
    noise: float = 0.35
    jpeg: float = 0.4

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if not (0 <= value <= 1 or (f.name == "strength" and value >= 0)):
                expected = "0 or more" if f.name == "strength" else "a chance in 0 .. 1"
                raise UserError(f"augment.appearance.{f.name}: expected {expected}, found {value}")


@dataclass(frozen=True)
class WindowConfig:
    """Windows around one person, the one in the middle being meant, as a tracker cuts them out of a camera's image.

    share: fraction of the steps that see such windows instead of whole images, of as many more clips as they are
        smaller; 0: off. width, height: of a window, pixels. margin: of the visible part's box, before jitter.
    place: standard deviation of the window's place, in parts of the box. scale: least and largest factor on its size.
    tilt: standard deviation of the camera's roll, radians. part: chance of a picture that ends within the person.
    elsewhere: chance of a window with nobody in it, in pictures with people: detectors take things for people.
    tasks: sampling weights of the tasks there, by name; those of the config where none is named.
    joints: fraction of the steps with windows that learn joints alone: of twice as many windows, one prompt each.
    """

    share: float = 0.0
    width: int = 112
    height: int = 144
    margin: float = 1.25
    place: float = 0.08
    scale: tuple[float, ...] = (0.7, 1.5)
    tilt: float = 0.1
    part: float = 0.3
    elsewhere: float = 0.0
    tasks: dict[str, float] = field(default_factory=dict)
    joints: float = 0.0

    def __post_init__(self) -> None:
        for name in ("share", "part", "elsewhere", "joints"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augment.windows.{name}: expected a chance in 0 .. 1, found {getattr(self, name)}")
        if self.place < 0 or self.tilt < 0:
            raise UserError(
                f"augment.windows: expected place and tilt of 0 or more, found place {self.place}, tilt {self.tilt}"
            )
        if min(self.width, self.height) < 8 or self.margin <= 0:
            raise UserError(
                "augment.windows: expected 8 pixels or more and a margin above 0, found "
                f"{self.width}x{self.height}, margin {self.margin}"
            )
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"augment.windows.scale: expected two factors above 0, found {list(self.scale)}")


@dataclass(frozen=True)
class AugmentConfig:
    """Views of the clips there are; off by default, because a generator without end needs none.

    mirror: chance of a mirrored clip. zoom: the smallest window cut out, as part of the image along each side.
    colour: standard deviation of the logarithms of brightness and gamma.
    backdrops: share of the views, but for those of scene tasks, with another photograph of `data.backgrounds`, if there
        are any, behind the people (`train.backdrop`).
    detail: share of the clips whose people and surroundings are brought to like detail (`train.detail`).
    faces: share of the clips with the face of their person covered (`train.faces`).
    windows: around one person each. appearance: pictures as bad cameras make them.
    """

    mirror: float = 0.0
    zoom: float = 1.0
    colour: float = 0.0
    backdrops: float = 0.0
    detail: float = 0.0
    faces: float = 0.0
    windows: WindowConfig = field(default_factory=WindowConfig)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)

    def __post_init__(self) -> None:
        if not (
            0 <= self.mirror <= 1
            and 0 < self.zoom <= 1
            and self.colour >= 0
            and 0 <= self.detail <= 1
            and 0 <= self.backdrops <= 1
            and 0 <= self.faces <= 1
        ):
            raise UserError(
                "augment: expected mirror in 0 .. 1, zoom above 0 and at most 1, colour 0 or more, "
                f"backdrops, detail and faces in 0 .. 1, found mirror {self.mirror}, zoom {self.zoom}, "
                f"colour {self.colour}, backdrops {self.backdrops}, detail {self.detail}, faces {self.faces}"
            )


@dataclass(frozen=True)
class OptimConfig:
    """Adam with linear warm-up, clipping and dropping (paper section 2.1).

    name: `adam8bit` keeps Adam's state in 8 bits; `muon` is for networks that start from nothing (see `train.muon`).
    warmup: fraction of the steps. schedule: after it; `cooldown` stays constant until the last `cooldown` of the steps
        and ends at zero, and what it was before that is kept, for a run that goes on longer (see `learning_rate`).
    clip: gradient norm; drop: a batch above it is skipped (0: off).
    ema: decay of the averaged weights, warmed up as (1 + n) / (10 + n); 0: off.
    """

    name: Literal["adam", "adam8bit", "muon"] = "adam"
    lr: float = 5e-5
    betas: tuple[float, ...] = (0.9, 0.999)
    warmup: float = 0.1
    schedule: Literal["constant", "cosine", "cooldown"] = "constant"
    cooldown: float = 0.2
    clip: float = 1.0
    drop: float = 10.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        check_ranges(self, OPTIM_RANGES, "optim.")
        if len(self.betas) != 2 or 1 in self.betas:
            raise UserError(f"optim.betas: expected two values below 1, found {list(self.betas)}")
        if not 0 < self.cooldown <= 1:
            raise UserError(f"optim.cooldown: expected a fraction of the steps, above 0 to 1, found {self.cooldown}")


@dataclass(frozen=True)
class TrainConfig:
    """One stage of training.

    stage: `vae` (autoencoder on all modalities), `latent` (stage 1), `pixel` (stage 2, through the decoder);
        `nano` (all of nano at once), `decoder` (a narrow decoder, which learns what the autoencoder's own paints).
    preset, vae, transformer: the network; the two tables replace single constructor arguments of the preset.
    decoder: constructor arguments of the narrow decoder, in stage `decoder`.
    init: checkpoint folder to start from ("": random weights). init_vae: one whose VAE alone is taken.
    prompts: checkpoint folder whose prompt embeddings are taken ("": of `init`, or computed by the text encoder).
    inflate: the network has seen still images only; keypoint tokens of later frames start from the first one's.
    latents: stage `latent` keeps encoded clips in `memory`, in a folder (those of each autoencoder and kind of clips
        apart), or ("") encodes them every time.
    batch: clips a step over all processes; tasks_per_clip: prompts that share one encoding of a clip.
    accumulate: the batch is processed in that many parts.
    tasks: sampling weights by task name; for `vae` and `decoder` the modality `rgb` is allowed too.
    loss_weights: factors on the losses of single tasks in `pixel` and `nano` (1 where none is named).
    attention: sampling weights of the masks `full` and `causal`.
    stream: fraction of steps on latents from the middle of a stream (without the one-frame first latent).
    latent_noise: standard deviation of the noise on latents in `vae`, instead of a sampled posterior, and in `decoder`.
    anchor: weight of plain L2 beside the scale-and-shift-invariant loss, which alone leaves the range free.
    background: weight of L2 outside the person for the human tasks.
    overlap: weight of 1 - IoU beside the L2 of the mask, in `pixel` and `nano`.
    keypoints: weights of the 2D, 3D and visibility terms; a fourth, in `nano`, of naming the cell of the
        heatmap that a joint lies in (0 where three are given).
    aligned: weight of the 3D joints' distance after similarity alignment, beside the plain one of `keypoints`.
    train_encoder, train_decoder: what moves besides the transformer in `pixel`.
    freeze_blocks: blocks of the ImageNet encoder, from the first, that do not move in stage `nano`. encoder_rate: part
        of the learning rate for its other blocks, which know something already.
    decode_latents: latent frames decoded a clip in `pixel` (0: all), a random run of them.
    lora: rank of low-rank adapters on the transformer's attention and feed-forward layers (0: all weights train), in
        `latent` and `pixel`.
    precision: `auto` takes bf16 where the hardware multiplies it natively, fp32 elsewhere; masters stay fp32.
    """

    stage: Literal["vae", "latent", "pixel", "nano", "decoder"]
    preset: str = "nano"
    vae: dict[str, Any] = field(default_factory=dict)
    transformer: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    init_vae: str = ""
    prompts: str = ""
    inflate: bool = False
    latents: str = ""
    seed: int = 0
    steps: int = 20000
    batch: int = 16
    accumulate: int = 1
    tasks_per_clip: int = 1
    tasks: dict[str, float] = field(default_factory=dict)
    loss_weights: dict[str, float] = field(default_factory=dict)
    attention: dict[str, float] = field(default_factory=lambda: {"full": 1.0})
    stream: float = 0.0
    latent_noise: float = 0.05
    anchor: float = 0.1
    background: float = 1.0
    overlap: float = 0.0
    keypoints: tuple[float, ...] = (1.0, 1.0, 0.1)
    aligned: float = 0.0
    train_encoder: bool = False
    train_decoder: bool = False
    freeze_blocks: int = 8
    encoder_rate: float = 0.2
    decode_latents: int = 0
    lora: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    log_every: int = 20
    evaluate_every: int = 500
    evaluate_clips: int = 16
    checkpoint_every: int = 200
    keep: int = 2

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        _check_names("loss_weights", self.loss_weights, TASKS)
        _check_names("attention", self.attention, ("full", "causal"))
        if not sum(self.attention.values()):
            raise UserError(f"attention: expected a weight above 0, found {self.attention or 'none'}")
        if self.evaluate_every and not self.evaluate_clips:
            raise UserError("evaluate_clips: expected 1 or more with evaluate_every above 0, found 0")
        if len(self.keypoints) not in (3, 4):
            raise UserError(f"keypoints: expected 3 or 4 weights, found {list(self.keypoints)}")
        if self.decoder and self.stage != "decoder":
            raise UserError(
                f"decoder: expected arguments of the narrow decoder in stage decoder alone, found {self.stage}"
            )
        if self.lora and self.stage not in WITH_LORA:
            raise UserError(
                f"lora: expected 0 in stage {self.stage}, found {self.lora}: adapters are of latent and pixel"
            )


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> TrainConfig:
    """A YAML file, with `key=value` or `table.key=value` overrides (values are YAML)."""
    path = Path(path)
    table = read_yaml(path, "training config")
    for override in overrides:  # "key=" is the empty text
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"expected key=value after --set, found '{override}'")
        place = table
        *tables, last = key.split(".")
        for name in tables:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {override}: '{name}' is a value, not a table")
        try:
            place[last] = yaml.safe_load(value) if value else ""
        except (yaml.YAMLError, ValueError) as error:
            found = " ".join(str(error).split())
            raise UserError(f"--set {override}: expected a value in YAML, found {found}") from None
    return parse(TrainConfig, table, str(path))


def to_table(config: Any) -> dict[str, Any]:
    """The inverse of `parse`, of plain values only."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
