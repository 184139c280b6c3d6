"""The follower after the walker of a sample, through the shipped network: camera, node and follower as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
import rclpy
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from thfm_ros import processes

ROOT = Path(__file__).parents[2]
DOMAIN = 101  # tests of nodes have 1 to 99
BUNDLE = ""  # the shipped weights
RATE, MAX_AGE_S = 4.0, 5.0  # of the camera; of a pose that is still news
TARGET = "/perception/people/target_pose"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_follower_turns_towards_the_walker_and_stands_when_the_video_is_over() -> None:
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)}
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("watcher", context=context)
    poses: list[PoseStamped] = []
    commands: list[tuple[int, Twist]] = []  # and how many poses had come
    node.create_subscription(PoseStamped, TARGET, poses.append, 10)
    node.create_subscription(Twist, "cmd_vel", lambda m: commands.append((len(poses), m)), 10)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    running = []

    def start(*arguments: str, **parameters: object) -> subprocess.Popen[bytes]:
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
        command = [sys.executable, *arguments, *([] if "--ros-args" in arguments else ["--ros-args"]), *given]
        running.append(subprocess.Popen(command, env=environment))
        return running[-1]

    try:
        follower = str(ROOT / "examples" / "follow_me.py")
        start(follower, "--ros-args", "-r", f"target_pose:={TARGET}", distance=1.0, max_age=MAX_AGE_S)
        start("-m", "thfm_ros.nodes.perception_node", newest_only=True, bundle=BUNDLE)
        camera = start("-m", "thfm_ros.nodes.camera_node", source="walker", rate=RATE, wait_for_subscribers=1)
        assert camera.wait(timeout=600) == 0
        followed = len(commands)
        wait = threading.Event()
        for _ in range(round(20 * MAX_AGE_S)):  # until the last pose is stale
            if len(commands) > followed and commands[-1][1] == Twist():
                break
            wait.wait(0.1)
        assert commands[-1][1] == Twist()
        assert len(poses) > 5
        turns = [(poses[n - 1].pose.position.x, m.angular.z) for n, m in commands if n and m != Twist()]
        aside = [(x, turn) for x, turn in turns if abs(x) > 0.3]
        assert aside, "nobody was aside of the middle"
        agreeing = sum(x * turn < 0 for x, turn in aside)
        assert agreeing > 0.9 * len(aside), f"{agreeing} of {len(aside)} turns are towards the person"
        assert any(m.linear.x > 0 for _, m in commands)
    finally:
        processes.end(running)
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
        thread.join(10)
