"""What TensorRT's own Python bindings offer: the classes, members and signatures that they were compiled with.

The bindings are wheels of about a megabyte. They want the libraries, which are gigabytes and never called here: a
stand-in with the right names lets them be imported. Run as a program, this file is the process that imports them.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Orin on JetPack 6, Thor on JetPack 7.0, data centres; and TensorRT for RTX as it is installed.
VERSIONS = {
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.13": "tensorrt-cu12-bindings==10.13.3.9",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
    "rtx": "",
}
HEADER = "nvidia-cuda-runtime-cu12==12.6.77"  # holds cuda.h, under a megabyte
DOWNLOADS = Path(__file__).parents[2] / "build" / "nvidia"
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion",
    "getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip

Surface = dict[str, Any]  # class -> {"members": enumeration's or None, "signatures": name -> list, "properties": list}


def downloaded(requirement: str) -> Path:
    """The folder of a package, downloaded once; skips the test where that fails, but fails it in CI."""
    folder = DOWNLOADS / requirement.replace("==", "-")
    if not folder.is_dir():
        temporary = Path(tempfile.mkdtemp(dir=_made(DOWNLOADS)))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(temporary)]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, timeout=240)
        if done.returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(
                f"expected to download {requirement} (1 MB), found: {done.stderr.strip().splitlines()[-1]}"
            )
        temporary.rename(folder)
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def surface(version: str) -> Surface:
    """Of one of `VERSIONS`, as its bindings describe themselves."""
    if version == "rtx":
        pytest.importorskip("tensorrt_rtx")
    folder = downloaded(VERSIONS[version]) if VERSIONS[version] else Path()
    done = subprocess.run([sys.executable, __file__, version, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main(version: str, folder: Path) -> None:
    if version == "rtx":
        import tensorrt_rtx as trt
    else:
        _pretend_libraries(version.split(".")[0])
        sys.path.insert(0, str(folder))
        import tensorrt_bindings as trt
    classes = {name: c for name, c in vars(trt).items() if inspect.isclass(c)}
    print(json.dumps({"__version__": trt.__version__, **{name: _described(c) for name, c in classes.items()}}))


def _pretend_libraries(major: str) -> None:
    code = "\n".join(f"void *{symbol}(void) {{ static char nothing[4096]; return nothing; }}" for symbol in SYMBOLS)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
            library = f"lib{name}.so.{major}"
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-x", "c", "-", "-o", f"{folder}/{library}"]
            subprocess.run(command, input=code, text=True, check=True)
            ctypes.CDLL(f"{folder}/{library}", mode=ctypes.RTLD_GLOBAL)


def _described(class_: type) -> dict[str, Any]:
    signatures: dict[str, list[str]] = {}
    properties = []
    for name in dir(class_):
        if name.startswith("__") and name != "__init__":
            continue
        value = inspect.getattr_static(class_, name)
        if isinstance(value, property):
            properties.append(name)
        elif lines := [line for line in (getattr(class_, name).__doc__ or "").splitlines() if f"{name}(self" in line]:
            signatures[name] = [line[line.index(f"{name}(") :] for line in lines]
    members = getattr(class_, "__members__", None)
    nested = {n: _described(c) for n, c in vars(class_).items() if inspect.isclass(c)}
    return {"members": members and list(members), "signatures": signatures, "properties": properties, "nested": nested}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
