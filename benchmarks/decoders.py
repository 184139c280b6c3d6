"""What a narrower decoder and decoding four tasks at once save on this CPU, by measurement.

    python benchmarks/decoders.py --sizes 96x160x5 192x320x17 --rounds 100 --json decoders.json

Decode stages of a preset, with `decoder_base_dim` as in the preset and smaller, for one task and for several at once,
are exported and run by the code that `thfm export` and `thfm bench` use, in OpenVINO. Weights are random: time does not
depend on them, quality does, so this says what is worth training, not what is good. Stages take turns and every round
gives one ratio to the preset's decoder at batch 1, whose median is printed with its quartiles: ratios hold on a loaded
machine, milliseconds do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.numpy import save_file

from thfm_ros.engine.backends.openvino_backend import open_runtime
from thfm_ros.engine.bench import Run, measure, warm_up
from thfm_ros.engine.export import DTYPES, export_onnx
from thfm_ros.engine.manifest import Manifest, file_entry
from thfm_ros.engine.modules import Clip, manifest_of, whole_clip_modules
from thfm_ros.engine.runtime import default_threads
from thfm_ros.files import write_json
from thfm_ros.model.checkpoint import Checkpoint, CheckpointConfig
from thfm_ros.model.presets import Preset, build, get_preset
from thfm_ros.model.prompts import embed_tasks, get_embedder


def stage_name(width: int, batch: int) -> str:
    return f"decode{width}" + (f"_x{batch}" if batch > 1 else "")


def export_decoders(
    preset: Preset, widths: Sequence[int], batches: Sequence[int], size: Sequence[int], precision: str, folder: Path
) -> Manifest:
    """All decoders as stages of one manifest, so that one runtime runs them. size: height, width, frames."""
    prompts = embed_tasks(get_embedder("hash", dim=preset.transformer["text_dim"]), preset.text_length)
    save_file({task: p[0].numpy() for task, p in prompts.items()}, folder / "prompts.safetensors")
    height, width, frames = size
    stages = {}
    for base in widths:
        vae, transformer = build(dataclasses.replace(preset, vae={**preset.vae, "decoder_base_dim": base}))
        if DTYPES[precision] != vae.dtype:
            vae = vae.to(DTYPES[precision])
        checkpoint = Checkpoint(vae, transformer, prompts, CheckpointConfig.of(preset))
        clip = Clip.of(checkpoint, frames, height, width)
        modules = whole_clip_modules(checkpoint, clip, batches)
        for batch in batches:
            name, module = stage_name(base, batch), modules["decode" if batch == 1 else f"decode_x{batch}"]
            print(f"export {name}, {height}x{width}x{frames}", flush=True)
            export_onnx(module, folder / f"{name}.onnx")
            entry = file_entry(folder, folder / f"{name}.onnx")
            stages[name] = module.described(precision, onnx=entry, gflop=module.gflop())
    return manifest_of(
        checkpoint,
        clip,
        target="decoders",
        backends=("openvino",),
        checkpoint="",
        recipe="",
        stages=stages,
        weights=(),
        weights_sha256="",
        prompts=file_entry(folder, folder / "prompts.safetensors"),
        root=folder,
        backend="openvino",
    )


def compare(run: Run, peaks: Sequence[dict[str, float]], baseline: str) -> list[dict[str, Any]]:
    """A row a stage. of_preset: time of one decoded task over that of `baseline`, by the rounds' own ratios."""
    rows = []
    rounds = min(len(samples) for samples in run.samples.values())  # Ctrl-C may have left the last round unfinished
    base = np.array(run.samples[baseline][:rounds])
    for name, stage in run.runtime.manifest.stages.items():
        batch = stage.inputs[0].shape[0]
        per_task = np.array(run.samples[name][:rounds]) / batch
        low, middle, high = (float(q) for q in np.percentile(per_task / base, [25, 50, 75]))
        kind = run.peak(name)
        peak = float(np.median([p[kind] for p in peaks]))
        ms, gflop = float(np.median(per_task)), stage.gflop / batch
        rows.append(
            {
                "stage": name,
                "batch": batch,
                "precision": run.runtime.precision(stage),
                "gflop_per_task": gflop,
                "ms_per_task": ms,
                "of_preset": middle,
                "of_preset_quartiles": [low, high],
                "of_peak": 1e3 * gflop / ms / peak,
                "samples": rounds,
            }
        )
    return rows


def measure_size(
    preset: Preset, size: Sequence[int], options: argparse.Namespace, widths: Sequence[int], batches: Sequence[int]
) -> dict[str, Any]:
    """Exports into a temporary folder, which also takes OpenVINO's cache: nobody needs these models again."""
    height, width, frames = size
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        manifest = export_decoders(preset, widths, batches, size, options.precision, Path(folder))
        run = warm_up("decoders", lambda: open_runtime(manifest, options.threads))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{height}x{width}x{frames}, rounds", total=options.rounds)
            report = lambda done, expected: progress.update(task, completed=done, total=expected)  # noqa: E731
            peaks = measure([run], options.rounds, report, 60 * options.max_minutes)
        rows = compare(run, peaks, stage_name(widths[0], 1))
        info = run.runtime.info
        run.runtime.close()
    peak = {kind: float(np.median([p[kind] for p in peaks])) for kind in peaks[0]}
    print(f"{height}x{width}x{frames}, {info['device']}, {info['threads']} threads, {len(peaks)} rounds, peak {peak}")
    print(f"{'stage':14s} {'GFLOP/task':>10s} {'ms/task':>9s} {'of preset':>9s} {'quartiles':>15s} {'of peak':>8s}")
    for row in rows:
        low, high = row["of_preset_quartiles"]
        print(
            f"{row['stage']:14s} {row['gflop_per_task']:10.3f} {row['ms_per_task']:9.2f} {row['of_preset']:9.3f} "
            f"{f'{low:.3f} - {high:.3f}':>15s} {row['of_peak']:8.0%}",
            flush=True,
        )
    return {"size": list(size), "info": info, "peak_gflops": peak, "rounds": len(peaks), "rows": rows}


def to_size(text: str) -> tuple[int, ...]:
    size = tuple(int(n) for n in text.split("x"))
    if len(size) != 3:
        raise ValueError  # which argparse turns into a message
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--sizes", nargs="+", type=to_size, default=[(96, 160, 5)], help="HEIGHTxWIDTHxFRAMES")
    parser.add_argument("--widths", nargs="+", type=int, default=[12, 8], help="decoder_base_dim besides the preset's")
    parser.add_argument("--batches", nargs="+", type=int, default=[4], help="tasks in one run, besides 1")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--max-minutes", type=float, default=5.0, help="for each size; at least 3 rounds")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="as in engines/cpu.yaml")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    preset = get_preset(options.preset)
    widths = list(dict.fromkeys([preset.vae["decoder_base_dim"], *options.widths]))
    batches = list(dict.fromkeys([1, *options.batches]))
    results = [measure_size(preset, size, options, widths, batches) for size in options.sizes]
    if options.json:
        data = {"preset": preset.name, "baseline": stage_name(widths[0], 1), "sizes": results}
        write_json(options.json, data, indent=1)


if __name__ == "__main__":
    main()
