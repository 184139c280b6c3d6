"""The doctor's verdict on machines that lack something: `missing` is what the demo cannot run without."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import thfm_ros
from thfm_ros.engine import verdicts
from thfm_ros.engine.device import Gpu, cpu_name
from thfm_ros.engine.manifest import MANIFEST, sha256
from thfm_ros.engine.verdicts import Verdicts
from thfm_ros.errors import UserError
from thfm_ros.nodes.message_types import require
from thfm_ros.system import doctor


@pytest.mark.parametrize(
    ("absent", "exported", "missing"),
    [
        ((), False, set()),
        (("av",), True, {"av"}),
        (("openvino",), True, set()),
        (("openvino", "onnxruntime"), True, {"CPU runtime"}),
        (("torch", "diffusers"), True, set()),
        (("torch", "diffusers"), False, {"torch", "diffusers"}),
        (("rosbags", "rerun-sdk"), False, set()),
    ],
)
def test_what_the_demo_needs_is_missing_and_the_rest_optional(absent, exported, missing, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in absent else "1.0")
    monkeypatch.setattr(doctor, "_import_problem", lambda module: "no such module" if module in absent else "")
    monkeypatch.setattr(doctor, "is_exported", lambda checkpoint: exported)
    assert {f.what for f in doctor._libraries() if f.state == "missing"} == missing


def test_a_runtime_that_cannot_be_loaded_is_none(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "onnxruntime" else "1.0")
    monkeypatch.setattr(doctor, "_import_problem", lambda module: "it cannot be loaded")
    states = {f.what: f.state for f in doctor._libraries()}
    assert (states["openvino"], states["CPU runtime"]) == ("warn", "missing")


def test_a_driver_that_hangs_is_a_warning(monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor.subprocess, "run", hang)
    assert doctor._gpu().state == "warn"


def test_messages_whose_build_folder_is_gone_are_missing(tmp_path, monkeypatch):
    (tmp_path / "msg").mkdir()
    (tmp_path / "msg" / "__init__.py").symlink_to(tmp_path / "build" / "__init__.py")
    monkeypatch.setattr(thfm_ros, "__path__", [str(tmp_path)])
    monkeypatch.setattr(thfm_ros, "msg", None, raising=False)
    monkeypatch.setitem(sys.modules, "thfm_ros.msg", None)
    del sys.modules["thfm_ros.msg"]  # both are put back afterwards
    assert not doctor._has_messages()
    del sys.modules["thfm_ros.msg"]
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "__init__.py").write_text("class PersonArray: pass")
    assert doctor._has_messages()


@pytest.mark.parametrize(
    ("package", "fix"),
    [
        ("people_msgs", "git clone -b ros2 https://github.com/wg-perception/people "),
        ("hri_msgs", "git clone -b humble-devel https://github.com/ros4hri/hri_msgs "),
        ("tf2_ros", "apt install ros-kilted-tf2-ros-py"),
        ("vision_msgs", "apt install ros-kilted-vision-msgs"),
    ],
)
def test_an_optional_package_is_named_with_a_command_that_brings_it(package, fix, monkeypatch):
    """Those without a Debian package everywhere by their source, in the doctor and in the node's refusal alike."""
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    monkeypatch.setattr(doctor, "_has", lambda module: module != package)
    monkeypatch.setattr(doctor, "_has_messages", lambda: True)
    (finding,) = [f for f in doctor._ros() if f.what == package]
    assert finding.state == "optional"
    assert finding.fix.startswith(fix)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=re.escape(fix.replace("kilted", "$ROS_DISTRO"))):
        require("this", package)


@pytest.mark.parametrize(("here", "listed"), [("NVIDIA RTX 4090", True), ("NVIDIA Thor", False), (None, False)])
def test_what_a_gpu_refused_is_listed_where_it_is(here, listed, monkeypatch):
    device = "backend=tensorrt device=NVIDIA RTX 4090 flavor=tensorrt_rtx version=1.2"
    found = Verdicts("bundle", "0", "tensorrt", device, None, [], {"encode": "golden check of stage encode"})
    monkeypatch.setattr(doctor, "remembered", lambda: [found])
    monkeypatch.setattr(doctor, "current_gpu", lambda: here and Gpu(here, "SM89", 1000))
    assert [f.what for f in doctor._refused()] == (["TensorRT refused"] if listed else [])


def test_a_refusal_by_an_older_check_is_forgotten(tmp_path, monkeypatch):
    """Nothing looks its record up any more, so no check could ever clear it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / MANIFEST).write_text("{}")
    why = {"encode": "golden check of stage encode"}
    found = Verdicts(str(tmp_path), sha256(tmp_path / MANIFEST), "openvino", cpu_name(), None, [], why)
    with monkeypatch.context() as older:
        older.setattr(verdicts, "CHECK", verdicts.CHECK - 1)
        verdicts.remember(found)
        assert verdicts.remembered() == [found]
    assert doctor._refused() == []
    verdicts.remember(found)
    assert [f.what for f in doctor._refused()] == ["OpenVINO refused"]


def test_the_pythons_of_the_metadata_are_the_doctors(monkeypatch):
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    minors = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", text)]
    assert f'requires-python = ">=3.{minors[0]}"' in text
    for minor in (minors[0] - 1, *minors, minors[-1] + 1):
        monkeypatch.setattr(doctor.sys, "version_info", (3, minor, 0))
        finding = doctor._python()
        assert finding.what == f"Python 3.{minors[0]}-3.{minors[-1]}"
        assert finding.state == ("ok" if minor in minors else "missing")
