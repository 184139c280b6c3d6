"""The CUDA driver by ctypes: memory, copies, one stream, events and graphs. A robot needs no torch for its GPU.

The driver's library comes with every NVIDIA driver, on a Jetson too, and its functions keep their names and arguments
from release to release (`cuda.h`; a test compiles a stand-in against that header). NEVER RUN on a GPU.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from typing import Any

import numpy as np

from thfm_ros.engine import device
from thfm_ros.errors import UserError

OUT_OF_MEMORY = 2
NON_BLOCKING = 1  # of a stream: it does not wait for the default stream, which others use
THREAD_LOCAL = 1  # of a capture: what other threads allocate meanwhile (a second camera) does not end it
_HANDLE, _ADDRESS = c_void_p, c_uint64  # pointers of the host and opaque handles; CUdeviceptr
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(_HANDLE), c_int),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(_ADDRESS), c_size_t),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (POINTER(_HANDLE), c_size_t, c_uint),
    "cuMemFreeHost": (_HANDLE,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _HANDLE, c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (_HANDLE, _ADDRESS, c_size_t, _HANDLE),
    "cuMemcpyDtoDAsync_v2": (_ADDRESS, _ADDRESS, c_size_t, _HANDLE),
    "cuStreamCreate": (POINTER(_HANDLE), c_uint),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, POINTER(_HANDLE)),
    "cuGraphInstantiateWithFlags": (POINTER(_HANDLE), _HANDLE, c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuEventCreate": (POINTER(_HANDLE), c_uint),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventElapsedTime": (POINTER(c_float), _HANDLE, _HANDLE),
}


class DeviceMemory:
    """Memory of the GPU, freed when nothing refers to it any more. address: an integer, 256-byte aligned."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.size = size
        address = _ADDRESS()
        cuda.call("cuMemAlloc_v2", byref(address), max(size, 1), what=f"{size / 2**20:.0f} MB for a network")
        self.address = int(address.value or 0)
        weakref.finalize(self, cuda.release, "cuMemFree_v2", self.address)


class _Pinned:
    """Host memory that the GPU copies from and to by itself; numpy's view of it keeps it."""

    def __init__(self, pool: list[int], address: int, size: int) -> None:
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}
        weakref.finalize(self, pool.append, address)


