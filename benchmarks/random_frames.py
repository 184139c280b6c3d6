"""What the network makes of frames of the real samples that nobody picked: random videos, random frames.

python benchmarks/random_frames.py --seed 0 --frames 8 --out docs/images/random_frames.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from thfm_ros import panels
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.shipped import cpu_bundle, shipped_checkpoint
from thfm_ros.geometry import Intrinsics
from thfm_ros.paths import video_path
from thfm_ros.stream.estimator import FrameResult, StreamEstimator
from thfm_ros.stream.offline import run_stream
from thfm_ros.video import VideoReader

REAL = ("walker", "pedestrians", "astronaut")  # the samples that a camera took
TASKS = ("human_depth", "human_normals", "foreground", "dense_pose", "keypoints_2d")
WIDTH, HEIGHT = 256, 160


def prediction(estimator: StreamEstimator, sample: str, rng: np.random.Generator) -> tuple[int, FrameResult]:
    """A random frame of a sample, as the last of a clip, and what came out for it."""
    reader = VideoReader(video_path(sample))
    camera = Intrinsics.from_fov(60.0, reader.width, reader.height)
    step = max(1, round(reader.fps / estimator.fps))
    images = [image for _, image in reader][::step]
    last = int(rng.integers(estimator.frames - 1, len(images)))
    first = last - estimator.frames + 1
    clip = ((round(i / estimator.fps * 1e9), images[i], camera) for i in range(first, last + 1))
    estimator.reset()
    return last * step, list(run_stream(estimator, clip, TASKS, estimator.frames))[-1]


def row(label: str, result: FrameResult) -> list[np.ndarray]:
    """The input, and each output beside it."""
    drawn = result.image
    for person in result.people:
        factor = np.array(result.size) / np.array(person.image_size)
        drawn = panels.draw_skeleton(drawn, person.xy * factor, person.confidence, person.joint_set)
    pictures = [(label, result.image), ("skeleton", drawn), ("foreground", panels.mask_gray(result.foreground))]
    disparity = result.disparity
    pictures.append(("human depth", panels.disparity_color(disparity) if disparity is not None else None))
    pictures.append(("human normals", panels.normals_color(result.normals)))
    pictures.append(("dense pose", panels.dense_pose_color(result.dense_pose)))
    return [panels.panel(letterboxed(image), name, WIDTH, HEIGHT) for name, image in pictures]


def letterboxed(image: np.ndarray | None) -> np.ndarray:
    """Black bars to the panel's shape; all black where the network gave nothing."""
    if image is None:
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    height, width = image.shape[:2]
    down, right = max(0, round(width * HEIGHT / WIDTH) - height), max(0, round(height * WIDTH / HEIGHT) - width)
    return np.pad(image, ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the one that ships")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("out/random_frames.jpg"))
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    runtime = load_runtime(cpu_bundle(options.checkpoint or shipped_checkpoint()))
    rows = []
    for _ in range(options.frames):
        sample = str(rng.choice(REAL))
        index, result = prediction(StreamEstimator(runtime), sample, rng)
        rows += row(f"{sample}, frame {index}", result)
    runtime.close()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    import cv2

    cv2.imwrite(str(options.out), panels.grid(rows, columns=6)[..., ::-1])
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
