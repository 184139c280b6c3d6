"""What the launch files accept, what they make of it, and what the documents say they accept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import pytest
from launch_recorder import run_launch_file
from rclpy._rclpy_pybind11 import RCLError

from thfm_ros.errors import UserError
from thfm_ros.nodes import camera_node, recorder_node, rviz_node
from thfm_ros.nodes.launch_arguments import (
    ARGUMENTS,
    DEMO_DECIDES,
    FOLLOW_DECIDES,
    REPLAY_DECIDES,
    overrides,
    passed_on,
    refuse_undeclared,
)
from thfm_ros.nodes.parameters import PARAMETERS
from thfm_ros.nodes.ros_arguments import wrong_argument
from thfm_ros.nodes.topics import PUBLISHED, SUBSCRIBED

ROOT = Path(__file__).parents[2]
LAUNCH = sorted((ROOT / "launch").glob("*.launch.py"))
TEXTS = [
    *(p for p in ROOT.glob("*.md")),
    *(p for folder in ("docs", "engines", "weights", "samples") for p in (ROOT / folder).rglob("*.md")),
    *LAUNCH,
    *(p for p in (ROOT / "examples").glob("*")),
    *(ROOT / "config").glob("*.yaml"),
    *(ROOT / "thfm_ros" / "nodes").glob("*.py"),
]
ASSIGNMENT = re.compile(r"(?<![\w{])([A-Za-z_~/][\w./~]*):=(?=[^\s`'\"])")
RUN_PARAMETERS = {
    "perception": set(PARAMETERS),
    **{n: {row[0] for row in m.PARAMETERS} for n, m in (("camera", camera_node), ("recorder", recorder_node))},
    "rviz": {row[0] for row in rviz_node.PARAMETERS},
}


def names(file: str) -> set[str]:
    return {a.name for a in ARGUMENTS[file]}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_documented_argument_exists(path: Path) -> None:
    for line in path.read_text().replace("\\\n", " ").splitlines():
        given = set(ASSIGNMENT.findall(line))
        launched = re.search(r"(\w+\.launch\.py)", line)
        run = re.search(r"ros2 run thfm_ros (\w+)", line)
        if launched:
            assert given <= names(launched[1]), line
        elif run:
            topics = {t.name for t in (*PUBLISHED, *SUBSCRIBED)}
            assert given <= RUN_PARAMETERS[run[1]] | topics | {"use_sim_time", "__ns", "__node"}, line
        else:
            remapped = {name.split(":=")[0] for name in re.findall(r"-r\W+([\w/~]+:=)", line)}  # of other programs
            assert given - remapped <= set().union(*map(names, ARGUMENTS)), line


def test_the_documents_are_read() -> None:
    """The pattern above finds what people write."""
    found = ASSIGNMENT.findall("`autostart:=false` (bundle:=DIR) -r image:=/a/b -p x.y:=1 if (a := b): NAME:=")
    assert found == ["autostart", "bundle", "image", "x.y"]
    assert any(ASSIGNMENT.search(p.read_text()) for p in TEXTS if p.name == "README.md")


@pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
def test_a_launch_file_declares_its_arguments_and_refuses_others_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entities = run_launch_file(path, monkeypatch)["entities"]
    declared = [(e.args[0], e.kwargs["default_value"]) for e in entities if type(e).__name__ == "DeclareLaunchArgument"]
    assert declared == [(a.name, a.default) for a in ARGUMENTS[path.name]]
    assert len(dict(declared)) == len(declared)
    assert all(len(a.description) > 10 for a in ARGUMENTS[path.name])
    first = entities[0].kwargs
    assert first["function"].__name__ == refuse_undeclared.__name__
    assert first["args"] == [str(path)]


def test_every_parameter_is_an_argument_and_is_passed_on() -> None:
    perception = names("perception.launch.py")
    assert set(PARAMETERS) <= perception
    assert perception == set(passed_on("replay.launch.py")) | set(REPLAY_DECIDES)
    camera = perception - set(passed_on("demo.launch.py")) - set(DEMO_DECIDES)
    topics = {"image", "camera_info", "depth_image", "depth_camera_info"}
    assert camera == {*topics, "image_transport", "use_depth_camera", "depth_slop_s"}


@pytest.mark.parametrize(
    ("file", "decides"),
    [("replay", REPLAY_DECIDES), ("demo", DEMO_DECIDES), ("follow", FOLLOW_DECIDES), ("social", {})],
)
def test_what_is_included_gets_all_of_its_arguments(
    file: str, decides: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entities = run_launch_file(ROOT / "launch" / f"{file}.launch.py", monkeypatch)["entities"]
    inner = [e for group in entities if type(group).__name__ == "GroupAction" for e in group.args[0]]
    (include,) = [e for e in (*entities, *inner) if type(e).__name__ == "IncludeLaunchDescription"]
    given = dict(include.kwargs["launch_arguments"])
    assert {k: v for k, v in given.items() if isinstance(v, str)} == decides
    assert all(v.args == (k,) for k, v in given.items() if k not in decides)
    assert set(given) == set(passed_on(f"{file}.launch.py")) | set(decides)


# What an argument's text becomes.


@pytest.mark.parametrize("spec", PARAMETERS.values(), ids=list(PARAMETERS))
def test_an_argument_has_the_type_of_its_parameter(spec: Any) -> None:
    text = spec.default if isinstance(spec.default, str) else json.dumps(spec.default)
    assert overrides({spec.name: text}) == ({spec.name: spec.default} if text else {})
    if isinstance(spec.default, (bool, int, float)):
        with pytest.raises(UserError, match=f"{spec.name}:=soon: expected"):
            overrides({spec.name: "soon"})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("horizontal_fov_deg", "70", 70.0),
        ("autostart", "False", False),
        ("tasks", "foreground", ["foreground"]),
        ("tasks", "[foreground, 'keypoints_2d']", ["foreground", "keypoints_2d"]),
        ("bundle", "2024", "2024"),
    ],
)
def test_arguments_are_read_as_people_write_them(name: str, text: str, value: Any) -> None:
    (found,) = overrides({name: text}).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("stride", "2.5"), ("stride", "0"), ("stride", "true"), ("backend", "tpu"), ("gap_s", "nan")]
)
def test_a_value_that_the_node_would_refuse_ends_the_launch(name: str, text: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*expected"):
        overrides({name: text})


# Arguments that no launch file declares.


def included(path: Path, *given: str) -> Made:
    return Made(launch_description_source=Made(location=str(path)), launch_arguments=[(n, "x") for n in given])


def visited(*entities: Any) -> Made:
    """The context that a description is visited in."""
    return Made(get_locals_as_dict=lambda: {"event": Made(launch_description=Made(entities=entities))})


PERCEPTION = ROOT / "launch" / "perception.launch.py"


def test_an_undeclared_argument_is_named_with_what_it_may_mean() -> None:
    with pytest.raises(UserError, match=r"no argument 'rectifed' \(did you mean 'rectified'\?\)") as caught:
        refuse_undeclared(visited(included(PERCEPTION, "image", "rectifed")), str(PERCEPTION))
    assert len(str(caught.value).splitlines()) == 1


def test_declared_arguments_and_those_of_launch_itself_are_accepted() -> None:
    refuse_undeclared(visited(included(PERCEPTION, *names(PERCEPTION.name), "launch-prefix")), str(PERCEPTION))


def test_the_arguments_of_a_file_that_includes_ours_are_its_own(tmp_path: Path) -> None:
    theirs = tmp_path / "robot.launch.py"
    theirs.touch()
    ours = included(PERCEPTION, "image")
    group = Made(get_sub_entities=lambda: [Made(), ours])
    outer = Made(**vars(included(theirs, "robot")), get_sub_entities=lambda: [Made(entities=[group])])
    refuse_undeclared(visited(outer), str(PERCEPTION))
    ours.launch_arguments.append(("imge", "x"))
    with pytest.raises(UserError, match="'imge'"):
        refuse_undeclared(visited(outer), str(PERCEPTION))


def test_files_that_are_not_visited_yet_are_not_loaded() -> None:
    def load() -> None:
        raise AssertionError("loaded")

    later = Made(launch_description_source=Made(location="<substitution>"), launch_arguments=[], get_sub_entities=load)
    refuse_undeclared(visited(later, included(PERCEPTION, "image")), str(PERCEPTION))
    refuse_undeclared(Made(get_locals_as_dict=lambda: {"event": Made()}), str(PERCEPTION))  # of a timer, say


# The node that perception.launch.py starts.


def started(monkeypatch: pytest.MonkeyPatch, **given: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Globals of perception.launch.py, and what its Node was made with."""
    file = run_launch_file(PERCEPTION, monkeypatch)
    values = {a.name: a.default for a in ARGUMENTS[PERCEPTION.name]}
    _, node = file["_node"]({**values, **given})
    return file, node.kwargs