class Cuda:
    """The first GPU's primary context, which TensorRT shares, and one stream of its own.

    Every copy and run is enqueued on the stream, in order; nothing waits but `synchronize`. Threads may take turns,
    each after `activate`.
    """

    def __init__(self) -> None:
        """UserError where there is no driver."""
        try:
            self._library = ctypes.CDLL(device.CUDA_DRIVER)
            for name, arguments in _FUNCTIONS.items():
                getattr(self._library, name).argtypes = arguments
        except (OSError, AttributeError) as error:
            raise UserError(
                f"expected NVIDIA's driver ({device.CUDA_DRIVER}), found {error}: install or update it"
            ) from None
        gpu, context, stream = c_int(), _HANDLE(), _HANDLE()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", byref(gpu), 0)
        self.call("cuDevicePrimaryCtxRetain", byref(context), gpu)
        self._context = context
        self.activate()
        self.call("cuStreamCreate", byref(stream), NON_BLOCKING)
        self._stream = stream
        self._pools: dict[int, list[int]] = {}
        self._marks: list[Any] = []
        self._used = 0  # of the marks
        self._read: list[np.ndarray] = []  # by copies that are under way

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream.value or 0)

    def call(self, name: str, *arguments: Any, what: str = "") -> None:
        """Calls the driver; RuntimeError where it refuses, UserError where memory is short. what: it was wanted for."""
        code = getattr(self._library, name)(*arguments)
        if code == 0:
            return
        if code == OUT_OF_MEMORY and what:
            raise UserError(
                f"expected {what} on the GPU, found {self.free_mb()} MB free: close what else uses the GPU, or export "
                "fewer batch sizes"
            )
        text = c_char_p()
        self._library.cuGetErrorName(code, byref(text))
        raise RuntimeError(f"CUDA: {name}: {(text.value or b'error').decode()} ({code})")

    def release(self, name: str, handle: Any) -> None:
        """Frees what nobody refers to any more, on whatever thread that comes out; a driver on its way down may
        refuse."""
        self._library.cuCtxSetCurrent(self._context)
        getattr(self._library, name)(handle)

    def activate(self) -> None:
        """Makes the context that of the calling thread."""
        self.call("cuCtxSetCurrent", self._context)

    def free_mb(self) -> int:
        free, total = c_size_t(), c_size_t()
        self._library.cuMemGetInfo_v2(byref(free), byref(total))
        return free.value >> 20

    def allocate(self, size: int) -> DeviceMemory:
        """`size` bytes of the GPU's memory; UserError where they are not there."""
        return DeviceMemory(self, size)

    def pinned(self, size: int) -> np.ndarray:
        """(size,) uint8, pinned. Used again for the next of this size once no view of it is left."""
        pool = self._pools.setdefault(size, [])
        if not pool:
            pointer = _HANDLE()
            self.call("cuMemHostAlloc", byref(pointer), max(size, 1), 0)
            pool.append(int(pointer.value or 0))
        return np.asarray(_Pinned(pool, pool.pop(), size))

    def upload(self, address: int, host: np.ndarray) -> None:
        """Pinned, contiguous memory to the GPU; it is kept, and must not change, until `synchronize`."""
        self._read.append(host)
        self.call("cuMemcpyHtoDAsync_v2", address, host.ctypes.data, host.nbytes, self._stream)

    def download(self, host: np.ndarray, address: int) -> None:
        """Fills pinned, contiguous memory, which holds the values after `synchronize`."""
        self.call("cuMemcpyDtoHAsync_v2", host.ctypes.data, address, host.nbytes, self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Within the GPU."""
        self.call("cuMemcpyDtoDAsync_v2", target, source, size, self._stream)

    def synchronize(self) -> None:
        """Waits for all that was enqueued."""
        self.call("cuStreamSynchronize", self._stream)
        self._read.clear()

    def mark(self) -> Any:
        """A time mark on the stream, good until `forget_marks`."""
        if self._used == len(self._marks):
            self._marks.append(_HANDLE())
            self.call("cuEventCreate", byref(self._marks[-1]), 0)
        mark = self._marks[self._used]
        self._used += 1
        self.call("cuEventRecord", mark, self._stream)
        return mark

    def forget_marks(self) -> None:
        self._used = 0

    def elapsed_ms(self, begin: Any, end: Any) -> float:
        """Between two marks that were reached."""
        milliseconds = c_float()
        self.call("cuEventElapsedTime", byref(milliseconds), begin, end)
        return float(milliseconds.value)

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """What `enqueue` puts on the stream, as a graph; nothing runs. RuntimeError where it cannot be captured, and
        the stream then goes on as before."""
        graph = _HANDLE()
        self.call("cuStreamBeginCapture_v2", self._stream, THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:
            self._library.cuStreamEndCapture(self._stream, byref(graph))
            raise
        self.call("cuStreamEndCapture", self._stream, byref(graph))
        return Graph(self, graph)

    def close(self) -> None:
        """Frees pinned memory that nobody looks at. Device memory goes with what holds it."""
        for pool in self._pools.values():
            while pool:
                self.release("cuMemFreeHost", pool.pop())


class Graph:
    """Work that was captured, launched as one."""

    def __init__(self, cuda: Cuda, graph: Any) -> None:
        executable = _HANDLE()
        try:
            cuda.call("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            cuda.release("cuGraphDestroy", graph)
        self._cuda, self._executable = cuda, executable
        weakref.finalize(self, cuda.release, "cuGraphExecDestroy", executable)

    def launch(self) -> None:
        self._cuda.call("cuGraphLaunch", self._executable, self._cuda._stream)
