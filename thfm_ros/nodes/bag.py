"""A bag that rosbag2's tools read, written from serialised messages."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, unwritable
from thfm_ros.paths import resource

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.typesys.store import Typestore

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}  # as rosbag2 names them
NO_HASH = "RIHS01_" + "0" * 64  # of a type that neither its bag nor we have a definition of
_OWN = ("Joint", "Person", "PersonArray")


def typestore() -> Typestore:
    """ROS 2's common types and this package's."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in _OWN:
        store.register(get_types_from_msg(resource("msg", f"{name}.msg").read_text(), f"thfm_ros/msg/{name}"))
    return store


class BagWriter:
    """A bag that appears at `path` when it is closed.

    failed: something could not be written.

    Args:
        storage: a key of STORAGES.
        zstd: compressed; MCAP by its chunks, sqlite3 message by message.
    Raises:
        UserError: where something is there already, or the place cannot be written; also by every method.
    """

    def __init__(self, path: Path, storage: str = "mcap", zstd: bool = False) -> None:
        if path.exists():
            raise UserError(f"bag {path} exists: remove it, or choose another name")
        self.path, self.failed = path, False
        self._place = contextlib.ExitStack()
        with self._named():
            self._temporary = self._place.enter_context(atomic(path, replace=False))
            self._writer = Writer(self._temporary, version=9, storage_plugin=STORAGES[storage])
            if zstd:
                mode = CompressionMode.STORAGE if storage == "mcap" else CompressionMode.MESSAGE
                self._writer.set_compression(mode, CompressionFormat.ZSTD)
            self._writer.open()
        self._types = typestore()
        self._connections: dict[object, Connection] = {}

    def write(self, topic: str, type_name: str, stamp_ns: int, data: bytes) -> None:
        """One serialised (CDR) message; type_name such as sensor_msgs/msg/Image."""
        with self._named():
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(topic, type_name, typestore=self._types)
            self._writer.write(self._connections[topic], stamp_ns, data)

    def copy(self, source: Connection, stamp_ns: int, data: bytes) -> None:
        """One message of another bag, with its topic's definition and quality of service."""
        qos = source.ext.offered_qos_profiles
        key = (source.topic, source.msgtype, str(qos))  # a bag may have a topic once for each of its publishers
        with self._named():
            if key not in self._connections:
                self._connections[key] = self._add_like(source, qos)
            self._writer.write(self._connections[key], stamp_ns, data)

    def _add_like(self, source: Connection, qos: Sequence[object]) -> Connection:
        definition, digest = self._described(source)
        return self._writer.add_connection(
            source.topic, source.msgtype, msgdef=definition, rihs01=digest, offered_qos_profiles=qos
        )

    def _described(self, source: Connection) -> tuple[str, str]:
        """The type's definition and hash: the bag's own where it has them, else those of the common types."""
        definition, digest, store = source.msgdef.data, source.digest, self._types
        try:
            if definition and not digest:
                store = get_typestore(Stores.EMPTY)
                store.register(get_types_from_msg(definition, source.msgtype))
            definition = definition or store.generate_msgdef(source.msgtype, ros_version=2)[0]
            return definition, digest or store.hash_rihs01(source.msgtype)
        except (TypesysError, KeyError):  # copied all the same: who plays it has the package
            return definition, digest or NO_HASH

    def close(self) -> None:
        """Completes the bag; UserError says what is kept where."""
        with self._named(), self._place:
            self._writer.close()

    def discard(self, error: BaseException) -> None:
        """Leaves nothing of the bag, because of this error."""
        with contextlib.suppress(Exception):
            self._writer.abort()
        self._place.__exit__(type(error), error, error.__traceback__)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            raise unwritable(self.path, error) from None
        except sqlite3.Error as error:
            self.failed = True
            raise UserError(f"cannot write {self.path}: {error}: make room, or choose another place") from None
