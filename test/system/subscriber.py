"""An independent subscriber: a process that knows the graph by its topics alone. Prints what it got as JSON."""

import json
import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from thfm_ros.msg import PersonArray

TOPICS = {
    "image": Image,
    "camera_info": CameraInfo,
    "inverse_depth/image": Image,
    "normals/image": Image,
    "normals/image_color": Image,
    "foreground/image": Image,
    "dense_pose/image": Image,
    "people": PersonArray,
    "overlay/image": Image,
}


def main(wanted: int, limit_s: float) -> None:
    rclpy.init()
    node = rclpy.create_node("independent_subscriber")
    got = {topic: [] for topic in TOPICS}

    def keep(topic):
        def callback(msg):
            entry = {"stamp": msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec, "frame": msg.header.frame_id}
            if isinstance(msg, Image):
                entry |= {"encoding": msg.encoding, "bytes": len(msg.data), "size": [msg.width, msg.height, msg.step]}
            if isinstance(msg, PersonArray):
                entry |= {"size": [msg.width, msg.height], "joints": [len(p.joints) for p in msg.people]}
            got[topic].append(entry)

        return callback

    for topic, kind in TOPICS.items():
        reliable = ReliabilityPolicy.RELIABLE
        node.create_subscription(kind, topic, keep(topic), QoSProfile(depth=50, reliability=reliable))
    end = time.monotonic() + limit_s
    while time.monotonic() < end and min(len(v) for v in got.values()) < wanted:
        rclpy.spin_once(node, timeout_sec=0.2)
    print(json.dumps(got))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
