"""Where the files that ship beside the code are: in the source tree, or in share/thfm_ros of an installation."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from thfm_ros.errors import UserError


def resource(*parts: str) -> Path:
    """The path of a shipped file or folder, such as resource("samples", "pedestrians.mp4").

    Raises UserError where no such thing was installed.
    """
    module = Path(__file__).resolve()
    roots = [module.parents[1], *(parent / "share" / "thfm_ros" for parent in module.parents)]
    for root in roots:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise UserError(f"{Path(*parts)} is not part of this installation (looked in {roots[0]}): reinstall thfm_ros")


def writable(file: Path) -> Path:
    """The same path, after its folder was made; UserError now rather than after the work where it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            with TemporaryFile(dir=file.parent):  # permissions alone promise root too much, in /proc for example
                pass
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}: choose another place") from None
    if file.exists() and not os.access(file, os.W_OK):
        raise UserError(f"cannot write {file}: no permission: choose another place")
    return file


def video_path(source: str) -> Path:
    """The file that `source` names: a path, or the name of a shipped sample. UserError that lists the samples."""
    path = Path(source).expanduser()
    if path.suffix or path.exists():
        return path
    folder = resource("samples")
    samples = sorted(p.stem for p in folder.glob("*.mp4"))
    if source not in samples:
        raise UserError(f"'{source}' is neither a video file nor a sample: the samples are {', '.join(samples)}")
    return folder / f"{source}.mp4"


def cache_dir() -> Path:
    """This package's folder in the user's cache (XDG_CACHE_HOME); not created."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thfm_ros"


def cache_folder(name: str) -> Path:
    """A folder for what this machine can make again, in the user's cache; created."""
    path = cache_dir() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
