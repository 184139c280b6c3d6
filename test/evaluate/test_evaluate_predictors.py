"""Sliding windows over whole videos, and predictions in the video's own geometry."""

import numpy as np
import pytest
from evaluate_fakes import BrightnessRuntime

from thfm_ros.errors import UserError
from thfm_ros.evaluate.predictors import MEASURED, ConstantPredictor, THFMPredictor, upright_skeleton
from thfm_ros.skeleton import convert, get_joint_set


def video(frames: int, width: int = 64, height: int = 24) -> np.ndarray:
    ramp = np.linspace(20, 230, width)[None, None, :, None] + np.arange(frames)[:, None, None, None]
    return np.broadcast_to(ramp, (frames, height, width, 3)).astype(np.uint8)


def predictor(tasks: tuple[str, ...] = ("scene_depth", "keypoints_2d"), **options: int) -> THFMPredictor:
    return THFMPredictor(BrightnessRuntime(**options), tasks, stride=2)


@pytest.mark.parametrize("frames", [1, 3, 5, 6, 9, 12])
def test_every_frame_is_answered_once(frames: int) -> None:
    p = predictor()
    prediction = p.predict(video(frames))
    assert prediction["scene_depth"].shape == (frames, 24, 64)
    assert prediction["keypoints_2d"].shape == (frames, 32, 2)
    starts = p.starts(frames)
    assert starts[0] == 0
    assert starts[-1] == max(0, frames - 5)
    assert len(prediction["borders"]) == len(starts) - 1 == len(p.runtime.windows) - 1
    assert prediction["borders"].tolist() == [start + 5 for start in starts[:-1]]  # where the window before ends


def test_windows_that_share_frames_agree_on_disparity() -> None:
    clip = video(11)
    prediction = predictor().predict(clip)
    brightness = clip[..., 0].astype(float)[:, 4:-4, 8:-8]
    disparity = prediction["scene_depth"][:, 4:-4, 8:-8]
    slope, shift = np.polyfit(brightness.ravel(), disparity.ravel(), 1)
    assert slope > 0
    assert disparity == pytest.approx(slope * brightness + shift, abs=0.01)


def test_keypoints_come_in_the_videos_pixels() -> None:
    # 64x24 into 32x16: scaled by 1/2 to 32x12 with 2 rows above and below; the middle stays the middle.
    assert predictor().predict(video(5))["keypoints_2d"] == pytest.approx(np.broadcast_to([32.0, 12.0], (5, 32, 2)))


def test_short_videos_are_filled_with_their_last_frame() -> None:
    p = predictor()
    p.predict(video(3))
    window = p.runtime.windows[0]
    assert np.array_equal(window[2], window[3])
    assert np.array_equal(window[2], window[4])


def test_bad_stride_and_task() -> None:
    with pytest.raises(UserError, match="stride lies between 1 and the window's 5 frames, found 6"):
        THFMPredictor(BrightnessRuntime(), ("scene_depth",), stride=6)
    with pytest.raises(UserError, match="unknown task 'depths'"):
        THFMPredictor(BrightnessRuntime(), ("depths",))


def test_constant_baseline_has_every_task() -> None:
    prediction = ConstantPredictor().predict(video(2))
    assert set(MEASURED) <= set(prediction)
    assert all(len(prediction[t]) == 2 for t in MEASURED)
    xy = prediction["keypoints_2d"]
    assert (xy > 0).all()
    assert (xy < [64, 24]).all()


def test_constant_baseline_of_a_long_video_takes_no_memory() -> None:
    long = np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (1500, 1920, 1440, 3))
    prediction = ConstantPredictor().predict(long)
    for task in ("foreground", "dense_pose", "scene_depth", "human_normals"):
        assert prediction[task].shape[:3] == (1500, 1920, 1440)
        assert prediction[task].base is not None
        assert prediction[task].strides[0] == 0
    assert set(ConstantPredictor(("foreground",)).predict(long)) == {"foreground", "borders", "seconds"}


def test_upright_skeleton_is_symmetric_and_a_plausible_person() -> None:
    body = upright_skeleton()
    mirrored = body[list(get_joint_set("thfm32").flip)] * [-1, 1, 1]
    assert body == pytest.approx(mirrored)
    assert 1.6 < np.ptp(body[:, 1]) < 1.9
    coco = convert(body, "thfm32", "coco17")
    assert coco[0, 1] < coco[5, 1] < coco[11, 1] < coco[15, 1]  # nose above shoulder above hip above ankle
