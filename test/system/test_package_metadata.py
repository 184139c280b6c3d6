"""package.xml, setup.py, pyproject.toml and the changelog agree with each other and with what the code imports."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Imported where it is installed: not every distribution has it.
OPTIONAL = {"hri_msgs", "tf2_ros"}
# Python modules that rosdep has a package of; what else is imported comes from pip.
ROSDEP = {
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "rich": "python3-rich",
    "typer": "python3-typer",
    "yaml": "python3-yaml",
}
# What launch files start or read without importing it.
BY_LAUNCH = {"rviz2": "rviz2", "rosbag2": '"ros2", "bag"', "ros2launch": "ros2 launch"}


def named(*kinds: str) -> set[str]:
    return {e.text or "" for kind in kinds for e in PACKAGE.findall(kind)}


def imported(files: list[Path]) -> set[str]:
    """First parts of the names that these files import, also inside functions."""

    def names() -> Iterator[str]:
        for node in (n for f in files for n in ast.walk(ast.parse(f.read_text()))):
            if isinstance(node, ast.Import):
                yield from (a.name for a in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module

    return {n.split(".")[0] for n in names()} - sys.stdlib_module_names - {"thfm_ros", "__future__"}


def distributions(names: list[str]) -> set[str]:
    """PyPI names of requirements."""
    return {re.match(r"[\w-]+", n)[0].lower() for n in names}


NODES = sorted((ROOT / "thfm_ros" / "nodes").rglob("*.py"))
LAUNCH = sorted((ROOT / "launch").glob("*.py"))
CODE = sorted((ROOT / "thfm_ros").rglob("*.py"))
PIP = {"numpy", "cv2", "yaml", "av", "rosbags", "mcap", "safetensors"}


def test_package_xml_names_what_nodes_and_launch_files_use_and_nothing_else() -> None:
    ros = imported(NODES + LAUNCH) - PIP - OPTIONAL
    text = "".join(f.read_text() for f in [*LAUNCH, *NODES])
    by_launch = {name for name, sign in BY_LAUNCH.items() if sign in text}
    messages = {"geometry_msgs", "std_msgs", "rosidl_default_runtime"}
    declared = {n for n in named("depend", "exec_depend") if not n.startswith("python3-")}
    assert declared == ros | by_launch | messages


def test_package_xml_names_the_python_libraries_that_rosdep_has() -> None:
    declared = {n for n in named("exec_depend") if n.startswith("python3-")}
    assert declared == {key for module, key in ROSDEP.items() if module in imported(CODE)}


def test_the_messages_have_what_they_are_made_of() -> None:
    text = "".join(f.read_text() for f in (ROOT / "msg").glob("*.msg"))
    used = set(re.findall(r"^(\w+_(?:msgs|interfaces))/", text, re.MULTILINE))
    assert used == named("depend")
    assert all(f"find_package({name} REQUIRED)" in (ROOT / "CMakeLists.txt").read_text() for name in used)


def test_the_tests_that_colcon_runs_find_what_they_need() -> None:
    ros = {n for n in imported(sorted((ROOT / "test" / "nodes").glob("*.py"))) if n.endswith("_msgs")} - OPTIONAL
    assert ros <= named("depend", "exec_depend", "test_depend")
    assert {"ament_cmake_pytest", "python3-pytest", "python3-pytest-timeout"} <= named("test_depend")
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert "ament_add_pytest_test(nodes test/nodes" in cmake


def test_pip_installs_what_the_code_imports_without_an_extra() -> None:
    """Of the robot's part: nodes and the command line."""
    spelled = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}
    needed = {spelled.get(n, n) for n in (PIP | {"typer", "rich"}) - {"rosbags", "mcap"}}
    assert distributions(PROJECT["dependencies"]) == needed


