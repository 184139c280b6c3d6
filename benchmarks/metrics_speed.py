"""How fast the metrics run on whole videos, against the plain formulas written frame by frame (one thread each).

    python benchmarks/metrics_speed.py --frames 100

The plain side is the definition as published scripts state it: a full 2D convolution for Grad, ten thresholds with
full-image masks for Conn, a loop over frames for Procrustes. Both must agree before times are printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import typer

from thfm_ros.evaluate import depth, joints, matting, normals
from thfm_ros.evaluate.report import table, write_json

RNG = np.random.default_rng(0)


def alphas(frames: int, height: int = 288, width: int = 512) -> np.ndarray:
    """A soft blob that moves, uint8."""
    y, x = np.mgrid[:height, :width]
    clip = []
    for t in range(frames):
        distance = np.hypot((x - 200 - t) / 90.0, (y - 140) / 120.0)
        clip.append(np.clip(4 * (1.1 - distance) + RNG.normal(0, 0.05, distance.shape), 0, 1))
    return np.round(255 * np.stack(clip)).astype(np.uint8)


def plain_grad(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    filters = matting.gradient_filters()
    out = []
    for p, t in zip(matting.as_alpha(pred), matting.as_alpha(true), strict=True):
        magnitudes = []
        for image in (p, t):
            unit = cv2.normalize(image, np.empty_like(image), 1.0, 0.0, cv2.NORM_MINMAX)
            gx, gy = (cv2.filter2D(unit, -1, f, borderType=cv2.BORDER_REPLICATE) for f in filters)
            magnitudes.append(np.sqrt(gx**2 + gy**2))
        out.append(((magnitudes[0] - magnitudes[1]) ** 2).sum() / 1000)
    return np.array(out)


def plain_conn(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    out = []
    for p, t in zip(matting.as_alpha(pred), matting.as_alpha(true), strict=True):
        level = -np.ones_like(t)
        for k in range(1, 11):
            both = ((p >= matting.THRESHOLDS[k]) & (t >= matting.THRESHOLDS[k])).astype(np.uint8)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
            omega = np.zeros_like(t)
            if len(stats) > 1:
                omega[labels == np.argmax(stats[1:, -1]) + 1] = 1
            level[(level == -1) & (omega == 0)] = matting.THRESHOLDS[k - 1]
        level[level == -1] = 1
        phi = [1 - (x - level) * (x - level >= 0.15) for x in (p, t)]
        out.append(np.abs(phi[0] - phi[1]).sum() / 1000)
    return np.array(out)


def plain_pa_mpjpe(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    out = []
    for p, t in zip(pred.astype(float), true.astype(float), strict=True):
        a, b = (p - p.mean(0)).T, (t - t.mean(0)).T
        k = a @ b.T
        u, _, vt = np.linalg.svd(k)
        z = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = vt.T @ z @ u.T
        moved = np.trace(rotation @ k) / (a**2).sum() * rotation @ a
        out.append(1000 * np.sqrt(((moved - b) ** 2).sum(0)).mean())
    return np.array(out)


def plain_normals(pred: np.ndarray, true: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = []
    for p, t, m in zip(pred, true, mask, strict=True):
        for row in range(len(p)):
            a, b = p[row][m[row]], t[row][m[row]]
            a, b = (v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-6) for v in (a, b))
            out.append(np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))))
    return np.concatenate(out)


def plain_depth(pred: np.ndarray, true: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = []
    for p, t, m in zip(pred.astype(float), true.astype(float), mask, strict=True):
        a = np.stack([p[m], np.ones(m.sum())], 1)
        scale, shift = np.linalg.lstsq(a, 1 / t[m], rcond=None)[0]
        d = 1 / np.clip(p * scale + shift, 1e-3, None)
        out.append((np.abs(d[m] - t[m]) / t[m]).mean())
    return np.array(out)


def timed(call: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, float]:
    """The prediction and the best time, seconds."""
    best, value = np.inf, np.zeros(0)
    for _ in range(repeats):
        begin = time.perf_counter()
        value = call()
        best = min(best, time.perf_counter() - begin)
    return value, best


def main(
    frames: int = typer.Option(100, min=2),
    repeats: int = typer.Option(3, min=1, help="the best of"),
    json_file: Path | None = typer.Option(None, "--json"),
) -> None:
    """A table on standard output."""
    cv2.setNumThreads(1)
    pred, true = alphas(frames), alphas(frames)
    sharp = [np.where(x > 127, 255, 0).astype(np.uint8) for x in (pred, true)]
    truth = RNG.normal(size=(frames, 192, 320, 3)).astype(np.float32)
    guess = truth + RNG.normal(0, 0.3, truth.shape).astype(np.float32)
    mask = RNG.random(truth.shape[:3]) > 0.5
    distance = RNG.uniform(1, 6, truth.shape[:3])
    disparity = 0.4 / distance + RNG.normal(0, 0.01, distance.shape)
    bodies = RNG.normal(size=(2, 30 * frames, 24, 3))
    image = depth.DepthProtocol("disparity", "image")
    cases: dict[str, tuple[Callable[[], np.ndarray], Callable[[], np.ndarray], float]] = {
        "Grad, 512x288": (lambda: matting.grad(pred, true), lambda: plain_grad(pred, true), 1e-3),
        "Conn, 512x288, soft": (lambda: matting.conn(pred, true), lambda: plain_conn(pred, true), 1e-3),
        "Conn, 512x288, binary": (lambda: matting.conn(*sharp), lambda: plain_conn(*sharp), 1e-3),
        "normals, 320x192": (
            lambda: normals.angular_error(guess, truth, mask),
            lambda: plain_normals(guess, truth, mask),
            5e-2,
        ),
        "AbsRel per image, 320x192": (
            lambda: depth.evaluate(disparity, distance, mask, image)["abs_rel"],
            lambda: plain_depth(disparity, distance, mask),
            1e-6,
        ),
        f"PA-MPJPE, {30 * frames} poses": (lambda: joints.pa_mpjpe(*bodies), lambda: plain_pa_mpjpe(*bodies), 1e-6),
    }
    rows, numbers = [], {}
    for name, (ours, plain, tolerance) in cases.items():
        fast, fast_s = timed(ours, repeats)
        slow, slow_s = timed(plain, repeats)
        worst = float(np.abs(fast - slow).max())
        if worst > tolerance:
            raise SystemExit(f"{name}: the two differ by {worst:g}, more than {tolerance:g}")
        numbers[name] = {"seconds": fast_s, "plain_seconds": slow_s, "difference": worst}
        rows.append([name, f"{1e3 * fast_s:.0f}", f"{1e3 * slow_s:.0f}", f"{slow_s / fast_s:.1f}x"])
    typer.echo(table([f"metric, {frames} frames", "ours (ms)", "plain formula (ms)", "faster"], rows))
    if json_file:
        write_json(json_file, numbers)


if __name__ == "__main__":
    typer.run(main)
