"""A checkpoint folder: both networks, the prompt embeddings, and what a user must know about them.

vae/ transformer/      diffusers' save_pretrained, safetensors
decoder/               likewise: a narrow decoder, where `thfm.json` says that it is the one that decodes
prompts.safetensors    one (P, L, D) tensor a task: P paraphrases, the canonical prompt first
thfm.json              `CheckpointConfig`
README.md              the model card
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from thfm_ros.errors import UserError
from thfm_ros.files import atomic
from thfm_ros.model.loading import check_values, load_model, read_config, refuse_pickles
from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.presets import Preset, get_preset
from thfm_ros.model.transformer import THFMTransformer3DModel
from thfm_ros.skeleton import DEFAULT_JOINT_SET, get_joint_set

FORMAT_VERSION = 1
LAST_WITH_GUIDE = "version 0.1.0 at commit 6eb181e"


@dataclass
class CheckpointConfig:
    """What `thfm.json` holds.

    height, width, frames, fps: the native clip. attentions: the masks it was trained with (`full`, `causal`).
    decoder: what decodes: `vae` (its own decoder) or `narrow` (the folder `decoder/`).
    trained: False for random weights. samples_seen: training samples so far. notes: free, for the trainer.
    """

    preset: str
    height: int
    width: int
    frames: int
    fps: float
    text_encoder: str
    text_length: int
    joint_set: str = DEFAULT_JOINT_SET
    decoder: Literal["vae", "narrow"] = "vae"
    trained: bool = False
    samples_seen: int = 0
    attentions: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(cls, preset: Preset, **kwargs: Any) -> CheckpointConfig:
        """With the native clip of a preset."""
        return cls(
            preset.name,
            preset.height,
            preset.width,
            preset.frames,
            preset.fps,
            preset.text_encoder,
            preset.text_length,
            **kwargs,
        )


@dataclass
class Checkpoint:
    """Both networks in evaluation mode, prompts (P, L, D) a task, and the configuration.

    decoder: decodes in the place of the VAE's own decoder.
    """

    vae: AutoencoderKLWan | NanoCodec
    transformer: THFMTransformer3DModel
    prompts: dict[str, Tensor]
    config: CheckpointConfig
    decoder: NarrowDecoder | None = None

    @property
    def networks(self) -> dict[str, AutoencoderKLWan | NanoCodec | THFMTransformer3DModel | NarrowDecoder]:
        """Its networks by the names of their folders."""
        decoder = {} if self.decoder is None else {"decoder": self.decoder}
        return {"vae": self.vae, "transformer": self.transformer, **decoder}

    def with_decoder(self, decoder: NarrowDecoder) -> Checkpoint:
        """The same networks with a narrow decoder."""
        return replace(self, decoder=decoder, config=replace(self.config, decoder="narrow"))


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write all of it or nothing; an older checkpoint at `path` is replaced, and no other folder."""
    path = Path(path)
    if path.exists() and not (path / "thfm.json").is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists and is not a checkpoint: name another folder")
    _check_consistent(path, checkpoint)
    try:
        with atomic(path) as folder:
            _write(folder, checkpoint)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror or error}") from None
    return path


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    folder.mkdir()
    for name, network in checkpoint.networks.items():
        network.save_pretrained(folder / name)
        config = json.loads((folder / name / "config.json").read_text())
        # Neither where its author had the weights before, nor arguments that an earlier version had.
        kept = {"_class_name", "_diffusers_version", *signature(type(network).__init__).parameters}
        config = {key: value for key, value in config.items() if key in kept}
        (folder / name / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    prompts = {name: tensor.contiguous().float().cpu() for name, tensor in checkpoint.prompts.items()}
    save_file(prompts, folder / "prompts.safetensors")
    (folder / "thfm.json").write_text(json.dumps(asdict(checkpoint.config), indent=2) + "\n")
    (folder / "README.md").write_text(model_card(checkpoint))
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes for its owner alone


def load_checkpoint(
    path: str | Path, dtype: torch.dtype = torch.float32, vae_dtype: torch.dtype | None = None
) -> Checkpoint:
    """Read and check a checkpoint folder; UserError with expected, found and the fix where anything is wrong.

    vae_dtype: where the VAE needs more precision than the transformer (a low-precision encode drifts); of a narrow
        decoder too.
    """
    path = Path(path)
    config = load_config(path)
    refuse_pickles(path)
    _refuse_retired(path)
    nano = read_config(path / "vae").get("_class_name") == NanoCodec.__name__
    kind = NanoCodec if nano else AutoencoderKLWan
    vae = load_model(kind, path / "vae", vae_dtype or dtype)
    transformer = load_model(THFMTransformer3DModel, path / "transformer", dtype)
    _check_decoder(path, config, (path / "decoder").is_dir())
    narrow = config.decoder == "narrow"
    decoder = load_model(NarrowDecoder, path / "decoder", vae_dtype or dtype) if narrow else None
    file = path / "prompts.safetensors"
    try:
        prompts = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the prompt embeddings {file}: {error}") from None
    checkpoint = Checkpoint(vae, transformer, {name: p.to(dtype) for name, p in prompts.items()}, config, decoder)
    _check_consistent(path, checkpoint)
    return checkpoint


def load_config(path: str | Path) -> CheckpointConfig:
    """`thfm.json` of a checkpoint folder, without its weights."""
    file = Path(path) / "thfm.json"
    try:
        raw = json.loads(file.read_text())
    except OSError:
        raise UserError(
            f"not a THFM checkpoint: {file} is missing (make one with `thfm init PRESET --out DIR`)"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"damaged {file}: {error}") from None
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise UserError(f"{file}: expected format_version {FORMAT_VERSION}, found {found}: convert or retrain it")
    if unknown := raw.keys() - {f.name for f in fields(CheckpointConfig)}:  # a misspelt name would change nothing
        raise UserError(f"{file}: nothing is named {', '.join(sorted(unknown))} there: correct it, or take it out")
    check_values(file, CheckpointConfig, raw, least=0)
    try:
        config = CheckpointConfig(**raw)
    except TypeError as error:
        raise UserError(f"damaged {file}: {str(error).replace('CheckpointConfig.__init__()', 'it is')}") from None
    clip = f"{config.width}x{config.height}, {config.frames} frames at {config.fps:g} fps, {config.text_length} tokens"
    rated = math.isfinite(config.fps) and config.fps > 0
    if not rated or config.frames % 4 != 1 or min(config.width, config.height, config.text_length) < 1:
        raise UserError(f"damaged {file}: expected sizes above 0 and 4k + 1 frames, found {clip}: restore the file")
    return config


def preset_of(path: str | Path) -> Preset:
    """The size and the native clip of a checkpoint folder as a preset, without its weights."""
    path = Path(path)
    config = load_config(path)
    _refuse_retired(path)
    _check_decoder(path, config, (path / "decoder").is_dir())
    nano = read_config(path / "vae").get("_class_name") == NanoCodec.__name__
    narrow = _arguments(path / "decoder", NarrowDecoder.__init__) if config.decoder == "narrow" else {}
    return replace(
        get_preset(config.preset),
        name=f"{path.name} ({config.preset})",
        vae=_arguments(path / "vae", (NanoCodec if nano else AutoencoderKLWan).__init__),
        transformer=_arguments(path / "transformer", THFMTransformer3DModel.__init__),
        height=config.height,
        width=config.width,
        frames=config.frames,
        fps=config.fps,
        text_encoder=config.text_encoder,
        text_length=config.text_length,
        decoder={key: narrow[key] for key in ("widths", "blocks") if key in narrow} if narrow else None,
    )


def _arguments(folder: Path, init: Callable[..., None]) -> dict[str, Any]:
    config = read_config(folder)
    check_values(folder / "config.json", init, config)
    return {key: value for key, value in config.items() if key in signature(init).parameters}


def _refuse_retired(path: Path) -> None:
    """UserError for the nano of earlier versions: a guided VAE, or keypoints read from patches."""
    vae, transformer = read_config(path / "vae"), read_config(path / "transformer")
    readout = transformer.get("readout", "token")
    if "guide_dim" in vae or readout in ("patches", "heatmap"):
        found = f"{vae.get('_class_name')} with keypoints of '{readout}'"
        raise UserError(
            f"{path}: expected a checkpoint of {NanoCodec.__name__} or AutoencoderKLWan, found {found}, which "
            f"{LAST_WITH_GUIDE} was the last to read: take weights/nano, or train anew (config/train/nano-recipe.yaml)"
        )


def _check_decoder(path: Path, config: CheckpointConfig, there: bool) -> None:
    """UserError where `thfm.json` and the checkpoint's parts do not agree on what decodes."""
    if config.decoder not in ("vae", "narrow"):
        raise UserError(f"{path}: expected decoder 'vae' or 'narrow' in thfm.json, found '{config.decoder}'")
    if there != (config.decoder == "narrow"):
        found = "a narrow decoder" if there else "no folder decoder/"
        raise UserError(
            f"{path}: thfm.json has decoder '{config.decoder}', found {found}: copy the whole checkpoint again, or "
            "train the decoder anew (stage decoder)"
        )


def _check_consistent(path: Path, checkpoint: Checkpoint) -> None:
    transformer, vae, config = checkpoint.transformer.config, checkpoint.vae.config, checkpoint.config
    if transformer.in_channels != vae.z_dim:
        raise UserError(
            f"{path}: expected a transformer for the VAE's {vae.z_dim} latent channels, found {transformer.in_channels}"
        )
    _check_latents(path, checkpoint.vae)
    pixels = vae.scale_factor_spatial * transformer.patch_size[-1]
    if config.height % pixels or config.width % pixels:
        raise UserError(
            f"{path}: expected width and height of thfm.json to be divisible by {pixels}, found "
            f"{config.width}x{config.height}: restore the file"
        )
    _check_decoder(path, config, checkpoint.decoder is not None)
    if checkpoint.decoder is not None:
        found = (checkpoint.decoder.config.z_dim, checkpoint.decoder.scale_factor_spatial)
        if isinstance(checkpoint.vae, NanoCodec) or found != (vae.z_dim, vae.scale_factor_spatial):
            raise UserError(
                f"{path}: expected a narrow decoder for Wan's autoencoder ({vae.z_dim} latent channels, "
                f"{vae.scale_factor_spatial} pixels a latent), found one of {found[0]} and {found[1]} for "
                f"{type(checkpoint.vae).__name__}"
            )
    joints = len(get_joint_set(config.joint_set))
    if transformer.num_joints != joints:
        raise UserError(
            f"{path}: expected {joints} joints ({config.joint_set}) in the transformer, found {transformer.num_joints}"
        )
    for name, prompt in checkpoint.prompts.items():
        if prompt.ndim != 3 or not len(prompt) or prompt.shape[1:] != (config.text_length, transformer.text_dim):
            raise UserError(
                f"{path}: expected prompt embeddings (P, {config.text_length}, {transformer.text_dim}) for '{name}', "
                f"P of 1 or more, found {tuple(prompt.shape)}"
            )


def _check_latents(path: Path, codec: AutoencoderKLWan | NanoCodec) -> None:
    """UserError where what Wan's config.json says of its latents cannot be."""
    if isinstance(codec, NanoCodec):
        return
    vae = codec.config
    for name, least in (("latents_mean", -math.inf), ("latents_std", 0.0)):
        values = vae[name]
        if len(values) != vae.z_dim or not all(math.isfinite(v) and v > least for v in values):
            above = " above 0" if least == 0 else ""
            raise UserError(
                f"{path}: expected {vae.z_dim} numbers{above} as {name} in vae/config.json, found {values!s:.60}: "
                "restore the file"
            )
    scales = (2 ** (len(vae.dim_mult) - 1) * (vae.patch_size or 1), 2 ** sum(vae.temperal_downsample))
    found = (vae.scale_factor_spatial, vae.scale_factor_temporal)
    if found != scales:
        raise UserError(
            f"{path}: expected scale_factor_spatial and _temporal {scales} in vae/config.json, found {found}: "
            "restore the file"
        )


def model_card(checkpoint: Checkpoint) -> str:
    """README.md of a checkpoint folder."""
    config = checkpoint.config
    if isinstance(checkpoint.vae, NanoCodec):
        parts = {name.replace("_", " "): part for name, part in checkpoint.vae.named_children()}
    else:
        parts = {"VAE encoder": checkpoint.vae.encoder, "VAE decoder": checkpoint.vae.decoder}
    parts["transformer"] = checkpoint.transformer
    if checkpoint.decoder is not None:
        parts["narrow decoder, in the place of the VAE's"] = checkpoint.decoder
    sizes = "\n".join(f"| {name} | {sum(p.numel() for p in m.parameters()) / 1e6:.2f} M |" for name, m in parts.items())
    state = f"trained on {config.samples_seen} samples" if config.trained else "RANDOM WEIGHTS, not trained"
    return f"""# THFM `{config.preset}`

{state}. Native clip: {config.width}x{config.height}, {config.frames} frames at {config.fps:g} fps.
Attention masks: {", ".join(config.attentions) or "none"}. Joints: {config.joint_set}.
Prompts: {config.text_encoder}, {config.text_length} tokens; tasks: {", ".join(checkpoint.prompts)}.

| part | parameters |
|---|---|
{sizes}

Depth is affine-invariant disparity until aligned; 3D keypoints are metres relative to the pelvis, camera axes.
"""