def test_the_node_gets_its_file_and_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _, node = started(monkeypatch, target="orin", stride="7", image="/cam/image")
    file, given = node["parameters"]
    assert Path(file).name == "orin.yaml"
    assert given == {"stride": 7}
    assert ("image/compressed", "/cam/image/compressed") in node["remappings"]
    assert {name for name, _ in node["remappings"]} == {topic.name for topic in SUBSCRIBED}


@pytest.mark.parametrize(
    ("text", "given"), [("", {}), ("true", {"use_sim_time": True}), ("False", {"use_sim_time": False})]
)
def test_time_is_that_of_files_and_including_launch_files_unless_given(
    text: str, given: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parameter of launch's Node goes before the parameter file and SetParameter."""
    rviz = run_launch_file(ROOT / "launch" / "rviz.launch.py", monkeypatch)["_rviz"]
    time = {"use_sim_time": text} if text else {}
    (shown,) = rviz({**{a.name: a.default for a in ARGUMENTS["rviz.launch.py"]}, **time})
    for node in (started(monkeypatch, **time)[1], follower(monkeypatch, **time).kwargs, shown.kwargs):
        sent = {k: v for p in node["parameters"] if isinstance(p, dict) for k, v in p.items() if k == "use_sim_time"}
        assert sent == given


@pytest.mark.parametrize("given", [{"target": "orinoco"}, {"params_file": "/nowhere/mine.yaml"}])
def test_a_missing_parameter_file_ends_the_launch(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cpu, datacenter, orin, rtx, thor"):
        started(monkeypatch, **given)


def test_the_process_is_started_again_only_where_wanted_and_never_after_a_wrong_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert started(monkeypatch)[1]["respawn"] is False
    file, node = started(monkeypatch, respawn="true")
    assert node["respawn"] is True
    process = object()
    assert file["_end"](Made(returncode=-11, action=process), None) is None
    _, end = file["_end"](Made(returncode=2, action=process), None)
    assert end.kwargs["event"].kwargs["process_matcher"].args == (process,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["-p", "stride:=4000"], "stride"),
        (["-p", "use_sim_time:=1"], "use_sim_time"),
        (["-p", "qos_overrides./diagnostics.publisher.reliability:=relible"], "relible"),
        (["-p", "qos_overrides./diagnostics.publisher.depth:=-3"], "publisher"),
        (["-r", "__ns:=bad-ns"], "bad-ns"),
        (["--log-level", "verbose"], "verbose"),
        (["--params-file", "no.yaml"], "no.yaml"),
        (["--unknown"], "--unknown"),
    ],
)
def test_a_wrong_parameter_is_one_line_and_exit_code_2(given: list[str], words: str, tmp_path: Path) -> None:
    """What the rule above goes by."""
    file = tmp_path / "no.yaml"
    file.write_text("a: [1,\nb: }{")
    arguments = [str(file) if text == file.name else text for text in given]
    command = [sys.executable, "-m", "thfm_ros.nodes.perception_node", "--ros-args", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("perception_node: ")]
    assert words in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [RuntimeError("no CUDA device"), RCLError("failed to create domain"), OSError(28)])