def test_what_pip_is_asked_for_in_hints_is_what_pyproject_names() -> None:
    """By real names: this package is in no index, where its name and its extras would be a stranger's."""
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    pages = [*CODE, *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    hinted = set()
    for page in pages:
        text = page.read_text()
        assert not re.search(r"thfm_ros\[[a-z,]+\]'", text), page
        hinted |= set(re.findall(r"'([a-z][a-z0-9-]*[<>]=?\d[\w.,<>=]*)'", text))
    assert hinted <= {*PROJECT["dependencies"], *extras}
    assert {"openvino", "rosbags", "rerun-sdk", "torch", "peft"} <= distributions(list(hinted))


def test_colcon_installs_the_command_with_the_modules_and_leaves_pips_alone() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text()
    (branch,) = re.findall(r"^if\(THFM_INSTALL_MODULES\)\n(.*?)^else\(\)", cmake, re.DOTALL | re.MULTILINE)
    assert "install(PROGRAMS tools/thfm DESTINATION bin)" in branch
    assert cmake.count("tools/thfm ") == 1
    assert "-DTHFM_INSTALL_MODULES=OFF" in (ROOT / "tools" / "setup.sh").read_text()
    command = [ROOT / "tools" / "thfm", "--help"]  # by its own right to execute, as colcon's links need it
    python = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env={**os.environ, **python}, capture_output=True, text=True, check=True)
    assert "doctor" in done.stdout


def test_pip_installs_what_the_code_reads_and_an_editable_installation_reads_it_where_it_is(tmp_path: Path) -> None:
    source, build = tmp_path / "source", "import sys; from setuptools import build_meta as b; b.{}(sys.argv[1])"
    shared = re.findall(r"install\(DIRECTORY (.*) DESTINATION share/", (ROOT / "CMakeLists.txt").read_text())
    folders = {*" ".join(shared).split(), "msg"}  # rosidl installs the messages' text
    for folder in {*folders, "thfm_ros"}:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, source)
    wheels = {}
    for kind in ("build_wheel", "build_editable"):
        command = [sys.executable, "-c", build.format(kind), str(tmp_path / kind)]
        subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
        (wheels[kind],) = (tmp_path / kind).glob("*.whl")
    with zipfile.ZipFile(wheels["build_editable"]) as editable:
        assert not [name for name in editable.namelist() if "/share/" in name]

    options = ["--no-deps", "--no-index", "--no-compile", "--target", str(tmp_path / "installed")]
    command = [sys.executable, "-m", "pip", "install", *options, str(wheels["build_wheel"])]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    code = "import sys; from thfm_ros.paths import resource; [print(resource(n)) for n in sys.argv[1:]]"
    files = sorted(str(f.relative_to(source)) for n in folders for f in (source / n).rglob("*") if f.is_file())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-c", code, *files]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    share = tmp_path / "installed" / "share" / "thfm_ros"
    assert done.stdout.splitlines() == [str(share / name) for name in files]


def test_every_file_has_the_same_version_licence_and_summary() -> None:
    assert PROJECT["name"] == PACKAGE.findtext("name")
    assert PROJECT["version"] == PACKAGE.findtext("version")
    assert PROJECT["license"]["text"] == PACKAGE.findtext("license") == "Apache-2.0"
    assert "Apache License" in (ROOT / PACKAGE.find("license").attrib["file"]).read_text()
    assert PROJECT["urls"]["Paper"] == PACKAGE.findtext("url")
    maintainer = PACKAGE.find("maintainer")
    assert {"name": maintainer.text, "email": maintainer.attrib["email"]} in PROJECT["maintainers"]
    assert re.search(rf"^{re.escape(PROJECT['version'])} \(\d{{4}}-\d\d-\d\d\)$", changelog(), re.MULTILINE)


def changelog() -> str:
    return (ROOT / "CHANGELOG.rst").read_text()


def test_the_changelog_is_one_that_catkin_reads() -> None:
    title, *_ = [line for line in changelog().splitlines() if not set(line) <= set("^")]
    assert title == f"Changelog for package {PROJECT['name']}"
    heads = re.findall(r"^(\S.*)\n-+$", changelog(), re.MULTILINE)
    assert heads[-1].startswith("0.1.0 ")
    assert all(h == "Forthcoming" or re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", h) for h in heads)
