"""Says who is in view, how far away and how fast, and when nothing came for a while.

python3 listen.py --ros-args -r people:=/people
"""

import contextlib
import math

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from thfm_ros.msg import PersonArray


class Listener(Node):
    def __init__(self, **options):
        super().__init__("listener", **options)
        self.create_subscription(PersonArray, "people", self._on_people, qos_profile_sensor_data)
        self._silence = self.create_timer(2.0, lambda: self.get_logger().warning("no people message for 2 s"))

    def _on_people(self, array):
        self._silence.reset()
        for person in array.people:  # x right, y down, z forward, metres
            v = person.velocity
            away, speed = math.hypot(person.root.x, person.root.z), math.hypot(v.x, v.z)
            self.get_logger().info(f"{person.id}: {away:.1f} m away, {speed:.1f} m/s, sure by {person.score:.0%}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.init()
        rclpy.spin(Listener())
