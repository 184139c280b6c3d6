"""What is there, what is missing, and the command that fixes it. Looks, imports little, changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from thfm_ros.engine.device import cpu_name, current_gpu, fast_bf16
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.refusals import NAMES, one_line
from thfm_ros.engine.shipped import EXPORT_PACKAGES, is_exported, shipped_checkpoint
from thfm_ros.engine.verdicts import RECHECK, remembered
from thfm_ros.errors import UserError
from thfm_ros.paths import cache_folder, resource
from thfm_ros.ros_packages import how_to_install

State = Literal["ok", "optional", "warn", "missing"]
CPU_RUNTIMES = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `missing` means that the demo cannot run, `warn` that it runs worse than it could."""

    state: State
    what: str
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    engines = [_cpu(), *_libraries(), *_refused(), _gpu(), _tensorrt(), _torch_tensorrt()]
    return [_python(), _compiler(), *_ros(), *engines, _weights(), _cache()]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _has_messages() -> bool:
    """Whether they can be imported. A folder of links whose targets are gone is an empty package, also to find_spec."""
    return not _import_problem("thfm_ros.msg") and hasattr(importlib.import_module("thfm_ros.msg"), "PersonArray")


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if (3, 10) <= sys.version_info < (3, 15):  # the wheels of `make setup` end at 3.13; Lyrical itself has 3.14
        return Finding("ok", "Python 3.10-3.14", found)
    return Finding("missing", "Python 3.10-3.14", found, "install one and run: PYTHON=/path/to/python3 make setup")


def _compiler() -> Finding:
    tools = {name: shutil.which(name) for name in ("cc", "c++", "make")}  # the messages are C and C++
    missing = [name for name, path in tools.items() if not path]
    if not missing:
        return Finding("ok", "C++ compiler", str(tools["c++"]))
    found = f"no {', no '.join(missing)}; needed to build the messages"
    return Finding("optional", "C++ compiler", found, "apt install build-essential")


def _ros() -> list[Finding]:
    distribution = os.environ.get("ROS_DISTRO")
    if not _has("rclpy"):
        return [Finding("missing", "ROS 2 (rclpy)", "none", "make setup, or source /opt/ros/<distro>/setup.bash")]
    wheels = [f"{name} wheels {v}" for name in ("jazzy", "kilted") if (v := _version(f"ros-{name}-rclpy"))]
    kind = f"{distribution} (installed)" if distribution else ", ".join(wheels) or "of unknown origin"
    findings = [Finding("ok", "ROS 2 (rclpy)", kind)]
    if not _has("rclpy.event_handler"):
        findings = [Finding("missing", "ROS 2 (rclpy)", f"{kind}: too old", "use Jazzy or newer (Ubuntu 24.04)")]
    findings.append(
        Finding("ok", "messages of thfm_ros", "built")
        if _has_messages()
        else Finding(
            "missing", "messages of thfm_ros", "not built", "make setup, or colcon build --packages-select thfm_ros"
        )
    )
    for module, use in (
        ("launch_ros", "ros2 launch; without it `thfm demo` starts the nodes"),
        ("message_filters", "depth cameras; without it an own synchroniser with the same behaviour"),
        ("cv_bridge", "rare image encodings"),
        ("hri_msgs", "REP-155 topics"),
        ("tf2_msgs", "bodies on /tf (publish_tf)"),
        ("tf2_ros", "people in another frame (target_frame)"),
        ("vision_msgs", "people as boxes"),
        ("people_msgs", "people for social costmaps"),
    ):
        if _has(module):
            findings.append(Finding("ok", module, "installed"))
        else:
            fix = how_to_install(module, distribution or "<distro>")
            findings.append(Finding("optional", module, f"none ({use})", fix))
    return findings


def _libraries() -> list[Finding]:
    findings = []
    needed = ["av", *(() if _has_bundle() else ("torch", "diffusers"))]
    for distribution, packages, use in (
        ("av", "'av>=13,<18'", "reads and writes videos"),
        ("openvino", "'openvino>=2025.0,<2027'", "runs bundles on the CPU"),
        ("onnxruntime", "'onnxruntime>=1.20,<2'", "the other CPU runtime"),
        ("torch", EXPORT_PACKAGES, "export, training, the torch backend"),
        ("diffusers", EXPORT_PACKAGES, "export, training"),
        ("rosbags", "'rosbags>=0.10,<0.12'", "thfm run BAG, bags of the recorder"),
        ("rerun-sdk", "'rerun-sdk>=0.41,<0.42'", "thfm run --rerun"),
    ):
        version = _version(distribution)
        if version and distribution in CPU_RUNTIMES and (problem := _import_problem(distribution)):
            fix = f"pip install --force-reinstall {distribution}"
            findings.append(Finding("warn", distribution, f"{version}, but {problem}", fix))
        elif version:
            findings.append(Finding("ok", distribution, version))
        else:
            state: State = "missing" if distribution in needed else "optional"
            findings.append(Finding(state, distribution, f"none ({use})", f"pip install {packages}"))
    if all(_import_problem(module) for module in CPU_RUNTIMES):  # also those of no wheel count
        either = f"none that works ({' or '.join(CPU_RUNTIMES)})"
        findings.append(Finding("missing", "CPU runtime", either, "pip install 'openvino>=2025.0,<2027'"))
    return findings


