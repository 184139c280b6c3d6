"""The main job on any machine: real processes over real DDS, from a video to every topic, and a film of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from thfm_ros import processes
from thfm_ros.engine.shipped import cpu_bundle, shipped_checkpoint
from thfm_ros.errors import UserError
from thfm_ros.files import free_name, locked, write_json
from thfm_ros.paths import cache_folder, video_path, writable_file
from thfm_ros.tasks import TASKS
from thfm_ros.video import VideoReader

STRIDE = 4
WALKERS = 3  # windows of a pass whose time is measured
DEMO_TASKS = ("scene_depth", "human_normals", "foreground", "dense_pose", "keypoints_2d", "keypoints_3d")


def run_demo(
    source: str, checkpoint: Path | None, out: Path, rate: float, bag: bool, json_file: Path | None
) -> dict[str, Any]:
    """Runs camera, perception and recorder until the video ends; returns the table {topic: figures}."""
    if json_file:
        writable_file(json_file)
    console = Console()
    video = _video(source)
    if out.exists() and not out.is_dir():
        raise UserError(f"cannot write to {out}: it is a file: choose a folder with --out")
    writable_file(out / "demo.mp4")
    bundle, trained = prepare_bundle(checkpoint, console)
    pass_s, network = measure_pass(bundle, console)
    if not rate:
        # All frames answered: a pass processes STRIDE frames, with some room for the rest of the graph.
        rate = min(video.fps if video else 30.0, STRIDE / (1.6 * pass_s))
    frames = video.frames if video else 0
    for note in video.notes if video else []:
        console.print(f"{source}: {note}", style="yellow", markup=False)
    console.print(f"playing {source} at {rate:.1f} frames/s", markup=False)
    if video and rate < video.fps:
        console.print(f"that is {rate / video.fps:.2f}x its own speed, so that every frame is answered")
    console.print(f"listen yourself: ROS_DOMAIN_ID={own_domain()} ros2 topic list")
    table_file = out / "demo.json"
    with _saying_what_is_kept(out, console), _processes(out / "logs") as start:
        gap_s = video.longest_gap() * video.fps / rate if video else 0.0  # the recorder must not take it for the end
        idle = max(5.0, 4 * pass_s + 2.0) + gap_s
        recorder = start(
            "recorder",
            video=str(out / "demo.mp4"),
            picture=str(out / "demo.png"),
            table=str(table_file),
            bag=str(free_name(out / "demo_bag")) if bag else "",
            video_fps=float(min(video.fps if video else 30.0, 12.0)),
            idle_s=idle,
        )
        perception = start("perception", bundle=str(bundle), stride=STRIDE, tasks=list(DEMO_TASKS), gap_s=60.0)
        camera = start("camera", source=source, rate=float(rate), wait_for_subscribers=2)
        _wait(recorder, {"perception": perception, "camera": camera}, frames / rate + idle if frames else None, out)
    figures = json.loads(table_file.read_text())
    _show(console, figures)
    if json_file:
        write_json(json_file, {**figures, "network": network})
    console.print(f"look at {out / 'demo.mp4'} and {out / 'demo.png'} (logs in {out / 'logs'})", markup=False)
    if not trained:
        console.print("[yellow]the network has random weights: its outputs are noise[/]")
    return figures


@contextlib.contextmanager
def _saying_what_is_kept(out: Path, console: Console) -> Iterator[None]:
    """After an early end: what the recorder wrote by then."""
    begun = time.time()
    try:
        yield
    except BaseException:
        made = [f for f in (out / "demo.mp4", out / "demo.json") if f.is_file() and f.stat().st_mtime >= begun]
        if made:
            console.print(f"ended early; what was recorded by then: {', '.join(map(str, made))}", markup=False)
        raise


def _video(source: str) -> VideoReader | None:
    """The file that will be played; None for a device."""
    if source.startswith("/dev/"):
        if not Path(source).exists():
            raise UserError(f"camera {source} does not exist: plug it in, or name another (ls /dev/video*)")
        return None
    return VideoReader(video_path(source))


@contextlib.contextmanager
def _working(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Says what takes a while: with a spinner on a terminal, as a line in a log. Gives what changes the words."""
    with console.status(escape(what)) as status:

        def say(words: str) -> None:
            status.update(escape(words))
            if not console.is_terminal:
                console.print(words, markup=False)

        say(what)
        yield say


def prepare_bundle(checkpoint: Path | None, console: Console) -> tuple[Path, bool]:
    """The CPU bundle of a checkpoint, exported once for each content; (folder, trained)."""
    if checkpoint is None:
        try:
            checkpoint = shipped_checkpoint()
        except UserError:
            checkpoint = _random_checkpoint(console)
    config = checkpoint / "thfm.json"
    if not config.is_file():
        raise UserError(f"{checkpoint} is not a checkpoint (no thfm.json): name a folder that thfm train or init wrote")
    trained = bool(json.loads(config.read_text()).get("trained"))
    with _working(console, "preparing the network for this CPU") as say:
        return cpu_bundle(checkpoint, report=say), trained


