"""Spinning goes on when an entity is destroyed under the executor's hands, and hands work over once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from node_harness import new_domain, wait_for
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.waitable import NumberOfEntities, Waitable

from thfm_ros.nodes.executor import NodeExecutor, spin


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


@contextmanager
def spinning(kind: Callable[..., NodeExecutor]) -> Iterator[tuple[Node, NodeExecutor]]:
    """A node on an executor that ends with the block."""
    context = Context()
    context.init(domain_id=new_domain())
    node, executor = Node("node", context=context), kind(num_threads=4, context=context)
    executor.add_node(node)
    thread = threading.Thread(target=spin, args=(executor,), daemon=True)
    thread.start()
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
        thread.join(10.0)
    assert not thread.is_alive()


def test_a_destroyed_entity_does_not_end_the_node() -> None:
    beats: list[int] = []
    with spinning(NodeExecutor) as (node, _):
        waitable = Destroyed(node.default_callback_group, times=3)
        node.add_waitable(waitable)
        node.create_timer(0.01, lambda: beats.append(waitable.times))
        wait_for(lambda: len(beats) >= 3, what="a timer after three destroyed entities")
        assert waitable.times == 0


class Ending(Destroyed):
    """Ends ROS just before the executor waits, as Ctrl-C may."""

    context: Any = None

    def get_num_entities(self) -> NumberOfEntities:
        self.context.try_shutdown()
        return super().get_num_entities()


def test_an_end_just_before_a_wait_is_an_end_like_any_other() -> None:
    context = Context()
    context.init(domain_id=new_domain())
    node, executor = Node("node", context=context), NodeExecutor(num_threads=2, context=context)
    ending = Ending(node.default_callback_group, times=0)
    ending.context = context
    node.add_waitable(ending)
    executor.add_node(node)
    with suppress(ExternalShutdownException):  # or it returns
        spin(executor)
    executor.shutdown()
    node.destroy_node()


class Canceling(NodeExecutor):
    """Cancels one timer after it has become ready, as another thread may, and before it is called."""

    victim: Any = None

    def _take_timer(self, timer: Any) -> Any:
        if timer is self.victim:
            timer.cancel()
        return super()._take_timer(timer)


def test_a_timer_canceled_just_now_does_not_end_the_node() -> None:
    beats: list[int] = []
    with spinning(Canceling) as (node, executor):
        executor.victim = node.create_timer(0.01, lambda: beats.append(-1))
        wait_for(executor.victim.is_canceled, what="the cancellation")
        node.create_timer(0.01, lambda: beats.append(0))
        wait_for(lambda: len(beats) >= 3, what="a timer after it")
    assert -1 not in beats


class Counting(NodeExecutor):
    """Counts what the loop hands over."""

    handed_over = 0

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        work = super().wait_for_ready_callbacks(*args, **kwargs)
        self.handed_over += 1
        return work


def test_work_is_handed_over_once() -> None:
    """rclpy's own executor hands a callback over again and again until a thread has begun it: here twice, and beside a
    busy node thousands of times."""
    beats: list[int] = []
    with spinning(Counting) as (node, executor):
        for _ in range(8):
            node.create_timer(0.01, lambda: beats.append(0), callback_group=MutuallyExclusiveCallbackGroup())
        wait_for(lambda: beats, what="the first beat")
        assert isinstance(executor, Counting)
        before, handed_over = len(beats), executor.handed_over
        wait_for(lambda: len(beats) >= before + 200, what="200 beats")
        assert executor.handed_over - handed_over <= 1.5 * (len(beats) - before)
