"""Whole benchmarks on tiny data sets: the truth scores perfectly, runs resume, reports say everything."""

import json
from pathlib import Path

import cv2
import evaluate_layouts as layouts
import numpy as np
import pytest
from evaluate_fakes import GivenPredictor

from thfm_ros.errors import UserError
from thfm_ros.evaluate.benchmarks import BENCHMARKS, get_benchmark
from thfm_ros.evaluate.predictors import ConstantPredictor
from thfm_ros.evaluate.progress import progress
from thfm_ros.evaluate.published import TABLES
from thfm_ros.evaluate.readers.base import Joints, Recording
from thfm_ros.evaluate.report import Report
from thfm_ros.evaluate.runner import evaluate
from thfm_ros.evaluate.scores import seam_summary


def run(name: str, root: Path, predictor: GivenPredictor, out: Path, *options: str, **keywords: bool) -> Report:
    benchmark = get_benchmark(name)
    chosen = benchmark.parse(options)
    return evaluate(benchmark, benchmark.read(root, chosen), predictor, chosen, out, "thfm evaluate ...", **keywords)


def foreground(video: np.ndarray) -> dict[str, np.ndarray]:
    alpha = cv2.resize(layouts.matte(), (video.shape[2], video.shape[1])) / 255.0
    return {"foreground": np.broadcast_to(alpha, video.shape[:3])}


def test_an_early_end_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress("synthetic", 5, "clips", "their rows are kept") as advance:  # noqa: PT012
        advance(2)
        raise KeyboardInterrupt
    assert "ended early, after 2 of 5 clips: their rows are kept" in capsys.readouterr().err


def test_videomatte_truth_is_perfect_and_published_rows_stand_beside(tmp_path: Path) -> None:
    layouts.videomatte(tmp_path)
    report = run("videomatte", tmp_path, GivenPredictor(foreground, ["foreground"]), tmp_path / "out")
    assert report.results["mad"] == 0
    assert report.results["iou"] == 1
    text = (tmp_path / "out/report.md").read_text()
    assert "| RVM | 5.64 | 1.07 | 9.8 | 1.84 |" in text
    for choice in ("resolution", "normalise_grad", "frame_rate", "network_input", "split"):
        assert f"| {choice} |" in text
    stored = json.loads((tmp_path / "out/report.json").read_text())
    assert stored["published"]["rows"]["RVM"]["mad"] == 5.64
    assert stored["results"]["mad"] == 0


def test_known_error_is_measured_at_the_chosen_resolution(tmp_path: Path) -> None:
    layouts.videomatte(tmp_path)
    half = GivenPredictor(lambda v: {"foreground": np.zeros(v.shape[:3])}, ["foreground"])
    report = run("videomatte", tmp_path, half, tmp_path / "out")
    assert report.results["mad"] == pytest.approx(1000 * layouts.matte().mean() / 255, rel=1e-5)
    smaller = run("videomatte", tmp_path, half, tmp_path / "out2", "resolution=12x8")
    assert smaller.results["sad"] == pytest.approx(report.results["sad"] / 4, rel=0.1)
    assert report.protocol["metric_resolution"] == "24x16"
    assert smaller.protocol["metric_resolution"] == "12x8"


def test_an_interrupted_run_resumes_and_notices_changes(tmp_path: Path) -> None:
    layouts.videomatte(tmp_path)
    predictor = GivenPredictor(foreground, ["foreground"])
    first = run("videomatte", tmp_path, predictor, tmp_path / "out")
    rows = sorted((tmp_path / "out/rows").glob("*.json"))
    assert len(rows) == predictor.calls == 2
    rows[0].write_text("cut off")
    again = run("videomatte", tmp_path, predictor, tmp_path / "out")
    assert predictor.calls == 3
    assert again.results == pytest.approx(first.results, nan_ok=True)
    run("videomatte", tmp_path, predictor, tmp_path / "out", "normalise_grad=false")
    assert predictor.calls == 5
    predictor.identity["version"] = 2
    run("videomatte", tmp_path, predictor, tmp_path / "out", "normalise_grad=false")
    assert predictor.calls == 7
    run("videomatte", tmp_path, predictor, tmp_path / "out", "normalise_grad=false", resume=False)
    assert predictor.calls == 9


def test_rows_of_other_data_are_not_used_again(tmp_path: Path) -> None:
    predictor = GivenPredictor(foreground, ["foreground"])
    layouts.videomatte(tmp_path / "a")
    layouts.videomatte(tmp_path / "b", lengths=(2, 2))
    for root, calls in (("a", 2), ("a", 2), ("b", 4), ("b", 4)):
        run("videomatte", tmp_path / root, predictor, tmp_path / "out")
        assert predictor.calls == calls
    changed = tmp_path / "b/videomatte_512x288/videomatte_static/0001/pha/0000.png"
    layouts.save(changed, np.zeros((16, 24), np.uint8))
    report = run("videomatte", tmp_path / "b", predictor, tmp_path / "out")
    assert predictor.calls == 5  # the other clip's row still holds
    assert report.results["mad"] > 0


