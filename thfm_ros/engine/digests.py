"""sha256 of files, remembered in the user's cache: a start would spend a second or more on every gigabyte of a bundle.

What is remembered holds as long as a file's size, times and inode do. A file that changed a moment ago is hashed again
the next time, because clocks of file systems are coarse. A cache that cannot be written only costs time.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

from thfm_ros.engine.manifest import sha256
from thfm_ros.errors import UserError
from thfm_ros.files import write_text
from thfm_ros.paths import cache_entry, optional_cache_folder

FOLDER = "digests"
SETTLED_NS = 2_000_000_000  # as FAT's clock, the coarsest


def digest(path: Path, settled_ns: int = SETTLED_NS) -> str:
    """The file's sha256 in hex. settled_ns: for how long it has to be unchanged to be remembered."""
    path = path.resolve()
    name = f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    state = _state(path)
    with suppress(UserError, OSError, ValueError, TypeError):  # none, damaged, or of another release
        known, found = json.loads(cache_entry(FOLDER, name).read_text())
        if known == state and isinstance(found, str):
            return found
    found = sha256(path)
    settled = time.time_ns() - max(state[1:3]) >= settled_ns
    if settled and _state(path) == state and (folder := optional_cache_folder(FOLDER)):
        with suppress(OSError):
            write_text(folder / name, json.dumps([state, found]) + "\n")
    return found


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
