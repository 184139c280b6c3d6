"""THFM and MediaPipe 0.10.21 on the same held-out clips, in one run: accuracy and speed side by side.

    python benchmarks/peers/compare.py --checkpoint weights/nano --clips 16

MediaPipe pins other versions than we do (numpy 1.26), so it lives in an environment of its own, made on first use. Both
prediction the tasks that both know: foreground, 2D and 3D keypoints (COCO's 17, 3D relative to the hips' middle).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import typer

from thfm_ros.errors import UserError
from thfm_ros.evaluate.predictors import ConstantPredictor, Predictor, THFMPredictor
from thfm_ros.evaluate.report import write_json
from thfm_ros.evaluate.synthetic import GeneratedClips, SyntheticProtocol, evaluate
from thfm_ros.geometry import Intrinsics
from thfm_ros.synth.config import SynthConfig, parse_size

VERSION = "0.10.21"
TASKS = ("foreground", "keypoints_2d", "keypoints_3d")
# MediaPipe's landmark of each COCO joint.
COCO17 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)


def environment(folder: Path) -> Path:
    """The Python of an environment that holds MediaPipe; makes it where it is missing."""
    python = folder / "bin" / "python"
    check = [str(python), "-c", "import mediapipe; print(mediapipe.__version__)"]
    if python.exists():
        found = subprocess.run(check, capture_output=True, text=True)
        if found.stdout.strip() == VERSION:
            return python
    typer.echo(f"making {folder} with mediapipe {VERSION}", err=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", f"mediapipe=={VERSION}"],
    ):
        if subprocess.run(command).returncode:
            raise UserError(f"{shlex.join(command)} failed: MediaPipe {VERSION} needs Python 3.9 to 3.12 and a network")
    return python


class MediaPipeWorker:
    """The process in the other environment; clips and predictions travel as .npz files."""

    def __init__(self, python: Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        script = Path(__file__).with_name("mediapipe_worker.py")
        self._log = Path(self._folder.name) / "log"
        self._process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
        )
        self._last: tuple[np.ndarray, dict[str, np.ndarray]] | None = None

    def prediction(self, video: np.ndarray, stills: bool = False) -> dict[str, np.ndarray]:
        """The worker's; asked once where two predictors look at the same clip. stills: nothing is tracked."""
        if self._last is not None and self._last[0] is video:
            return self._last[1]
        source, target = (Path(self._folder.name) / name for name in ("clip.npz", "prediction.npz"))
        np.savez(source, video=video, **({"stills": np.array(True)} if stills else {}))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{source} {target}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "done":
            raise UserError(f"MediaPipe's process failed: {self._log.read_text()[-500:]}")
        with np.load(target, allow_pickle=False) as stored:
            self._last = (video, dict(stored))
        return self._last[1]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


class MediaPipePose:
    """Pose (full): landmarks, world landmarks and their mask, tracking over the clip."""

    joint_set = "coco17"
    size: tuple[int, int] | None = None
    tasks: tuple[str, ...] = TASKS

    def __init__(self, worker: MediaPipeWorker) -> None:
        self.worker, self.name = worker, f"MediaPipe {VERSION} Pose"
        self.identity: dict[str, Any] = {"model": "pose_landmark_full", "version": VERSION}

    def predict(self, video: np.ndarray, intrinsics: Intrinsics | None = None) -> dict[str, np.ndarray]:
        found = self.worker.prediction(video)
        size = np.array([video.shape[2], video.shape[1]])
        return {
            "foreground": found["pose_mask"],
            "keypoints_2d": found["image"][:, COCO17, :2] * size,
            "keypoints_3d": found["world"][:, COCO17],
            "visibility": found["image"][:, COCO17, 2],
            "borders": np.zeros(0, int),
            "seconds": found["pose_seconds"].sum(),
        }


class MediaPipeSelfie:
    """Selfie segmentation: the mask alone."""

    joint_set = "coco17"
    size: tuple[int, int] | None = None
    tasks: tuple[str, ...] = ("foreground",)

    def __init__(self, worker: MediaPipeWorker) -> None:
        self.worker, self.name = worker, f"MediaPipe {VERSION} Selfie"
        self.identity: dict[str, Any] = {"model": "selfie_segmentation", "version": VERSION}

    def predict(self, video: np.ndarray, intrinsics: Intrinsics | None = None) -> dict[str, np.ndarray]:
        found = self.worker.prediction(video)
        return {
            "foreground": found["selfie_mask"],
            "borders": np.zeros(0, int),
            "seconds": found["selfie_seconds"].sum(),
        }


def main(
    checkpoint: Path = typer.Option(..., help="checkpoint or bundle folder"),
    clips: int = typer.Option(16, min=1),
    seed: int = typer.Option(0, help="which held-out clips"),
    frames: int | None = typer.Option(None, min=2, help="a clip; default two windows"),
    size: str = typer.Option("384x640", help="HxW of the clips; each method shrinks them as it needs"),
    environment_folder: Path = typer.Option(Path(".venv-peers"), "--env", help="MediaPipe's environment"),
    out: Path = typer.Option(Path("out/peers"), help="rows and reports"),
    backend: str = typer.Option("auto"),
    threads: int | None = typer.Option(None, min=1),
    json_file: Path | None = typer.Option(None, "--json"),
) -> None:
    """The table of both, on standard output and in OUT/report.md."""
    ours = THFMPredictor.open(checkpoint, TASKS, None, backend, threads)
    height, width = parse_size(size)
    fps = float(ours.identity["trained_fps"])
    config = SynthConfig(frames=frames or 2 * ours.frames - 1, height=height, width=width, fps=fps, split="test")
    worker = MediaPipeWorker(environment(environment_folder))
    predictors: list[Predictor] = [ours, MediaPipePose(worker), MediaPipeSelfie(worker), ConstantPredictor(TASKS)]
    try:
        with typer.progressbar(length=clips, label="clips", file=sys.stderr) as bar:
            report = evaluate(
                predictors,
                GeneratedClips(config, seed),
                clips,
                out,
                shlex.join(["python", *sys.argv]),
                protocol=SyntheticProtocol(joint_set_2d="coco17", joint_set_3d="coco17"),
                step=lambda _: bar.update(1),
            )
    finally:
        worker.close()
    if json_file:
        write_json(json_file, report.as_dict())
    typer.echo(report.markdown())


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"compare: {error}")
