"""Spinning with several threads that hands work over once, and survives entities which another thread destroys."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor


class NodeExecutor(MultiThreadedExecutor):
    """`MultiThreadedExecutor` whose loop waits until a thread has begun what it was given.

    rclpy (Kilted) offers a callback again for as long as no thread has begun it, and submits it every time: thousands
    of times a frame, while the thread that should begin waits for the interpreter lock that the loop holds. On two
    cores that made 0.4 s of the 7 ms from a frame to its result (a node with a fake network).
    """

    def __init__(self, num_threads: int, **options: Any) -> None:
        super().__init__(num_threads, **options)
        self._executor.shutdown()
        self._executor = _Handover(num_threads)

    def _take_timer(self, timer: Any) -> Any:
        """None where another thread canceled the timer since it was ready; Jazzy's rclpy raises out of spin() there."""
        try:
            return super()._take_timer(timer)
        except RCLError:
            if timer.is_canceled():
                return None
            raise


class _Handover(ThreadPoolExecutor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        begun = Event()

        def run() -> Any:
            begun.set()
            return fn(*args, **kwargs)

        future = super().submit(run)
        begun.wait()
        return future


def spin(executor: Executor) -> None:
    """`executor.spin()`, for nodes that create and destroy publishers and subscriptions while they run.

    rclpy (Kilted) raises InvalidHandle out of spin() when a callback in another thread destroys an entity just while
    the executor prepares its next wait, and the node would be dead from then on: no timer, no service, no image. The
    entity is no longer in the node's lists by the next wait, so going on is all that it takes.

    Raises: what spin() raises otherwise; ExternalShutdownException also where ROS ends just before a wait, of which
    rclpy makes an RCLError.
    """
    while True:
        try:
            executor.spin()
            return
        except InvalidHandle:
            continue
        except RCLError:
            if executor.context.ok():
                raise
            raise ExternalShutdownException from None
