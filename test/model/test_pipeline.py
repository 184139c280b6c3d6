"""The pipeline: a video and task names in, physical quantities at the video's size out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics
from thfm_ros.model import pipeline as module
from thfm_ros.model.checkpoint import CheckpointConfig
from thfm_ros.model.pipeline import Skeleton, THFMPipeline, THFMPrediction
from thfm_ros.model.presets import PRESETS, build
from thfm_ros.model.prompts import embed_tasks, get_embedder
from thfm_ros.model.vae import flat_decode, flat_encode
from thfm_ros.tasks import TASKS, dense_task_names
from thfm_ros.video import VideoWriter


@pytest.fixture(scope="module")
def pipe() -> THFMPipeline:
    preset = PRESETS["tiny"]
    prompts = embed_tasks(get_embedder("hash", dim=16), preset.text_length)
    pipe = THFMPipeline(*build(preset), prompts, CheckpointConfig.of(preset))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def clip(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_one_native_clip_equals_the_parts_called_by_hand(pipe: THFMPipeline) -> None:
    video = clip(5)
    with torch.no_grad():
        x = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents = flat_encode(pipe.vae, x)
        prediction = pipe(video)
        for name in dense_task_names():
            out = pipe.transformer(latents, pipe.prompts[name][:1])
            rgb = flat_decode(pipe.vae, -out.sample)[0].permute(1, 2, 3, 0).numpy()
            np.testing.assert_allclose(prediction.maps[name], TASKS[name].codec.from_rgb(rgb), atol=1e-4)
        out = pipe.transformer(latents, pipe.prompts["keypoints_3d"][:1], keypoints=True).keypoints
    np.testing.assert_allclose(prediction.keypoints.xy, out.xy[0] * torch.tensor([48, 32]), atol=1e-3)
    np.testing.assert_allclose(prediction.keypoints.xyz, out.xyz[0], atol=1e-5)
    np.testing.assert_allclose(prediction.keypoints.visibility, out.visibility[0].sigmoid(), atol=1e-5)


def test_encodes_once_batches_tasks_and_decodes_dense_ones_only(pipe: THFMPipeline) -> None:
    counts = {"encode": 0, "transform": [], "decode": 0}
    encode, transform, decode = module.encode_clip, module.TransformStage.forward, module.decode_clip

    def counted_encode(*given: Any) -> Any:
        counts["encode"] += 1
        return encode(*given)

    def counted_transform(self: object, latents: torch.Tensor, *others: torch.Tensor | None) -> tuple:
        counts["transform"].append(len(latents))
        return transform(self, latents, *others)

    def counted_decode(codec: Any, latents: torch.Tensor, *others: Any) -> torch.Tensor:
        counts["decode"] += len(latents)
        return decode(codec, latents, *others)

    with (
        mock.patch.object(module, "encode_clip", counted_encode),
        mock.patch.object(module.TransformStage, "forward", counted_transform),
        mock.patch.object(module, "decode_clip", counted_decode),
    ):
        pipe(clip(5))
        assert counts == {"encode": 1, "transform": [7, 1], "decode": 7}  # both sparse tasks share one pass
        counts.update(encode=0, transform=[], decode=0)
        pipe(clip(5), ["keypoints_2d"])
        assert counts == {"encode": 1, "transform": [1], "decode": 0}
        counts.update(encode=0, transform=[], decode=0)
        pipe(clip(5), ["foreground", "dense_pose", "scene_depth", "keypoints_3d"], batch=2, joint=True)
        assert counts == {"encode": 1, "transform": [1, 2], "decode": 3}


def test_any_length_and_size_comes_back_at_the_input_size(pipe: THFMPipeline) -> None:
    for frames, height, width in ((1, 30, 70), (3, 50, 20), (13, 32, 48)):
        prediction = pipe(clip(frames, height, width))
        for name, values in prediction.maps.items():
            channels = () if TASKS[name].codec.channels == 1 else (3,)
            assert values.shape == (frames, height, width, *channels)
            assert np.isfinite(values).all()
        assert prediction.keypoints.xy.shape == (frames, 32, 2)
        length = np.linalg.norm(prediction.maps["scene_normals"], axis=-1)
        assert ((np.abs(length - 1) < 1e-4) | (length == 0)).all()


def test_windows_of_one_frame_are_stills(pipe: THFMPipeline) -> None:
    """Nothing is shared between them: each frame comes out as it does alone."""
    video, tasks = clip(3), ["foreground", "scene_depth", "keypoints_3d"]
    prediction = pipe(video, tasks, frames=1)
    for index in range(3):
        alone = pipe(video[index : index + 1], tasks)
        for name, values in alone.maps.items():
            np.testing.assert_allclose(prediction.maps[name][index], values[0], atol=1e-5)
        np.testing.assert_allclose(prediction.keypoints.xyz[index], alone.keypoints.xyz[0], atol=1e-5)


def test_borders_are_black_for_both_input_types(pipe: THFMPipeline) -> None:
    seen: list[torch.Tensor] = []
    encode = module.encode_clip

    def record(codec: Any, video: torch.Tensor, *others: Any) -> Any:
        seen.append(video)
        return encode(codec, video, *others)

    white = np.full((1, 32, 32, 3), 255, np.uint8)
    with mock.patch.object(module, "encode_clip", record):
        pipe(white, ["foreground"])
        pipe(white / np.float32(127.5) - 1, ["foreground"])
    for video in seen:
        assert (video[..., 8:40] == 1).all()
        assert (video[..., :8] == -1).all()
        assert (video[..., 40:] == -1).all()


def test_float_input_and_files_mean_the_same_as_uint8(pipe: THFMPipeline, tmp_path: Path) -> None:
    video = clip(5)
    expected = pipe(video, ["foreground"]).maps["foreground"]
    for same in (video / np.float32(127.5) - 1, torch.from_numpy(video), torch.from_numpy(video).double() / 127.5 - 1):
        np.testing.assert_allclose(pipe(same, ["foreground"]).maps["foreground"], expected, atol=1e-5)
    with VideoWriter(tmp_path / "a.mp4", 12) as writer:
        for image in video:
            writer.write(image)
    assert pipe(tmp_path / "a.mp4", ["foreground"]).maps["foreground"].shape == expected.shape


def test_low_memory_gives_the_same_numbers(pipe: THFMPipeline) -> None:
    tasks = ["foreground", "keypoints_3d"]
    flat, chunked = (pipe(clip(9), tasks, frames=9, low_memory=flag) for flag in (False, True))
    np.testing.assert_allclose(chunked.maps["foreground"], flat.maps["foreground"], atol=1e-5)
    np.testing.assert_allclose(chunked.keypoints.xyz, flat.keypoints.xyz, atol=1e-5)


def test_attention_can_be_chosen(pipe: THFMPipeline) -> None:
    video = clip(9)
    full, causal = (pipe(video, ["foreground"], frames=9, attention=name) for name in ("full", "causal"))
    np.testing.assert_array_equal(pipe(video, ["foreground"], frames=9).maps["foreground"], full.maps["foreground"])
    assert np.abs(full.maps["foreground"] - causal.maps["foreground"]).max() > 1e-4


def test_free_text_goes_through_the_network_alone(pipe: THFMPipeline) -> None:
    """The canonical prompt as free text gives what the task gives, but as RGB: nothing looks up the task."""
    canonical = TASKS["foreground"].prompts[0]
    free, other = (pipe(clip(5), prompt=text) for text in (canonical, "something else"))
    rgb = free.maps["prompt"]
    assert rgb.shape == (5, 32, 48, 3)
    joint = pipe(clip(5), ["foreground", "keypoints_3d"], joint=True)
    np.testing.assert_allclose(TASKS["foreground"].codec.from_rgb(rgb), joint.maps["foreground"], atol=1e-5)
    np.testing.assert_allclose(free.keypoints.xyz, joint.keypoints.xyz, atol=1e-6)
    assert np.abs(rgb - other.maps["prompt"]).max() > 1e-4


def test_metres_from_keypoints_and_intrinsics() -> None:
    """A disparity of unknown scale and shift, and a person whose joints lie on the scene: metres come back."""
    rng = np.random.default_rng(0)
    camera = Intrinsics.from_fov(60, 64, 48)
    frames, joints = 3, 32
    depth = np.broadcast_to(np.linspace(2, 4, 64), (frames, 48, 64)).copy()
    column = rng.integers(0, 64, (frames, joints))
    xy = np.stack([column + 0.5, rng.uniform(0, 48, (frames, joints))], -1)
    z = depth[0, 0][column]
    points = np.stack([(xy[..., 0] - camera.cx) * z / camera.fx, (xy[..., 1] - camera.cy) * z / camera.fy, z], -1)
    root = points.mean(1, keepdims=True)
    prediction = THFMPrediction(
        maps={"scene_depth": (1 / depth - 0.2) / 0.4, "foreground": np.ones((frames, 48, 64))},
        keypoints=Skeleton(xy, points - root, np.full((frames, joints), 0.9)),
    )
    module._to_metres(prediction, prediction.keypoints, camera)
    np.testing.assert_allclose(prediction.keypoints.root, root[:, 0], atol=1e-6)
    np.testing.assert_allclose(prediction.depth["scene_depth"], depth, rtol=0.03)
    assert list(prediction.depth) == ["scene_depth"]


def test_intrinsics_reach_the_prediction(pipe: THFMPipeline) -> None:
    prediction = pipe(clip(5), intrinsics=Intrinsics.from_fov(60, 48, 32))
    assert prediction.keypoints.root.shape == (5, 3)
    assert set(prediction.depth) == {"scene_depth", "human_depth"}
    with pytest.raises(UserError, match="expected intrinsics of the 48x32 video, found 64x32"):
        pipe(clip(5), intrinsics=Intrinsics.from_fov(60, 64, 32))


def test_saved_and_loaded_it_predicts_the_same(pipe: THFMPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "a")
    loaded = THFMPipeline.from_pretrained(tmp_path / "a")
    loaded.set_progress_bar_config(disable=True)
    a, b = (p(clip(5), ["dense_pose"]).maps["dense_pose"] for p in (pipe, loaded))
    np.testing.assert_array_equal(a, b)


def test_bad_input_is_refused_with_expected_and_found(pipe: THFMPipeline) -> None:
    with pytest.raises(UserError, match=r"\(N, H, W, 3\), found \(5, 3, 32, 48\)"):
        pipe(np.zeros((5, 3, 32, 48), np.uint8))
    with pytest.raises(UserError, match=r"uint8 or floating point in \[-1, 1\], found torch.int64"):
        pipe(np.zeros((5, 32, 48, 3), np.int64))
    with pytest.raises(UserError, match=r"expected video in \[-1, 1\], found \[0, 255\]"):
        pipe(np.linspace(0, 255, 5 * 32 * 48 * 3).reshape(5, 32, 48, 3))
    with pytest.raises(UserError, match="unknown task 'depth'"):
        pipe(clip(5), ["depth"])
    with pytest.raises(UserError, match="no task given"):
        pipe(clip(5), [])
    with pytest.raises(UserError, match="found no dense task"):
        pipe(clip(5), ["keypoints_2d"], joint=True)
    with pytest.raises(UserError, match=r"windows of 4k \+ 1 frames .* found 8"):
        pipe(clip(5), frames=8)


def test_nano_gives_its_features_to_decoder_and_keypoints() -> None:
    """A clip of nano through the pipeline equals the parts called by hand."""
    preset = PRESETS["nano"]
    small = {"num_layers": 1, "in_channels": 8, "out_channels": 8, "text_dim": 16}
    preset = replace(
        preset,
        vae={"z_dim": 8, "widths": [8, 48, 16, 24]},
        transformer={**preset.transformer, **small},
        height=32,
        width=48,
    )
    prompts = embed_tasks(get_embedder("hash", dim=16), preset.text_length)
    pipe = THFMPipeline(*build(preset), prompts, CheckpointConfig.of(preset))
    pipe.set_progress_bar_config(disable=True)
    video = clip(5)
    found = pipe(video, ["foreground", "keypoints_3d"])
    with torch.no_grad():
        features = pipe.vae.features(torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1)
        latents = pipe.vae.encode(features)
        dense = pipe.transformer(latents, prompts["foreground"][:1])
        rgb = pipe.vae.decode(-dense.sample, features).clamp(-1, 1)[0].permute(1, 2, 3, 0).numpy()
        sparse = pipe.transformer(latents, prompts["keypoints_3d"][:1], keypoints=True, features=features[1])
    np.testing.assert_allclose(found.maps["foreground"], TASKS["foreground"].codec.from_rgb(rgb), atol=1e-4)
    np.testing.assert_allclose(found.keypoints.xyz, sparse.keypoints.xyz[0], atol=1e-5)
