"""The executable `perception` with the small network of the tests: node_process.py DOMAIN [ROS ARGUMENTS]."""

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "stream"))
os.environ["ROS_DOMAIN_ID"] = sys.argv[1]

from stream_fakes import FakeRuntime

from thfm_ros.nodes import perception_node

perception_node.PerceptionNode = functools.partial(perception_node.PerceptionNode, load=lambda *_: FakeRuntime())
sys.exit(perception_node.main(sys.argv))
