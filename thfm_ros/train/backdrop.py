"""Other photographs behind people, in the pixels that the network sees: sharp, and another one in every view.

What the generator puts behind people is enlarged with them when a window is cut, and comes back with every view of a
clip. Here a view's surroundings become a part of a photograph that is never enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thfm_ros.synth.places import PictureFolder, read_photograph


def before_photographs(
    rgb: Tensor,
    alpha: Tensor,
    beyond: Tensor,
    chosen: Sequence[bool],
    folder: PictureFolder,
    keys: Sequence[Sequence[int]],
) -> tuple[Tensor, Tensor]:
    """Videos (B, 3, T, H, W) in [-1, 1] with a photograph where nobody is, and (B,) bool, which of them have one.

    alpha: (B, 1, T, H, W), where people are. beyond: (B, 1, 1, H, W) bool, what no camera made, which stays as it is.
    chosen: the videos that are asked for; those that show nobody stay as they are. keys: of the draws.
    """
    changed = torch.tensor(chosen, device=rgb.device) & alpha.flatten(1).any(1)
    videos = zip(rgb, alpha, changed.tolist(), keys, strict=True)
    made = [_composed(video, person, folder, key) if change else video for video, person, change, key in videos]
    return torch.where(beyond, rgb, torch.stack(made)), changed


def _composed(video: Tensor, alpha: Tensor, folder: PictureFolder, key: Sequence[int]) -> Tensor:
    height, width = video.shape[-2:]
    picture = _part(np.random.default_rng(key), folder, height, width)
    behind = torch.from_numpy(picture).to(video).permute(2, 0, 1)[:, None] / 127.5 - 1
    # Pixels at an outline already hold some of the old surroundings: most of them go.
    soft = F.avg_pool2d(alpha.transpose(0, 1), 3, 1, 1).transpose(0, 1)
    soft = ((soft - 0.4) / 0.6).clamp(0, 1)
    return soft * video + (1 - soft) * behind


def _part(rng: np.random.Generator, folder: PictureFolder, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB: a part of a photograph, enlarged only where the photograph itself is too small."""
    import cv2

    image = read_photograph(folder.files[int(rng.integers(len(folder.files)))])
    high = min(image.shape[0], image.shape[1] * height / width)
    part = rng.uniform(min(height, high), high)
    down, across = int(part), int(part * width / height)
    y, x = (int(rng.integers(n - size + 1)) for n, size in zip(image.shape[:2], (down, across), strict=True))
    how = cv2.INTER_AREA if down > height else cv2.INTER_LINEAR
    view = cv2.resize(image[y : y + down, x : x + across], (width, height), interpolation=how)
    return view[:, ::-1].copy() if rng.random() < 0.5 else view
