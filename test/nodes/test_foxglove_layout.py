"""The layout for Foxglove shows topics that the node has, each in a panel that shows its type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thfm_ros.nodes.topics import PUBLISHED, SUBSCRIBED

LAYOUT = json.loads((Path(__file__).parents[2] / "foxglove" / "thfm.json").read_text())
NODE = "perception"
TYPES = {f"/{t.name.replace('~', NODE).lstrip('/')}": t.type for t in (*SUBSCRIBED, *PUBLISHED)}
SHOWN_BY = {  # panel, key of its configuration -> types
    ("Image", "imageTopic"): {"sensor_msgs/Image", "sensor_msgs/CompressedImage"},
    ("Image", "calibrationTopic"): {"sensor_msgs/CameraInfo"},
    ("3D", "topics"): {"sensor_msgs/PointCloud2", "visualization_msgs/MarkerArray", "geometry_msgs/PoseStamped"},
    ("RawMessages", "topicPath"): set(TYPES.values()),
    ("DiagnosticSummary", "topicToRender"): {"diagnostic_msgs/DiagnosticArray"},
    ("DiagnosticStatusPanel", "topicToRender"): {"diagnostic_msgs/DiagnosticArray"},
}


def topics(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Key and name of every topic in a panel's configuration, however deep."""
    if isinstance(config, dict):
        for name, value in config.items():
            if name.startswith("/"):
                yield key, name
            yield from topics(value, name)
    elif isinstance(config, list):
        for value in config:
            yield from topics(value, key)
    elif isinstance(config, str) and config.startswith("/"):
        yield key, config


def panels(tree: Any) -> list[str]:
    return [tree] if isinstance(tree, str) else [*panels(tree["first"]), *panels(tree["second"])]


def test_every_topic_is_the_nodes_and_of_a_type_that_its_panel_shows() -> None:
    found = [
        (panel.split("!")[0], key, name)
        for panel, config in LAYOUT["configById"].items()
        for key, name in topics(config)
    ]
    assert len(found) > 10
    for panel, key, name in found:
        assert name in TYPES, f"{name} in a panel {panel}"
        assert TYPES[name] in SHOWN_BY[panel, key], f"{name} ({TYPES[name]}) as {key} of a panel {panel}"


def test_every_panel_is_placed_once_and_has_its_configuration() -> None:
    placed = panels(LAYOUT["layout"])
    assert sorted(placed) == sorted(LAYOUT["configById"])


def test_the_panel_of_statistics_has_chosen_the_node() -> None:
    """Of a DiagnosticArray it shows one hardware_id, and nothing until somebody chooses: the node's is its name."""
    assert LAYOUT["configById"]["DiagnosticStatusPanel!thfm"]["selectedHardwareId"] == NODE
