"""`thfm generate`: synthetic clips with ground truth, as shards, a preview or a measurement."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Task


def register(app: typer.Typer) -> None:
    app.command("generate")(generate)


def generate(
    clips: int = typer.Option(24, min=1, help="how many clips"),
    frames: int = typer.Option(17, help="frames a clip; 1 makes single images, much cheaper"),
    size: str = typer.Option("256x256", help="HxW in pixels"),
    seed: int = typer.Option(0, min=0, help="another seed is another data set"),
    out: Path = typer.Option(Path("out/synth"), help="folder of the shards, the preview and the manifest"),
    fps: float = typer.Option(12.0, help="frames a second"),
    people: int = typer.Option(1, help="most people in a clip"),
    split: str = typer.Option("train", help="train or test: disjoint motions, outfits and seeds"),
    samples: int = typer.Option(2, help="samples a pixel and axis, 1 to 4"),
    outdoor: float = typer.Option(0.45, help="share of clips under the open sky"),
    empty: float = typer.Option(0.02, help="share of clips without anyone"),
    identities: int = typer.Option(0, help="clips in a row that share a person; 0: 8 for single images, else 1"),
    sensor: bool = typer.Option(True, help="lens, exposure, noise and compression on the colour"),
    bvh: Path | None = typer.Option(None, help="folder of BVH motions, used besides the bundled"),
    assets: Path | None = typer.Option(None, help="the generator's assets; default assets/synth"),
    workers: int = typer.Option(1, min=1, help="processes; the clips do not depend on it"),
    ray: str | None = typer.Option(None, help="run on Ray: 'local', 'auto' or the address of a cluster"),
    device: str = typer.Option("cpu", help="cpu or cuda:0"),
    per_shard: int | None = typer.Option(None, min=1, help="clips a shard; default: 1 to 32, by the number of clips"),
    preview: bool = typer.Option(False, help="write a contact sheet of all modalities instead of shards"),
    measure: bool = typer.Option(False, help="measure clips a second instead of writing"),
    check: bool = typer.Option(False, help="verify the checksums of the shards in --out"),
    json_file: Path | None = typer.Option(None, "--json", help="also write the result there"),
) -> None:
    """Synthetic people with exact depth, normals, mattes, dense pose, parts and keypoints."""
    from rich.console import Console

    from thfm_ros.errors import UserError
    from thfm_ros.files import write_json
    from thfm_ros.paths import writable_file
    from thfm_ros.synth import shards
    from thfm_ros.synth.bvh import BvhFolder
    from thfm_ros.synth.config import SynthConfig, parse_size

    console = Console()
    if json_file is not None:
        writable_file(json_file)

    def report(result: dict) -> None:
        if json_file is not None:
            write_json(json_file, result, indent=1)

    if check:
        count = shards.check(out)
        console.print(f"{count} shards in {out} are whole", markup=False)
        report({"shards": count})
        return
    height, width = parse_size(size)
    config = SynthConfig(
        frames=frames,
        height=height,
        width=width,
        fps=fps,
        samples=samples,
        people=people,
        empty=empty,
        outdoor=outdoor,
        sensor=sensor,
        identities=identities or (8 if frames == 1 else 1),
        split=split,
        bvh=BvhFolder.at(bvh) if bvh else None,
    )
    if device != "cpu":
        import warp as wp

        if device not in [str(d) for d in wp.get_devices()]:
            raise UserError(f"no device '{device}': this machine has {', '.join(str(d) for d in wp.get_devices())}")
    if measure:
        from thfm_ros.synth.generate import measure as run_measure

        result = run_measure(config, seed, clips, assets, device)
        console.print(
            f"{result['clips_per_s']:.2f} clips/s, {result['frames_per_s']:.1f} frames/s in one process "
            f"({result['clips_per_cpu_s']:.2f} clips a CPU second)"
        )
        report(result)
        return
    if preview:
        _preview(config, seed, clips, out, assets, device)
        line = f"wrote {out / 'preview.png'} (all modalities) and {out / 'gallery.png'} (colour)"
        console.print(line, markup=False)
        report({"preview": str(out / "preview.png"), "gallery": str(out / "gallery.png")})
        return
    manifest = _shards(config, seed, clips, out, per_shard, workers, ray, assets, device)
    console.print(f"{manifest['clips']} clips in {len(manifest['shards'])} shards at {out}", markup=False)
    report(manifest)


def _preview(config, seed: int, clips: int, out: Path, assets: Path | None, device: str) -> None:
    from rich.progress import track

    from thfm_ros.paths import writable_picture
    from thfm_ros.synth.assets import load_assets
    from thfm_ros.synth.clip import generate_clip
    from thfm_ros.synth.preview import contact_sheet, gallery

    sheets = [writable_picture(out / name) for name in ("preview.png", "gallery.png")]
    loaded = load_assets(assets)
    made = [generate_clip(config, seed, i, loaded, device) for i in track(range(clips), "clips")]
    contact_sheet(made, sheets[0])
    gallery(made, sheets[1])


def pace(task: Task) -> str:
    """Rate and time left by the clips of this run alone: those that earlier runs left (field "resumed") cost no time.

    rich's own estimate looks 30 s back, which is about one shard.
    """
    made, seconds = task.completed - task.fields["resumed"], task.elapsed or 0.0
    if made <= 0 or seconds <= 0:
        return "- clips/s"
    rate = made / seconds
    left = timedelta(seconds=math.ceil(((task.total or 0) - task.completed) / rate))
    return f"{rate:.2f} clips/s, {left} left"


def _shards(config, seed, clips, out, per_shard, workers, ray, assets, device) -> dict:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    from thfm_ros.synth.generate import run

    class Pace(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(pace(task))

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Pace()) as bar:
        task = bar.add_task("generating", total=clips, resumed=0)
        try:
            return run(
                config,
                seed,
                clips,
                out,
                per_shard,
                workers,
                ray,
                assets,
                device,
                progress=lambda n: bar.update(task, advance=n),
                resumed=lambda n: bar.update(task, completed=n, resumed=n),
            )
        except BaseException:
            if kept := int(bar.tasks[0].completed):
                line = f"ended early: {kept} of {clips} clips are in {out}; the same command goes on there"
                bar.console.print(line, markup=False)
            raise