def test_what_may_pass_is_no_wrong_argument(error: Exception) -> None:
    assert wrong_argument(error) is None


@pytest.mark.parametrize(("text", "good"), [("verbose", False), ("", False), ("DEBUG", True), ("rcl:=warn", True)])
def test_a_log_level_that_ros_does_not_know_ends_the_launch(
    text: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if good:
        assert started(monkeypatch, log_level=text)[1]["arguments"][-1] == text
        return
    with pytest.raises(UserError, match=f"log_level:={text}: expected one of debug, info"):
        started(monkeypatch, log_level=text)


def test_launch_needs_none_of_the_nodes_libraries() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['cv2', 'av', 'torch', 'openvino', 'safetensors']))\n"
        "import thfm_ros.nodes.launch_arguments"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# The follower that follow.launch.py starts.


def follower(monkeypatch: pytest.MonkeyPatch, **given: str) -> Any:
    """The action that starts it."""
    file = run_launch_file(ROOT / "launch" / "follow.launch.py", monkeypatch)
    (action,) = file["_follower"]({**{a.name: a.default for a in ARGUMENTS["follow.launch.py"]}, **given})
    return action


@pytest.mark.parametrize("namespace", ["", "robot", "/a/robot/"])
def test_the_follower_is_a_node_to_launch_like_the_perception_node(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Namespaces, remaps and parameters of a launch file that includes this one reach nodes alone."""
    action = follower(monkeypatch, namespace=namespace, distance="2", cmd_vel="/wheels")
    assert type(action).__name__ == "Node"
    assert action.kwargs["namespace"] == started(monkeypatch, namespace=namespace)[1]["namespace"]
    (parameters,) = action.kwargs["parameters"]
    assert type(parameters["distance"]) is float
    assert parameters["distance"] == 2
    assert dict(action.kwargs["remappings"]) == {"target_pose": "perception/people/target_pose", "cmd_vel": "/wheels"}
    assert action.kwargs["executable"] == sys.executable  # of the environment, as the script's first line is not
    (script,) = action.kwargs["arguments"]
    assert Path(script).is_file()


def test_the_follower_has_poses_in_the_frame_of_the_camera_alone() -> None:
    """In another, what it takes for ahead and aside would be coordinates of a map."""
    path = ROOT / "launch" / "follow.launch.py"
    with pytest.raises(UserError, match=r"no argument 'target_frame'.*one that it sets itself"):
        refuse_undeclared(visited(included(path, "image", "target_frame")), str(path))
    assert FOLLOW_DECIDES["target_frame"] == PARAMETERS["target_frame"].default == ""


@pytest.mark.parametrize("text", ["near", "nan", ""])
def test_a_distance_that_is_no_number_ends_the_launch(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=f"distance:={text}: expected a number, for example distance:=1.5"):
        follower(monkeypatch, distance=text)


def test_the_launch_ends_with_its_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    (end,) = follower(monkeypatch).kwargs["on_exit"]
    assert type(end).__name__ == "Shutdown"


# The recorder that demo.launch.py starts.


def test_the_demo_waits_for_a_first_export_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    entities = run_launch_file(ROOT / "launch" / "demo.launch.py", monkeypatch)["entities"]
    (recorder,) = [e for e in entities if getattr(e, "kwargs", {}).get("executable") == "recorder"]
    (parameters,) = recorder.kwargs["parameters"]
    assert set(parameters) <= RUN_PARAMETERS["recorder"]
    assert parameters["start_timeout_s"] == 0
    assert type(parameters["start_timeout_s"]) is float


# With the real launch, where it is installed.


def test_the_real_launch_ends_with_an_error_and_starts_nothing() -> None:
    pytest.importorskip("launch_ros")
    code = (
        "import sys; from ros2launch.api import launch_a_launch_file as run\n"
        f"sys.exit(run(launch_file_path={str(PERCEPTION)!r}, launch_file_arguments=['rectifed:=1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "perception.launch.py has no argument 'rectifed'" in done.stdout + done.stderr
    assert "process started" not in done.stdout + done.stderr
