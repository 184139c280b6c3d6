"""The training loop: one process or many (accelerate underneath), resumable to the bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from thfm_ros.errors import UserError
from thfm_ros.model.checkpoint import Checkpoint, save_checkpoint
from thfm_ros.processes import Interrupts
from thfm_ros.schema import parse
from thfm_ros.train.augment import augmented
from thfm_ros.train.config import WITHOUT_TASKS, AugmentConfig, TrainConfig, to_table
from thfm_ros.train.data import ClipSource, Draw, draw, feed, missing_pictures, open_source
from thfm_ros.train.ema import Ema
from thfm_ros.train.heldout import HeldOut
from thfm_ros.train.nano.stage import NanoStage
from thfm_ros.train.networks import has_fast_bf16, merge_lora, open_networks, optimiser, preset_of
from thfm_ros.train.progress import Progress
from thfm_ros.train.samples import ClipBatch, TrainingClip
from thfm_ros.train.stages import DecoderStage, LatentStage, PixelStage, Stage, VaeStage
from thfm_ros.train.state import checkpoints, load_state, save_state

STAGES: dict[str, Callable[[TrainConfig, Checkpoint], Stage]] = {
    "vae": VaeStage,
    "latent": LatentStage,
    "pixel": PixelStage,
    "nano": NanoStage,
    "decoder": DecoderStage,
}
IN_TIME = 0.95  # of the steps that the time seems to allow, so that the rate has fallen before it ends
MAY_CHANGE = {"steps", "log_every", "evaluate_every", "evaluate_clips", "checkpoint_every", "keep"}
PART_MAY_CHANGE = {"data": {"path", "workers", "device"}, "optim": {"cooldown"}}


class Trainer:
    """One run of one stage in the folder `out`: state/ (resume), log.jsonl, tensorboard/, best/ and model/.

    Where the rate falls in the end (`optim.schedule: cooldown`) also before_cooldown/, which as the state/ of a run
    with more `steps` goes on as if it had never fallen.

    Args:
        source: of clips; None: what the config says. clock: seconds, which the time for a run is measured by.
    """

    def __init__(
        self,
        config: TrainConfig,
        out: str | Path,
        source: ClipSource | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        preset, data = preset_of(config), config.data
        sizes = {"height": preset.height, "width": preset.width, "frames": preset.frames, "fps": preset.fps}
        config = replace(config, data=replace(data, **sizes))
        if config.latents and config.augment != AugmentConfig():
            raise UserError("latents: kept ones know one view of a clip; latents: '' with augment, or no augment")
        if config.stream and config.data.frames == 1:
            raise UserError("stream: still images have no middle of a stream; stream: 0, or data.frames of 5 or more")
        self.config, self.out, self.clock = config, Path(out), clock
        cpu = not torch.cuda.is_available()
        torch.set_flush_denormal(True)  # denormals make young networks several times slower on CPUs
        bf16 = config.precision == "bf16" or (
            config.precision == "auto" and has_fast_bf16(torch.device("cpu" if cpu else "cuda"))
        )
        # A process whose part of a batch has no sparse task leaves the keypoint tokens without a gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=cpu, kwargs_handlers=[unused])
        if config.batch % (self.accelerator.num_processes * config.accumulate):
            count = self.accelerator.num_processes
            raise UserError(
                f"batch {config.batch} is not divisible by {count} processes x accumulate {config.accumulate}"
            )
        on_gpu = config.data.device == "cuda" or (config.data.device == "auto" and not cpu)
        self.data_device = f"cuda:{self.accelerator.local_process_index}" if on_gpu else "cpu"
        self.source = source or open_source(config.data, self.data_device)
        self.checkpoint = open_networks(config)
        patch = self.checkpoint.vae.config.scale_factor_spatial * self.checkpoint.transformer.config.patch_size[2]
        if self.accelerator.is_main_process:
            for line in missing_pictures(config):
                print(line)
        windows = config.augment.windows
        for name, pixels in (("width", windows.width), ("height", windows.height)):
            if windows.share and pixels % patch:
                raise UserError(
                    f"augment.windows.{name}: expected a multiple of {patch} pixels, the network's patches, "
                    f"found {pixels}"
                )
        torch.manual_seed(config.seed)  # of what stages add to the networks: adapters, heads
        self.stage = STAGES[config.stage](config, self.checkpoint).train().to(self.accelerator.device)
        if config.compile:
            self.stage.compile_networks()
        self.parameters = {n: p for n, p in self.stage.named_parameters() if p.requires_grad}
        self.optimizer = optimiser(config, list(self.parameters.values()), self.stage.slow_parameters())
        self.ema = Ema(self.parameters, config.optim.ema)
        self.module = self.accelerator.prepare(self.stage) if self.accelerator.num_processes > 1 else self.stage
        self.record: dict[str, Any] = {"config": to_table(config), "seconds": 0.0, "dropped": 0, "best": math.inf}
        self.record["samples"] = 0
        self.record["samples_before"] = self.checkpoint.config.samples_seen
        self.notes = dict(self.checkpoint.config.notes)  # of the checkpoint that the run starts from
        self.step = 0
        self.interrupted = False  # a signal came to this process or another of the run
        self.heldout = HeldOut(config, self.source, self.accelerator.device)
        self._resume()

    def fit(self, max_minutes: float = math.inf, cool_down: bool = False) -> bool:
        """Train to the config's last step; False if the time ended first (the state is saved, run again to go on).

        So it is after a signal (SIGINT, SIGTERM, SIGHUP), which ends the command once the step is done and saved.
        cool_down: where the rate falls at last (`optim.schedule: cooldown`) and the time is short, it falls in the last
            part of the time instead of the steps, and the run is over then. A run that is interrupted while it falls
            goes on falling, unless the config has other `steps` or another `optim.cooldown`.
        """
        with Interrupts() as self.interrupts:
            now = self.clock()
            self._fit(now, now + 60 * max_minutes, cool_down)
            if self.interrupts.noted and self.accelerator.is_main_process:
                print(f"interrupted: {self.out / 'state'} has step {self.step}, the same command goes on from there")
            self.interrupts.leave()
        return self.step >= self.config.steps

    def _fit(self, begin: float, end: float, cool_down: bool) -> None:
        first = self.step
        steps = range(first, self.config.steps)
        with Progress(self.out, self.config.steps, self.step, self.accelerator.is_main_process) as progress:
            requests = (self._draw(step).clips for step in steps)
            for clips in feed(self.source, requests, self.config.data, self.data_device):
                started = self.clock()
                losses = self._step(self._batches(clips))
                self.step += 1
                self.record["seconds"] += self.clock() - started
                if self._due(self.config.log_every):
                    progress.log(self.step, self.samples, self._gathered(losses), self.record)
                progress.advance()
                if self._due(self.config.evaluate_every):
                    self._evaluate(progress)
                if self._ended(end) or self.step == self.config.steps:
                    break
                if self._due(self.config.checkpoint_every):
                    self.save()
                if self.config.optim.schedule == "cooldown" and self.step == cooldown_start(self.config):
                    self.save("before_cooldown")
                elif cool_down:
                    self._cool_down(first, begin, end)
            if self._needs_final_evaluation() and not self.interrupted:
                self._evaluate(progress)
        self.save()
        self.export(self.out / "model")

    def _cool_down(self, first: int, begin: float, end: float) -> None:
        """Let the rate fall from now on, if the part of the time that belongs to it has begun before its steps have.

        first, begin: step and time at which the run began. The steps that are left are those that will be done in time.
        """
        optim, now = self.config.optim, self.clock()
        if optim.schedule != "cooldown" or self.step >= cooldown_start(self.config) or math.isinf(end):
            return
        left = IN_TIME * (self.step - first) * (end - now) / (now - begin)
        own = torch.tensor([left, float(end - now <= optim.cooldown * (end - begin))], device=self.accelerator.device)
        left, due = self.accelerator.reduce(own, "mean").tolist()  # all processes must agree
        if due:
            self.save("before_cooldown")
            steps = self.step + max(1, int(left))
            self.record["cooling"] = {"steps": steps, "cooldown": (steps - self.step) / steps}
            self._shorten()

    def _shorten(self) -> None:
        """Let the run end as its record says of the fall that the time began, which nothing in the config does."""
        if cooling := self.record.get("cooling"):
            optim = replace(self.config.optim, cooldown=cooling["cooldown"])
            self.config = replace(self.config, steps=cooling["steps"], optim=optim)

    def _step(self, batches: list[tuple[ClipBatch, Draw]]) -> tuple[Tensor, list[str]]:
        """Forward, backward, clip or drop, update. Returns the loss of every row and its task."""
        self.optimizer.zero_grad(set_to_none=True)
        values, tasks = [], []
        for index, (batch, part) in enumerate(batches):
            last = index == len(batches) - 1
            with self.accelerator.autocast(), self._sync(last):
                loss, rows = self.module(batch, part)
                loss = loss * batch.known(rows.clips, rows.tasks)
                self.accelerator.backward(loss.mean() / len(batches))
            values.append(loss.detach())
            tasks += rows.tasks
        losses = torch.cat(values), tasks
        self.record["samples"] += len(tasks) * self.accelerator.num_processes
        optim = self.config.optim
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), optim.clip or math.inf)
        if not torch.isfinite(norm):
            self._refuse_nan(losses, batches)
        if not torch.isfinite(norm) or (optim.drop and norm > optim.drop):
            self.record["dropped"] += 1
            return losses
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step) * group.get("scale", 1.0)
        self.optimizer.step()
        self.ema.update()
        return losses

    def _refuse_nan(self, losses: tuple[Tensor, list[str]], batches: list[tuple[ClipBatch, Draw]]) -> None:
        values, tasks = losses
        bad = sorted({task for task, ok in zip(tasks, torch.isfinite(values).tolist(), strict=True) if not ok})
        anywhere = self.accelerator.reduce(torch.tensor(float(len(bad)), device=self.accelerator.device))
        if anywhere == 0:
            return  # the losses are finite, the gradient overflowed: the batch is dropped
        self.save()  # no weight has seen this batch
        clips = [c for _, part in batches for c in part.clips]
        raise UserError(
            f"step {self.step}: the loss of {', '.join(bad) or 'another process'} is not finite (clips {clips}); the "
            f"state before it is in {self.out / 'state'}; lower optim.lr or change the seed, and run again"
        )

    def _draw(self, step: int) -> Draw:
        """This process's part of the global batch of a step."""
        return draw(self.config, step).for_process(self.accelerator.process_index, self.accelerator.num_processes)

    def _batches(self, clips: list[TrainingClip]) -> list[tuple[ClipBatch, Draw]]:
        """The step's clips, cut to the config's length, in accumulation parts on the device."""
        data, mine, count = self.config.data, self._draw(self.step), self.config.accumulate
        frames, size = data.frames, (data.height * data.oversample, data.width * data.oversample)
        for index, clip in zip(mine.clips, clips, strict=True):
            if clip.frames < frames:
                raise UserError(f"clip {index} has {clip.frames} frames, the config wants {frames}: data.frames")
            if (found := clip.rgb.shape[1:3]) != size:
                raise UserError(
                    f"clip {index}: expected {size[1]}x{size[0]} pixels, found {found[1]}x{found[0]}: set data.width, "
                    "data.height and data.oversample to those of the clips, or use others"
                )
        part = len(clips) // count
        windows = [clip.window(0, frames) for clip in clips]
        parts = [windows[i * part : (i + 1) * part] for i in range(count)]
        return [self._batch(part, mine.part(i, count)) for i, part in enumerate(parts)]

    def _batch(self, clips: list[TrainingClip], part: Draw) -> tuple[ClipBatch, Draw]:
        return augmented(clips, part, self.config, self.accelerator.device), part

    def save(self, folder: str = "state") -> None:
        if self.accelerator.is_main_process:
            save_state(
                self.out / folder, self.step, self.parameters, self.optimizer, self.ema, self.record, self.config.keep
            )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = checkpoints(self.out / "state")
        if not found:
            return
        self.record = load_state(found[-1], self.parameters, self.optimizer, self.ema)
        self.step = self.record["step"]
        rows = self.config.batch * min(self.config.tasks_per_clip, len(self.heldout.tasks))
        self.record.setdefault("samples", self.step * rows)  # of runs from before they were counted
        now = to_table(self.config)
        # Keys that did not exist when the run began have meant what is their default now; some are gone since.
        saved = {key: value for key, value in self.record["config"].items() if key in now}
        before = to_table(parse(TrainConfig, saved, str(found[-1])))
        for key in now:
            if key not in MAY_CHANGE and _comparable(key, before[key]) != _comparable(key, now[key]):
                raise UserError(
                    f"{self.out} was started with another '{key}' ({before[key]}, now {now[key]}): "
                    "use another --out, or the old config"
                )
        self.record["config"] = now
        if (before["steps"], before["optim"]["cooldown"]) != (now["steps"], now["optim"]["cooldown"]):
            self.record.pop("cooling", None)  # another end was asked for
        self._shorten()

    def export(self, path: Path) -> None:
        """The averaged weights as an ordinary checkpoint folder; all processes call it."""
        if self.accelerator.is_main_process:
            self._export(path)
        self.accelerator.wait_for_everyone()

    def _export(self, path: Path) -> None:
        with self.ema.applied():
            model = self.checkpoint
            if self.config.stage == "vae":
                self.heldout.calibrate(self.stage)
            elif self.config.lora:
                model = replace(model, transformer=self._merged())
            tasks = self.config.stage not in WITHOUT_TASKS
            model.config = replace(
                model.config,
                trained=model.config.trained or tasks,
                samples_seen=self.record["samples_before"] + self.samples,
                attentions=sorted(self.config.attention) if tasks else model.config.attentions,
                notes={**self.notes, "stages": [*self.notes.get("stages", []), self._history()]},
            )
            save_checkpoint(path, model)

    def _merged(self) -> Any:
        from copy import deepcopy

        transformer = deepcopy(self.checkpoint.transformer)
        merge_lora(transformer)
        return transformer

    def _history(self) -> dict[str, Any]:
        keys = ("seconds", "dropped", "metrics")
        history = {k: self.record[k] for k in keys if k in self.record}
        config, data = self.config, self.config.data
        clip = f"{data.width}x{data.height}, {data.frames} frames"
        sizes = {"batch": config.batch, "tasks_per_clip": config.tasks_per_clip, "samples": self.samples}
        if config.stream:
            sizes["stream"] = config.stream
        return {"stage": config.stage, "clip": clip, "steps": self.step, **sizes, **history}

    def _evaluate(self, progress: Progress) -> None:
        if self.accelerator.is_main_process:
            with self.ema.applied():
                metrics, pictures = self.heldout(self.stage)
            self.record["metrics"] = metrics
            progress.metrics(self.step, self.samples, metrics, pictures)
            if metrics["score"] < self.record["best"]:
                self.record["best"] = metrics["score"]
                self._export(self.out / "best")  # no barrier: the others wait below
        self.accelerator.wait_for_everyone()

    def _needs_final_evaluation(self) -> bool:
        return bool(self.config.evaluate_every) and self.step % self.config.evaluate_every != 0

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _ended(self, end: float) -> bool:
        """Whether a process's clock has run out, or a signal came to one of them: all must agree."""
        own = [float(self.clock() > end), float(self.interrupts.noted is not None)]
        over = self.accelerator.reduce(torch.tensor(own, device=self.accelerator.device))
        self.interrupted = bool(over[1] > 0)
        return bool(over.sum() > 0)

    def _sync(self, last: bool) -> Any:
        from contextlib import nullcontext

        return nullcontext() if last else self.accelerator.no_sync(self.module)

    def _gathered(self, losses: tuple[Tensor, list[str]]) -> dict[str, float]:
        """Mean loss over rows of all processes, in total and by task."""
        values, tasks = losses
        names = sorted({*self.heldout.tasks, "loss"})
        table = torch.zeros(len(names), 2, device=values.device)
        for name in names:
            chosen = [i for i, task in enumerate(tasks) if name in ("loss", task)]
            table[names.index(name)] += torch.stack((values[chosen].sum(), values.new_tensor(float(len(chosen)))))
        table = self.accelerator.reduce(table, "sum")
        return {name: float(s / n) for name, (s, n) in zip(names, table.tolist(), strict=True) if n}

    @property
    def samples(self) -> int:
        """Rows (clip, task) seen in this run."""
        return self.record["samples"]


def _comparable(key: str, value: Any) -> Any:
    """Leave what of a config's value decides the results of a run, as JSON gives it back."""
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k not in PART_MAY_CHANGE.get(key, ())}
    return json.loads(json.dumps(value))


def cooldown_start(config: TrainConfig) -> int:
    """The step from which the rate falls."""
    return config.steps - max(1, round(config.optim.cooldown * config.steps))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up over the first `warmup` of the steps (paper section 2.1), then constant, cosine to 2 %, or
    constant and in the end down by 1 - sqrt to zero (Hägele et al., NeurIPS 2024)."""
    warmup = max(1, round(config.optim.warmup * config.steps))
    if step < warmup:
        return config.optim.lr * (step + 1) / warmup
    if config.optim.schedule == "constant":
        return config.optim.lr
    if config.optim.schedule == "cooldown":
        start = cooldown_start(config)
        return config.optim.lr * (1 - math.sqrt(max(0, step - start) / (config.steps - start)))
    progress = (step - warmup) / max(1, config.steps - warmup)
    return config.optim.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
