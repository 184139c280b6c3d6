"""Parts that a trained checkpoint may gain without losing what it has learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint
from thfm_ros.model.guide import Guide, GuidedAutoencoderKLWan
from thfm_ros.model.readout import HeatmapReadout
from thfm_ros.model.vae import is_guided


def grow(checkpoint: Checkpoint, name: str, key: str, value: Any) -> bool:
    """Give the network `name` the constructor argument `key`; False where that is nothing that grows.

    vae.guide_dim: a guide beside the decoder. vae.z_dim: wider latents. transformer.readout: another head for the
    keypoints; of these the only one that may have to be trained before its answers are worth anything again (`heatmap`
    goes on where `patches` was, and begins with the eyes of a guide of its width). vae.guide_blocks,
    transformer.look_blocks: more blocks in the eyes of the guide and of `heatmap`. transformer.agree_blocks: joints of
    `heatmap` agree from now on.
    """
    vae, transformer = checkpoint.vae, checkpoint.transformer
    if (name, key) == ("vae", "guide_dim") and key not in vae.config:
        checkpoint.vae = GuidedAutoencoderKLWan.grown(vae, value)
    elif (name, key) == ("vae", "z_dim") and value > vae.config.z_dim:
        widen(checkpoint, value)
    elif (name, key) == ("transformer", "readout"):
        blocks = vae.config.guide_blocks if is_guided(vae) else ()
        transformer.keypoint_tokens.read_from(value, blocks)
        transformer.register_to_config(readout=value, look_blocks=blocks, agree_blocks=0)
        head = transformer.keypoint_tokens.head
        if isinstance(head, HeatmapReadout) and is_guided(vae) and eyes_alike(head, vae.guide):
            theirs = vae.guide.pyramid.state_dict()
            head.look.load_state_dict({name: theirs[name] for name in head.look.state_dict()})
    elif (name, key) == ("vae", "guide_blocks") and is_guided(vae):
        vae.guide.pyramid.deepen(value)
        vae.register_to_config(guide_blocks=value)
    elif (name, key) == ("transformer", "look_blocks") and transformer.keypoint_tokens.looks:
        transformer.keypoint_tokens.head.look.deepen(value)
        transformer.register_to_config(look_blocks=value)
    elif (name, key) == ("transformer", "agree_blocks") and transformer.keypoint_tokens.looks and _is_count(value):
        transformer.keypoint_tokens.head.agree(value)
        transformer.register_to_config(agree_blocks=value)
    else:
        return False
    return True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def eyes_alike(head: HeatmapReadout, guide: Guide) -> bool:
    """Whether the readout's pyramid and the guide's are built alike, so that one can see as the other has learned.

    Raises:
        UserError: where only their blocks differ, which nobody wants.
    """
    if guide.patch != 2 or head.look.widths != guide.pyramid.widths:
        return False
    ours, theirs = ([len(blocks) for blocks in eyes.blocks] for eyes in (head.look, guide.pyramid))
    if ours != theirs[: len(ours)]:
        raise UserError(f"transformer.look_blocks: expected those of vae.guide_blocks, {theirs}, found {ours}")
    return True


@torch.no_grad()
def widen(checkpoint: Checkpoint, channels: int) -> None:
    """Latents of `channels` numbers a cell instead of C: what made the first C of them and what was made of them stays
    as it is, what is made of the others begins at zero."""
    old = checkpoint.vae
    old_dim = old.config.z_dim
    transformer = checkpoint.transformer
    patch = tuple(transformer.config.patch_size)
    if patch != (1, 1, 1):
        raise UserError(f"vae.z_dim: latents grow under patches of one latent cell only, found patch_size {patch}")
    names = {k: v for k, v in old.config.items() if not k.startswith("_")}
    more = channels - old_dim
    names["latents_mean"] = [*names["latents_mean"], *[0.0] * more]
    names["latents_std"] = [*names["latents_std"], *[1.0] * more]
    vae = type(old)(**{**names, "z_dim": channels}).eval()
    _copy(old, vae, old_dim, channels)
    names = {k: v for k, v in transformer.config.items() if not k.startswith("_")}
    wider = type(transformer)(**{**names, "in_channels": channels, "out_channels": channels}).eval()
    _copy(transformer, wider, old_dim, channels)
    checkpoint.vae, checkpoint.transformer = vae, wider


def _copy(old: nn.Module, new: nn.Module, before: int, after: int) -> None:
    """All weights of `old` into `new`. Where sizes differ: its weights in their places among the fresh ones, and zeros
    from fresh inputs to old outputs."""
    state, fresh = old.state_dict(), new.state_dict()
    for name, value in state.items():
        target = fresh[name]
        if target.shape == value.shape:
            target.copy_(value)
            continue
        rows = _places(value.shape[0], target.shape[0], before, after)
        if value.ndim == 1:
            target[rows] = value
            continue
        columns = _places(value.shape[1], target.shape[1], before, after)
        target[rows] = 0
        target[rows[:, None], columns] = value
        if value.ndim == 5 and not value[:, :, :-1].any():  # it does not look back, and shall not begin to
            target[:, :, :-1] = 0


def _places(old: int, new: int, before: int, after: int) -> Tensor:
    """Where the channels of a layer are in its wider form; the VAE's moments are means, then log-variances."""
    places = torch.arange(old)
    if (old, new) == (2 * before, 2 * after):
        places[before:] += after - before
    return places
