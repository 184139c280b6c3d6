"""Where training clips come from: the generator, with or without a cache on disk, and batches prepared in advance.

Everything is a function of (config, step): no state to save, and any number of processes sees the same global batch.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import MISSING, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar
from zipfile import BadZipFile

import numpy as np

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, write_text
from thfm_ros.processes import end_with_parent
from thfm_ros.synth.places import left_out
from thfm_ros.tasks import TASKS, get_task
from thfm_ros.train.config import WITHOUT_TASKS, DataConfig, TrainConfig
from thfm_ros.train.samples import TrainingClip

if TYPE_CHECKING:
    from thfm_ros.synth.config import SynthConfig
    from thfm_ros.synth.sample import Clip

HELD_OUT = 1_000_000_000  # clips from this number on are never trained on
APART = 5  # steps between two that see the same clip
KIND = "clips.json"  # in a cache: which kind of clips it holds
LATEST = 64  # groups of clips that a run ahead may ask for in turn
JOINTS = {name: 1.0 for name, task in TASKS.items() if task.kind == "sparse"}  # of steps that learn joints alone
JOINTS_MORE = 2  # times the windows of other steps, in those steps
IN_MEMORY = 2 * 2**30  # bytes of decoded clips that a process keeps


Made = TypeVar("Made")


class ClipSource(Protocol):
    def __call__(self, index: int) -> TrainingClip: ...


class Generator:
    """Clips made by `thfm_ros.synth` when they are asked for, on `device` (of Warp: cpu, cuda:0).

    Held-out ones come from the generator's split "test": other motions, outfits and seeds. They are the same whatever
    the data's seed and settings are, so that runs on other people can be compared.
    """

    def __init__(self, data: DataConfig, device: str) -> None:
        from thfm_ros.synth.assets import load_assets
        from thfm_ros.synth.clip import generate_clip
        from thfm_ros.synth.config import SynthConfig

        self.config = synth_config(data)
        self.group = self.config.identities
        size = {"width": data.width, "height": data.height, "frames": data.frames, "fps": data.fps}
        self.test = SynthConfig(**size, split="test")
        self.seed, self.assets, self.generate, self.device = data.seed, load_assets(), generate_clip, device

    def clip(self, index: int) -> Clip:
        """As it was rendered, with what it says of itself."""
        config, seed = (self.test, 0) if index >= HELD_OUT else (self.config, self.seed)
        return self.generate(config, seed, index, self.assets, self.device)

    def __call__(self, index: int) -> TrainingClip:
        return TrainingClip.of(self.clip(index))


def synth_config(data: DataConfig) -> SynthConfig:
    """What the generator makes for training."""
    from thfm_ros.synth.config import SynthConfig

    settings = {"width": data.width, "height": data.height, "frames": data.frames, "fps": data.fps}
    places = {"environments": data.environments or None, "backgrounds": data.backgrounds or None}
    if twice := sorted((settings | places).keys() & data.settings.keys()):
        raise UserError(f"data.settings: expected other keys, found {twice[0]}: set data.{twice[0]} instead")
    larger = {"width": data.width * data.oversample, "height": data.height * data.oversample}
    try:
        return SynthConfig(**{**settings, **larger, **places, **data.settings})
    except TypeError as error:
        raise UserError(f"data.settings: {str(error).replace('SynthConfig.__init__()', 'the generator')}") from None


class Folder:
    """Clips as one .npz file each; those that are missing come from `make`, or are an error without it."""

    def __init__(self, path: str | Path, make: ClipSource | None = None) -> None:
        self.path, self.make = Path(path), make
        if make is None and not self.path.is_dir():
            raise UserError(f"data.path: expected a folder of clips, found none at {self.path}")
        self.group: int = getattr(make, "group", 1)
        self.memory: OrderedDict[int, TrainingClip] = OrderedDict()
        self.bytes = 0

    def __call__(self, index: int) -> TrainingClip:
        if index not in self.memory:
            clip = self._read(index)
            if clip is None:
                if self.make is None:
                    raise UserError(f"clip {index} is missing: no {self._file(index)}; use data.source: cache")
                clip = self._make(self.make, index)
            self.memory[index] = clip
            self.bytes += clip.nbytes
            while self.bytes > IN_MEMORY and len(self.memory) > 1:
                self.bytes -= self.memory.popitem(last=False)[1].nbytes
        return self.memory[index]

    def _make(self, make: ClipSource, index: int) -> TrainingClip:
        """The clip, and with it the others of its group: the generator renders stills of one person together."""
        size = 1 if index >= HELD_OUT else self.group
        first = index - index % size
        made = {i: make(i) for i in range(first, first + size)}
        for i, clip in made.items():
            self._write(i, clip)
        return made[index]

    def _file(self, index: int) -> Path:
        return self.path / f"{index // 1000:07d}" / f"{index:010d}.npz"

    def _read(self, index: int) -> TrainingClip | None:
        file = self._file(index)
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as data:
                known = [f.name for f in fields(TrainingClip) if f.default is MISSING or f.name in data]
                return TrainingClip(**{name: data[name] for name in known})
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UserError(f"damaged clip {file}: {error}; delete it") from None

    def _write(self, index: int, clip: TrainingClip) -> None:
        file = self._file(index)
        try:
            with atomic(file) as temporary, temporary.open("wb") as out:
                np.savez(out, **{f.name: getattr(clip, f.name) for f in fields(clip)})
        except OSError as error:
            raise UserError(f"cannot write the clip {file}: {error.strerror or error}") from None


def missing_pictures(config: TrainConfig) -> list[str]:
    """Says which pictures training goes without, a line each: none were given, or a folder has other files too."""
    data, lines = config.data, []
    if config.augment.backdrops and not data.backgrounds:
        lines.append("no data.backgrounds: without photographs augment.backdrops leaves all surroundings as they are")
    if data.backgrounds and (line := left_out(data.backgrounds, "photographs")):
        lines.append(f"data.backgrounds: {line}")
    if data.environments and (line := left_out(data.environments, "panoramas")):
        lines.append(f"data.environments: {line}")
    return lines


def open_source(data: DataConfig, device: str = "cpu") -> ClipSource:
    """What the config says; the generator runs on `device`."""
    if data.source == "generate":
        return Generator(data, device)
    if not data.path:
        raise UserError(f"data.source '{data.source}' needs data.path, a folder")
    if data.source == "folder":
        return Folder(data.path)
    generator = Generator(data, device)
    _claim(Path(data.path), kind_of_clips(data, generator.config))
    return Folder(data.path, generator)


def kind_of_clips(data: DataConfig, made: SynthConfig | None = None) -> dict[str, Any]:
    """What decides the pixels of clip i, as plain values. made: what the generator makes, if the caller has it."""
    from thfm_ros.synth.shards import GENERATOR_VERSION

    if data.source == "folder":
        path = Path(data.path).resolve()
        return {"folder": str(path), "clips": _written(path) if (path / KIND).exists() else None}
    made = made or synth_config(data)
    kind = {name: getattr(data, name) for name in ("seed", "height", "width", "frames", "fps", "oversample")}
    # Folders by their content: motions and pictures may have come or gone in the same one.
    folders = {name: made.settings()[name] for name in ("bvh", "environments", "backgrounds") if getattr(made, name)}
    return kind | {"settings": data.settings | folders, "generator": GENERATOR_VERSION}


def _claim(path: Path, kind: dict[str, Any]) -> None:
    """A cache holds clips of one kind: its first user writes down which, later ones have to agree."""
    if not (path / KIND).exists():
        try:
            write_text(path / KIND, json.dumps(kind) + "\n")
        except OSError as error:
            raise UserError(f"cannot use {path} as a cache of clips: {error}") from None
    found = {"oversample": 1} | _written(path)  # which the first caches did not write down
    for name, value in kind.items():
        if found.get(name) != value:
            raise UserError(f"{path} holds clips with {name} {found.get(name)}, the config wants {value}: another path")


def _written(path: Path) -> dict[str, Any]:
    """Read which kind of clips a cache holds."""
    try:
        found = json.loads((path / KIND).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot use {path} as a cache of clips: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path / KIND}: expected a table, found {type(found).__name__}: delete the folder")
    return found


@dataclass(frozen=True)
class Draw:
    """What one step trains on, before any pixel exists.

    clips: (B,) clip numbers. tasks: for every clip, its tasks. prompts: for each of those, which paraphrase.
    attention: the mask. stream: on latents from the middle of a stream. first: the first latent frame decoded.
    width, height: of windows around one person each that are seen instead of whole images; None: whole images.
    group: clips in a row that are rendered together.
    """

    step: int
    clips: tuple[int, ...]
    tasks: tuple[tuple[str, ...], ...]
    prompts: tuple[tuple[int, ...], ...]
    attention: str
    stream: bool
    first: float
    width: int | None = None
    height: int | None = None
    group: int = 1

    @property
    def joints_alone(self) -> bool:
        """Whether no task of the step paints anything."""
        return all(name in JOINTS for tasks in self.tasks for name in tasks)

    def for_process(self, index: int, count: int) -> Draw:
        """The samples of one of `count` processes: mostly the clips that it has rendered before, should they return."""
        order = np.argsort(np.array(self.clips) // self.group % count, kind="stable")
        clips, tasks, prompts = (tuple(x[i] for i in order) for x in (self.clips, self.tasks, self.prompts))
        return replace(self, clips=clips, tasks=tasks, prompts=prompts).part(index, count)

    def part(self, index: int, count: int) -> Draw:
        """The samples of one accumulation part of `count`."""
        pick = slice(index * len(self.clips) // count, (index + 1) * len(self.clips) // count)
        return replace(
            self,
            clips=self.clips[pick],
            tasks=self.tasks[pick],
            prompts=self.prompts[pick],
        )


def draw(config: TrainConfig, step: int) -> Draw:
    """The global batch of a step, a function of (seed, step)."""
    rng = np.random.default_rng((config.seed, step))
    windows = config.augment.windows
    near = bool(windows.share) and np.random.default_rng((config.seed, step, 2)).random() < windows.share
    smaller = max(1, config.data.width * config.data.height // (windows.width * windows.height))
    joints = near and bool(windows.joints) and np.random.default_rng((config.seed, step, 3)).random() < windows.joints
    size = config.batch * (smaller if near else 1) * (JOINTS_MORE if joints else 1)
    if config.data.clips:
        clips = rng.integers(config.data.clips, size=size)
    else:
        most = config.batch * (smaller if windows.share else 1) * (JOINTS_MORE if windows.joints else 1)
        clips = _fresh(step, size, most, config.data.repeats)
    chosen_from = JOINTS if joints else windows.tasks if near and windows.tasks else config.tasks
    weights = task_weights(replace(config, tasks=chosen_from))
    names, shares = list(weights), np.array(list(weights.values()))
    count = 1 if joints else min(config.tasks_per_clip, len(names))
    tasks = [
        tuple(names[i] for i in rng.choice(len(names), count, replace=False, p=shares / shares.sum())) for _ in clips
    ]
    prompts = [
        tuple(int(rng.integers(len(get_task(t).prompts))) if t != "rgb" else 0 for t in chosen) for chosen in tasks
    ]
    masks = np.array(list(config.attention.values()), dtype=float)
    attention = str(rng.choice(list(config.attention), p=masks / masks.sum()))
    stream = bool(rng.random() < config.stream)
    first = float(rng.random())
    return Draw(
        step=step,
        clips=tuple(map(int, clips)),
        tasks=tuple(tasks),
        prompts=tuple(prompts),
        attention=attention,
        stream=stream,
        first=first,
        width=windows.width if near else None,
        height=windows.height if near else None,
        group=config.data.settings.get("identities", 1),
    )


def _fresh(step: int, size: int, most: int, repeats: int) -> np.ndarray:
    """(size,) numbers of a step's clips out of those without end; most: size of the largest step.

    With repeats a step sees a share of clips for the first time, as many for the second time, and so on: those that
    were new `APART` steps earlier.
    """
    each = -(-most // repeats)
    steps = step + APART * np.arange(repeats)
    return np.concatenate([each * s + np.arange(-(-size // repeats)) for s in steps])[:size]


def task_weights(config: TrainConfig) -> dict[str, float]:
    """Sampling weights of the tasks with a positive one; all alike where the config names none."""
    weights = config.tasks
    pictures = config.stage in WITHOUT_TASKS
    if not weights:
        weights = {name: 1.0 for name, task in TASKS.items() if not pictures or task.kind == "dense"}
        if pictures:
            weights["rgb"] = 2.0
    for name in weights:
        if name == "rgb" and pictures:
            continue
        if get_task(name).kind == "sparse" and pictures:
            raise UserError(f"tasks: stage {config.stage} knows dense tasks and 'rgb', found '{name}'")
    weights = {name: weight for name, weight in weights.items() if weight > 0}
    if not weights:
        raise UserError("tasks: expected at least one task with a weight above 0, found none")
    return weights


def feed(
    source: ClipSource, requests: Iterable[Sequence[int]], data: DataConfig, device: str
) -> Iterator[list[TrainingClip]]:
    """Yield the clips of every request, in order; those that come again within the next requests are made once.

    With `data.workers` > 0 they are made ahead of time by that many processes, each of which opens the config's source
    for itself.
    """
    if data.workers == 0:
        recent = Recent(source, data.repeats)
        for request in requests:
            yield recent(request)[0]
        return
    if data.source != "folder":
        source(HELD_OUT)  # compiles the generator's kernels once, before many processes want them
    pool = ProcessPoolExecutor(
        data.workers, mp_context=get_context("spawn"), initializer=_open_in_worker, initargs=(data, device)
    )
    together = getattr(source, "group", 1) if data.frames == 1 else 1  # stills of a group are rendered at once
    ahead = Recent(Grouped(lambda indices: pool.submit(_make_in_worker, indices), together), data.repeats)
    pending: deque[tuple[list[Member], int]] = deque()
    waiting = 0
    try:
        for request in requests:
            pending.append(ahead(request))
            waiting += pending[-1][1]
            while pending and waiting > 2 * data.workers + pending[0][1]:
                members, new = pending.popleft()
                waiting -= new
                yield [member.result() for member in members]
        while pending:
            yield [member.result() for member in pending.popleft()[0]]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Member(NamedTuple):
    """One clip of those that a worker makes together."""

    clips: Future[list[TrainingClip]]
    place: int

    def result(self) -> TrainingClip:
        return self.clips.result()[self.place]


class Grouped:
    """Asks workers for groups of `size` clips in a row, each group once while its members are wanted one by one."""

    def __init__(self, submit: Callable[[range], Future[list[TrainingClip]]], size: int) -> None:
        self.submit, self.size = submit, size
        self.latest: OrderedDict[int, Future[list[TrainingClip]]] = OrderedDict()

    def __call__(self, index: int) -> Member:
        group, place = divmod(index, self.size)
        if group not in self.latest:
            self.latest[group] = self.submit(range(group * self.size, (group + 1) * self.size))
            if len(self.latest) > LATEST:
                self.latest.popitem(last=False)
        return Member(self.latest[group], place)


class Recent(Generic[Made]):
    """Makes what is asked for by number, once for all requests of the next `repeats` times `APART` steps."""

    def __init__(self, make: Callable[[int], Made], repeats: int) -> None:
        self.make, self.repeats = make, repeats
        self.steps, self.most = APART * repeats if repeats > 1 else 0, 0
        self.kept: OrderedDict[int, Made] = OrderedDict()

    def __call__(self, request: Sequence[int]) -> tuple[list[Made], int]:
        """Return what was asked for, and how many of these were made now."""
        new = {index: self.make(index) for index in request if index not in self.kept}
        self.kept |= new
        found = [self.kept[index] for index in request]
        for index in request:
            self.kept.move_to_end(index)
        self.most = max(self.most, -(-len(request) // self.repeats))  # of the clips of a step that are new
        while len(self.kept) > self.steps * self.most:
            self.kept.popitem(last=False)
        return found, len(new)


_worker_source: ClipSource | None = None


def _open_in_worker(data: DataConfig, device: str) -> None:
    global _worker_source
    import torch

    end_with_parent()  # a killed trainer cannot close its pool, and its workers would wait for work for ever
    torch.set_num_threads(1)
    _worker_source = open_source(data, device)


def _make_in_worker(indices: range) -> list[TrainingClip]:
    assert _worker_source is not None
    return [_worker_source(index) for index in indices]
