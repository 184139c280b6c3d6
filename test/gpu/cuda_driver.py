"""The stand-in for NVIDIA's driver (fake_cuda.c), compiled and loaded."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from tensorrt_surface import HEADER, downloaded


def compile_driver(out: Path) -> Path:
    """Held by the compiler against NVIDIA's own header."""
    header = downloaded(HEADER) / "nvidia" / "cuda_runtime" / "include"
    source = Path(__file__).parent / "fake_cuda.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-I", str(header), str(source), "-o", str(out)], check=True)
    return out


class Driver:
    """Its counters by name, and what it is told to refuse."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.fake_enqueue.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        library.fake_break_capture.argtypes = (ctypes.c_void_p,)
        self.fake_enqueue, self.fake_break_capture = library.fake_enqueue, library.fake_break_capture

    def __getattr__(self, name: str) -> int:
        return ctypes.c_long.in_dll(self.library, f"fake_{name}").value

    def idle(self) -> None:
        """From now on nothing is copied and nothing runs."""
        ctypes.c_int.in_dll(self.library, "fake_idle").value = 1

    def room(self, megabytes: int) -> None:
        ctypes.c_int.in_dll(self.library, "fake_memory_mb").value = megabytes

    def refuse(self, function: str, code: int) -> None:
        (ctypes.c_char * 64).in_dll(self.library, "fake_refuses").value = function.encode()
        ctypes.c_int.in_dll(self.library, "fake_refused").value = code