def _has_bundle() -> bool:
    """Whether the demo's network is exported already: the export alone needs torch."""
    try:
        return is_exported(shipped_checkpoint())
    except UserError:
        return False


def _import_problem(module: str) -> str:
    """Why a package cannot be loaded here, or nothing."""
    try:
        importlib.import_module(module)
    except Exception as error:  # also what a library raises that was built for another machine
        return f"it cannot be loaded: {one_line(error)}"
    return ""


def _cpu() -> Finding:
    fast = "multiplies bf16 matrices: bundles with precision auto run in bf16" if fast_bf16() else "float32"
    return Finding("ok", "CPU", f"{cpu_name()}, {fast}")


def _refused() -> list[Finding]:
    """Backends that the golden check refused on this machine, as far as it is remembered."""
    findings = []
    refused = [found for found in remembered() if found.refused]
    names = [cpu_name()]
    if any(cpu_name() not in found.device for found in refused) and (gpu := current_gpu()):
        names.append(gpu.name)
    for found in refused:
        if any(name in found.device for name in names):
            why = "; ".join(found.refused.values())
            findings.append(
                Finding("warn", f"{NAMES.get(found.backend, found.backend)} refused", f"{found.bundle}: {why}", RECHECK)
            )
    return findings


def recheck() -> list[str]:
    """Checks every remembered bundle and backend again; a line for each."""
    lines = []
    for found in remembered():
        what = f"{found.bundle} on {NAMES.get(found.backend, found.backend)}"
        try:
            load_runtime(found.bundle, found.backend, found.threads, "always").close()
            lines.append(f"{what}: passes the golden check")
        except Exception as error:
            lines.append(f"{what}: refused: {one_line(error)}")
    return lines


def _cache() -> Finding:
    try:
        folder = cache_folder("golden").parent
    except UserError as error:
        return Finding("warn", "cache", str(error), "export XDG_CACHE_HOME=/a/folder/that/can/be/written")
    if folder.name == "thfm_ros":
        return Finding("ok", "cache", str(folder))
    fix = "export XDG_CACHE_HOME=/a/folder/that/can/be/written"
    return Finding("warn", "cache", f"{folder}: the user's own cannot be written", fix)


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool:
        query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return Finding("warn", "NVIDIA GPU", "nvidia-smi hangs, and with it the driver", "restart the machine")
        if done.returncode == 0 and done.stdout.strip():
            return Finding("ok", "NVIDIA GPU", done.stdout.strip().splitlines()[0])
    return Finding("optional", "NVIDIA GPU", "none: the network runs on the CPU")


def _tensorrt() -> Finding:
    full, rtx = _version("tensorrt"), _version("tensorrt-rtx-cu13-bindings") or _version("tensorrt-rtx-cu13")
    found = [f"TensorRT {full}"] * bool(full) + [f"TensorRT for RTX {rtx}"] * bool(rtx)
    if not found and _has("tensorrt"):
        found = ["TensorRT (of the system)"]
    if found:
        return Finding("ok", "TensorRT", ", ".join(found))
    return Finding(
        "optional", "TensorRT", "none: no engines", "make setup (for RTX), or JetPack / pip install tensorrt"
    )


def _torch_tensorrt() -> Finding:
    version = _version("torch-tensorrt")
    if version:
        return Finding("ok", "torch-tensorrt", version)
    return Finding("optional", "torch-tensorrt", "none (a second route to engines)", "pip install torch-tensorrt")


def _weights() -> Finding:
    try:
        folder = resource("weights", "nano", "thfm.json").parent
    except UserError:
        return Finding("optional", "weights of nano", "none: the demo runs random ones", "thfm train, or git pull")
    size = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6
    return Finding("ok", "weights of nano", f"{folder} ({size:.0f} MB)")
