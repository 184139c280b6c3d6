"""Makes the README's moving picture of a film, such as that of `thfm run` or the demo's.

    thfm run walker -o out/walker.mp4 --stride 4
    .venv/bin/python tools/animate.py out/walker.mp4 --out docs/images/walker.webp

An animated WebP of at most --most bytes: every frame at its own time, as fine as fits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.video import VideoReader

QUALITIES = (80, 70, 60, 50, 40, 30, 20, 10)


def animate(film: Path, out: Path, most: int, seconds: tuple[float, float], width: int) -> int:
    """Writes the frames between two times at that width; returns bytes. UserError where no quality is small enough."""
    frames = [(time, image) for time, image in VideoReader(film) if seconds[0] <= time < seconds[1]]
    if len(frames) < 2:
        raise UserError(f"expected two frames or more between {seconds[0]} and {seconds[1]} s, found {len(frames)}")
    height = round(width * frames[0][1].shape[0] / frames[0][1].shape[1])
    pictures = [cv2.resize(image[..., ::-1], (width, height), interpolation=cv2.INTER_AREA) for _, image in frames]
    gaps = np.diff([time for time, _ in frames])
    animation = cv2.Animation()
    animation.frames = pictures
    animation.durations = np.rint(1e3 * np.append(gaps, np.median(gaps))).astype(int).tolist()
    for quality in QUALITIES:
        _, data = cv2.imencodeanimation(".webp", animation, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if len(data) <= most:
            out.write_bytes(data.tobytes())
            return len(data)
    raise UserError(f"expected at most {most} bytes, found {len(data)} at the lowest quality: take a smaller --width")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=1_000_000, help="bytes")
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.0, 8.0), help="from, to")
    parser.add_argument("--width", type=int, default=960)
    given = parser.parse_args()
    size = animate(given.film, given.out, given.most, tuple(given.seconds), given.width)
    print(f"wrote {given.out}, {size / 1e6:.2f} MB")
