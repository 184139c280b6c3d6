"""An MCAP bag that rosbag2's tools read, written from serialised messages."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from thfm_ros.errors import UserError
from thfm_ros.files import atomic, unwritable
from thfm_ros.paths import resource

_OWN = ("Joint", "Person", "PersonArray")


def typestore():
    """ROS 2's common types and this package's."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in _OWN:
        store.register(get_types_from_msg(resource("msg", f"{name}.msg").read_text(), f"thfm_ros/msg/{name}"))
    return store


class BagWriter:
    """A bag that appears at `path` when it is closed."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise UserError(f"bag {path} exists: remove it, or choose another name")
        self.path = path
        self._place = contextlib.ExitStack()
        self._temporary = self._place.enter_context(atomic(path, replace=False))
        self._writer = Writer(self._temporary, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._types = typestore()
        self._connections: dict[str, object] = {}

    def write(self, topic: str, type_name: str, stamp_ns: int, data: bytes) -> None:
        """One serialised (CDR) message; type_name such as sensor_msgs/msg/Image."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, type_name, typestore=self._types)
        self._writer.write(self._connections[topic], stamp_ns, data)

    def close(self) -> None:
        """Completes the bag. UserError where it cannot be written; it says what is kept where."""
        try:
            with self._place:
                self._writer.close()
        except OSError as error:
            raise unwritable(self.path, error) from None
