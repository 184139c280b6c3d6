"""The demo's nodes end with the demo, also when it is killed, and complete their files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

DEMO = """
import pathlib, sys, time
from thfm_ros.system.demo import _processes
out = pathlib.Path(sys.argv[1])
with _processes(out) as start:
    nodes = [start("recorder", table=str(out / "table.json")), start("camera", wait_for_subscribers=9)]
    print(*(node.pid for node in nodes), flush=True)
    time.sleep(600)
"""


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def on_the_graph(pid, domain):
    """Whether a process has joined the domain: it listens on one of its UDP ports (RTPS 2.2, 9.6.1.1)."""
    ports = range(7400 + 250 * domain, 7400 + 250 * (domain + 1))
    sockets = {os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink()}
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(int(x.split()[1].split(":")[1], 16) in ports and f"socket:[{x.split()[9]}]" in sockets for x in lines)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_nodes_end_with_the_demo(death, tmp_path):
    domain = 1 + os.getpid() % 99
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    demo = subprocess.Popen(
        [sys.executable, "-c", DEMO, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    nodes = [int(pid) for pid in demo.stdout.readline().split()]
    deadline = time.monotonic() + 120
    while not all(on_the_graph(pid, domain) for pid in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    demo.send_signal(death)
    demo.wait(60)
    while not all(gone(pid) for pid in nodes):
        assert time.monotonic() < deadline, "a node outlives the demo"
        time.sleep(0.01)
    assert "/people" in json.loads((tmp_path / "table.json").read_text())
