"""A bag with all that the recording has, and the messages that the node would publish for its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from thfm_ros.errors import UserError
from thfm_ros.offline.bag_recording import BagRecording, Origin
from thfm_ros.processes import Interrupts
from thfm_ros.stream.estimator import FrameResult

if TYPE_CHECKING:
    from rosbags.interfaces import Connection


class AnnotatedBag:
    """A bag that appears when its block ends; of a failed block it holds what was done by then.

    Messages of outputs have stamp and frame of their image and are recorded at its time.

    Attributes:
        kept: where the bag is after an early end. written: topic -> messages of the outputs.
        interrupts: those of the run that reads the recording.

    Args:
        tasks: whose topics are written. namespace: in front of the outputs' names.
        storage: "mcap" or "sqlite3"; "": the recording's. zstd: compressed.
    Raises:
        UserError: no ROS 2; the place cannot be written; the recording has one of the outputs' topics.
    """

    def __init__(
        self,
        path: Path,
        recording: BagRecording,
        tasks: Collection[str],
        namespace: str = "",
        storage: str = "",
        zstd: bool = False,
    ) -> None:
        try:
            from thfm_ros.nodes.annotations import Annotations
        except ImportError as error:
            raise UserError(
                f"writing a bag needs ROS 2's messages, found: {error}: source its setup.bash, or write a film"
            ) from None
        from thfm_ros.nodes.bag import STORAGES, BagWriter

        storage = storage or recording.bag.storage
        if storage not in STORAGES:
            raise UserError(f"unknown storage '{storage}': expected {' or '.join(STORAGES)}")
        self.path, self.kept = path, None
        self.written: dict[str, int] = {}
        self.interrupts = Interrupts()
        self._annotations = Annotations(tasks)
        self._prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        self._check_names(recording)
        self._open = partial(BagWriter, path, storage, zstd)
        self._origins: deque[Origin] = deque()
        self._recording = recording

    def _check_names(self, recording: BagRecording) -> None:
        names = {self._prefix + name for name in self._annotations.types}
        if taken := sorted(names & {c.topic for c in recording.bag.connections}):
            raise UserError(
                f"{recording.path} has {', '.join(taken)} already: choose others for the outputs (--namespace thfm)"
            )

    def __enter__(self) -> AnnotatedBag:
        self._writer = self._open()
        self._recording.listener = self
        return self

    def message(self, connection: Connection, recorded_ns: int, data: bytes) -> None:
        """Copies one message of the recording, whole: half a record would make the bag unreadable."""
        with self.interrupts.held():
            self._writer.copy(connection, recorded_ns, data)

    def frame(self, origin: Origin) -> None:
        """Remembers where a frame came from that may get a result."""
        self._origins.append(origin)

    @property
    def figures(self) -> dict[str, dict[str, int]]:
        """What `thfm run` reports of it."""
        return {"topics": self.written}

    def write(self, result: FrameResult) -> None:
        """The messages of one frame; results come in the order of their frames."""
        origin = self._origins.popleft()
        while origin.stamp_ns != result.stamp_ns:  # frames that nothing was wanted of
            origin = self._origins.popleft()
        for name, data in self._annotations.of(result, origin.stamp_ns, origin.frame_id, origin.info):
            topic = self._prefix + name
            self._writer.write(topic, self._annotations.types[name], origin.recorded_ns, data)
            self.written[topic] = self.written.get(topic, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (self._writer.failed or not self.written):  # there is nothing to keep
            self._writer.discard(error)
            return
        self._writer.close()
        self.kept = self.path
