"""Model sizes: the paper's `wan-1.3b`, its bigger relative `wan-5b`, `nano` that ships trained, `tiny` for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan

from thfm_ros.errors import UserError
from thfm_ros.model.nano import NanoCodec
from thfm_ros.model.transformer import THFMTransformer3DModel


@dataclass(frozen=True)
class Preset:
    """One size: constructor arguments of both networks, and the native clip.

    vae: `widths` among them makes it a `NanoCodec`.
    transformer: has `text_dim` even where it is the class's default: prompts are embedded before the network is built.
    text_encoder: `umt5`, `minilm` or `hash` (see `thfm_ros.model.prompts`); text_length: tokens after zero padding.
    source: hub id of the public weights to start from; None: trained from scratch.
    decoder: arguments of a narrow decoder in the place of the VAE's own; None: there is none.
    """

    name: str
    vae: dict[str, Any]
    transformer: dict[str, Any]
    height: int
    width: int
    frames: int
    fps: float
    text_encoder: str
    text_length: int
    source: str | None = None
    decoder: dict[str, Any] | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, T', h, w) of the native clip."""
        spatial = self.vae["scale_factor_spatial"]
        return (self.vae["z_dim"], (self.frames - 1) // 4 + 1, self.height // spatial, self.width // spatial)


# Of Wan2.2-TI2V-5B's VAE (its config.json).
_WAN22_MEAN = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
]  # fmt: skip
_WAN22_STD = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
]  # fmt: skip


def _vae22(base: int, decoder: int, z_dim: int, mean: list[float], std: list[float], **kwargs: Any) -> dict[str, Any]:
    """The 2.2 style: residual shortcuts, 2 x 2 pixel patches, 16x spatial compression."""
    return {
        "base_dim": base,
        "decoder_base_dim": decoder,
        "z_dim": z_dim,
        "latents_mean": mean,
        "latents_std": std,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
        **kwargs,
    }


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "tiny",
            _vae22(8, 8, 4, [0.1, -0.1, 0.2, 0.0], [1.0, 0.9, 1.1, 0.8], dim_mult=[1, 1, 2, 2], num_res_blocks=1),
            {
                "patch_size": (1, 1, 1),
                "num_attention_heads": 2,
                "attention_head_dim": 24,
                "in_channels": 4,
                "out_channels": 4,
                "text_dim": 16,
                "freq_dim": 32,
                "ffn_dim": 96,
                "num_layers": 2,
                "token_frames": 5,
                "window": 2,
            },
            32, 48, 5, 12.0, "hash", 4,
        ),
        Preset(
            "nano",
            {"z_dim": 64, "widths": [24, 48, 96, 160], "scale_factor_spatial": 16},
            {
                "patch_size": (1, 1, 1),
                "num_attention_heads": 3,
                "attention_head_dim": 64,
                "in_channels": 64,
                "out_channels": 64,
                "text_dim": 384,
                "ffn_dim": 768,
                "num_layers": 4,
                "token_frames": 5,
                "readout": "features",
                "attention": "causal",
                "window": 2,
            },
            144, 240, 5, 12.0, "minilm", 16,
        ),
        Preset(
            "wan-1.3b",
            {"base_dim": 96, "z_dim": 16, "scale_factor_spatial": 8},
            {
                "num_attention_heads": 12,
                "attention_head_dim": 128,
                "text_dim": 4096,
                "ffn_dim": 8960,
                "num_layers": 30,
                "token_frames": 81,
                "window": 21,
            },
            480, 832, 81, 24.0, "umt5", 512, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        ),
        Preset(
            "wan-5b",
            _vae22(160, 256, 48, _WAN22_MEAN, _WAN22_STD),
            {
                "num_attention_heads": 24,
                "attention_head_dim": 128,
                "in_channels": 48,
                "out_channels": 48,
                "text_dim": 4096,
                "ffn_dim": 14336,
                "num_layers": 30,
                "token_frames": 121,
                "window": 31,
            },
            704, 1280, 121, 24.0, "umt5", 512, "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        ),
    )
}  # fmt: skip


def get_preset(name: str) -> Preset:
    """The preset of that name; UserError that lists the known ones otherwise."""
    try:
        return PRESETS[name]
    except KeyError:
        raise UserError(f"unknown preset '{name}': expected one of {', '.join(PRESETS)}") from None


def vae_class(arguments: dict[str, Any]) -> type[AutoencoderKLWan] | type[NanoCodec]:
    """Return the class that takes these constructor arguments."""
    return NanoCodec if "widths" in arguments else AutoencoderKLWan


def build(preset: Preset | str, seed: int = 0) -> tuple[AutoencoderKLWan | NanoCodec, THFMTransformer3DModel]:
    """Both networks with random weights, in float32 and evaluation mode; the same seed gives the same weights."""
    preset = get_preset(preset) if isinstance(preset, str) else preset
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = vae_class(preset.vae)(**preset.vae)
        transformer = THFMTransformer3DModel(**preset.transformer)
    return vae.eval(), transformer.eval()
