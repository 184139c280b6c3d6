"""Tables, parameter files, RViz and launch files say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from node_harness import System

from thfm_ros.nodes.parameters import PARAMETERS
from thfm_ros.nodes.perception_node import PerceptionNode
from thfm_ros.nodes.reference import fill, tables
from thfm_ros.nodes.topics import PUBLISHED, SUBSCRIBED, topics_to_tasks
from thfm_ros.tasks import TASKS

ROOT = Path(__file__).parents[2]
TARGETS = sorted((ROOT / "config").glob("*.yaml"))
LAUNCH = sorted((ROOT / "launch").glob("*.launch.py"))


@pytest.mark.parametrize("name", ["docs/node.md", "README.md"])
def test_documents_have_the_tables_of_the_code(name: str) -> None:
    text = (ROOT / name).read_text()
    assert fill(text) == text, f"run: python -m thfm_ros.nodes.reference {name}"
    for table in ("topics",) if name == "README.md" else tables().keys() - {"topics"}:
        assert f"<!-- node:{table} -->" in text


def test_the_node_has_exactly_the_topics_and_qualities_of_the_tables(ros: System) -> None:
    node = ros.perception(use_depth_camera=True)
    optional = {t.name for t in PUBLISHED if t.optional}
    own = {p.topic_name: p for p in node.publishers}
    for topic in PUBLISHED:
        name = topic.name.replace("~/", "/perception/")
        publisher = own.pop(name if name.startswith("/") else f"/{name}", None)
        if publisher is None and topic.name in optional:
            continue
        assert publisher.msg_type.__name__ == topic.type.split("/")[1]
        quality = publisher.qos_profile
        assert (quality.reliability.name, quality.depth) == ("RELIABLE", topic.depth)
    standard = {"/rosout", "/parameter_events", "/perception/transition_event"}
    assert set(own) <= standard
    heard = {s.topic_name: s.qos_profile for s in node.subscriptions}
    wanted = {f"/{t.name}": t for t in SUBSCRIBED if t.name != "image/compressed"}
    assert set(wanted) <= set(heard)
    for name, topic in wanted.items():
        assert (heard[name].reliability.name, heard[name].depth) == ("BEST_EFFORT", topic.depth)
    declared = {p for p in node._parameters if not p.startswith("qos_overrides")}
    assert declared - set(PARAMETERS) <= {"use_sim_time", "start_type_description_service"}
    assert set(PARAMETERS) <= declared


def test_every_task_has_topics_that_exist_and_every_topic_its_tasks() -> None:
    names = {t.name for t in PUBLISHED}
    for task in TASKS.values():
        assert set(task.topics) <= names
    for topic in names - {"~/stats", "/diagnostics"}:
        assert topics_to_tasks([topic], TASKS), topic
    assert topics_to_tasks([], TASKS) == []
    assert topics_to_tasks(["foreground/image"], ["scene_depth"]) == []


@pytest.mark.parametrize("path", TARGETS, ids=lambda p: p.stem)
def test_parameter_files_are_valid_and_reach_the_node(ros: System, path: Path) -> None:
    content = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert set(content) <= set(PARAMETERS)
    node = PerceptionNode(
        context=ros.context,
        namespace="/deep/down",
        cli_args=["--ros-args", "--params-file", str(path), "-p", "autostart:=false"],
    )
    try:
        assert {name: node.get_parameter(name).value for name in content} == content
    finally:
        node.close()
        node.destroy_node()


def test_every_kind_of_machine_has_a_parameter_file_and_a_recipe_of_one_name() -> None:
    machines = {p.stem for p in TARGETS}
    recipes = {p.stem for p in (ROOT / "engines").glob("*.yaml")}
    assert machines >= {"cpu", "rtx", "orin", "thor", "datacenter"}
    assert machines <= recipes


def test_rviz_shows_topics_that_exist_reliably() -> None:
    config = yaml.safe_load((ROOT / "rviz" / "thfm.rviz").read_text())
    shown = set()
    for display in config["Visualization Manager"]["Displays"]:
        topic = display.get("Topic")
        if topic:
            shown.add(topic["Value"])
            assert topic["Reliability Policy"] == "Reliable"
    pictures = {t.name for t in PUBLISHED if t.name.endswith(("image_color", "overlay/image", "skeleton/markers"))}
    assert pictures | {"depth/image", "depth/points", "inverse_depth/image", "foreground/image"} == shown


def test_rviz_finds_every_topic_in_a_namespace_and_shows_its_type() -> None:
    """RViz's DepthCloud looks for the camera_info beside an absolute topic: it shows nothing in a namespace."""
    shown_by = {"Image": "sensor_msgs/Image", "PointCloud2": "sensor_msgs/PointCloud2"}
    shown_by["MarkerArray"] = "visualization_msgs/MarkerArray"
    types = {t.name: t.type for t in PUBLISHED}  # relative names
    config = yaml.safe_load((ROOT / "rviz" / "thfm.rviz").read_text())
    for display in config["Visualization Manager"]["Displays"]:
        kind = display["Class"].split("/")[1]
        if kind != "Grid":
            assert types[display["Topic"]["Value"]] == shown_by[kind], display["Name"]


@pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
def test_launch_files_load_in_launch(path: Path) -> None:
    pytest.importorskip("launch_ros")
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext, LaunchDescription

    source = PythonLaunchDescriptionSource(str(path))
    description = source.get_launch_description(LaunchContext())
    assert isinstance(description, LaunchDescription)
    assert all(a.description for a in description.get_launch_arguments())
