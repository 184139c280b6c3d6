"""Messages of packages that are not installed everywhere, for tests: the real ones where they are, else generated.

The tables say what these packages put on the wire, and no more than the node uses. They are built once an environment,
by the same generators as the package's own messages.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HEADER = "std_msgs/Header header"
POINT_2D = ("float32 x", "float32 y", "float32 c")
REGION = (HEADER, "float32 xmin", "float32 ymin", "float32 xmax", "float32 ymax", "float32 c")
PERSON = (
    *("string name", "geometry_msgs/Point position", "geometry_msgs/Point velocity", "float64 reliability"),
    *("string[] tagnames", "string[] tags"),
)
PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "tf2_msgs": {"TFMessage": ("geometry_msgs/TransformStamped[] transforms",)},
    "hri_msgs": {
        "IdsList": (HEADER, "string[] ids"),
        "NormalizedRegionOfInterest2D": REGION,
        "NormalizedPointOfInterest2D": POINT_2D,
        "Skeleton2D": (HEADER, "NormalizedPointOfInterest2D[18] skeleton"),
    },
    "vision_msgs": {
        "Point2D": ("float64 x", "float64 y"),
        "Pose2D": ("Point2D position", "float64 theta"),
        "BoundingBox2D": ("Pose2D center", "float64 size_x", "float64 size_y"),
        "BoundingBox3D": ("geometry_msgs/Pose center", "geometry_msgs/Vector3 size"),
        "ObjectHypothesis": ("string class_id", "float64 score"),
        "ObjectHypothesisWithPose": ("ObjectHypothesis hypothesis", "geometry_msgs/PoseWithCovariance pose"),
        "Detection2D": (HEADER, "ObjectHypothesisWithPose[] results", "BoundingBox2D bbox", "string id"),
        "Detection3D": (HEADER, "ObjectHypothesisWithPose[] results", "BoundingBox3D bbox", "string id"),
        "Detection2DArray": (HEADER, "Detection2D[] detections"),
        "Detection3DArray": (HEADER, "Detection3D[] detections"),
    },
    "people_msgs": {"Person": PERSON, "People": (HEADER, "Person[] people")},
}
DEPENDENCIES = ("std_msgs", "geometry_msgs")
CMAKE = """cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{found}
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} DEPENDENCIES {dependencies})
ament_package()
"""
MANIFEST = """<package format="3"><name>{name}</name><version>0.0.0</version><description>For tests.</description>
<maintainer email="nobody@thfm-ros.example">nobody</maintainer><license>Apache-2.0</license>
<buildtool_depend>ament_cmake</buildtool_depend><buildtool_depend>rosidl_default_generators</buildtool_depend>
{dependencies}<member_of_group>rosidl_interface_packages</member_of_group>
<export><build_type>ament_cmake</build_type></export></package>
"""


def provide(package: str) -> Any:
    """Returns the package's messages. Skips the test module where they are neither installed nor can be generated."""
    if find_spec(package) is None:
        _provide()
    return import_module(f"{package}.msg")


def _provide() -> None:
    """Makes all packages importable in this process."""
    prefix = Path(sys.prefix)
    if not (prefix / "bin" / "colcon").exists():
        missing = ", ".join(name for name in PACKAGES if find_spec(name) is None)
        pytest.skip(f"{missing} not installed, and nothing in {prefix} to generate them with", allow_module_level=True)
    text = repr(sorted(PACKAGES.items())) + CMAKE + MANIFEST
    out = prefix / f"test-messages-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with (prefix / "test-messages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "done").exists():
            _build(prefix, out)
            (out / "done").touch()
    tail = Path(sysconfig.get_path("purelib")).relative_to(prefix)
    sys.path.append(str(out / tail))
    invalidate_caches()
    _load(out / "lib")


def _build(prefix: Path, out: Path) -> None:
    dependencies = "".join(f"<depend>{d}</depend>" for d in DEPENDENCIES)
    found = "\n".join(f"find_package({d} REQUIRED)" for d in DEPENDENCIES)
    for name, messages in PACKAGES.items():
        folder = out / "src" / name
        (folder / "msg").mkdir(parents=True, exist_ok=True)
        for message, fields in messages.items():
            (folder / "msg" / f"{message}.msg").write_text("\n".join(fields) + "\n")
        files = " ".join(f'"msg/{message}.msg"' for message in messages)
        cmake = CMAKE.format(name=name, found=found, files=files, dependencies=" ".join(DEPENDENCIES))
        (folder / "CMakeLists.txt").write_text(cmake)
        (folder / "package.xml").write_text(MANIFEST.format(name=name, dependencies=dependencies))
    environment = {
        **os.environ,
        "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(prefix),
        "CMAKE_PREFIX_PATH": str(prefix),
    }
    command = [
        *(str(prefix / "bin" / "colcon"), "--log-base", str(out / "log"), "build", "--merge-install"),
        *("--base-paths", str(out / "src"), "--install-base", str(out), "--build-base", str(out / "build")),
        *("--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"),
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _load(folder: Path) -> None:
    """Their type supports are looked for by bare name: who is loaded already is found."""
    waiting = sorted(folder.glob("*.so"))
    while waiting:
        left = []
        for library in waiting:
            try:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            except OSError:  # needs another one of them
                left.append(library)
        assert len(left) < len(waiting), f"cannot load {left[0]}"
        waiting = left
