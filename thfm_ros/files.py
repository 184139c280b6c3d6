"""Files that other processes may read, write or interrupt: written beside and renamed, and locks between processes.

Whether a temporary belongs to somebody is asked of the kernel, by a lock on it, and not guessed from a process id:
those of another container or machine on the same disk are left alone, those of a killed process are removed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError

_OLD = ".replaced"  # what stood at a path while its successor is put there
_STREAMS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))  # their entries stand for what is open already


@contextmanager
def atomic(path: str | Path, replace: bool = True) -> Iterator[Path]:
    """Gives a temporary path of the same name on the same disk, which becomes `path` when the block ends well.

    The block makes a file or a folder of it. Where the block fails nothing remains, and what stood at `path` stays.
    It is on the disk before it has its name: after a power cut it would otherwise be an empty file.
    A link is followed. Devices and pipes (/dev/stdout) are written directly.

    Args:
        replace: False: a file or a folder with content that is there by then stays, and what the block made is kept
            beside it under the first free name.
    Raises:
        FileExistsError: that happened; its text has the name.
        OSError: the place cannot be written.
    """
    path = Path(path)
    if path.parent in _STREAMS or (path.exists() and not (path.is_file() or path.is_dir())):
        yield path
        return
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(path)
    folder, lock = _temporary_folder(path)
    try:
        made = folder / path.name
        yield made
        _flush(made)
        if not replace and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
            kept = free_name(path)
            made.rename(kept)
            raise FileExistsError(errno.EEXIST, f"made by another process meanwhile, this one is {kept}", str(path))
        if replace and path.is_dir() and made.is_dir():
            path.rename(folder / _OLD)
        made.replace(path)
        _flush_folder(path.parent)
    finally:
        _restore(folder, path)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def write_text(path: str | Path, text: str) -> None:
    """Writes a whole text file or none. Raises OSError."""
    with atomic(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | Path, data: Any, indent: int = 2) -> None:
    """Writes a whole JSON file or none. UserError that names it where it cannot be written."""
    try:
        write_text(path, json.dumps(data, indent=indent) + "\n")
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: str | Path, error: OSError) -> UserError:
    """The error of a write as one line that names the path and the fix."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    fix = "make room, or choose another place" if full else "choose another place"
    return UserError(f"cannot write {path}: {error.strerror or error}: {fix}")


def files_below(folder: str | Path) -> list[Path]:
    """All files in a folder and its subfolders in the order of their paths, hidden ones left out.

    Links to folders are followed; a folder that comes again, as in a loop of links, is left out.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()  # which of two links to a folder is the first
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


@contextmanager
def locked(
    path: str | Path, stop: Callable[[], bool] = lambda: False, waiting: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Holds the lock of what several processes may make at `path`; the kernel frees it when this one ends.

    Gives True, or False where `stop` returned True before the lock was free. Who gets it looks again at `path`: the
    process before may have made it. `waiting` is called once where another one holds it. A file system that knows no
    locks excludes nobody: there it gives True at once.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never removed: a process that waits for a removed file would share its lock with nobody.
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        free, asked = _lock(descriptor), False
        while free is False and not stop():
            if not asked:
                waiting()
                asked = True
            time.sleep(0.05)
            free = _lock(descriptor)
        yield free is not False
    finally:
        os.close(descriptor)


def clear_abandoned(path: str | Path) -> None:
    """Removes the temporaries of `path` whose processes have ended without doing so."""
    path = Path(path)
    for folder in path.parent.glob(f"{_escaped(f'.{path.name}.')}*.tmp"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # gone meanwhile, or no folder of ours
            continue
        try:
            if _lock(lock) is True:
                _restore(folder, path)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def clear_abandoned_in(folder: Path) -> None:
    """Removes the temporaries of ended processes in a folder, whatever they were to become.

    For caches, where another version of an entry has another name.
    """
    for name in {temporary.name[1:].rsplit(".", 2)[0] for temporary in folder.glob(".*.*.tmp")}:
        clear_abandoned(folder / name)


def free_name(path: str | Path) -> Path:
    """The path, or the first of NAME_2, NAME_3, ... that nothing has yet."""
    path = Path(path)
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_stem(f"{path.stem}_{number}")
    return found


def _flush(made: Path) -> None:
    """Has the disk take a file, or a folder with all that is in it. Raises OSError."""
    for path in (made, *(made.rglob("*") if made.is_dir() else ())):
        if path.is_dir():
            _flush_folder(path)
        elif path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Has the disk take the names in a folder, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_folder(path: Path) -> tuple[Path, int]:
    """A new folder beside `path`, and the descriptor whose lock says that it is in use."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _lock(lock)
        if folder.exists():
            return folder, lock
        os.close(lock)  # taken for an abandoned one before it was locked


def _restore(folder: Path, path: Path) -> None:
    """Puts back what was moved away for a successor that never came."""
    old = folder / _OLD
    if old.exists() and not path.exists():
        old.rename(path)


def _lock(descriptor: int) -> bool | None:
    """True: it is ours now. False: another one's. None: this file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _escaped(name: str) -> str:
    """The name as a pattern that means itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
