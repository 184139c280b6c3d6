"""Turns a robot towards the person it follows and keeps its distance; stands still without news of them.

python3 follow_me.py --ros-args -r target_pose:=/perception/people/target_pose -r cmd_vel:=/cmd_vel -p distance:=1.5

It knows no obstacles: for simulation, or with nav2's collision monitor between it and the wheels.
Poses have to be in the camera's own frame: start the perception node without target_frame.
"""

import math
import signal
import threading

import rclpy
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time


class FollowMe(Node):
    """Poses are in the frame of a camera that looks ahead: x right, z forward. camera_frame: its name; empty: any."""

    def __init__(self, **options):
        super().__init__("follow_me", **options)
        for name, value in {"distance": 1.5, "speed": 0.4, "turn": 0.8, "max_age": 1.5}.items():
            self.declare_parameter(name, value)  # metres, m/s, rad/s, seconds
        self._frame = self.declare_parameter("camera_frame", "").value
        self._wheels = self.create_publisher(Twist, "cmd_vel", 1)
        self._pose = PoseStamped()
        self.create_subscription(PoseStamped, "target_pose", self._on_pose, qos_profile_sensor_data)
        self.create_timer(0.1, self._drive)

    def _on_pose(self, pose):
        if self._frame and pose.header.frame_id != self._frame:
            what = f"a pose in '{pose.header.frame_id}' is left out: expected one in '{self._frame}' (camera_frame)"
            self.get_logger().warning(what, throttle_duration_sec=5.0)
            return
        self._pose = pose

    def stop(self):
        """Stand still, and wait until who drives the wheels has that."""
        self._wheels.publish(Twist())
        self._wheels.wait_for_all_acked(Duration(seconds=1))

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


def main():
    """Follow until a signal comes; then stand still, because wheels may keep the last command that they got."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda *_: ended.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # with its own, nothing could be published any more
    follower = FollowMe()
    try:
        while not ended.is_set():
            rclpy.spin_once(follower, timeout_sec=0.1)  # a signal is seen between two waits
    finally:
        follower.stop()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
