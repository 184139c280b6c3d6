"""Turns a robot towards the person it follows and keeps its distance; stands still without news of them.

python3 follow_me.py --ros-args -r target_pose:=/perception/people/target_pose -r cmd_vel:=/cmd_vel -p distance:=1.5

It knows no obstacles: for simulation, or with nav2's collision monitor between it and the wheels.
"""

import contextlib
import math

import rclpy
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time


class FollowMe(Node):
    """Poses are in the frame of a camera that looks ahead: x right, z forward."""

    def __init__(self, **options):
        super().__init__("follow_me", **options)
        for name, value in {"distance": 1.5, "speed": 0.4, "turn": 0.8, "max_age": 1.5}.items():
            self.declare_parameter(name, value)  # metres, m/s, rad/s, seconds
        self._wheels = self.create_publisher(Twist, "cmd_vel", 1)
        self._pose = PoseStamped()
        self.create_subscription(PoseStamped, "target_pose", self._on_pose, qos_profile_sensor_data)
        self.create_timer(0.1, self._drive)

    def _on_pose(self, pose):
        self._pose = pose

    def _drive(self):
        limit = {p.name: p.value for p in self.get_parameters(["distance", "speed", "turn", "max_age"])}
        age = (self.get_clock().now() - Time.from_msg(self._pose.header.stamp)).nanoseconds / 1e9
        command = Twist()  # zeros: stand still
        if 0 <= age < limit["max_age"]:
            right, ahead = self._pose.pose.position.x, self._pose.pose.position.z
            bearing = math.atan2(-right, ahead)
            too_far = math.hypot(right, ahead) - limit["distance"]
            command.angular.z = max(-limit["turn"], min(limit["turn"], 1.5 * bearing))
            command.linear.x = max(0.0, min(limit["speed"], 0.5 * too_far)) * max(0.0, math.cos(bearing))
        self._wheels.publish(command)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.init()
        rclpy.spin(FollowMe())
