"""The node under a 1080p camera at 30 Hz, for minutes: ages, drops, and whether memory grows.

    python benchmarks/load.py --bundle BUNDLE --minutes 10 --json load.json

Camera, node and listener are three processes over DDS, with config/fastdds_large_images.xml unless
FASTDDS_DEFAULT_PROFILES_FILE (Kilted) or FASTRTPS_DEFAULT_PROFILES_FILE (Jazzy) says otherwise. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.files import write_json

TOPICS = ("depth/image", "inverse_depth/image", "foreground/image", "normals/image", "overlay/image")
NS = 1_000_000_000


def camera(minutes: float, rate: float, width: int, height: int) -> None:
    """Publishes moving noise with camera_info, stamped now."""
    import rclpy
    from rclpy.node import Node
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from thfm_ros.geometry import Intrinsics
    from thfm_ros.nodes.camera_info import pinhole_camera_info
    from thfm_ros.nodes.images import to_image

    rclpy.init()
    node = Node("camera")
    images = node.create_publisher(Image, "image", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    picture = np.random.default_rng(0).integers(0, 255, (height + 64, width, 3), np.uint8)
    intrinsics = Intrinsics.from_fov(60.0, width, height)
    while images.get_subscription_count() == 0:
        time.sleep(0.1)
    start, sent = time.monotonic(), 0
    while time.monotonic() - start < 60 * minutes:
        delay = start + sent / rate - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        elif delay < -1.0:  # the machine cannot even publish so fast: skip, as a camera would
            sent = round((time.monotonic() - start) * rate)
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id="camera_optical_frame")
        infos.publish(pinhole_camera_info(intrinsics, header))
        images.publish(to_image(picture[sent % 64 : sent % 64 + height], "rgb8", header))
        sent += 1
    print(json.dumps({"sent": sent}))
    rclpy.shutdown()


def resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def listen(pid: int, minutes: float) -> dict[str, Any]:
    """Hears every topic for the time of the run, and samples the node's memory."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    rclpy.init()
    node = Node("listener")
    ages: dict[str, list[float]] = {t: [] for t in TOPICS}
    books: dict[str, int] = {}
    memory: list[tuple[float, float]] = []

    def hear(topic: str, msg: Image) -> None:
        now = node.get_clock().now().nanoseconds
        ages[topic].append((now - msg.header.stamp.sec * NS - msg.header.stamp.nanosec) / 1e9)

    def stats(msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name.endswith("frames"):
                books.update({v.key: int(v.value) for v in status.values})

    for topic in TOPICS:
        node.create_subscription(Image, topic, lambda m, t=topic: hear(t, m), 10)
    node.create_subscription(DiagnosticArray, "perception/stats", stats, 10)
    start = None
    while start is None or time.monotonic() - start < 60 * minutes + 3:
        rclpy.spin_once(node, timeout_sec=0.2)
        if start is None:
            start = time.monotonic() if ages["inverse_depth/image"] else None
        elif not memory or time.monotonic() - start > memory[-1][0] + 1.0:
            memory.append((time.monotonic() - start, resident_mb(pid)))
    rclpy.shutdown()
    return report(ages, books, memory)


def report(ages: dict[str, list[float]], books: dict[str, int], memory: list[tuple[float, float]]) -> dict[str, Any]:
    """Memory's slope is fitted to the second half of the run, after caches have filled."""
    half = [m for m in memory if m[0] > memory[-1][0] / 2]
    slope = float(np.polyfit([t / 60 for t, _ in half], [m for _, m in half], 1)[0]) if len(half) > 2 else None
    waiting, answered = books.get("Waiting", 0), books.get("Answered", 0)
    dropped = sum(v for k, v in books.items() if k.startswith("Dropped"))
    return {
        "minutes": round(memory[-1][0] / 60, 2),
        "resident_mb_start": round(memory[0][1]),
        "resident_mb_end": round(memory[-1][1]),
        "resident_mb_max": round(max(m for _, m in memory)),
        "slope_mb_per_minute_second_half": None if slope is None else round(slope, 3),
        "topics": {
            t: {
                "messages": len(a),
                **({f"age_s_p{p}": round(float(np.percentile(a, p)), 3) for p in (50, 95, 100)} if a else {}),
            }
            for t, a in ages.items()
        },
        "frames": books,
        "in_the_running_pass": books.get("Received", 0) - answered - dropped - waiting,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="", help="bundle folder; default: the one that ships")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--as-camera", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    if options.as_camera:
        camera(options.minutes, options.rate, width, height)
        return
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    profile = Path(__file__).parents[1] / "config" / "fastdds_large_images.xml"
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):  # of Fast DDS 3, and of 2
        os.environ.setdefault(variable, str(profile))
    parameters = {"bundle": options.bundle, "threads": options.threads, "autostart": "true"}
    command = [sys.executable, "-m", "thfm_ros.nodes.perception_node", "--ros-args"]
    command += [x for k, v in parameters.items() if v for x in ("-p", f"{k}:={v}")]
    with contextlib.ExitStack() as stack:
        node = subprocess.Popen(command)
        stack.callback(lambda: (node.terminate(), node.wait(60)))
        source = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--as-camera"], stdout=subprocess.PIPE)
        stack.callback(lambda: (source.kill() if source.poll() is None else None, source.wait()))
        found = listen(node.pid, options.minutes)
        found["camera"] = json.loads(source.communicate(timeout=60)[0])
    print(json.dumps(found, indent=2))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
