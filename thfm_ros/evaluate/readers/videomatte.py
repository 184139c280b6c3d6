"""VideoMatte240K composites of Robust Video Matting: {512x288}/videomatte_static/{clip}/{com,pha,..}/{frame}.png."""

from __future__ import annotations

from pathlib import Path

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import Recording, list_images, load_gray, load_rgb, need, some

SOURCE = "get videomatte_512x288 from the Robust Video Matting repository, documentation/training.md (evaluation data)"


def read(root: Path, split: str = "static", fps: float = 25.0) -> list[Recording]:
    """One recording a clip of the split ("static" in the paper, or "motion"); alpha of every frame.

    root may be the folder that holds videomatte_512x288, that one, or the split's own. The frame rate is not stored.
    """
    name = f"videomatte_{split}"
    places = (root, root / name, *sorted(root.glob(f"videomatte_*/{name}")))
    folder = next((p for p in places if p.name == name and p.is_dir()), root / name)
    need(folder, f"VideoMatte's {split} clips", SOURCE)
    clips = some(sorted(p for p in folder.iterdir() if (p / "com").is_dir()), folder, "*/com", SOURCE)
    return [_recording(clip, fps) for clip in clips]


def _recording(clip: Path, fps: float) -> Recording:
    images, mattes = list_images(clip / "com"), list_images(clip / "pha")
    if not images or [p.stem for p in images] != [p.stem for p in mattes]:
        raise UserError(f"{clip}: expected the same frames in com and pha, found {len(images)} and {len(mattes)}")
    return Recording(
        clip.name,
        len(images),
        fps,
        lambda i: load_rgb(images[i]),
        lambda i: {"alpha": load_gray(mattes[i])},
        files=(*images, *mattes),
    )
