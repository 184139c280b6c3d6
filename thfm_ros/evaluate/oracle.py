"""`python -m thfm_ros.evaluate.oracle FOLDER`: our metrics against values that public reference code computed.

A folder holds <family>_<number>.npz (or has them in `cases/`): seeded inputs and the expected values. Prints
families, cases and the largest error of each; exits 1 when any value lies outside its tolerance, 2 when there is
nothing to check.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.evaluate import depth, joints, matting, normals

Case = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Check:
    """One value, or vector of values, of a case; tolerance = atol + rtol * |expected|, NaN equals NaN."""

    name: str
    got: Any
    expected: Any
    rtol: float = 0.0
    atol: float = 0.0

    def deviation(self) -> tuple[float, float]:
        """(largest absolute error, largest error in units of its tolerance); inf where shapes or NaNs differ."""
        got, expected = np.asarray(self.got, np.float64), np.asarray(self.expected, np.float64)
        if got.shape != expected.shape:
            return np.inf, np.inf
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(got - expected))
            share = error / (self.atol + self.rtol * np.abs(np.where(same, 1.0, expected)))
        error, share = np.nan_to_num(error, nan=np.inf), np.nan_to_num(share, nan=np.inf)
        return float(error.max(initial=0.0)), float(share.max(initial=0.0))


@dataclass(frozen=True)
class Tolerance:
    rtol: float
    atol: float


MATTING = Tolerance(1e-4, 1e-6)
DEGREES, PERCENT = Tolerance(0.0, 1e-3), Tolerance(0.0, 1e-2)
DEPTH = Tolerance(1e-5, 1e-7)
FLOAT64_MM, FLOAT32_MM = Tolerance(1e-12, 1e-6), Tolerance(1e-5, 1e-2)


def _check(name: str, got: Any, expected: Any, tolerance: Tolerance) -> Check:
    return Check(name, got, expected, tolerance.rtol, tolerance.atol)


def _matting(
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray], scale: float = 1.0
) -> Callable[[Case], list[Check]]:
    return lambda c: [_check("expected", metric(c["pred"], c["true"]) * scale, c["expected"], MATTING)]


def _dtssd(c: Case) -> list[Check]:
    return [_check("expected", matting.dtssd(c["pred"], c["true"])[0] * 1e2, c["expected"], MATTING)]


def _gradfilter(c: Case) -> list[Check]:
    got = matting.gradient_filters(float(c["sigma"]), float(c["epsilon"]))
    return [_check("expected", got, c["expected"], Tolerance(1e-9, 1e-12))]


def _p3msad(c: Case) -> list[Check]:
    pair = c["pred"], c["true"]
    got = [matting.sad(*pair), matting.mse(*pair), matting.mad(*pair)]
    return [_check("expected", got, c["expected"], MATTING)]


def _trimapconn(c: Case) -> list[Check]:
    return [_check("expected", matting.conn(c["pred"], c["true"], c["trimap"]), c["expected"], MATTING)]


def _clips(c: Case) -> list[Check]:
    ends = np.cumsum(c["lengths"])[:-1]
    clips = [
        matting.clip_metrics(p, t) for p, t in zip(np.split(c["pred"], ends), np.split(c["true"], ends), strict=True)
    ]
    names = ("mad", "mse", "grad", "conn", "dtssd")
    frames = [
        _check(f"per_frame_{n}", np.concatenate([k[n] for k in clips]), c[f"per_frame_pha_{n}"], MATTING) for n in names
    ]
    total = [matting.aggregate_clips([k[n] for k in clips]) for n in names]
    return [_check("expected", total, c["expected"], MATTING), *frames]


def _normals(name: str, got: dict[str, float], expected: np.ndarray) -> list[Check]:
    values = list(got.values())
    return [
        _check(f"{name} degrees", values[:3], expected[:3], DEGREES),
        _check(f"{name} percent", values[3:], expected[3:], PERCENT),
    ]


def _angles(c: Case, eps: float) -> list[np.ndarray]:
    return [normals.angular_error(p, t, m, eps) for p, t, m in zip(c["pred"], c["gt"], c["mask"], strict=True)]


def _sapiens(c: Case) -> list[Check]:
    return _normals("expected", normals.sapiens(_angles(c, 1e-6)), c["expected"])


def _dsine(c: Case) -> list[Check]:
    images = _angles(c, 1e-8)
    return [
        *_normals("expected", normals.dsine(np.concatenate(images)), c["expected"]),
        *_normals("expected_per_image_mean", normals.per_image(images, skip_empty=False), c["expected_per_image_mean"]),
    ]


def _lsdepth(c: Case) -> list[Check]:
    got = depth.image_metrics(c["pred"], c["gt"], c["mask"], "depth")
    return [
        _check("expected", [got["rmse"], got["abs_rel"]], c["expected"], DEPTH),
        _check("scale, shift", [got["scale"], got["shift"]], [c["scale"], c["shift"]], Tolerance(1e-5, 1e-6)),
    ]


def _lsdisp(c: Case) -> list[Check]:
    checks = []
    for suffix, positive_only in (("", True), ("_fit_all_valid", False)):
        got = depth.image_metrics(c["pred"], c["gt"], c["mask"], "disparity", positive_only)
        checks += [
            _check("expected" + suffix, [got["rmse"], got["abs_rel"]], c["expected" + suffix], DEPTH),
            _check(
                "scale, shift" + suffix,
                [got["scale"], got["shift"]],
                [c["scale" + suffix], c["shift" + suffix]],
                Tolerance(1e-5, 1e-6),
            ),
        ]
    return checks


def _clipdisp(c: Case) -> list[Check]:
    got = depth.clip_metrics(c["pred"], c["gt"], max_depth_m=float(c["max_depth"]))
    return [_check("expected", [got["abs_rel"], got["rmse"], got["delta1"]], c["expected"], DEPTH)]


def _means(metrics: Mapping[str, np.ndarray], names: tuple[str, ...]) -> list[float]:
    return [float(metrics[n].mean()) if len(metrics[n]) else float("nan") for n in names]


JOINT_METRICS = ("mpjpe", "pa_mpjpe", "accel")


def _gvhmr(c: Case) -> list[Check]:
    got = joints.sequence_metrics(c["pred"], c["gt"], float(c["fps"]), c.get("mask"), tuple(c["pelvis_idxs"]))
    means = _means(got, JOINT_METRICS)
    checks = [_check("expected", means, c["expected"], FLOAT32_MM)]
    if "expected_f64" in c:
        checks.append(_check("expected_f64", means, c["expected_f64"], FLOAT64_MM))
    return checks + [
        _check(f"per_frame_{n}", got[n], c[f"per_frame_{n}"], FLOAT64_MM)
        for n in JOINT_METRICS
        if f"per_frame_{n}" in c
    ]


def _dataset(c: Case) -> list[Check]:
    ends = np.cumsum(c["lengths"])[:-1]
    parts = [np.split(c[k], ends) for k in ("pred", "gt", "mask")]
    sequences = [joints.sequence_metrics(p, t, float(c["fps"]), m) for p, t, m in zip(*parts, strict=True)]
    pooled = joints.pool(sequences)
    checks = [_check("expected", [pooled[n] for n in JOINT_METRICS], c["expected"], FLOAT64_MM)]
    each = np.array([_means(s, JOINT_METRICS) for s in sequences]).T
    return [*checks, _check("per_sequence_mean", each, c["per_sequence_mean"], FLOAT64_MM)]


def _wham(c: Case) -> list[Check]:
    common = (c["pred"], c["gt"], float(c["fps"]), tuple(c["pelvis_idxs"]))
    trimmed = joints.accel(*common, trim=True)
    mean = float(trimmed.mean()) if len(trimmed) else float("nan")
    return [
        _check("expected", mean, c["expected"], FLOAT32_MM),
        _check("expected_per_frame", trimmed, c["expected_per_frame"], FLOAT32_MM),
        _check("expected_with_vis", joints.accel(*common, visible=c["vis"]), c["expected_with_vis"], FLOAT32_MM),
    ]


def _emdb(c: Case) -> list[Check]:
    true = joints.to_camera(c["gt_world"], c["extrinsics"])
    frames = {"mpjpe": joints.mpjpe(c["pred_cam"], true), "pa_mpjpe": joints.pa_mpjpe(c["pred_cam"], true)}
    return [
        _check("gt_cam", true, c["gt_cam"], Tolerance(1e-12, 1e-9)),
        _check("expected", _means(frames, ("mpjpe", "pa_mpjpe")), c["expected"], FLOAT64_MM),
        *(_check(f"per_frame_{n}", v, c[f"per_frame_{n}"], FLOAT64_MM) for n, v in frames.items()),
    ]


def _h36m(c: Case) -> list[Check]:
    checks = []
    for left_first, key in ((True, "pred17_leftleg_first_m"), (False, "pred17_rightleg_first_m")):
        true17 = joints.h36m17(c["raw32_mm"], left_first)
        pred, true = joints.h36m14(c[key], left_first), joints.h36m14(true17, left_first)
        frames = {"mpjpe": joints.mpjpe(pred, true, None), "pa_mpjpe": joints.pa_mpjpe(pred, true)}
        whole = {
            "mpjpe": joints.mpjpe(c[key], true17, (0,)),
            "pa_mpjpe": joints.pa_mpjpe(c[key], true17),
        }
        checks += [
            _check(f"expected ({key})", _means(frames, ("mpjpe", "pa_mpjpe")), c["expected"], FLOAT64_MM),
            _check(f"expected17 ({key})", _means(whole, ("mpjpe", "pa_mpjpe")), c["expected17"], FLOAT64_MM),
            _check(f"per_frame_mpjpe14 ({key})", frames["mpjpe"], c["per_frame_mpjpe14"], FLOAT64_MM),
            _check(f"per_frame_pa_mpjpe14 ({key})", frames["pa_mpjpe"], c["per_frame_pa_mpjpe14"], FLOAT64_MM),
        ]
    return checks


FAMILIES: dict[str, Callable[[Case], list[Check]]] = {
    "matting_mad": _matting(matting.mad, 1e3),
    "matting_mse": _matting(matting.mse, 1e3),
    "matting_grad": _matting(matting.grad),
    "matting_gradhr": _matting(lambda p, t: matting.grad(p, t, normalise=False)),
    "matting_gradfilter": _gradfilter,
    "matting_conn": _matting(matting.conn),
    "matting_dtssd": _dtssd,
    "matting_clips": _clips,
    "matting_p3mconn": _matting(matting.conn_p3m),
    "matting_p3mgrad": _matting(matting.grad_p3m),
    "matting_p3msad": _p3msad,
    "matting_trimapconn": _trimapconn,
    "normal_sapiens2": _sapiens,
    "normal_dsine": _dsine,
    "depth_lsdepth": _lsdepth,
    "depth_lsdisp": _lsdisp,
    "depth_clipdisp": _clipdisp,
    "joints24_gvhmr": _gvhmr,
    "joints24_dataset": _dataset,
    "accel_wham": _wham,
    "joints24_emdb": _emdb,
    "h36m": _h36m,
}


@dataclass(frozen=True)
class Outcome:
    """One case: largest absolute error, largest share of its tolerance (> 1 fails), what went wrong."""

    family: str
    path: Path
    error: float
    share: float
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.share <= 1.0 and not self.message


def case_files(folder: str | Path) -> list[Path]:
    """The cases of a folder, or of its `cases/`."""
    folder = Path(folder)
    files = sorted(folder.glob("*.npz")) or sorted((folder / "cases").glob("*.npz"))
    if not files:
        raise UserError(f"no oracle cases in {folder}: expected <family>_<number>.npz there or in {folder / 'cases'}")
    return files


def run_case(path: Path) -> Outcome:
    """Checks every expected value of one file."""
    family = path.stem.rsplit("_", 1)[0]
    check = FAMILIES.get(family)
    if check is None:
        return Outcome(family, path, np.inf, np.inf, f"unknown family '{family}': known are {', '.join(FAMILIES)}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            case = {name: stored[name] for name in stored.files}
        checks = check(case)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        return Outcome(family, path, np.inf, np.inf, f"{type(error).__name__}: {error}")
    worst_error, worst_share, message = 0.0, 0.0, ""
    for one in checks:
        deviation, share = one.deviation()
        worst_error = max(worst_error, deviation)
        if share > 1.0 and share > worst_share:
            message = f"{one.name}: expected {np.asarray(one.expected).tolist()}, got {np.asarray(one.got).tolist()}"
        worst_share = max(worst_share, share)
    return Outcome(family, path, worst_error, worst_share, message[:600])


def run(folder: str | Path) -> Iterator[Outcome]:
    """Every case of a folder, in the order of names."""
    return (run_case(path) for path in case_files(folder))


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: python -m thfm_ros.evaluate.oracle FOLDER", file=sys.stderr)
        return 2
    try:
        outcomes = list(run(arguments[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'family':22} {'cases':>5} {'passed':>6} {'largest error':>14} {'of tolerance':>13}")
    for family in dict.fromkeys(o.family for o in outcomes):
        mine = [o for o in outcomes if o.family == family]
        passed = sum(o.ok for o in mine)
        worst, share = max(o.error for o in mine), max(o.share for o in mine)
        print(f"{family:22} {len(mine):5} {passed:6} {worst:14.3e} {share:12.4f}x")
    failed = [o for o in outcomes if not o.ok]
    for outcome in failed:
        print(f"FAIL {outcome.path.name}: {outcome.message}")
    families = len({o.family for o in outcomes})
    print(f"{families} families, {len(outcomes)} cases, {len(failed)} outside tolerance")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