def test_rows_of_other_body_models_are_not_used_again(tmp_path: Path) -> None:
    path = layouts.emdb(tmp_path / "data")
    predictor = GivenPredictor(lambda v: {"keypoints_3d": np.zeros((6, 24, 3))}, ["keypoints_3d"], "smpl24")
    benchmark = get_benchmark("emdb")
    options = benchmark.parse([])
    for models, calls in (("m1", 1), ("m1", 1), ("m2", 2)):
        (tmp_path / models / "smpl").mkdir(parents=True, exist_ok=True)
        if not list((tmp_path / models / "smpl").iterdir()):
            np.savez(tmp_path / models / "smpl/SMPL_MALE.npz", **layouts.body_model(24))
        recordings = benchmark.read(tmp_path / "data", options, tmp_path / models)
        evaluate(benchmark, recordings, predictor, options, tmp_path / "out")
        assert predictor.calls == calls
    np.savez(path.with_name("P0_09_outdoor_walk_joints.npz"), joints=np.ones((6, 24, 3)))
    evaluate(benchmark, benchmark.read(tmp_path / "data", options), predictor, options, tmp_path / "out")
    assert predictor.calls == 3


def test_many_sizes_of_photos_are_shortened(tmp_path: Path) -> None:
    for i in range(10):
        layouts.save(tmp_path / "val/fg" / f"{i}.jpg", layouts.rgb(24 + i, 16))
        layouts.save(tmp_path / "val/matte" / f"{i}.jpg", layouts.matte(24 + i, 16))
    report = run("ppm100", tmp_path, GivenPredictor(foreground, ["foreground"]), tmp_path / "out")
    assert report.protocol["metric_resolution"] == "10 different: 24x16, 25x16, 26x16 .."


def test_the_constant_baseline_reads_one_frame_of_a_video(tmp_path: Path) -> None:
    read: list[int] = []

    def image(i: int) -> np.ndarray:
        read.append(i)
        return np.zeros((12, 16, 3), np.uint8)

    joints = Joints(np.random.default_rng(0).normal(size=(1500, 24, 3)), "smpl24", np.ones(1500, bool))
    recording = Recording("long", 1500, 30.0, image, joints=lambda: joints)
    benchmark = get_benchmark("emdb")
    predictor = ConstantPredictor(("keypoints_3d",))
    report = evaluate(benchmark, [recording], predictor, benchmark.parse([]), tmp_path / "out")
    assert read == [0]
    assert report.results["mpjpe"] > 0


def test_photos_are_unscaled_means(tmp_path: Path) -> None:
    layouts.ppm100(tmp_path)
    ones = GivenPredictor(lambda v: {"foreground": np.ones(v.shape[:3])}, ["foreground"])
    report = run("ppm100", tmp_path, ones, tmp_path / "out")
    assert 0.5 < report.results["mad"] < 1
    assert "dtssd" not in report.results


def test_emdb_truth_is_perfect_and_masked_frames_do_not_count(tmp_path: Path) -> None:
    path = layouts.emdb(tmp_path, frames=8)
    world = np.random.default_rng(1).normal(size=(8, 24, 3))
    np.savez(path.with_name("P0_09_outdoor_walk_joints.npz"), joints=world)
    wrong_first = world.copy()
    wrong_first[0] += 5 * np.arange(24)[:, None]
    predictor = GivenPredictor(
        lambda v: {"keypoints_3d": wrong_first, "borders": np.array([4])}, ["keypoints_3d"], "smpl24"
    )
    report = run("emdb", tmp_path, predictor, tmp_path / "out")
    for name in ("mpjpe", "pa_mpjpe", "accel"):
        assert report.results[name] == pytest.approx(0, abs=1e-6)
    assert report.results["jitter"] == pytest.approx(report.results["jitter_truth"])
    assert report.protocol["frame_rate"] == "30 Hz"
    assert report.protocol["joint_set"] == "smpl24 (24 joints)"
    assert report.protocol["root"] == "mean of left_hip and right_hip"


