"""A perception node in a process of its own that answers frames until its input is closed: talker.py DOMAIN."""

import itertools
import select
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))

import node_harness

node_harness.new_domain = lambda: int(sys.argv[1])
with node_harness.ros_system() as ros:
    ros.perception()
    print("ready", flush=True)
    for index in itertools.count():
        if select.select([sys.stdin], [], [], 0)[0]:
            break
        ros.send(index)
        time.sleep(0.05)  # the camera's rate
