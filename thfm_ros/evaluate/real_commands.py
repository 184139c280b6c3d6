"""`thfm evaluate coco`, `views` and `nobody`: a network on real pictures, other predictions beside it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from thfm_ros.evaluate.picture_models import PictureModel
    from thfm_ros.evaluate.real_report import RealReport

CONSTANT = "constant"
ROOT = typer.Option(..., "--root", "--data", help="folder of the data set")
CHECKPOINT = typer.Option("", help="checkpoint or bundle folder; 'constant' for a baseline that ignores the image")
PREDICTIONS = typer.Option(
    [], help="predictions of another method to score beside it; repeatable, the name is the file's"
)
OUT = typer.Option(None, help="folder of rows and reports; default out/evaluate/NAME")
JSON = typer.Option(None, "--json", help="also write the figures there")
SHEET = typer.Option(None, help="draw random pictures with skeletons and masks there (.jpg, .png)")
SEED = typer.Option(0, help="which pictures the sheet shows")
LIMIT = typer.Option(None, min=1, help="only the first pictures")
BACKEND = typer.Option("auto", help="what runs the model")
THREADS = typer.Option(None, min=1, help="CPU threads")
RESUME = typer.Option(True, help="reuse rows that an earlier run left in --out")


def register(group: typer.Typer) -> None:
    """Into the group `thfm evaluate`."""
    group.command("coco")(coco)
    group.command("views")(views)
    group.command("nobody")(nobody)


def coco(
    root: Path = ROOT,
    checkpoint: str = CHECKPOINT,
    boxes: str = typer.Option("given", help="given: each person cropped by the annotated box; own: whole pictures"),
    annotations: Path | None = typer.Option(None, help="default: annotations.json or person_keypoints_*.json in it"),
    images: Path | None = typer.Option(None, help="default: images/, val2017/ or train2017/ in it"),
    predictions: list[Path] = PREDICTIONS,
    save: Path | None = typer.Option(None, help="keep the network's predictions there, in COCO's results format"),
    out: Path | None = OUT,
    json_file: Path | None = JSON,
    sheet: Path | None = SHEET,
    seed: int = SEED,
    limit: int | None = LIMIT,
    backend: str = BACKEND,
    threads: int | None = THREADS,
    resume: bool = RESUME,
) -> None:
    """Keypoints and masks of people in photographs, COCO's layout: PCK, OKS, AP, AR, mask IoU."""
    from thfm_ros.evaluate import coco as run
    from thfm_ros.evaluate.coco_results import check_boxes, load_results
    from thfm_ros.evaluate.readers import coco as reader
    from thfm_ros.evaluate.sheet import coco_sheet

    kind = check_boxes(boxes)
    files = _checked(checkpoint, backend, predictions, sheet, json_file, save)
    reader.mask_codec()
    data = reader.read(root, annotations, images, limit)
    scored: dict[str, Any] = {name: load_results(path, data) for name, path in files.items()}
    folder = out or Path("out/evaluate/coco")
    identities: dict[str, Mapping[str, Any]] = {name: {"file": str(path)} for name, path in files.items()}
    if checkpoint:
        model = _open(checkpoint, backend, threads)
        with _progress("coco", len(data.pictures), "pictures") as advance:
            found = run.predict(model, data, kind, folder, resume, lambda _: advance(1))
        scored = {model.name: found, **scored}
        identities = {model.name: {**model.identity, "window": "x".join(map(str, model.window))}, **identities}
    if save and checkpoint:
        _write_json(save, next(iter(scored.values())))
    protocol = {
        "annotations": data.annotations,
        "pictures": len(data.pictures),
        "boxes": "given: crop around the annotated box times 1.25" if kind == "given" else "own: whole pictures",
        "who counts": "people with 8 labelled joints or more; who was missed has none of them",
        "masks": "threshold 0.5; crowds count neither way",
    }
    report = _report("coco", "Real pictures: people in photographs", protocol, identities)
    for name, results in scored.items():
        gives = [name not in files or any(key in r for r in results) for key in ("keypoints", "segmentation")]
        report.figures[name] = run.score(data, results, kind, *gives)
    if sheet:
        coco_sheet(sheet, data, scored, seed)
    _finish(report, folder, json_file, sheet)


def views(
    root: Path = ROOT,
    checkpoint: str = CHECKPOINT,
    predictions: list[Path] = PREDICTIONS,
    out: Path | None = OUT,
    json_file: Path | None = JSON,
    sheet: Path | None = SHEET,
    seed: int = SEED,
    limit: int | None = LIMIT,
    backend: str = BACKEND,
    threads: int | None = THREADS,
    resume: bool = RESUME,
) -> None:
    """3D joints in calibrated views (joints.json and its pictures): MPJPE, PA-MPJPE; on video acceleration."""
    from thfm_ros.evaluate import views as run
    from thfm_ros.evaluate.readers import views as reader
    from thfm_ros.evaluate.sheet import views_sheet

    files = _checked(checkpoint, backend, predictions, sheet, json_file, None)
    data = reader.read(root, limit)
    stored = {name: run.load_predictions(path, data) for name, path in files.items()}
    folder = out or Path("out/evaluate/views")
    protocol = {
        "pictures": len(data.views),
        "videos": ", ".join(video.file.name for video in data.videos) or "none",
        "joints": "shoulders, elbows, wrists, hips, knees, ankles; MPJPE relative to the hips' middle",
        "boxes": "given: crop around the annotated joints' box times 1.25",
    }
    report = _report("views", "Real pictures: joints in calibrated views", protocol, {})
    if checkpoint:
        model = _open(checkpoint, backend, threads)
        with _progress("views", len(data.views) + len(data.videos), "files") as advance:
            found, videos = run.predict(model, data, folder, resume, lambda _: advance(1))
        report.figures[model.name] = run.score(data.views, found) | run.score_videos(data.videos, videos)
        report.identities[model.name] = model.identity
        if sheet:
            views_sheet(sheet, data, model, seed)
    for name, skeletons in stored.items():
        report.figures[name] = run.score(data.views, skeletons)
        report.identities[name] = {"file": str(files[name])}
    _finish(report, folder, json_file, sheet)


