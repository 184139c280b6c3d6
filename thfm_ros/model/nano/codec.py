"""Nano's image features, latents and decoder, in the place of Wan's autoencoder.

Wan's autoencoder and transformer have seen the world before they are fine-tuned. Nano's ImageNet encoder stands for
that. It runs once per frame. Its features become the latents that the transformer works on, and guide the one decoder
of all dense tasks, so that outlines need not be remembered in latents of 16x16 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn

from thfm_ros.model.nano.efficientnet import EfficientNetLite
from thfm_ros.model.nano.layers import Fuse, StandardConv2d, activate, add_shared, small_init, upsample

STRIDE = 16  # pixels of a latent, along each side
FRAMES = 4  # video frames of a latent frame, but for a stream's first, which stands for one

Features = tuple[Tensor, ...]  # maps (B, widths[i], T, H / 2^(i + 1), W / 2^(i + 1)), the finest first


class NanoCodec(ModelMixin, ConfigMixin):
    """Turns video into features and latents, and latents with features into the video of one dense task.

    Args:
        z_dim: channels of a latent. widths: channels of the features at strides 2, 4, 8 and 16.
        scale_factor_spatial: pixels of a latent along each side; 16.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = 64,
        widths: Sequence[int] = (24, 48, 96, 160),
        scale_factor_spatial: int = STRIDE,
    ) -> None:
        super().__init__()
        self.image_encoder = EfficientNetLite()
        self.neck = Neck(self.image_encoder.widths, widths)
        self.to_latents = nn.ModuleList(StandardConv2d(widths[-1], z_dim, gain=FRAMES**-0.5) for _ in range(FRAMES))
        self.decoder = Decoder(z_dim, widths)

    def features(self, video: Tensor, finest: bool = True) -> Features:
        """Return the features of every frame of (B, 3, T, H, W) in [-1, 1].

        finest: whether those at stride 2 are among them, which the decoder alone reads.
        """
        return features_of(self.image_encoder, self.neck, video, finest)

    def encode(self, features: Features) -> Tensor:
        """Return latents (B, z_dim, T', h, w): a clip's first frame alone, then every four frames together.

        T = 4k + 1 frames of a clip become T' = k + 1, 4k frames from the middle of a stream T' = k.
        """
        return latents_of(self.to_latents, features[-1])

    def decode(self, latents: Tensor, features: Features) -> Tensor:
        """Return video (B, 3, T, H, W), not clamped, of latents (B, z_dim, T', h, w) and the frames' features.

        Features may be those of one clip, for several tasks.
        """
        return painted(self.decoder, latents, features)


def features_of(image_encoder: nn.Module, neck: nn.Module, video: Tensor, finest: bool = True) -> Features:
    """See `NanoCodec.features`."""
    maps = neck(image_encoder(video.transpose(1, 2).flatten(0, 1)), finest)
    return tuple(m.unflatten(0, (len(video), -1)).transpose(1, 2) for m in maps)


def latents_of(to_latents: nn.ModuleList, coarse: Tensor) -> Tensor:
    """See `NanoCodec.encode`; coarse: features at stride 16."""
    frames = coarse.shape[2]
    if start := frames % FRAMES:  # the first frame stands for four that are alike
        coarse = torch.cat((coarse[:, :, :1].expand(-1, -1, FRAMES - start, -1, -1), coarse), 2)
    groups = coarse.unflatten(2, (-1, FRAMES)).transpose(1, 2)  # (B, T', C, 4, h, w)
    flat = groups.flatten(0, 1)
    latents = sum(layer(flat[:, :, i]) for i, layer in enumerate(to_latents))
    assert isinstance(latents, Tensor)
    return latents.unflatten(0, (len(coarse), -1)).transpose(1, 2)


def painted(decoder: nn.Module, latents: Tensor, features: Features) -> Tensor:
    """See `NanoCodec.decode`."""
    frames = features[0].shape[2]
    index = [(t + (FRAMES - 1) * (frames % FRAMES)) // FRAMES for t in range(frames)]
    each = latents[:, :, index].transpose(1, 2).flatten(0, 1)
    maps = [m.transpose(1, 2).flatten(0, 1) for m in features]
    return decoder(each, maps).unflatten(0, (len(latents), -1)).transpose(1, 2)


class Neck(nn.Module):
    """Carries what coarse maps know up to fine ones (U-Net, Ronneberger et al., MICCAI 2015), once for all tasks."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        *lateral, coarsest = channels
        self.lateral = nn.ModuleList(StandardConv2d(c, w) for c, w in zip(lateral, widths, strict=True))
        self.coarsest = StandardConv2d(coarsest, widths[-1])
        self.mix = StandardConv2d(widths[-1], widths[-1], 3)
        self.up = nn.ModuleList(Fuse(c, w) for c, w in zip(widths[1:], widths[:-1], strict=True))

    def forward(self, maps: Sequence[Tensor], finest: bool = True) -> list[Tensor]:
        """Maps at strides 2 to 32 -> maps (N, widths[i], h, w) at strides 2 to 16, after ReLUs, the finest first.

        finest: whether the one at stride 2 is made.
        """
        first = 0 if finest else 1
        sides = [layer(m) for layer, m in zip(list(self.lateral)[first:], maps[first:-1], strict=True)]
        x = activate(sides[-1] + upsample(self.coarsest(maps[-1]), sides[-1]))
        x = activate(x + self.mix(x))
        out = [x]
        for fuse, side in zip(reversed(list(self.up)[first:]), reversed(sides[:-1]), strict=True):
            out.append(fuse(out[-1], side))
        return out[::-1]


class Decoder(nn.Module):
    """Paints one dense task: latents say what, features say where its outlines are."""

    def __init__(self, z_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.enter = StandardConv2d(z_dim, widths[-1], 3)
        self.up = nn.ModuleList(Fuse(c, w) for c, w in zip(widths[1:], widths[:-1], strict=True))
        self.out = nn.Conv2d(widths[0], 3 * 4, 3, padding=1)  # four pixels of RGB
        small_init(self.out)

    def forward(self, latents: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(N, z_dim, h, w) and maps of the same frames -> (N, 3, 16 h, 16 w)."""
        x = activate(add_shared(self.enter(latents), maps[-1]))
        for fuse, fine in zip(reversed(self.up), reversed(maps[:-1]), strict=True):
            x = fuse(x, fine)
        return nn.functional.pixel_shuffle(self.out(x), 2)
