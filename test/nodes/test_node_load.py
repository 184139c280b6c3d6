"""Latest wins: bounded age and memory under a camera that the worker cannot follow; nothing is lost uncounted."""

from __future__ import annotations

import threading

import numpy as np
from node_harness import System, books, stamp_of, wait_for
from sensor_msgs.msg import Image
from stream_fakes import FakeRuntime


def test_overload_is_bounded_and_counted(ros: System) -> None:
    """A 60 Hz camera, and passes that each last a second of it: more frames come than a window has, the oldest give
    way, and no answer is older than one pass and a full inbox. The gate stands for the slow pass, so that the test
    does not depend on how fast this machine is."""
    runtime = FakeRuntime()
    node = ros.perception(runtime)
    runtime.gate = threading.Event()
    heard = ros.listen(Image, "foreground/image")
    inbox = node.buffer.capacity
    step = System.STEP * 12 // 60
    for second in range(5):
        runtime.gate.clear()
        before = len(heard)
        for index in range(60 * second, 60 * second + 60):
            ros.send(index, stamp_ns=System.START + index * step)
            wait_for(lambda index=index: node.buffer.totals().received == index + 1, what="the camera's frame")
        assert node.buffer.waiting <= inbox
        runtime.gate.set()
        wait_for(lambda: node.buffer.waiting == 0 and len(set(books(node))) == 1, what="every frame accounted for")
        wait_for(lambda: len(heard) == node.buffer.totals().answered)
        answers = [stamp_of(m) for m in heard[before:]]
        newest = System.START + (60 * second + 59) * step
        assert len(answers) <= 2 * inbox  # of the pass that was under way, and of the inbox after it
        assert all(newest - stamp <= inbox * System.STEP for stamp in answers[-inbox:])
    totals = node.buffer.totals()
    assert books(node) == (300, 300)
    assert totals.drops["overrun"] >= 5
    assert totals.drops["rate"] == 300 - 61  # instants of 12 Hz that 300 frames reach, the last a little early
    stamps = [stamp_of(m) for m in heard]
    assert stamps == sorted(set(stamps))


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
