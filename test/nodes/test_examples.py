"""The examples do what they say, with the real node: a follower that stops without news, a listener that notices it."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import yaml
from bodies import relative_to_pelvis
from geometry_msgs.msg import Twist
from node_harness import System, wait_for
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.parameter import Parameter
from stream_fakes import FakeRuntime

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def join(ros: System, node: Node) -> Node:
    ros.extra.append(node)
    ros.executor.add_node(node)
    return node


def test_the_follower_turns_towards_the_person_and_stops_when_data_are_stale(ros: System) -> None:
    runtime = FakeRuntime(body=relative_to_pelvis())
    ros.perception(runtime)
    topic = ["--ros-args", "-r", "target_pose:=perception/people/target_pose"]
    ages = [Parameter("max_age", value=1.0)]
    join(ros, example("follow_me").FollowMe(context=ros.context, cli_args=topic, parameter_overrides=ages))
    commands = ros.listen(Twist, "cmd_vel")

    def drives(root: tuple[float, float, float], turn: int, ahead: bool) -> bool:
        """Whether the wheels come to do that while the camera sees somebody there."""
        runtime.root = root
        ros.send(0, stamp_ns=time.time_ns())
        time.sleep(0.08)
        last = commands[-1] if commands else Twist()
        return turn * last.angular.z > 0.1 and (last.linear.x > 0.1) == ahead

    wait_for(lambda: commands)
    assert commands[0] == Twist()  # nobody yet
    wait_for(lambda: drives((1.0, 0.0, 3.0), turn=-1, ahead=True), what="a turn to the right")
    wait_for(lambda: drives((-1.0, 0.0, 3.0), turn=1, ahead=True), what="a turn to the left")
    wait_for(lambda: drives((-0.4, 0.0, 1.2), turn=1, ahead=False), what="keeping the distance")
    wait_for(lambda: commands[-1] == Twist(), what="standing still without news")


def test_the_listener_says_who_is_there_and_when_nothing_comes(ros: System) -> None:
    ros.perception(FakeRuntime(body=relative_to_pelvis()))
    said = ros.listen(Log, "/rosout", wait=False)
    join(ros, example("listen").Listener(context=ros.context))
    wait_for(lambda: any("no people message" in m.msg for m in said))

    def heard() -> bool:
        ros.send(0, stamp_ns=time.time_ns())
        time.sleep(0.1)
        return any("3.0 m away" in m.msg for m in said)

    wait_for(heard)


def test_the_costmap_is_one_that_nav2_reads() -> None:
    text = yaml.safe_load((EXAMPLES / "social_costmap.yaml").read_text())
    costmap = text["local_costmap"]["local_costmap"]["ros__parameters"]
    assert "social_layer" in costmap["plugins"]
    assert costmap["social_layer"]["plugin"] == "nav2_social_costmap_plugin::SocialLayer"