def test_h36m_scores_fourteen_joints_of_any_superset(tmp_path: Path) -> None:
    pose = layouts.h36m(tmp_path)
    from thfm_ros.evaluate.joints import h36m17

    truth = h36m17(pose[::5])
    predictor = GivenPredictor(lambda v: {"keypoints_3d": truth + 1.0}, ["keypoints_3d"], "h36m17")
    report = run("h36m", tmp_path, predictor, tmp_path / "out")
    assert report.results["mpjpe"] == pytest.approx(0, abs=1e-6)
    assert report.protocol["frame_rate"] == "10 Hz"
    assert (report.protocol["joint_set"], report.protocol["root"]) == ("h36m14 (14 joints)", "pelvis")
    all17 = run("h36m", tmp_path, predictor, tmp_path / "out", "joints=17")
    assert all17.results["mpjpe"] == pytest.approx(0, abs=1e-6)
    assert (all17.protocol["joint_set"], all17.protocol["root"]) == ("h36m17 (17 joints)", "pelvis")
    narrow = GivenPredictor(lambda v: {"keypoints_3d": np.zeros((3, 17, 3))}, ["keypoints_3d"], "coco17")
    with pytest.raises(UserError, match="cannot give"):
        run("h36m", tmp_path, narrow, tmp_path / "out2")


def test_hi4d_known_tilt_is_measured(tmp_path: Path) -> None:
    layouts.hi4d_prepared(tmp_path)
    tilt = np.radians(20)
    normal = np.array([np.sin(tilt), 0, -np.cos(tilt)])
    predictor = GivenPredictor(lambda v: {"human_normals": np.broadcast_to(normal, (2, 8, 12, 3))}, ["human_normals"])
    report = run("hi4d", tmp_path, predictor, tmp_path / "out")
    assert report.results["mean_deg"] == pytest.approx(20, abs=0.01)
    assert report.results["within_22.5"] == 100
    assert "Sapiens-2B" in report.markdown()
    per_image = run("hi4d", tmp_path, predictor, tmp_path / "out", "average=images")
    assert per_image.results["mean_deg (per image)"] == pytest.approx(20, abs=0.01)


def test_goliath_disparity_up_to_scale_is_perfect(tmp_path: Path) -> None:
    layouts.goliath(tmp_path, "ClothedBody")
    benchmark = get_benchmark("goliath-upper")
    options = benchmark.parse(["scope=clip"])
    recordings = benchmark.read(tmp_path, options)
    depth = recordings[0].truth(0)["depth"]
    disparity = np.where(np.isfinite(depth), 3 / depth + 0.2, 0)
    predictor = GivenPredictor(lambda v: {"human_depth": np.stack([disparity] * len(v))}, ["human_depth"])
    report = evaluate(benchmark, recordings, predictor, options, tmp_path / "out")
    assert report.results["rmse"] == pytest.approx(0, abs=1e-6)
    assert report.results["delta1"] == 1
    assert report.protocol["scope"] == "clip"
    assert (report.protocol["frames"], report.protocol["frames_evaluated"]) == (16, 4)
    assert report.protocol["metric_resolution"] == "24x16"


def test_a_missing_body_model_is_reported_before_anything_is_predicted(tmp_path: Path) -> None:
    layouts.emdb(tmp_path)
    predictor = GivenPredictor(lambda v: {"keypoints_3d": np.zeros((6, 24, 3))}, ["keypoints_3d"], "smpl24")
    with pytest.raises(UserError, match="SMPL body model"):
        run("emdb", tmp_path, predictor, tmp_path / "out")
    assert predictor.calls == 0


def test_a_predictor_without_the_task_is_refused(tmp_path: Path) -> None:
    layouts.ppm100(tmp_path)
    with pytest.raises(UserError, match="ppm100 needs foreground"):
        run("ppm100", tmp_path, GivenPredictor(foreground, ["scene_depth"]), tmp_path / "out")


def test_every_benchmark_has_its_published_table() -> None:
    for benchmark in BENCHMARKS.values():
        table = TABLES[benchmark.table]
        assert all(len(row) == len(table.columns) for row in table.rows.values())
        assert any(method.startswith("THFM") for method in table.rows)


def test_frames_of_changing_size_are_named() -> None:
    images = [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 7, 3), np.uint8)]
    with pytest.raises(UserError, match="clip: frame 1 is 7x4"):
        Recording("clip", 2, 30.0, lambda i: images[i]).video()


def test_videos_shrink_to_fit_and_never_grow() -> None:
    recording = Recording("clip", 2, 30.0, lambda i: np.zeros((40, 20, 3), np.uint8))
    assert recording.video((10, 10)).shape == (2, 10, 5, 3)
    assert recording.video((100, 100)).shape == (2, 40, 20, 3)


def test_seams_do_not_mix_recordings() -> None:
    rows = [{"change": [1, 1, 5, 1], "borders": [3]}, {"change": [1, None, 1], "borders": []}]
    assert seam_summary(rows) == {"change_at_borders": 5, "change_inside": 1, "seam_ratio": 5}
