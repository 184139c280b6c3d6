"""The networks that a run trains: from a preset or checkpoint folders, and back into a checkpoint folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from inspect import signature
from typing import Any

import torch

from thfm_ros.engine.device import fast_bf16
from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint
from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.nano.efficientnet import imagenet_file, load_imagenet
from thfm_ros.model.narrow_decoder import NarrowDecoder
from thfm_ros.model.presets import Preset, build, get_preset, vae_class
from thfm_ros.model.prompts import embed_tasks, get_embedder
from thfm_ros.model.transformer import THFMTransformer3DModel
from thfm_ros.train.config import TrainConfig
from thfm_ros.train.muon import Muon

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")


def preset_of(config: TrainConfig) -> Preset:
    """The preset with the config's own arguments and clip size in place."""
    preset, data = get_preset(config.preset), config.data
    for name, kind, own, known in (
        ("vae", vae_class(preset.vae), config.vae, preset.vae),
        ("transformer", THFMTransformer3DModel, config.transformer, preset.transformer),
        ("decoder", NarrowDecoder, config.decoder, {}),
    ):
        allowed = signature(kind.__init__).parameters
        for key in own:
            if key not in allowed and key not in known:
                raise UserError(f"{name}: unknown key '{key}'")
    return replace(
        preset,
        vae={**preset.vae, **config.vae},
        transformer={**preset.transformer, **config.transformer},
        height=data.height or preset.height,
        width=data.width or preset.width,
        frames=data.frames or preset.frames,
        fps=data.fps or preset.fps,
    )


def open_networks(config: TrainConfig) -> Checkpoint:
    """Both networks in float32 with prompts, ready to train, on the CPU."""
    preset = preset_of(config)
    clip = {"height": preset.height, "width": preset.width, "frames": preset.frames, "fps": preset.fps}
    if config.init:
        checkpoint = load_checkpoint(config.init)
        checkpoint.config = replace(checkpoint.config, **clip)
        _apply_overrides(config, checkpoint)
    else:
        try:
            vae, transformer = build(preset, config.seed)
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"the network cannot be built: {error}") from None
        if isinstance(vae, NanoCodec):
            load_imagenet(vae.image_encoder, imagenet_file())
        checkpoint = Checkpoint(vae, transformer, {}, CheckpointConfig.of(preset))
        if not config.prompts:
            embedder = get_embedder(preset.text_encoder, preset.source, preset.transformer["text_dim"])
            checkpoint.prompts = embed_tasks(embedder, preset.text_length)
    if config.prompts:
        checkpoint.prompts = load_checkpoint(config.prompts).prompts
    if config.init_vae:
        other = load_checkpoint(config.init_vae)
        checkpoint.vae = other.vae
        if not config.init:  # the VAE's past is all the past there is
            past = {"samples_seen": other.config.samples_seen, "notes": other.config.notes}
            checkpoint.config = replace(checkpoint.config, **past)
    if config.stage == "decoder":
        checkpoint = with_narrow_decoder(config, checkpoint)
    elif checkpoint.decoder is not None and (
        config.stage == "vae" or config.init_vae or config.train_encoder or config.train_decoder
    ):
        raise UserError(
            f"{config.init} has a narrow decoder, which knows its autoencoder as it is: start from a checkpoint "
            "without one, and train the decoder afterwards (stage decoder)"
        )
    if config.inflate:
        repeat_tokens(checkpoint.transformer)
    width = checkpoint.transformer.config.text_dim
    for name, prompt in checkpoint.prompts.items():
        if prompt.shape[-1] != width:
            raise UserError(f"prompts: expected embeddings {width} wide, found {prompt.shape[-1]} for '{name}'")
    return checkpoint


def with_narrow_decoder(config: TrainConfig, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its narrow decoder, or a fresh one where it has none."""
    if checkpoint.decoder is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return checkpoint.with_decoder(NarrowDecoder.of(checkpoint.vae, **config.decoder).eval())
    if config.init_vae:
        raise UserError(f"init_vae: {config.init} has a narrow decoder of another autoencoder; drop init_vae")
    for key, value in config.decoder.items():
        if (found := checkpoint.decoder.config.get(key)) != value:
            raise UserError(f"decoder.{key}: {config.init} has {found}, the config wants {value}: drop init or the key")
    return checkpoint


def _apply_overrides(config: TrainConfig, checkpoint: Checkpoint) -> None:
    """Change masks; the rest of the architecture is that of `init`, and has to agree."""
    for name, own in (("vae", config.vae), ("transformer", config.transformer)):
        for key, value in own.items():
            network = checkpoint.vae if name == "vae" else checkpoint.transformer
            found = network.config.get(key)
            if name == "transformer" and key in ("attention", "window"):
                network.register_to_config(**{key: value})
            elif found != value:
                raise UserError(
                    f"{name}.{key}: {config.init} has {found}, the config wants {value}: drop init or the key"
                )


@torch.no_grad()
def repeat_tokens(transformer: THFMTransformer3DModel) -> None:
    """Start the keypoint tokens of later frames from that of the first, the only one that still images train."""
    tokens = transformer.keypoint_tokens
    for table in (tokens.embedding, tokens.position):
        table[1:] = table[:1].clone()


def add_lora(transformer: THFMTransformer3DModel, rank: int) -> None:
    """Freeze the transformer but for fresh low-rank adapters and the keypoint tokens."""
    try:
        from peft import LoraConfig
    except ImportError:
        raise UserError("lora needs peft: pip install 'peft>=0.14,<1', or set lora: 0") from None
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_TARGETS)))
    transformer.keypoint_tokens.requires_grad_(True)


def merge_lora(transformer: THFMTransformer3DModel) -> None:
    """Adapters into the weights, so that the checkpoint is an ordinary one."""
    transformer.fuse_lora()
    transformer.unload_lora()


def optimiser(
    config: TrainConfig, parameters: list[torch.nn.Parameter], slow: Collection[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the config's optimiser; `slow` parameters move at `encoder_rate` of its learning rate."""
    betas = (config.optim.betas[0], config.optim.betas[1])
    apart = {id(p) for p in slow}
    groups: list[dict[str, Any]] = [{"params": [p for p in parameters if id(p) not in apart], "scale": 1.0}]
    if apart:
        chosen = [p for p in parameters if id(p) in apart]
        groups.append({"params": chosen, "scale": config.encoder_rate})
    if config.optim.name == "adam":
        return torch.optim.Adam(groups, lr=config.optim.lr, betas=betas)
    if config.optim.name == "muon":
        return Muon(groups, lr=config.optim.lr, betas=betas)
    try:
        from bitsandbytes.optim import Adam8bit
    except ImportError:
        raise UserError("optim.name adam8bit needs bitsandbytes: pip install bitsandbytes, or use adam") from None
    return Adam8bit(groups, lr=config.optim.lr, betas=betas)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 pays. Where the hardware does not multiply it, it can be hundreds of times slower."""
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else fast_bf16()
