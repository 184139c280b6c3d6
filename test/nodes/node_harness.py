"""Real nodes over real DDS in this process: a camera, the perception node, a listener. Waits are on conditions."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from stream_fakes import FakeRuntime, moving_square

from thfm_ros.nodes.executor import NodeExecutor
from thfm_ros.nodes.executor import spin as spin_on
from thfm_ros.nodes.images import to_image
from thfm_ros.nodes.perception_node import PerceptionNode
from thfm_ros.nodes.topics import latched

NS = 1_000_000_000
HALVES = {"gw0": (1, 50), "gw1": (51, 49)}  # first domain and how many, of each of two processes of one run
_domains = itertools.count(os.getpid())


def new_domain() -> int:
    """A DDS domain of our own (1..99): tests that run at the same time do not hear each other."""
    first, count = HALVES.get(os.environ.get("PYTEST_XDIST_WORKER", ""), (1, 99))
    return first + next(_domains) % count


def wait_for(condition: Callable[[], Any], timeout: float = 90.0, what: str = "") -> Any:
    """The condition's first true value; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout} s: {what or condition}")


def header(stamp_ns: int, frame_id: str = "camera_optical_frame") -> Header:
    out = Header(frame_id=frame_id)
    out.stamp.sec, out.stamp.nanosec = divmod(stamp_ns, NS)
    return out


def stamp_of(msg: Any) -> int:
    return msg.header.stamp.sec * NS + msg.header.stamp.nanosec


def camera_info(stamp_ns: int, width: int = 96, height: int = 64) -> CameraInfo:
    info = CameraInfo(header=header(stamp_ns), width=width, height=height, distortion_model="plumb_bob")
    info.k = [float(width), 0.0, width / 2 - 0.5, 0.0, float(width), height / 2 - 0.5, 0.0, 0.0, 1.0]
    return info


class System:
    """One context with a camera node, any number of perception nodes, and a listener.

    Camera frames have the stamps START + i / 12 s unless told otherwise.
    """

    START = 1_700_000_000 * NS
    STEP = NS // 12

    def __init__(self, context: Context, executor: NodeExecutor, domain: int) -> None:
        self.context, self.executor, self.domain = context, executor, domain
        self.camera = Node("camera", context=context)
        self.listener = Node("listener", context=context)
        for node in (self.camera, self.listener):
            executor.add_node(node)
        self.images = self.camera.create_publisher(Image, "image", QoSProfile(depth=50))
        self.infos = self.camera.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=50))
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.nodes: list[PerceptionNode] = []
        self.extra: list[Node] = []  # further nodes of a test, destroyed at its end

    def perception(
        self, runtime: FakeRuntime | None = None, load: Callable[..., Any] | None = None, **params: Any
    ) -> PerceptionNode:
        """A perception node with this runtime; started by itself unless autostart=False."""
        runtime = runtime or FakeRuntime()
        params = {"stride": 1, "diagnostics_period_s": 0.1, **params}
        options = {k: params.pop(k) for k in ("namespace", "name", "cli_args") if k in params}
        node = PerceptionNode(
            load=load or (lambda *_: runtime),
            context=self.context,
            parameter_overrides=[Parameter(k.replace("__", "."), value=v) for k, v in params.items()],
            **options,
        )
        self.nodes.append(node)
        self.executor.add_node(node)
        if params.get("autostart", True) and load is None:
            wait_for(lambda: node.state == "active", what="autostart")
            wait_for(lambda: self.images.get_subscription_count() >= len(self.nodes), what="the camera's subscriber")
            wait_for(lambda: self.infos.get_subscription_count() >= len(self.nodes), what="the info's subscriber")
        return node

    def listen(self, kind: type, topic: str, reliable: bool = True, wait: bool = True) -> list[Any]:
        """The growing list of messages on `topic`."""
        qos = QoSProfile(depth=100) if reliable else qos_profile_sensor_data
        if reliable:
            qos.reliability = QoSReliabilityPolicy.RELIABLE
        subscription = self.listener.create_subscription(kind, topic, self.heard[topic].append, qos)
        if wait:
            wait_for(lambda: subscription.get_publisher_count() > 0, what=f"a publisher of {topic}")
            name = subscription.topic_name
            wait_for(lambda: self._matched(name), what=f"{topic} to be matched")
        return self.heard[topic]

    def latched(self, kind: type, topic: str) -> list[Any]:
        """The growing list of messages on a latched topic, those of before included."""
        self.listener.create_subscription(kind, topic, self.heard[topic].append, latched())
        return self.heard[topic]

    def _matched(self, name: str) -> bool:
        mine = [p for node in self.nodes for p in node.publishers if p.topic_name == name]
        return all(p.get_subscription_count() > 0 for p in mine)

    def stamp(self, index: float) -> int:
        return self.START + round(index * self.STEP)

    def send(
        self, index: float, image: np.ndarray | None = None, info: bool = True, stamp_ns: int | None = None
    ) -> int:
        """Publishes frame `index` and its camera_info; its stamp."""
        stamp = self.stamp(index) if stamp_ns is None else stamp_ns
        pixels = moving_square(int(index)) if image is None else image
        if info:
            self.infos.publish(camera_info(stamp, pixels.shape[1], pixels.shape[0]))
        self.images.publish(to_image(pixels, "rgb8", header(stamp)))
        return stamp

    def play(self, indices: Any, answered: list[Any], **options: Any) -> list[int]:
        """Frame after frame, each once the one before was answered on the listened topic."""
        stamps = []
        for index in indices:
            before = len(answered)
            stamps.append(self.send(index, **options))
            wait_for(lambda before=before: len(answered) > before, what=f"an answer to frame {index}")
        return stamps


@contextmanager
def ros_system() -> Iterator[System]:
    context, domain = Context(), new_domain()
    rclpy.init(context=context, domain_id=domain)
    executor = NodeExecutor(num_threads=4, context=context)
    system = System(context, executor, domain)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            spin_on(executor)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield system
    finally:
        for node in system.nodes:
            node.close()
        executor.shutdown(timeout_sec=5.0)
        for node in (*system.nodes, *system.extra, system.camera, system.listener):
            node.destroy_node()
        context.try_shutdown()
        thread.join(10.0)
        assert not thread.is_alive()


def books(node: PerceptionNode) -> tuple[int, int]:
    """(received, accounted for): equal once nothing is being worked on."""
    totals = node.buffer.totals()
    return totals.received, totals.answered + sum(totals.drops.values()) + node.buffer.waiting


def call(ros: System, kind: Any, name: str, request: Any) -> Any:
    """Call a service of the node under test, and return its answer."""
    client = ros.listener.create_client(kind, name)
    assert client.wait_for_service(10.0)
    future = client.call_async(request)
    wait_for(future.done, what=name)
    return future.result()
