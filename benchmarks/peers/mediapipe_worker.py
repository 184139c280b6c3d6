"""MediaPipe 0.10.21 in an environment of its own: predictions clips until its input ends.

Each line of standard input is `CLIP.npz ANSWER.npz`. A clip holds `video` uint8 (T, H, W, 3), and `stills` where its
frames are pictures that have nothing to do with each other. The prediction holds
`image` (T, 33, 3): x and y normalised to [0, 1] and visibility; `world` (T, 33, 3): metres from the hips' middle, axes
as the image's; NaN where nobody was found; `pose_mask` and `selfie_mask` float32 (T, H, W); `pose_seconds` and
`selfie_seconds` (T,). A line "done" on standard output follows each. Runs with mediapipe and numpy alone.
"""

import sys
import time

import mediapipe as mp
import numpy as np


def models(stills: bool) -> tuple[object, object]:
    """Pose and Selfie; complexity 1 ("full") is the model inside the wheel."""
    pose = mp.solutions.pose.Pose(static_image_mode=stills, model_complexity=1, enable_segmentation=True)
    return pose, mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)


def of_clip(video: np.ndarray) -> dict[str, np.ndarray]:
    """Fresh trackers for every clip."""
    pose, selfie = models(stills=False)
    with pose, selfie:
        for model in (pose, selfie):
            model.process(np.zeros(video.shape[1:], np.uint8))  # loads and plans; not timed
        pose.reset()
        return prediction(video, pose, selfie)


def prediction(video: np.ndarray, pose, selfie) -> dict[str, np.ndarray]:
    frames, height, width = video.shape[:3]
    image, world = np.full((frames, 33, 3), np.nan), np.full((frames, 33, 3), np.nan)
    masks = np.zeros((2, frames, height, width), np.float32)
    seconds = np.zeros((2, frames))
    for t, frame in enumerate(video):
        begin = time.perf_counter()
        found = pose.process(frame)
        middle = time.perf_counter()
        masks[1, t] = selfie.process(frame).segmentation_mask
        seconds[:, t] = middle - begin, time.perf_counter() - middle
        if found.pose_landmarks is not None:
            image[t] = [(p.x, p.y, p.visibility) for p in found.pose_landmarks.landmark]
            world[t] = [(p.x, p.y, p.z) for p in found.pose_world_landmarks.landmark]
        if found.segmentation_mask is not None:
            masks[0, t] = found.segmentation_mask
    return {
        "image": image,
        "world": world,
        "pose_mask": masks[0],
        "selfie_mask": masks[1],
        "pose_seconds": seconds[0],
        "selfie_seconds": seconds[1],
    }


def main() -> None:
    for_stills = None
    for line in sys.stdin:
        source, target = line.split()
        with np.load(source, allow_pickle=False) as stored:
            video, stills = stored["video"], "stills" in stored.files
        if stills and for_stills is None:
            for_stills = models(stills=True)
        np.savez(target, **(prediction(video, *for_stills) if stills else of_clip(video)))
        print("done", flush=True)


if __name__ == "__main__":
    main()