def nobody(
    root: Path = typer.Option(..., "--root", "--data", help="folder of photographs, or a video"),
    checkpoint: str = CHECKPOINT,
    begin: float = typer.Option(0.0, "--from", min=0.0, help="video: from this second on"),
    end: float | None = typer.Option(None, "--to", help="video: up to this second; default its end"),
    rate: float = typer.Option(2.0, min=0.01, help="video: pictures a second"),
    predictions: list[Path] = PREDICTIONS,
    out: Path | None = OUT,
    json_file: Path | None = JSON,
    sheet: Path | None = SHEET,
    seed: int = SEED,
    limit: int | None = LIMIT,
    backend: str = BACKEND,
    threads: int | None = THREADS,
    resume: bool = RESUME,
) -> None:
    """False people: pictures without anybody, how often somebody is reported, how much of them is in the mask."""
    from thfm_ros.evaluate import nobody as run
    from thfm_ros.evaluate.readers import nobody as reader
    from thfm_ros.evaluate.sheet import nobody_sheet

    files = _checked(checkpoint, backend, predictions, sheet, json_file, None)
    data = reader.read(root, begin, end, rate, limit)
    stored = {name: run.load_predictions(path, data) for name, path in files.items()}
    folder = out or Path("out/evaluate/nobody")
    stretch = f", {begin:g} s to {'the end' if end is None else f'{end:g} s'}, {data.rate:g} a second"
    protocol = {
        "pictures": f"{root}{'' if root.is_dir() else stretch}",
        "reported": f"somebody whose 12 surest joints have a mean visibility of {run.MIN_SCORE:g} or more",
        "masked": f"the mask (over 0.5) holds more than {run.LARGE:g} of the picture",
    }
    report = _report("nobody", "Real pictures: nobody is there", protocol, {})
    if checkpoint:
        model = _open(checkpoint, backend, threads)
        with _progress("nobody", data.count, "pictures") as advance:
            rows = run.predict(model, data, folder, resume, lambda _: advance(1))
        report.figures[model.name] = run.score(rows)
        report.identities[model.name] = model.identity
        if sheet:
            nobody_sheet(sheet, data, model, seed, len(rows))
    for name, rows in stored.items():
        report.figures[name] = run.score(rows)
        report.identities[name] = {"file": str(files[name])}
    _finish(report, folder, json_file, sheet)


def _checked(
    checkpoint: str,
    backend: str,
    predictions: Sequence[Path],
    sheet: Path | None,
    json_file: Path | None,
    save: Path | None,
) -> dict[str, Path]:
    """Name -> file of other predictions. UserError now, and not after the work, for what cannot be read or written."""
    from thfm_ros.engine.manifest import check_backend
    from thfm_ros.errors import UserError
    from thfm_ros.evaluate.sheet import check_sheet
    from thfm_ros.paths import writable_file

    if not checkpoint and not predictions:
        raise UserError("expected something to measure, found nothing: give --checkpoint or --predictions")
    if save and not checkpoint:
        raise UserError("--save keeps a network's predictions: give --checkpoint too")
    if checkpoint and checkpoint != CONSTANT and not Path(checkpoint).is_dir():
        raise UserError(f"no checkpoint or bundle at {checkpoint}: make one with thfm train or thfm init")
    check_backend(backend)
    if sheet:
        check_sheet(sheet)
    for file in (json_file, save):
        if file:
            writable_file(file)
    files = {path.stem: path for path in predictions}
    if len(files) != len(predictions):
        raise UserError(f"expected --predictions of different names, found {[p.name for p in predictions]}: rename one")
    return files


def _open(checkpoint: str, backend: str, threads: int | None) -> PictureModel:
    from thfm_ros.evaluate.picture_models import RuntimeModel, constant_model

    return constant_model() if checkpoint == CONSTANT else RuntimeModel.open(Path(checkpoint), backend, threads)


def _progress(title: str, total: int | None, unit: str) -> Any:
    from thfm_ros.evaluate.progress import progress

    return progress(title, total, unit)


def _report(
    benchmark: str, title: str, protocol: Mapping[str, Any], identities: Mapping[str, Mapping[str, Any]]
) -> RealReport:
    from thfm_ros.evaluate.real_report import RealReport

    command = shlex.join(["thfm", *sys.argv[1:]])
    return RealReport(benchmark, title, command, protocol, {}, dict(identities))


def _write_json(path: Path, value: Any) -> None:
    from thfm_ros.evaluate.report import write_json

    write_json(path, value)


def _finish(report: RealReport, folder: Path, json_file: Path | None, sheet: Path | None) -> None:
    typer.echo(report.markdown())
    report.write(folder)
    if json_file:
        _write_json(json_file, report.as_dict())
    typer.echo(f"wrote {folder / 'report.md'} and report.json{f', {sheet}' if sheet else ''}")
