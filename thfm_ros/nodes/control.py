"""Services by which a robot's program pauses the node, makes it start afresh, and says whom to follow."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from thfm_ros.nodes.hri import BODY
from thfm_ros.srv import Follow
from thfm_ros.stream.target import RULES


class Control:
    """`~/enable`, `~/reset` and `~/follow`, from the node's beginning to its end.

    Args:
        enable: pauses (False) or goes on (True); both return "" or why not.
        reset: forgets the stream.
        in_view: ids of those in the last frame.
    """

    def __init__(
        self,
        node: Node,
        enable: Callable[[bool], str],
        reset: Callable[[], str],
        in_view: Callable[[], Collection[str]],
    ) -> None:
        self._node, self._enable, self._reset, self._in_view = node, enable, reset, in_view
        group = MutuallyExclusiveCallbackGroup()  # pausing waits for the pass that runs
        node.create_service(SetBool, "~/enable", self._on_enable, callback_group=group)
        node.create_service(Trigger, "~/reset", self._on_reset, callback_group=group)
        node.create_service(Follow, "~/follow", self._on_follow, callback_group=group)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return _answer(response, self._enable(request.data), "enabled" if request.data else "paused")

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _answer(response, self._reset(), "the next frame is the first of a new clip")

    def _on_follow(self, request: Follow.Request, response: Follow.Response) -> Follow.Response:
        who = request.who.strip()
        (result,) = self._node.set_parameters([Parameter("follow", value=who)])
        unseen = who not in RULES and who.removeprefix(BODY) not in self._in_view()
        done = f"target_pose is of: {who}" + (", who is not in view now" if unseen else "")
        return _answer(response, "" if result.successful else result.reason, done)


def _answer(response: Any, problem: str, done: str) -> Any:
    response.success, response.message = not problem, problem or done
    return response
