"""Spinning that survives entities which another thread destroys."""

from __future__ import annotations

from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor


def spin(executor: Executor) -> None:
    """`executor.spin()`, for nodes that create and destroy publishers and subscriptions while they run.

    rclpy (Kilted) raises InvalidHandle out of spin() when a callback in another thread destroys an entity just while
    the executor prepares its next wait, and the node would be dead from then on: no timer, no service, no image. The
    entity is no longer in the node's lists by the next wait, so going on is all that it takes.

    Raises: what spin() raises otherwise, such as ExternalShutdownException.
    """
    while True:
        try:
            executor.spin()
            return
        except InvalidHandle:
            continue
