"""Opens bags of rosbag2 (MCAP, sqlite3; split, compressed), and says in one line why one cannot be read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thfm_ros.errors import UserError

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader

MAGICS = {b"\x89MCAP0\r\n": "mcap", b"SQLite format 3\0": "sqlite3", b"#ROSBAG V": "rosbag1"}
SUFFIXES = (".mcap", ".db3", ".bag", ".mcap.zstd", ".db3.zstd")
RECOVER = {
    "mcap": "it was cut off: `mcap recover IN.mcap -o OUT.mcap` makes a whole one of what is there",
    "sqlite3": "it was cut off: `sqlite3 IN.db3 .recover | sqlite3 OUT.db3` makes a whole one of what is there",
}


def is_bag(path: Path) -> bool:
    """Whether this file or folder is meant to be a bag, by its content or its name."""
    if path.is_dir():
        return (path / "metadata.yaml").exists() or bool(storage_files(path))
    return path.name.lower().endswith(SUFFIXES) or _kind(path) is not None


def storage_files(folder: Path) -> list[Path]:
    """The files of a folder that hold messages."""
    try:
        return sorted(p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES))
    except OSError:
        return []


def _kind(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return None
    return next((kind for magic, kind in MAGICS.items() if head.startswith(magic)), None)


class BagFile:
    """An open bag. UserError where it cannot be opened, or is damaged in the middle.

    Attributes:
        connections: its topics; one of several publishers may be there several times.
        storage: "mcap" or "sqlite3".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        checked = self._checked(path)
        files = storage_files(path) if path.is_dir() else [path]
        self.storage = "sqlite3" if any(".db3" in file.suffixes for file in files) else "mcap"
        self._reader = self._open(checked)
        self.connections: list[Connection] = list(self._reader.connections)

    def _checked(self, path: Path) -> Path:
        if not path.exists():
            raise UserError(f"bag not found: {path}: check the path")
        if not os.access(path, os.R_OK):
            raise UserError(f"cannot read {path}: no permission: chmod +r it, or name another bag")
        if path.is_dir():
            if not (path / "metadata.yaml").exists():
                first = storage_files(path)[0].name
                raise UserError(
                    f"expected a bag with metadata.yaml, found none in {path}: make it (ros2 bag reindex {path}), or "
                    f"name one file ({path / first})"
                )
            return path
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes): name another bag")
        if path.suffix == ".zstd":
            raise UserError(f"expected a bag's folder, found one compressed file of it, {path}: name {path.parent}")
        kind = _kind(path)
        if kind == "rosbag1":
            new = path.with_suffix("")
            raise UserError(
                f"expected a ROS 2 bag, found a ROS 1 bag, {path}: rosbags-convert --src {path} --dst {new} makes one"
            )
        if kind is None:
            raise UserError(f"expected a bag (MCAP or sqlite3), found neither in {path}: name another file")
        return path

    def _open(self, path: Path) -> Reader:
        try:
            from rosbags.rosbag2 import Reader
        except ImportError as error:
            raise UserError(f"bags need rosbags, found: {error}: pip install 'rosbags>=0.10,<0.12'") from None
        try:
            reader = Reader(path)
            reader.open()
        except Exception as error:  # the library meets damage with whatever Python raises there
            raise self._unreadable(error) from None
        return reader

    def messages(self, connections: Collection[Connection] = ()) -> Iterator[tuple[Connection, int, bytes]]:
        """Every message of these topics (none named: of all), with the time in ns at which it was recorded."""
        messages: Any = self._reader.messages(connections)
        count = 0
        while True:
            try:
                message = next(messages, None)
            except Exception as error:
                raise self._unreadable(error, count) from None
            if message is None:
                return
            count += 1
            yield message

    def _unreadable(self, error: Exception, count: int | None = None) -> UserError:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, OSError):
            reason = error.strerror or reason
        where = "" if count is None else f" after {count} messages"
        cut_off = isinstance(error, (TypeError, EOFError)) or any(
            word in reason for word in ("end magic", "footer", "Truncated", "malformed", "missing")
        )
        fix = RECOVER[self.storage] if cut_off else "name another bag"
        return UserError(f"cannot read the bag {self.path}{where}: {reason}: {fix}")

    def seconds(self) -> float:
        """From its first message to its last."""
        return self._reader.duration / 1e9

    def close(self) -> None:
        self._reader.close()
