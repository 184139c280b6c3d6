"""Clips as torch tensors on the device that rendered them, for training on the fly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import warp as wp

from thfm_ros.synth.assets import Assets
from thfm_ros.synth.clip import keypoints_of, seen_size, stage
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sensor import develop_frames

if TYPE_CHECKING:
    import torch


def generate_tensors(
    config: SynthConfig, seed: int, index: int, assets: Assets, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """The clip of `generate_clip` (single frames: not as stills) without compression artefacts, on `device`.

    rgb uint8 (T,H,W,3), depth (T,H,W), normals (T,H,W,3), alpha (T,H,W), dense_pose (T,H,W,3), parts uint8 (T,H,W),
    keypoints_2d (T,K,2) pixels, keypoints_3d (T,K,3), visibility (T,K), intrinsics (T,3,3), world_to_camera (T,4,4);
    keypoints of the largest person, as in `Clip`; NaN and 0 in empty scenes.
    """
    import torch

    times = np.arange(config.frames) / config.fps
    st = stage(config, seed, index, index // config.identities, assets, device, times, False)
    developed, _ = develop_frames(st.rng, st.rendered, config, times, False, device)
    r, shape = st.rendered, (config.frames, config.height, config.width)
    out = {
        "rgb": wp.to_torch(developed).reshape(*shape, 3),
        "depth": wp.to_torch(r.depth).reshape(shape),
        "normals": wp.to_torch(r.normal).reshape(*shape, 3),
        "alpha": wp.to_torch(r.alpha).reshape(shape),
        "dense_pose": wp.to_torch(r.canon).reshape(*shape, 3),
        "parts": wp.to_torch(r.part).reshape(shape),
    }
    if st.actions:
        depth = r.depth.numpy().reshape(shape)
        everyone = [keypoints_of(a, st.camera, depth, config.height, config.width) for a in st.actions]
        person = max(everyone, key=lambda p: seen_size(p, config.height, config.width))
        arrays = {
            "keypoints_2d": person.keypoints_2d,
            "keypoints_3d": person.keypoints_3d,
            "visibility": person.visibility,
        }
    else:
        t = config.frames
        arrays = {
            "keypoints_2d": np.full((t, 32, 2), np.nan),
            "keypoints_3d": np.full((t, 32, 3), np.nan),
            "visibility": np.zeros((t, 32)),
        }
    arrays |= {"intrinsics": st.camera.matrices, "world_to_camera": st.camera.world_to_camera}
    where = out["depth"].device
    return out | {k: torch.from_numpy(np.asarray(v, np.float32)).to(where) for k, v in arrays.items()}
