"""The recorder's memory does not grow with the length of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from node_harness import System
from rclpy.parameter import Parameter

from thfm_ros.nodes.recorder_node import KEPT, RecorderNode
from thfm_ros.nodes.traffic import LATENCIES, TopicTraffic


def recorder(ros: System, **params: str) -> RecorderNode:
    node = RecorderNode(
        context=ros.context, parameter_overrides=[Parameter(name, value=value) for name, value in params.items()]
    )
    ros.extra.append(node)
    return node


def grid(number: int) -> np.ndarray:
    return np.full((1, 1, 3), number, np.int32)


def test_grids_for_the_picture_are_bounded_and_spread_over_the_whole_recording(ros: System, tmp_path: Path) -> None:
    node = recorder(ros, picture=str(tmp_path / "picture.png"))
    for number in range(20_000):
        node._write(grid(number))
        assert len(node.frames) <= KEPT
    kept = [int(frame[0, 0, 0]) for frame in node.frames]
    assert len(kept) > KEPT // 2 - 1
    assert kept == list(range(0, 20_000, node.spacing))
    assert kept[len(kept) // 2] == pytest.approx(10_000, rel=0.05)


def test_without_a_picture_no_grid_is_kept(ros: System) -> None:
    node = recorder(ros)
    for number in range(100):
        node._write(grid(number))
    assert node.frames == []
    assert node.grids == 100


def test_latencies_are_bounded_and_their_figures_stay_true() -> None:
    """Ages that repeat with the stride, over a recording much longer than what is kept."""
    traffic = TopicTraffic("sensor_msgs/msg/Image")
    count = 20 * LATENCIES
    for index in range(count):
        traffic.add(index / 12, 1000, None if index % 5 == 4 else 100.0 * (1 + index % 4))
    assert len(traffic.latencies_ms) == LATENCIES
    assert traffic.timed == count * 4 // 5
    row = traffic.row()
    assert row["messages"] == count
    assert row["rate_hz"] == 12
    shares = [np.mean(np.array(traffic.latencies_ms) == age) for age in (100, 200, 300, 400)]
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_few_latencies_are_all_kept() -> None:
    traffic = TopicTraffic("sensor_msgs/msg/Image")
    for index in range(100):
        traffic.add(index / 12, 1, float(index))
    assert traffic.latencies_ms == [float(i) for i in range(100)]
    assert traffic.row()["latency_ms_median"] == 49.5
