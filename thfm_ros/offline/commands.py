"""`thfm run`: a video or a bag through the network, offline, with the estimator that the ROS node uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from thfm_ros.tasks import DEFAULT_TASKS

if TYPE_CHECKING:
    from rich.console import Console

    from thfm_ros.offline.recording import Recording
    from thfm_ros.offline.run import Output


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    source: str = typer.Argument(
        ..., metavar="VIDEO|BAG", help="Any video file, the name of a shipped sample (walker), or a bag of ROS 2."
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        "-o",
        help="X.mp4: the input and all outputs side by side. Of a bag also a name without a suffix: an annotated bag.",
    ),
    rerun: Path | None = typer.Option(None, "--rerun", metavar="FILE.rrd", help="Recording for the Rerun viewer."),
    view: bool = typer.Option(False, "--view", help="Show everything in the Rerun viewer while it runs."),
    bundle: str = typer.Option("", help="Bundle or checkpoint folder; default: the weights that ship."),
    backend: str = typer.Option("auto", help="auto, openvino, onnxruntime, torch, tensorrt or torch_tensorrt."),
    tasks: str = typer.Option(",".join(DEFAULT_TASKS), help="Comma-separated tasks."),
    stride: int = typer.Option(8, min=1, help="New frames a pass; smaller is slower and sees more past."),
    every_frame: bool | None = typer.Option(
        None,
        "--every-frame/--sampled",
        help="Results for every frame, or for those at the network's rate. Default: every frame for an annotated bag.",
    ),
    fov: float | None = typer.Option(
        None,
        min=1.0,
        max=179.0,
        help="Horizontal field of view in degrees, for metres: 60 for a video; of a bag, where it has no camera_info.",
    ),
    image: str = typer.Option("", metavar="TOPIC", help="Of a bag: the images. Default: the only colour images."),
    camera_info: str = typer.Option("", metavar="TOPIC", help="Of a bag: their calibration. Default: beside them."),
    depth: str = typer.Option(
        "", metavar="TOPIC", help="Of a bag: depth that is registered to the images, for metres."
    ),
    namespace: str = typer.Option("", help="In front of the outputs' topics in an annotated bag."),
    storage: str = typer.Option("", help="Of an annotated bag: mcap or sqlite3. Default: the input's."),
    zstd: bool = typer.Option(False, "--zstd", help="Compress an annotated bag."),
    threads: int = typer.Option(0, min=0, help="CPU threads; 0: all."),
    json_file: Path | None = typer.Option(None, "--json", help="Figures as JSON."),
) -> None:
    """Run the network over a video or a bag: a film, an annotated bag, or a recording for Rerun.

    A video needs no ROS, nor does a bag, unless a bag is written.
    """
    from rich.console import Console

    from thfm_ros.engine.manifest import check_backend
    from thfm_ros.files import write_json
    from thfm_ros.offline.bag_files import is_bag
    from thfm_ros.offline.run import Settings
    from thfm_ros.offline.run import run as run_recording
    from thfm_ros.paths import video_path

    path = video_path(source, "a video file, a bag")
    path = path.parent if path.name == "metadata.yaml" else path
    from_bag = is_bag(path)
    to_bag = from_bag and out is not None and out.suffix.lower() != ".mp4"
    bag = _BagOptions(image, camera_info, depth, namespace, storage, zstd)
    names = [name.strip() for name in tasks.split(",")]
    _check_tasks(names)
    check_backend(backend)
    _check_places(path, from_bag, out, rerun, view, json_file)
    bag.check(from_bag, to_bag)
    settings = Settings(names, bundle, backend, stride, threads, to_bag if every_frame is None else every_frame)
    console = Console()
    with contextlib.ExitStack() as stack:
        recording = _open(path, from_bag, bag, fov)
        stack.callback(getattr(recording, "close", lambda: None))
        outputs = [*_outputs(recording, out, to_bag, bag, names), *_viewers(recording, rerun, view)]
        figures = run_recording(recording, outputs, settings, console)
    _report(console, outputs, figures)
    if json_file:
        write_json(json_file, figures)


@dataclass(frozen=True)
class _BagOptions:
    """The options that only bags have."""

    image: str
    camera_info: str
    depth: str
    namespace: str
    storage: str
    zstd: bool

    def check(self, from_bag: bool, to_bag: bool) -> None:
        """Raises UserError for options that would change nothing."""
        from thfm_ros.errors import UserError

        topics = {"--image": self.image, "--camera-info": self.camera_info, "--depth": self.depth}
        if idle := [name for name, value in topics.items() if value and not from_bag]:
            raise UserError(f"{', '.join(idle)} choose topics of a bag, found a video: leave them out")
        given = {"--namespace": self.namespace, "--storage": self.storage, "--zstd": self.zstd} if not to_bag else {}
        if idle := [name for name, value in given.items() if value]:
            raise UserError(f"{', '.join(idle)} belong to an annotated bag: name one (-o FOLDER), or leave them out")


def _check_tasks(names: list[str]) -> None:
    """Raises UserError where these tasks cannot be."""
    from thfm_ros.errors import UserError
    from thfm_ros.stream.estimator import conflict
    from thfm_ros.tasks import get_task

    for name in names:
        get_task(name)
    if problem := conflict(names):
        raise UserError(problem)


def _check_places(
    path: Path, from_bag: bool, out: Path | None, rerun: Path | None, view: bool, json_file: Path | None
) -> None:
    """Raises UserError now, rather than after the work, where something cannot be written."""
    from thfm_ros.errors import UserError
    from thfm_ros.paths import writable, writable_file

    if out is None and rerun is None and not view:
        raise UserError("nothing to make: expected -o (a film; of a bag also a bag), --rerun OUT.rrd or --view")
    if out is not None and not out.name:
        raise UserError(f"cannot write {out}: it is a folder: name a file")
    named_file = out is not None and out.suffix[1:2].isalpha()  # and not bag_2026.11.29
    if out is not None and out.suffix.lower() != ".mp4" and (named_file or not from_bag):
        of_bag = f" or, without a suffix, a bag, {out.with_suffix('')}" if from_bag else ""
        raise UserError(f"the output has to be an .mp4 file, found {out}: name it {out.with_suffix('.mp4')}{of_bag}")
    if rerun is not None and rerun.suffix.lower() != ".rrd":
        raise UserError(f"--rerun takes an .rrd file, found {rerun}: name it {rerun.with_suffix('.rrd')}")
    for file in (out, rerun, json_file):
        if file is None:
            continue
        if file.exists() and file.resolve() == path.resolve():
            raise UserError(f"{file} is the input: choose another name for the output")
        annotated_bag = file is out and file.suffix.lower() != ".mp4"  # a folder
        (writable if annotated_bag else writable_file)(file)


def _open(path: Path, from_bag: bool, bag: _BagOptions, fov: float | None) -> Recording:
    if from_bag:
        from thfm_ros.offline.bag_recording import BagRecording

        return BagRecording(path, bag.image, bag.camera_info, fov, bag.depth)
    from thfm_ros.offline.recording import VideoRecording

    return VideoRecording(path, 60.0 if fov is None else fov)


def _outputs(
    recording: Recording, out: Path | None, to_bag: bool, bag: _BagOptions, tasks: list[str]
) -> Iterator[Output]:
    """The film or the bag."""
    if out is not None and to_bag:
        from thfm_ros.offline.annotated_bag import AnnotatedBag

        yield AnnotatedBag(out, recording, tasks, bag.namespace, bag.storage, bag.zstd)
    elif out is not None:
        from thfm_ros.offline.film import Film

        yield Film(out, recording.fps)


def _viewers(recording: Recording, rerun: Path | None, view: bool) -> Iterator[Output]:
    """The recording for Rerun, and the viewer itself."""
    places = ([rerun] if rerun is not None else []) + ([None] if view else [])
    for place in places:
        from thfm_ros.offline.rerun_log import RerunLog

        yield RerunLog(place, recording.path.name, recording.dated)


def _report(console: Console, outputs: list[Output], figures: dict[str, Any]) -> None:
    """Prints the figures, and where to look."""
    from rich.markup import escape

    shown = {k: f"{v:.1f}" if isinstance(v, float) else v for k, v in figures.items() if k not in ("refused", "topics")}
    console.print(", ".join(f"{k} {v}" for k, v in shown.items()), markup=False)
    for line in figures.get("refused", ()):
        console.print(f"[yellow]{escape(line)}[/]")
    for topic, count in figures.get("topics", {}).items():
        console.print(f"{topic}: {count} messages", highlight=False, markup=False)
    for output in outputs:
        if output.path is not None:
            console.print(f"look at {output.path}", soft_wrap=True, markup=False)
