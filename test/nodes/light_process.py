"""light_process.py DOMAIN BUNDLE: 12 frames through the node in this process; prints what it holds as JSON."""

import json
import sys
import time
from pathlib import Path

sys.modules["av"] = None  # a robot has no PyAV: whatever imports it here fails
sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))

import node_harness  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

node_harness.new_domain = lambda: int(sys.argv[1])
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "torchvision", "scipy", "matplotlib")

with node_harness.ros_system() as ros:
    if sys.argv[2] == "fake":
        node = ros.perception()
    else:
        node = node_harness.PerceptionNode(
            context=ros.context,
            parameter_overrides=[
                node_harness.Parameter(k, value=v)
                for k, v in {"bundle": sys.argv[2], "stride": 4, "autostart": False}.items()
            ],
        )
        ros.nodes.append(node)
        ros.executor.add_node(node)
        node.trigger_configure()
    topics = (
        "depth/image",
        "inverse_depth/image",
        "normals/image",
        "foreground/image",
        "dense_pose/image",
        "overlay/image",
    )
    heard = [ros.listen(Image, topic) for topic in topics]
    started = time.monotonic()
    if node.state != "active":
        node.trigger_activate()
        node_harness.wait_for(lambda: ros.images.get_subscription_count() == 1)
    first = None
    for index in range(12):
        ros.send(index)
        node_harness.wait_for(lambda index=index: node.buffer.totals().received == index + 1, timeout=60)
        if index % 4 == 3:
            node_harness.wait_for(lambda: node_harness.books(node)[0] == node_harness.books(node)[1], timeout=120)
            node_harness.wait_for(lambda index=index: len(heard[1]) == index + 1, timeout=120)
            first = first or time.monotonic() - started
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    report = {
        "heavy": [m for m in HEAVY if m in sys.modules],
        "answered": node.buffer.totals().answered,
        "resident_mb": round(resident),
        "first_output_s": round(first, 2),
    }
print(json.dumps(report))
