"""Runs `write_shard` over a plan: in this process, on local processes, or on a Ray cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.files import write_json
from thfm_ros.processes import end_with_parent
from thfm_ros.synth.assets import load_assets
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.shards import finished, plan, shard_name, write_shard

Job = tuple[Any, ...]


def _here(jobs: list[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
    for job in jobs:
        yield job, write_shard(*job)


def _processes(jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        futures = {pool.submit(write_shard, *job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()  # it would finish its shard first, for minutes
            raise


def _ray(jobs: list[Job], workers: int, address: str) -> Iterator[tuple[Job, dict[str, Any]]]:
    """One Ray task a shard. address: "local" starts a small cluster here, else that of a running cluster, whose
    machines share the output folder."""
    import ray

    local = address == "local"
    ray.init(
        **({"num_cpus": workers, "include_dashboard": False} if local else {"address": address}),
        log_to_driver=False,
        ignore_reinit_error=True,
    )
    try:
        remote = ray.remote(num_cpus=1)(write_shard)
        waiting = {}
        queue = list(jobs)
        limit = workers if local else max(workers, int(ray.cluster_resources().get("CPU", 1)))
        while queue or waiting:
            while queue and len(waiting) < limit:
                job = queue.pop(0)
                waiting[remote.remote(*job)] = job
            done, _ = ray.wait(list(waiting), num_returns=1)
            for reference in done:
                yield waiting.pop(reference), ray.get(reference)
    finally:
        ray.shutdown()


def clips_a_shard(clips: int) -> int:
    """The default: 64 shards or more wherever there are clips enough, so that many workers share the work evenly, and
    at most 32 clips (some 60 MB) a shard. Of the number of clips alone: the same plan whatever the workers."""
    return min(max(-(-clips // 64), 1), 32)


def _read_plan(path: Path) -> dict[str, Any] | None:
    """The plan on disk, None where there is none; UserError where it is damaged."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
    except ValueError:  # not JSON, or not even text
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("per_shard"), int):
        raise UserError(
            f"{path} is damaged: delete it and give the same options as before, --per-shard too where it was given; "
            "the finished shards are kept. If the options are not known, use an empty folder"
        )
    return found


def run(
    config: SynthConfig,
    seed: int,
    clips: int,
    out: Path,
    per_shard: int | None = None,
    workers: int = 1,
    ray: str | None = None,
    assets: Path | None = None,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda clips: None,
    resumed: Callable[[int], None] = lambda clips: None,
) -> dict[str, Any]:
    """Generates `clips` clips into shards in `out`; finished shards of the same plan are kept. Returns the manifest.

    The clips do not depend on workers or engine. per_shard: None: as the plan in `out` says, else `clips_a_shard`;
    rounded up to a multiple of config.identities for stills. resumed: called once with the clips of earlier runs;
    progress: how many were made now, shard by shard.
    """
    path = out / "plan.json"
    before = _read_plan(path)
    if per_shard is None:
        per_shard = before["per_shard"] if before else clips_a_shard(clips)
    if config.frames == 1:
        per_shard = -(-per_shard // config.identities) * config.identities
    wanted = plan(config, seed, clips, per_shard, load_assets(assets).digest)
    out.mkdir(parents=True, exist_ok=True)
    if before is not None and before != json.loads(json.dumps(wanted)):
        raise UserError(
            f"{out} holds shards of another plan: use an empty folder or the same options, "
            "and the same BVH files, as before"
        )
    if before is None:
        write_json(path, wanted, indent=1)
    numbers = range(-(-clips // per_shard))
    entries = {n: e for n in numbers if (e := finished(out, n)) is not None}
    resumed(sum(e["clips"] for e in entries.values()))
    settings = asdict(config)
    jobs = [
        (
            str(out.resolve()),
            n,
            settings,
            seed,
            n * per_shard,
            min(per_shard, clips - n * per_shard),
            str(assets.resolve()) if assets else None,
            device,
        )
        for n in numbers
        if n not in entries
    ]
    source = (
        _ray(jobs, workers, ray) if ray else _processes(jobs, workers) if workers > 1 and len(jobs) > 1 else _here(jobs)
    )
    for job, entry in source:
        entries[job[1]] = entry
        progress(entry["clips"])
    manifest = wanted | {"shards": {shard_name(n): entries[n] for n in sorted(entries)}}
    write_json(out / "manifest.json", manifest, indent=1)
    return manifest


def measure(config: SynthConfig, seed: int, clips: int, assets: Path | None, device: str) -> dict[str, float]:
    """Clips and frames a second of this process, without writing; CPU seconds as well, which a busy machine needs."""
    from thfm_ros.synth.clip import generate_clip

    loaded = load_assets(assets)
    generate_clip(config, seed + 1, 0, loaded, device)
    wall, cpu = time.perf_counter(), time.process_time()
    for i in range(clips):
        generate_clip(config, seed, i, loaded, device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "clips": clips,
        "wall_s": wall,
        "clips_per_s": clips / wall,
        "frames_per_s": clips * config.frames / wall,
        "clips_per_cpu_s": clips / cpu,
    }
