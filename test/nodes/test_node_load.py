"""Latest wins: bounded age and memory under a camera that the worker cannot follow; nothing is lost uncounted."""

from __future__ import annotations

import threading
import time

import numpy as np
from node_harness import NS, System, books, header, stamp_of, wait_for
from sensor_msgs.msg import Image
from stream_fakes import FakeRuntime

from thfm_ros.nodes.images import to_image


def test_overload_is_bounded_and_counted(ros: System) -> None:
    """A 60 Hz camera for 3 s; a pass takes 0.6 s, in which more frames come than a window has: some give way.
    Ages stay below two passes and a window."""
    node = ros.perception(FakeRuntime(delay_s=0.6))
    heard = ros.listen(Image, "foreground/image")
    image = np.full((64, 96, 3), 90, np.uint8)
    ages: list[float] = []
    start = time.monotonic()
    count = 0
    for index in range(180):
        while time.monotonic() < start + index / 60:
            time.sleep(0.001)  # the camera's own pace
        count = len(heard)
        ros.images.publish(to_image(image, "rgb8", header(int((1000 + index / 60) * NS))))
        ages += [1000 + index / 60 - stamp_of(m) / NS for m in heard[len(ages) : count]]
    wait_for(lambda: books(node) == (180, 180) and node.buffer.waiting == 0, what="every frame answered or counted")
    totals = node.buffer.totals()
    wait_for(lambda: len(heard) == totals.answered)
    assert totals.drops["overrun"] > 0
    assert totals.drops["rate"] > 100
    assert totals.answered >= 15
    stamps = [stamp_of(m) for m in heard]
    assert stamps == sorted(set(stamps))
    assert max(ages) < 2 * 0.6 + 5 / 12 + 0.3


def test_callbacks_never_wait_for_a_pass(ros: System) -> None:
    """While a pass takes a second, camera callbacks go on at once."""
    gate = threading.Event()
    runtime = FakeRuntime()
    node = ros.perception(runtime)
    heard = ros.listen(Image, "foreground/image")
    ros.play([0], heard)
    runtime.gate = gate
    ros.send(1)
    passes = runtime.passes
    wait_for(lambda: runtime.passes > passes or node.buffer.waiting == 0)
    for index in range(2, 40):
        ros.send(index)
        wait_for(lambda index=index: node.buffer.totals().received == index + 1, what="a callback during the pass")
    assert node.buffer.waiting <= node.buffer.capacity == 5
    gate.set()
    wait_for(lambda: books(node) == (40, 40) and node.buffer.waiting == 0)


def test_memory_does_not_grow(ros: System) -> None:
    """Short form: 600 frames of 480p; the resident size after a warm start grows by less than 12 MB."""
    import gc

    node = ros.perception(FakeRuntime())
    heard = ros.listen(Image, "overlay/image")
    ros.listen(Image, "depth/image")
    image = np.full((480, 640, 3), 90, np.uint8)

    def resident_mb() -> float:
        gc.collect()
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    ros.play(range(100), heard, image=image)
    before = resident_mb()
    for start in range(100, 700, 100):
        for topic in ros.heard.values():
            topic.clear()
        ros.play(range(start, start + 100), heard, image=image)
    for topic in ros.heard.values():
        topic.clear()
    assert resident_mb() - before < 12
    assert books(node) == (700, 700)
