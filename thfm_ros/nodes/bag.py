"""An MCAP bag that rosbag2's tools read, written from serialised messages."""

from __future__ import annotations

import shutil
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from thfm_ros.errors import UserError
from thfm_ros.paths import resource

_OWN = ("Joint", "Person", "PersonArray")


def typestore():
    """ROS 2's common types and this package's."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in _OWN:
        store.register(get_types_from_msg(resource("msg", f"{name}.msg").read_text(), f"thfm_ros/msg/{name}"))
    return store


class BagWriter:
    """Writes to a temporary folder beside `path` and renames it when closed."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise UserError(f"bag {path} exists: remove it, or choose another name")
        self.path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        shutil.rmtree(self._temporary, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
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
        self._writer.close()
        # The name inside metadata.yaml and of the storage file follow the folder's.
        stem = self._temporary.name
        for file in self._temporary.iterdir():
            if stem in file.name:
                file.rename(file.with_name(file.name.replace(stem, self.path.name)))
        metadata = self._temporary / "metadata.yaml"
        metadata.write_text(metadata.read_text().replace(stem, self.path.name))
        self._temporary.rename(self.path)
