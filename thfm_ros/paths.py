"""Where files are: those that ship beside the code (in the source tree, or in share/thfm_ros of an installation), and
the cache, which nothing may depend on: it saves time."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, gettempdir, mkdtemp

from thfm_ros.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png")

_LOG = logging.getLogger(__name__)
_warned: list[str] = []


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
    raise UserError(
        f"{Path(*parts)} is not part of this installation (looked in {roots[0]}): install thfm_ros from a source tree "
        "that has it"
    )


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


def writable_file(file: Path) -> Path:
    """The same path, as `writable` has it, for what can only be a file: UserError also where a folder is there."""
    if os.path.isdir(file):  # Path.is_dir raises where a folder above cannot be read
        raise UserError(f"cannot write {file}: it is a folder: name a file")
    return writable(file)


def writable_picture(file: Path, option: str = "--out", kinds: tuple[str, ...] = PICTURES) -> Path:
    """The same path, as `writable_file` has it, for a picture: UserError also for another suffix."""
    if file.suffix.lower() not in kinds:
        raise UserError(f"expected a picture ({', '.join(kinds)}) as {option}, found {file}: give it such a name")
    return writable_file(file)


def video_path(source: str, kinds: str = "a video file") -> Path:
    """The file that `source` names: a path, or the name of a shipped sample. UserError that lists the samples.

    kinds: what else than a sample may be named, for that error.
    """
    path = Path(os.path.expanduser(source))  # as it is, where this user has no home directory
    if path.suffix or path.exists():
        return path
    folder = resource("samples")
    samples = sorted(p.stem for p in folder.glob("*.mp4"))
    if source not in samples:
        raise UserError(f"'{source}' is neither {kinds} nor a sample: the samples are {', '.join(samples)}")
    return folder / f"{source}.mp4"


def cache_folder(name: str) -> Path:
    """A folder for what this machine can make again; created.

    It is in the user's cache (XDG_CACHE_HOME), or, where that cannot be written, among the temporary files, which one
    warning says. UserError where neither can be written.
    """
    user, problem = _user_cache()
    problem = problem or why_not_writable(user / name)
    if not problem:
        return user / name
    try:
        temporary = _temporary_root()
        (temporary / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache cannot be written ({problem}), nor temporary files ({error.strerror or error}): set "
            "XDG_CACHE_HOME to a folder that can"
        ) from None
    _warn_once(
        f"the cache cannot be written ({problem}): {temporary} is used instead, which a restart may clear: "
        "set XDG_CACHE_HOME to a folder that can be written"
    )
    return temporary / name


def optional_cache_folder(name: str) -> Path | None:
    """The same for what only saves time: None, and the warning, where no such folder can be written."""
    try:
        return cache_folder(name)
    except UserError as error:
        _warn_once(str(error))
        return None


def cache_entry(folder: str, name: str) -> Path:
    """The path of one entry of the cache: where there is one already, even in a cache that can only be read, that one.

    UserError where there is none and no folder that can be written.
    """
    user, _ = _user_cache()
    try:
        if (user / folder / name).exists():
            return user / folder / name
    except OSError:  # a home directory of somebody else
        pass
    return cache_folder(folder) / name


def _user_cache() -> tuple[Path, str]:
    """This package's folder in the user's cache, and why there can be none."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thfm_ros", ""
    except RuntimeError:  # HOME is not set, and the system does not know this user (docker --user)
        return Path("/nonexistent"), "this user has no home directory"


def user_cache_is_writable() -> bool:
    """Whether this package, and others that keep their caches beside it, can write there."""
    user, problem = _user_cache()
    return not (problem or why_not_writable(user))


def why_not_writable(folder: Path) -> str:
    """Empty where files can be made in a folder, which is created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # permissions alone promise root too much
            return ""
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror or error}"


@cache
def _private_root() -> Path:
    root = Path(mkdtemp(prefix="thfm_ros-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def _temporary_root() -> Path:
    """A folder of this user alone among the temporary files, the same for all processes; where somebody else has taken
    its name, one of this process. OSError where there is no place for temporary files."""
    root = Path(gettempdir()) / f"thfm_ros-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        found = root.lstat()
    except OSError:
        return _private_root()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return root if own else _private_root()


def _warn_once(text: str) -> None:
    """One warning about the cache is enough for a process."""
    if not _warned:
        _warned.append(text)
        _LOG.warning(text)
