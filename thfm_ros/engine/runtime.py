"""One interface to run a model, whatever runs it. numpy only: a robot needs neither torch nor diffusers for it.

`load.load_runtime` opens one. `runtime.refused` says which better backends do not work here, and why.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from thfm_ros.engine.manifest import Manifest, Stage, read_prompts
from thfm_ros.engine.refusals import Refusal, warnings
from thfm_ros.engine.results import Encoded, Keypoints, Prediction, Transformed, keypoints_of
from thfm_ros.engine.stage_table import WHOLE_CLIP, WINDOWS
from thfm_ros.engine.verdicts import StageChecks
from thfm_ros.errors import UserError
from thfm_ros.tasks import get_task

Check = Literal["first", "always", "never"]


class Runtime(Protocol):
    """What the stream estimator and the evaluation need. Not thread-safe: one thread uses it at a time."""

    manifest: Manifest

    def encode(self, frames: np.ndarray) -> Encoded: ...

    def transform(self, encoded: Encoded, tasks: Sequence[str]) -> Transformed: ...

    def decode(self, latents: np.ndarray, encoded: Encoded) -> np.ndarray: ...

    def predict(
        self, frames: np.ndarray, tasks: Sequence[str], first: Mapping[str, int] | None = None
    ) -> Prediction: ...

    def predict_windows(self, frames: np.ndarray, tasks: Sequence[str]) -> list[Keypoints]: ...

    def close(self) -> None: ...


class StageRuntime(ABC):
    """Everything but running one stage, which is each backend's own.

    notes: why other backends were not taken. refused: those of them that would have been better. info: what the
    backend chose (precision, threads, device).
    """

    def __init__(self, manifest: Manifest, prompts: dict[str, np.ndarray], info: dict[str, str]) -> None:
        self.manifest, self.info = manifest, info
        self.notes: list[str] = []
        self.refused: list[Refusal] = []
        self.prompts = prompts
        self._stacked: dict[tuple[str, ...], np.ndarray] = {}  # prompts of batches
        self._checks: StageChecks | None = None

    def run(self, stage: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One stage by the manifest's name. feeds: its inputs by name, others among them. Outputs by name, float32."""
        return self.compute(stage, self.fed(stage, feeds))

    def fed(self, stage: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A stage's inputs in the manifest's order; UserError where one is missing, or has another shape or type."""
        inputs = {}
        for spec in self.manifest.stages[stage].inputs:
            if (x := feeds.get(spec.name)) is None:
                raise UserError(f"expected {spec.name} for {stage}, found {', '.join(feeds) or 'nothing'}")
            if x.shape != spec.shape:
                raise UserError(f"expected {spec.name} of shape {spec.shape} for {stage}, found {x.shape}")
            if (x.dtype == np.uint8) != (spec.dtype == "uint8"):
                raise UserError(f"expected {spec.name} of type {spec.dtype} for {stage}, found {x.dtype}")
            inputs[spec.name] = np.ascontiguousarray(x, np.uint8 if spec.dtype == "uint8" else np.float32)
        return inputs

    @abstractmethod
    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `run`, of inputs that fit, in the manifest's order."""

    def stage_ms(self, stage: str, feeds: Mapping[str, np.ndarray]) -> float:
        """Milliseconds of one run; on a GPU by its own clock, without copies from and to the host."""
        inputs, start = self.fed(stage, feeds), time.perf_counter()
        self.compute(stage, inputs)
        return 1e3 * (time.perf_counter() - start)

    def prepare(self, stage: str) -> None:
        """Loads or compiles a stage now, and not at its first run. UserError where that fails."""
        return

    def unload(self, stage: str) -> None:
        """Frees a stage that is not needed for now; it is loaded again at its next run."""
        return

    def guard(self, check: Check) -> None:
        """From now on stages are checked on their golden inputs when they are first needed."""
        if check != "never":
            threads = int(self.info["threads"]) if "threads" in self.info else None
            again = check == "always"
            self._checks = StageChecks(self.manifest, self.device, threads, self.precision, again)

    def require(self, stages: Iterable[str]) -> None:
        """UserError unless these stages compute here what they should. Costs time once a bundle and machine."""
        if self._checks is not None:
            self._checks.require(stages, self.run)

    def precision(self, stage: Stage) -> str:
        """What a stage is computed in here."""
        return stage.precision

    @property
    def computed_in(self) -> str:
        """The precisions of the stages of whole clips, such as "bf16"."""
        stages = self.manifest.stages
        return ", ".join(sorted({self.precision(stages[name]) for name in WHOLE_CLIP if name in stages}))

    @property
    def warnings(self) -> list[str]:
        """A line for every better backend that was refused: what, why, and what it costs."""
        return warnings(self.refused, self.manifest.backend, self.computed_in)

    @property
    def device(self) -> str:
        """Names the machine and the software, for the record of the golden check."""
        return " ".join(f"{k}={v}" for k, v in sorted(self.info.items()))

    def encode(self, frames: np.ndarray) -> Encoded:
        """frames (T, H, W, 3) uint8 RGB -> normalised latents, and features that later stages take."""
        made = self.run("encode", {"frames": frames[None]})
        return Encoded(made.pop("latents"), made)

    def transform(self, encoded: Encoded, tasks: Sequence[str]) -> Transformed:
        """Latents of every dense task, and keypoints (one pass for both kinds)."""
        self._check_tasks(tasks)
        self.require(task_stages(self.manifest, tasks))
        dense = [t for t in tasks if get_task(t).kind == "dense"]
        sparse = [t for t in tasks if get_task(t).kind == "sparse"]
        targets: list[np.ndarray] = []
        for count, name in self.plan("transform", len(dense)):
            prompt = self._prompt(dense[len(targets) : len(targets) + count])
            made = self.run(name, {"latents": np.repeat(encoded.latents, count, 0), "prompt": prompt})
            targets += np.split(made["target"], count)
        keypoints = None
        if sparse:
            prompt = self._prompt([sparse_prompt(sparse)])
            feeds = {**encoded.features, "latents": encoded.latents, "prompt": prompt}
            (keypoints,) = keypoints_of(self.run("keypoints", feeds))
        return Transformed(dict(zip(dense, targets, strict=True)), keypoints)

    def decode(self, latents: np.ndarray, encoded: Encoded) -> np.ndarray:
        """latents (N, C, T', h, w) -> video (N, 3, T, H, W) in [-1, 1], in the batch sizes that the bundle holds.

        encoded: the clip that the tasks are of, for decoders that see it.
        """
        videos = self._decoded(latents, encoded)
        return np.concatenate(videos) if len(videos) != 1 else videos[0]

    def _decoded(self, latents: np.ndarray, encoded: Encoded) -> list[np.ndarray]:
        """As `decode`, one array a batch: to join them would copy all."""
        videos: list[np.ndarray] = []
        done = 0
        for count, name in self.plan("decode", len(latents)):
            feeds = {**encoded.features, "latents": latents[done : done + count]}
            videos.append(self.run(name, feeds)["video"])
            done += count
        return videos

    def predict(self, frames: np.ndarray, tasks: Sequence[str], first: Mapping[str, int] | None = None) -> Prediction:
        """Encode, transform, decode: one pass over a clip for all `tasks`.

        frames: (T, H, W, 3) uint8 RGB. first: dense task -> the first frame wanted of it; 0 where a task is missing.
        """
        start = time.perf_counter()
        clip = self.encode(frames)
        encoded = time.perf_counter()
        out = self.transform(clip, tasks)
        transformed = time.perf_counter()
        dense = {}
        if out.latents:
            batches = self._decoded(np.concatenate(list(out.latents.values())), clip)
            videos = [video for batch in batches for video in batch]
            first = first or {}
            dense = {t: v[:, first.get(t, 0) :].transpose(1, 2, 3, 0) for t, v in zip(out.latents, videos, strict=True)}
        decoded = time.perf_counter()
        times = {"encode": encoded - start, "transform": transformed - encoded, "decode": decoded - transformed}
        return Prediction(dense, out.keypoints, {k: 1e3 * v for k, v in times.items()})

    def predict_windows(self, frames: np.ndarray, tasks: Sequence[str]) -> list[Keypoints]:
        """Keypoints of clips around one person each, in the batch sizes that the bundle holds.

        frames: (N, T, h, w, 3) uint8 RGB, w and h as `manifest.windows`. tasks: the sparse ones that are wanted.
        Returns N keypoints; xy is normalised to the window.
        """
        m = self.manifest
        if m.windows is None:
            raise UserError(
                f"{m.root}: expected the stage {WINDOWS}, found none: add windows to the recipe; rebuild: {m.rebuild}"
            )
        self._check_tasks(tasks)
        found: list[Keypoints] = []
        for count, name in self.plan(WINDOWS, len(frames)):
            self.require([name])
            prompt = self._prompt([sparse_prompt(tasks)] * count)
            found += keypoints_of(self.run(name, {"frames": frames[len(found) : len(found) + count], "prompt": prompt}))
        return found

    def close(self) -> None:
        """Frees what the backend holds; the runtime is of no use afterwards."""
        self.prompts = {}
        self._stacked = {}

    def plan(self, stage: str, count: int) -> list[tuple[int, str]]:
        """(batch size, stage name) for `count` items: the largest compiled size that fits, again and again."""
        variants, plan = self.manifest.variants(stage), []
        while count:
            size = next((s for s in variants if s <= count), None)
            if size is None:
                raise UserError(
                    f"{self.manifest.root}: expected stage {stage} for batches of 1, found {sorted(variants) or 'none'}"
                )
            plan.append((size, variants[size]))
            count -= size
        return plan

    def _prompt(self, tasks: Sequence[str]) -> np.ndarray:
        """(N, L, D) of a batch of tasks."""
        key = tuple(tasks)
        if key not in self._stacked:
            self._stacked[key] = np.stack([self.prompts[t] for t in tasks])
        return self._stacked[key]

    def _check_tasks(self, tasks: Sequence[str]) -> None:
        for name in tasks:
            get_task(name)
            if name not in self.prompts:
                raise UserError(f"expected tasks of this bundle ({', '.join(self.prompts)}), found '{name}'")


def sparse_prompt(tasks: Sequence[str]) -> str:
    """The task whose prompt one pass uses for all sparse tasks: every pass gives 2D, 3D and visibility."""
    return "keypoints_3d" if "keypoints_3d" in tasks else tasks[0]


def default_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def task_stages(manifest: Manifest, tasks: Sequence[str]) -> list[str]:
    """The stages that passes for these tasks, or for some of them, run through."""
    dense = sum(get_task(task).kind == "dense" for task in tasks)
    names = ["encode", *(["keypoints"] if dense < len(tasks) else [])]
    for stage in ("transform", "decode"):
        names += [name for size, name in manifest.variants(stage).items() if size <= dense]
    return names


def bundle_prompts(manifest: Manifest) -> dict[str, np.ndarray]:
    """Task -> (L, D) of the tasks that the bundle offers."""
    prompts = read_prompts(manifest)
    return {task: prompts[task].astype(np.float32) for task in manifest.tasks}
