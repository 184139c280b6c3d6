"""Spinning goes on when an entity is destroyed under the executor's hands."""

from __future__ import annotations

import threading
from typing import Any

from node_harness import new_domain, wait_for
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.waitable import NumberOfEntities, Waitable

from thfm_ros.nodes.executor import spin


class Destroyed(Waitable):
    """Was destroyed by another thread just before the executor wanted to wait for it, `times` times."""

    def __init__(self, group: Any, times: int) -> None:
        super().__init__(group)
        self.times = times

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        return None

    def add_to_wait_set(self, wait_set: Any) -> None:
        if self.times:
            self.times -= 1
            raise InvalidHandle("cannot use Destroyable because destruction was requested")

    def is_ready(self, wait_set: Any) -> bool:
        return False

    def take_data(self) -> None:
        return None

    async def execute(self, taken_data: Any) -> None:
        return None

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(0, 0, 0, 0, 0)


def test_a_destroyed_entity_does_not_end_the_node() -> None:
    context = Context()
    context.init(domain_id=new_domain())
    node = Node("node", context=context)
    executor = MultiThreadedExecutor(num_threads=2, context=context)
    executor.add_node(node)
    waitable = Destroyed(node.default_callback_group, times=3)
    node.add_waitable(waitable)
    beats: list[int] = []
    node.create_timer(0.01, lambda: beats.append(waitable.times))
    thread = threading.Thread(target=spin, args=(executor,), daemon=True)
    thread.start()
    try:
        wait_for(lambda: len(beats) >= 3, what="a timer after three destroyed entities")
        assert waitable.times == 0
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
        thread.join(10.0)
    assert not thread.is_alive()
