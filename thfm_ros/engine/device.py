"""What this machine is, and whether a bundle's engines fit it."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from thfm_ros.engine.manifest import Manifest
from thfm_ros.errors import UserError


@cache
def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines[::-1])  # reversed: the first CPU wins
    return {key.strip(): value.strip() for key, _, value in pairs if value}


def cpu_name() -> str:
    info = _cpuinfo()
    return info.get("model name") or info.get("Model") or platform.processor() or platform.machine()


def fast_bf16() -> bool:
    """True where the CPU multiplies bf16 matrices fast: with AMX, Arm's BF16, or AMD's AVX512-BF16.

    On a Zen 4 nano's stages took 0.57 to 0.67 of their time in float32 (OpenVINO 2026, one thread). Intel's AVX512-BF16
    alone is not enough: on a Xeon with it and without AMX nano took a third longer.
    """
    info = _cpuinfo()
    flags = set(f"{info.get('flags', '')} {info.get('Features', '')}".split())
    if "amx_bf16" in flags:
        return _may_use("AMX")
    if "avx512_bf16" in flags and info.get("vendor_id") == "AuthenticAMD":
        return _may_use("AMX", "BF16", "FP16", "AVX10")
    return "bf16" in flags


def _may_use(*instructions: str) -> bool:
    """Whether oneDNN, which OpenVINO and torch compute with, is not held back from them by its environment variables.

    instructions: parts of the names of the limits that let them in.
    """
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT").upper()
    return limit in ("ALL", "DEFAULT") or any(name in limit for name in instructions)


def platform_name() -> str:
    """Such as "Linux-x86_64" or "Linux-aarch64": an engine holds code for one of them."""
    return f"{platform.system()}-{platform.machine()}"


def available_memory_mb() -> int:
    """Free memory, caches that the kernel would give up included. A Jetson's GPU shares it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) // 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2**20


def check_device(manifest: Manifest, version: str, capability: str, here: str) -> None:
    """UserError unless engines of `manifest` can run with this package version, GPU and platform.

    version: of the installed package. capability: the GPU's, such as "SM89". here: `platform_name()`.
    """
    info = manifest.engine
    again = f"rebuild: {device_rebuild(manifest)}"
    if info is None or any(s.engine is None for s in manifest.stages.values()):
        raise UserError(f"{manifest.root}: expected compiled engines, found an unfinished bundle; {again}")
    if info.platform != here:
        raise UserError(f"{manifest.root}: platform: expected {info.platform}, found {here}; {again}")
    if info.version != version:
        raise UserError(f"{manifest.root}: {info.flavor} version: expected {info.version}, found {version}; {again}")
    if capability not in info.compute_capabilities:
        if info.flavor == "tensorrt_rtx":  # built for those that the recipe lists, wherever that is done
            again = f"add {capability} to compute_capabilities in {manifest.recipe}, then {manifest.rebuild}"
        raise UserError(
            f"{manifest.root}: GPU: expected {' or '.join(info.compute_capabilities)}, found {capability}; {again}"
        )


def device_rebuild(manifest: Manifest) -> str:
    """The command that compiles the bundle's own ONNX files again, on this machine."""
    return f"thfm build {manifest.root} --force"


CUDA_DRIVER = "libcuda.so.1"  # comes with every NVIDIA driver


@dataclass(frozen=True)
class Gpu:
    """The first NVIDIA GPU. capability: "SM87". memory_mb: of the GPU, on a Jetson the system's."""

    name: str
    capability: str
    memory_mb: int


def current_gpu() -> Gpu | None:
    """Asks the CUDA driver itself, so that a robot needs no torch to build; None without a driver or a GPU."""
    try:
        cuda = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None
    device, value, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    memory = ctypes.c_size_t()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    numbers = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        numbers.append(value.value)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(name.value.decode(), f"SM{numbers[0]}{numbers[1]}", memory.value >> 20)
