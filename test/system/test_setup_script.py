"""tools/setup.sh up to where it would install: in a folder of its own, with stand-ins for every program it calls."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "setup.sh"
PYTHON = '#!/bin/sh\necho "$0 $*" >>{log}\ncase "$*" in *venv*) exit 9 ;; *pip*) exit {pip} ;; esac\n'


def program(path: Path, text: str = "#!/bin/sh\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def setup(
    tree: Path, tools: tuple[str, ...] = ("cc", "c++", "make"), **variables: str
) -> tuple[subprocess.CompletedProcess, str]:
    """Runs it in `tree` with a PATH of these tools; (process, what the Pythons were asked for)."""
    (tree / "tools").mkdir(exist_ok=True)
    shutil.copy(SCRIPT, tree / "tools" / "setup.sh")
    for name in tools:
        program(tree / "bin" / name)
    for name in ("bash", "dirname", "sh"):
        (tree / "bin" / name).unlink(missing_ok=True)
        (tree / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    log = tree / "log"
    program(tree / "bin" / "python3", PYTHON.format(log=log, pip=0))
    done = subprocess.run(
        ["bash", str(tree / "tools" / "setup.sh")],
        env={k: v for k, v in os.environ.items() if k not in ("PYTHON", "ROS", "THFM_VENV")}
        | {"PATH": str(tree / "bin"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, log.read_text() if log.exists() else ""


@pytest.mark.parametrize("missing", ["cc", "c++", "make"])
def test_a_missing_compiler_is_named_before_anything_is_made(tmp_path: Path, missing: str) -> None:
    done, asked = setup(tmp_path, tuple(t for t in ("cc", "c++", "make") if t != missing))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"[setup] {missing} not found: install a C++ compiler and make (Debian: apt install build-essential)"
    ]
    assert not asked


@pytest.mark.parametrize("pip", [None, 1])
def test_a_missing_or_half_made_environment_is_made_afresh(tmp_path: Path, pip: int | None) -> None:
    if pip is not None:
        program(tmp_path / ".venv" / "bin" / "python", PYTHON.format(log=tmp_path / "log", pip=pip))
    done, asked = setup(tmp_path)
    assert done.returncode == 9  # of the stand-in: nothing after it ran
    assert asked.splitlines()[-1].endswith("-m venv --clear .venv")


@pytest.mark.parametrize("pip", [0, 137])
def test_a_working_environment_is_kept(tmp_path: Path, pip: int) -> None:
    program(tmp_path / ".venv" / "bin" / "python", PYTHON.format(log=tmp_path / "log", pip=pip))
    (tmp_path / ".venv" / "kept").touch()
    _, asked = setup(tmp_path)  # ends at the first step, whose programs are not on this PATH
    assert "venv --clear" not in asked
    assert (tmp_path / ".venv" / "kept").exists()


PIP = {
    "short": "#!{venv}/bin/python3\nimport sys\n",
    "long": "#!/bin/sh\n'''exec' \"{venv}/bin/python3\" \"$0\" \"$@\"\n' '''\nimport sys\n",
}


@pytest.mark.parametrize("pip", PIP)
@pytest.mark.parametrize(("at", "afresh"), [("a b", False), ("elsewhere", True), ("other", True)])
def test_a_moved_or_copied_environment_is_made_afresh(tmp_path: Path, pip: str, at: str, afresh: bool) -> None:
    """One that is a link to another checkout's is not moved."""
    tree, real = tmp_path / "tree", tmp_path / "a b" / ".venv"
    tree.mkdir()
    program(real / "bin" / "python", PYTHON.format(log=tree / "log", pip=0))
    program(tmp_path / "other" / ".venv" / "bin" / "python")
    program(real / "bin" / "pip", PIP[pip].format(venv=tmp_path / at / ".venv"))
    (tree / ".venv").symlink_to(real)
    _, asked = setup(tree)
    assert ("-m venv --clear .venv" in asked) == afresh


def test_the_package_is_built_again_where_its_build_folder_is_gone(tmp_path: Path) -> None:
    """`make clean` takes it, and colcon has linked the environment's messages to it."""
    for name in ("pyproject.toml", "CMakeLists.txt", "package.xml", "msg/A.msg", "srv/A.srv", "include/Python.h"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "tools").mkdir()
    shutil.copy(SCRIPT.with_name("node_executable.py.in"), tmp_path / "tools")
    (tmp_path / ".venv" / "share").mkdir(parents=True)
    python = PYTHON.format(log=tmp_path / "log", pip=0).replace("esac", f"*include*) echo {tmp_path}/include ;; esac")
    program(tmp_path / ".venv" / "bin" / "python", python)
    program(tmp_path / ".venv" / "bin" / "colcon", "#!/bin/sh\nmkdir -p build/thfm_ros\n")
    program(tmp_path / "bin" / "sleep")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    assert "colcon build" in setup(tmp_path, PATH=path)[0].stdout
    assert "colcon build" not in setup(tmp_path, PATH=path)[0].stdout
    shutil.rmtree(tmp_path / "build")
    assert "colcon build" in setup(tmp_path, PATH=path)[0].stdout


def with_wheels(tree: Path, *distributions: str) -> None:
    """An environment with the wheels of these ROS distributions."""
    program(tree / ".venv" / "bin" / "python", PYTHON.format(log=tree / "log", pip=0))
    for name in distributions:
        (tree / ".venv" / "lib" / "python3.12" / "site-packages" / f"ros_{name}_rclpy-1.dist-info").mkdir(parents=True)


@pytest.mark.parametrize(
    ("has", "wanted", "afresh"),
    [
        (("kilted",), {}, False),
        (("kilted",), {"ROS": "kilted"}, False),
        (("kilted",), {"ROS": "jazzy"}, True),
        (("jazzy",), {}, False),
        (("jazzy", "kilted"), {}, True),
        ((), {"ROS": "kilted"}, False),
    ],
)
def test_an_environment_has_one_distribution_and_keeps_it_unless_asked(
    tmp_path: Path, has: tuple[str, ...], wanted: dict[str, str], afresh: bool
) -> None:
    with_wheels(tmp_path, *has)
    _, asked = setup(tmp_path, **wanted)
    assert ("-m venv --clear .venv" in asked) == afresh


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"ROS": "humble"}, "ROS=humble: expected jazzy or kilted, which exist as wheels"),
        ({"THFM_VENV": ".venv-kilted"}, "THFM_VENV=.venv-kilted goes beside .venv: run make setup first"),
    ],
)
def test_what_cannot_be_set_up_is_one_line(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    done, asked = setup(tmp_path, **variables)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"[setup] {line}"]
    assert "venv" not in asked
