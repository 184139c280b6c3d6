"""Messages of packages that are not installed everywhere, for tests: the real ones where they are, else generated.

The tables say what these packages put on the wire, and no more than the node uses. They are built once an environment,
by the same generators as the package's own messages.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
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
# Of all generators only those that Python and Fast DDS need; those for C++ take most of the time.
CMAKE = """cmake_minimum_required(VERSION 3.20)
project(test_messages)
find_package(ament_cmake REQUIRED)
foreach(package rosidl_adapter rosidl_cmake rosidl_generator_py std_msgs geometry_msgs)
  find_package(${package} REQUIRED)
endforeach()
list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces INCLUDE REGEX
  "^rosidl_(generator_(type_description|c|py)|typesupport(_fastrtps|_introspection)?_c):")
"""
CMAKE_PACKAGE = """project({name})
rosidl_generate_interfaces({name} {files} DEPENDENCIES std_msgs geometry_msgs SKIP_INSTALL)
set_target_properties({name}__rosidl_generator_c PROPERTIES UNITY_BUILD OFF)  # its files share names
foreach(unused fastrtps introspection)  # as modules of Python
  set_target_properties({name}_s__rosidl_typesupport_${{unused}}_c PROPERTIES EXCLUDE_FROM_ALL ON)
endforeach()
"""
TIME_LIMIT_S = 1200  # half a minute of one core, on a machine that may have much other work


def provide(package: str) -> Any:
    """Returns the package's messages. Skips the test module where they are neither installed nor can be generated."""
    if find_spec(package) is None:
        _provide()
    return import_module(f"{package}.msg")


def _provide() -> None:
    """Makes all packages importable in this process."""
    prefix = Path(sys.prefix)
    if not (prefix / "share" / "rosidl_generator_py").exists():
        missing = ", ".join(name for name in PACKAGES if find_spec(name) is None)
        pytest.skip(f"{missing} not installed, and nothing in {prefix} to generate them with", allow_module_level=True)
    text = repr(sorted(PACKAGES.items())) + CMAKE + CMAKE_PACKAGE
    out = prefix / f"test-messages-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with (prefix / "test-messages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "done").exists():
            _build(prefix, out)
            (out / "done").touch()
    sys.path.extend(str(out / "build" / name / "rosidl_generator_py") for name in PACKAGES)
    invalidate_caches()
    for library in sorted(out.glob("build/*/*_c.so")):  # typesupports look for each other by bare name: found if loaded
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _build(prefix: Path, out: Path) -> None:
    """Generates and compiles the packages, which are used from the build folder."""
    source, build = out / "src", out / "build"
    for name, messages in PACKAGES.items():
        folder = source / name
        (folder / "msg").mkdir(parents=True, exist_ok=True)
        for message, fields in messages.items():
            (folder / "msg" / f"{message}.msg").write_text("\n".join(fields) + "\n")
        files = " ".join(f"msg/{message}.msg" for message in messages)
        (folder / "CMakeLists.txt").write_text(CMAKE_PACKAGE.format(name=name, files=files))
    folders = "\n".join(f"add_subdirectory({name})" for name in PACKAGES)
    (source / "CMakeLists.txt").write_text(CMAKE + folders + "\n")
    environment = {
        **os.environ,
        "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(prefix),
        "CMAKE_PREFIX_PATH": str(prefix),
    }
    configure = ["cmake", "-S", source, "-B", build, "-DCMAKE_UNITY_BUILD=ON", f"-DPython3_EXECUTABLE={sys.executable}"]
    deadline = time.monotonic() + TIME_LIMIT_S
    for command in (configure, ["cmake", "--build", build, "--parallel", "2"]):
        _run(command, environment, out / "log", deadline - time.monotonic())


def _run(command: list[str | Path], environment: dict[str, str], log: Path, limit_s: float) -> None:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"not within {limit_s:.0f} s: {command}\n{log.read_text()[-5000:]}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it started
            process.wait()
    assert process.returncode == 0, log.read_text()[-5000:]