def _random_checkpoint(console: Console) -> Path:
    path = cache_folder("checkpoints") / "nano-random"
    with locked(path):
        if not (path / "thfm.json").is_file():
            from thfm_ros.model.commands import init

            with _working(console, "no trained weights: making random ones (once)"):
                init("nano", out=path, seed=0, from_wan="", text_encoder="")
    return path


def measure_pass(bundle: Path, console: Console) -> tuple[float, dict[str, Any]]:
    """Seconds of one pass of all the demo's tasks on this machine, after a warm-up that compiles the stages; and what
    runs it, and what was refused, for the JSON."""
    from thfm_ros.engine.load import load_runtime
    from thfm_ros.stream.estimator import StreamEstimator

    with _working(console, "loading and compiling the network (cached for the next time)"):
        runtime = load_runtime(bundle, tasks=DEMO_TASKS)
        m = runtime.manifest
        estimator = StreamEstimator(runtime)
        tasks = estimator.network_tasks(DEMO_TASKS)
        clip = np.zeros((m.frames, m.height, m.width, 3), np.uint8)
        width, height = m.windows or (0, 0)
        windows = np.zeros((WALKERS, m.frames, height, width, 3), np.uint8)
        for _ in range(2):
            start = time.perf_counter()
            runtime.predict(clip, tasks)
            if estimator.people_by != "whole picture":
                runtime.predict_windows(windows, ["keypoints_3d"])
            seconds = time.perf_counter() - start
        network = {
            "backend": m.backend,
            "precision": runtime.computed_in,
            "ms_per_clip": round(1e3 * seconds, 1),
            "refused": runtime.warnings,
        }
        runtime.close()
    console.print(
        f"{m.preset} {m.width}x{m.height}x{m.frames} on {m.backend} in {network['precision']}: "
        f"{seconds:.2f} s for a clip, all {len(DEMO_TASKS)} tasks of {len(TASKS)}",
        markup=False,
    )
    for line in (*network["refused"], *estimator.shortcomings):
        console.print(f"[yellow]{escape(line)}[/]")
    return seconds, network


def own_domain() -> str:
    """A DDS domain that another demo or robot on this network hardly has; a set ROS_DOMAIN_ID goes before it."""
    return os.environ.get("ROS_DOMAIN_ID") or str(1 + os.getpid() % 100)


@contextlib.contextmanager
def _processes(logs: Path) -> Iterator[Any]:
    """Gives a function that starts a node; whatever happens, all of them end with the block."""
    logs.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []
    # Fast DDS's own transports drop messages that come with many images at once, and the recorder is to miss none.
    environment = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA", **os.environ, "ROS_DOMAIN_ID": own_domain()}
    with contextlib.ExitStack() as stack:

        def start(node: str, **parameters: Any) -> subprocess.Popen[bytes]:
            arguments = ["--ros-args"]
            for name, value in parameters.items():
                arguments += ["-p", f"{name}:={json.dumps(value)}"]  # JSON is YAML
            log = stack.enter_context((logs / f"{node}.log").open("wb"))
            process = processes.start(
                f"thfm_ros.nodes.{node}_node",
                *arguments,
                ending=signal.SIGINT,  # nodes close their files
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
            running.append(process)
            return process

        try:
            yield start
        finally:
            processes.end(running)


def _wait(recorder: subprocess.Popen[bytes], others: dict[str, Any], expected_s: float | None, out: Path) -> None:
    """Until the recorder ends by itself; an early death of any node is an error that names its log."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("running the graph", total=expected_s)
        start = time.monotonic()
        while recorder.poll() is None:
            for name, process in others.items():
                # The camera may end: its video is over.
                if process.poll() not in (None, 0) or (name == "perception" and process.poll() is not None):
                    raise UserError(f"the {name} node ended early: {_last_line(out / 'logs' / f'{name}.log')}")
            progress.update(task, completed=time.monotonic() - start)
            time.sleep(0.2)
    if recorder.returncode:
        raise UserError(f"the recorder failed: {_last_line(out / 'logs' / 'recorder.log')}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'no output'} (see {log})"


def _show(console: Console, figures: dict[str, Any]) -> None:
    table = Table("topic", "messages", "rate Hz", "latency ms (median)", "p95", "MB", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for topic, row in figures.items():
        cells = (row["messages"], row["rate_hz"], row["latency_ms_median"], row["latency_ms_p95"], row["megabytes"])
        table.add_row(topic, *("-" if c is None else f"{c}" for c in cells))
    console.print(table)
