"""Nano on photographs over what it has seen: the rows of docs/history/training-log.md as one picture.

    python benchmarks/real_curve.py benchmarks/real_curve.json --out docs/images/real_curve.png

A row is one measured network: `windows` and pictures seen, and of `thfm evaluate coco` (boxes given) and `views` what
was measured: `pck`, `pck_10`, `iou`, `pa_mpjpe`. `peers` are dashed lines.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

from thfm_ros.paths import writable_picture

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = {
    "pck": "boxes given, PCK@0.05",
    "pck_10": "boxes given, PCK@0.1",
    "iou": "mask of all people, IoU",
    "pa_mpjpe": "four cameras, PA-MPJPE, mm",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    writable_picture(given.out)
    table = json.loads(given.table.read_text())
    figure, axes = plt.subplots(1, len(PANELS), figsize=(3.4 * len(PANELS), 2.6))
    for axis, (key, title) in zip(axes, PANELS.items(), strict=True):
        points = [(row["windows"] / 1e3, row[key]) for row in table["rows"] if key in row]
        axis.plot(*zip(*points, strict=True), marker=".", label="nano")
        for name, values in table["peers"].items():
            if key in values:
                axis.axhline(values[key], color="grey", linestyle="--", label=name)
        axis.set(title=title, xlabel="thousand windows and pictures seen")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(given.out, dpi=80)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
