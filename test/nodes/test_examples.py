"""The examples do what they say, with the real node: a follower that stops without news, a listener that notices it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from bodies import relative_to_pelvis
from geometry_msgs.msg import PoseStamped, Twist
from node_harness import System, header, wait_for
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
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


def drives_ahead(poses: Publisher, commands: list[Twist]) -> bool:
    """Whether the wheels come to drive, of a pose three metres before the camera: the first ones may be lost."""
    poses.publish(ahead("camera"))
    time.sleep(0.05)
    return bool(commands) and commands[-1].linear.x > 0.3


def ahead(frame_id: str) -> PoseStamped:
    pose = PoseStamped(header=header(time.time_ns(), frame_id))
    pose.pose.position.z = 3.0
    return pose


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_wheels_stand_still_when_the_follower_is_ended(ros: System, ending: signal.Signals) -> None:
    """Wheels may keep the last command for as long as no other comes."""
    commands: list[Twist] = []
    ros.listener.create_subscription(Twist, "cmd_vel", commands.append, 10)
    poses = ros.camera.create_publisher(PoseStamped, "target_pose", 1)
    # A pose stays news for the whole test: the follower itself does not stop.
    command = [sys.executable, str(EXAMPLES / "follow_me.py"), "--ros-args", "-p", "max_age:=60.0"]
    follower = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(ros.domain)})
    try:
        wait_for(lambda: drives_ahead(poses, commands), what="driving")
        follower.send_signal(ending)
        assert follower.wait(timeout=60) == 0
        wait_for(lambda: commands[-1] == Twist(), timeout=20, what="standing still")
    finally:
        follower.kill()
        follower.wait()


def test_the_follower_leaves_out_poses_of_another_frame_than_the_cameras(ros: System) -> None:
    frame = [Parameter("camera_frame", value="camera")]
    join(ros, example("follow_me").FollowMe(context=ros.context, parameter_overrides=frame))
    commands, said = ros.listen(Twist, "cmd_vel"), ros.listen(Log, "/rosout", wait=False)
    poses = ros.camera.create_publisher(PoseStamped, "target_pose", 1)

    def noticed() -> bool:
        poses.publish(ahead("map"))
        time.sleep(0.05)
        return any("a pose in 'map' is left out: expected one in 'camera'" in m.msg for m in said)

    wait_for(noticed)
    assert all(command == Twist() for command in commands)
    wait_for(lambda: drives_ahead(poses, commands), what="driving")


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
