"""Starting from public Wan weights: a local folder, or a hub id that the user's cache holds. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from thfm_ros.errors import UserError
from thfm_ros.model.keypoints import KeypointTokens
from thfm_ros.model.loading import load_model, refuse_pickles

Transformer = TypeVar("Transformer", bound=WanTransformer3DModel)


def locate(source: str | Path, part: str) -> Path:
    """The folder of `part` (`transformer`, `vae`) of a Wan checkpoint: inside a pipeline folder, or `source` itself."""
    folder = Path(source)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(str(source), allow_patterns=f"{part}/*", local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            raise UserError(
                f"no Wan checkpoint '{source}': expected a folder or a hub id in the local cache; "
                f"fetch it first (`hf download {source}`) or name a folder"
            ) from None
    folder = folder / part if (folder / part).is_dir() else folder
    refuse_pickles(folder)
    return folder


def vae_from_wan(source: str | Path, dtype: torch.dtype = torch.float32) -> AutoencoderKLWan:
    """Wan's VAE as it is."""
    return load_model(AutoencoderKLWan, locate(source, "vae"), dtype)


def transformer_from_wan(
    cls: type[Transformer], source: str | Path, dtype: torch.dtype = torch.float32, seed: int = 0, **kwargs: Any
) -> Transformer:
    """A stock Wan transformer's weights, unchanged, plus fresh keypoint tokens (`seed`).

    kwargs: what THFM adds to Wan's configuration: num_joints, tokens_per_frame, token_frames, readout, attention
        and window.
    """
    stock = load_model(WanTransformer3DModel, locate(source, "transformer"), dtype, "WanTransformer3DModel")
    with torch.device("meta"):
        model = cls.from_config({**stock.config, "_class_name": cls.__name__}, **kwargs)
    model.load_state_dict(stock.state_dict(), strict=False, assign=True)
    model.rope = stock.rope  # its tables are buffers that a state dict leaves out
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.keypoint_tokens = KeypointTokens.of(model.config)
    return model.eval()
