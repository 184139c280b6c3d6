"""What smoothing does to the joints of a stream: how they tremble, and whether they are farther from the truth for it.

    python benchmarks/smoothing.py --checkpoint weights/nano --clips 20 --json smoothing.json

Held-out clips of 29 frames through the estimator that the node and `thfm run` use, four new frames a pass.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from thfm_ros.engine.load import load_runtime
from thfm_ros.evaluate.joints import accel, jitter, pa_mpjpe, pck
from thfm_ros.evaluate.report import write_json
from thfm_ros.skeleton import DEFAULT_JOINT_SET, JOINT_SETS, convert
from thfm_ros.stream.estimator import StreamConfig, StreamEstimator
from thfm_ros.stream.people import Person
from thfm_ros.synth.assets import load_assets
from thfm_ros.synth.clip import generate_clip
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.sample import Clip

STRIDE = 4
NOISE_M = (0.0, 0.01, 0.03, 0.06)
PELVIS = [JOINT_SETS[DEFAULT_JOINT_SET].joints.index("pelvis")]


def people(estimator: StreamEstimator, clip: Clip) -> list[Person]:
    """The person of every frame, whatever the score."""
    estimator.reset()
    found = []
    for t, image in enumerate(clip.rgb):
        estimator.push(round(t * 1e9 / clip.fps), np.ascontiguousarray(image))
        if t % STRIDE == 0:
            found += [result.people[0] for result in estimator.step(["keypoints_3d"])]
    return found


def score(found: list[Person], clip: Clip) -> dict[str, float]:
    truth = clip.keypoints_3d
    xyz = np.stack([p.xyz_relative for p in found])
    ours, true = (convert(x, DEFAULT_JOINT_SET, "h36m14") for x in (xyz, truth - truth[:, PELVIS]))
    inside = clip.visibility > 0
    seen = np.where(inside[..., None], clip.keypoints_2d, np.nan)
    box = np.nanmax(np.nanmax(seen, 1) - np.nanmin(seen, 1), -1)
    return {
        "pck_0.05": pck(np.stack([p.xy for p in found]), clip.keypoints_2d, box, 0.05, inside),
        "pa_mpjpe_mm": float(pa_mpjpe(ours, true).mean()),
        "accel_m_s2": float(accel(ours, true, clip.fps).mean()),
        "jitter": float(jitter(ours, clip.fps).mean()),
        "jitter_truth": float(jitter(true, clip.fps).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("weights/nano"), help="or a bundle")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    runtime, assets = load_runtime(arguments.checkpoint), load_assets()
    m = runtime.manifest
    config = SynthConfig(frames=29, height=m.height, width=m.width, fps=m.fps, split="test", empty=0.0)
    estimator = StreamEstimator(runtime, StreamConfig(min_score=0.0))
    rows: dict[float, list[dict[str, float]]] = {noise: [] for noise in NOISE_M}
    for index in range(arguments.clips):
        clip = generate_clip(config, arguments.seed, index, assets)
        for noise in NOISE_M:
            estimator.config = replace(estimator.config, joint_noise_m=noise)
            rows[noise].append(score(people(estimator, clip), clip))
    table = {n: {k: float(np.nanmean([s[k] for s in scores])) for k in scores[0]} for n, scores in rows.items()}
    print("joint_noise_m  PCK@0.05  PA-MPJPE  accel m/s^2  jitter (truth)")
    for noise, mean in table.items():
        print(
            f"{noise:13g}{mean['pck_0.05']:10.3f}{mean['pa_mpjpe_mm']:10.1f}{mean['accel_m_s2']:13.1f}"
            f"{mean['jitter']:8.1f} ({mean['jitter_truth']:.1f})"
        )
    if arguments.json:
        write_json(arguments.json, {"clips": arguments.clips, "seed": arguments.seed, "by_noise_m": table})


if __name__ == "__main__":
    main()
