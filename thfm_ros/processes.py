"""Child processes that end with their parent, however that ends, and interruptions that lose no work."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any, TypeVar

from thfm_ros.errors import UserError

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


class Stopped(UserError):
    """A child was ended because its result is no longer wanted."""


def start(module: str, *arguments: str, ending: int = signal.SIGKILL, **options: Any) -> subprocess.Popen[Any]:
    """Starts a Python module as a process of its own, which gets the signal `ending` when this process is gone.

    More exactly: when the thread that called this is gone. options: of Popen.
    """
    own = [sys.executable, "-m", __name__, str(os.getpid()), str(int(ending))]
    return subprocess.Popen([*own, module, *arguments], **options)


def run(module: str, *arguments: str, stop: Callable[[], bool] = lambda: False) -> subprocess.CompletedProcess[str]:
    """Runs a Python module to its end, with what it printed. Killed where this thread is interrupted.

    Raises Stopped soon after `stop` begins to return True.
    """
    process = start(
        module, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=0.1)
                return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
            except subprocess.TimeoutExpired:
                if stop():
                    raise Stopped(f"{module} {' '.join(arguments)}: stopped") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def end(running: Iterable[subprocess.Popen[Any]], ending: int = signal.SIGINT, patience_s: float = 20.0) -> None:
    """Signals those that still run, waits for all, and kills whoever takes longer than `patience_s`."""
    running = list(running)
    for process in running:
        if process.poll() is None:
            process.send_signal(ending)
    for process in running:
        try:
            process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            process.kill()


def end_with_parent(ending: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Has the kernel send `ending` to this process when its parent is gone, or at once where it is by now.

    parent: its process id; default: of the process that started this one by multiprocessing.
    """
    if parent is None:
        started_by = parent_process()
        parent = started_by.pid if started_by else os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ending)
    if os.getppid() != parent:
        os.kill(os.getpid(), ending)


class Interrupts:
    """Notes SIGINT, SIGTERM and SIGHUP instead of obeying, so that a loop ends between two steps of its work.

    `leave` ends the process as the first one would have. A second signal is obeyed at once (KeyboardInterrupt), unless
    `patient`: for what a supervisor ends with several signals, and kills when it takes too long.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.noted: int | None = None
        self._obeyed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # which alone gets signals
            obeyed = [n for n in self.SIGNALS if signal.getsignal(n) != signal.SIG_IGN]  # not those that nohup ignores
            self._before = {number: signal.signal(number, self._note) for number in obeyed}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted is not None and not self.patient:
            raise KeyboardInterrupt
        self.noted = self.noted or number
        if self._obeyed:
            self.leave()

    def between(self, items: Iterable[T]) -> Iterator[T]:
        """The items. A signal ends the wait for the next one at once, and the work on one when that is done."""
        iterator = iter(items)
        while True:
            self._obeyed = True
            try:
                self.leave()
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._obeyed = False
            yield item

    @contextmanager
    def held(self) -> Iterator[None]:
        """A part of that wait that a signal must not cut in two: it is obeyed right after."""
        obeyed, self._obeyed = self._obeyed, False
        try:
            yield
        finally:
            self._obeyed = obeyed
        if obeyed:
            self.leave()

    def leave(self) -> None:
        """Raises what ends a command after the noted signal; nothing without one."""
        if self.noted == signal.SIGINT:
            raise KeyboardInterrupt
        if self.noted is not None:
            sys.exit(128 + self.noted)


def main() -> None:
    """The child's side of `start`: PARENT SIGNAL MODULE [ARGUMENTS]."""
    parent, ending, module = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    end_with_parent(ending, parent)
    sys.argv = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
