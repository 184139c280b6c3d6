"""The rows that the paper publishes (arXiv tables 2-5 of THFM), printed beside ours."""

from __future__ import annotations

from dataclasses import dataclass

NAN = float("nan")


@dataclass(frozen=True)
class Table:
    """columns: metric names as our reports use them; rows: method -> values in that order (NaN: not published)."""

    source: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]


TABLES: dict[str, Table] = {
    "hi4d": Table(
        "THFM, Table 2 (Hi4D, camera 4, pairs 28, 32, 37)",
        ("mean_deg", "median_deg", "within_11.25", "within_22.5", "within_30"),
        {
            "Sapiens-2B": (12.14, 9.62, 60.2, 89.1, 94.7),
            "DAViD-Large": (15.37, 12.51, 45.1, 79.7, 89.6),
            "THFM (4 dense tasks)": (11.01, 8.96, 64.0, 92.4, 96.5),
            "THFM (dense and sparse tasks)": (13.47, 10.63, 53.1, 86.0, 93.1),
        },
    ),
    "goliath-face": Table(
        "THFM, Table 3, its own evaluation (Goliath-Face)",
        ("rmse", "abs_rel"),
        {
            "Depth-Pro": (0.034, 0.023),
            "Sapiens-2B": (0.022, 0.011),
            "DAViD-Large": (0.022, 0.012),
            "THFM": (0.021, 0.011),
        },
    ),
    "goliath-upper": Table(
        "THFM, Table 3, its own evaluation (Goliath-UpperBody)",
        ("rmse", "abs_rel"),
        {
            "Depth-Pro": (0.060, 0.015),
            "Sapiens-2B": (0.028, 0.006),
            "DAViD-Large": (0.038, 0.009),
            "THFM": (0.028, 0.006),
        },
    ),
    "goliath-full": Table(
        "THFM, Table 3, its own evaluation (Goliath-FullBody)",
        ("rmse", "abs_rel"),
        {
            "Depth-Pro": (0.104, 0.028),
            "Sapiens-2B": (0.049, 0.011),
            "DAViD-Large": (0.058, 0.014),
            "THFM": (0.037, 0.007),
        },
    ),
    "videomatte": Table(
        "THFM, Table 4 (VideoMatte, static split)",
        ("mad", "mse", "grad", "dtssd"),
        {
            "MODNet + FGF": (11.04, 5.42, 15.80, 3.10),
            "RVM": (5.64, 1.07, 9.80, 1.84),
            "THFM (4 dense tasks)": (5.24, 1.00, 0.458, 2.80),
            "THFM (dense and sparse tasks)": (6.97, 2.69, 1.41, 3.56),
        },
    ),
    "photomatte85": Table(
        "THFM, Table 4 (PhotoMatte85)",
        ("mse", "conn"),
        {
            "P3M-Net": (0.0070, 19.76),
            "MODNet": (0.0030, 11.18),
            "DAViD": (0.0009, 5.6),
            "THFM (4 dense tasks)": (0.0016, 0.87),
            "THFM (all tasks, token mask)": (0.0009, 0.61),
        },
    ),
    "ppm100": Table(
        "THFM, Table 4 (PPM-100)",
        ("mse", "mad", "conn"),
        {
            "MODNet": (0.0044, 0.0086, 96.45),
            "DAViD": (NAN, NAN, 74.72),
            "THFM (4 dense tasks)": (0.0044, 0.0086, 2.00),
            "THFM (dense and sparse tasks)": (0.0421, 0.0463, 12.34),
        },
    ),
    "rich": Table(
        "THFM, Table 5 (RICH, 24 joints)",
        ("pa_mpjpe", "mpjpe", "accel"),
        {
            "WHAM": (44.3, 80.0, 5.3),
            "GVHMR": (39.5, 66.0, 4.1),
            "GENMO": (39.1, 66.8, 4.1),
            "THFM (larger backbone)": (34.7, 55.0, 3.1),
        },
    ),
    "emdb": Table(
        "THFM, Table 5 and section 2.3 (EMDB-1, 24 joints)",
        ("pa_mpjpe", "mpjpe", "accel"),
        {
            "WHAM": (50.4, 79.7, 5.3),
            "GVHMR": (42.7, 72.6, 3.6),
            "GENMO": (42.5, 73.0, 3.8),
            "THFM (larger backbone)": (35.2, 54.6, 3.4),
            "THFM (Wan backbone)": (48.7, 71.8, NAN),
        },
    ),
    "h36m": Table(
        "THFM, Table 5 and section 2.3 (Human3.6M, 14 joints)",
        ("pa_mpjpe", "mpjpe"),
        {
            "MotionAGFormer-L": (32.7, 41.6),
            "PoseAnchor": (32.1, 40.3),
            "THFM (larger backbone)": (27.7, 38.3),
            "THFM (Wan backbone)": (34.3, 52.0),
        },
    ),
}
