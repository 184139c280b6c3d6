"""Runs a launch file where `launch` is not installed: every class of it only remembers what it was made with."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULES = ("launch", "launch_ros")


class Recorded:
    """An action, event, substitution...: its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def perform(self, context: dict[str, str]) -> str:
        """Of a LaunchConfiguration, where the context is its values."""
        return context[self.args[0]]


class _Module(ModuleType):
    """A module that has every class, and every submodule."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (Recorded,), {}))
        return getattr(self, name)


class _Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in MODULES else None

    def create_module(self, spec: Any) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _forget() -> None:
    for name in [n for n in sys.modules if n.split(".")[0] in MODULES]:
        del sys.modules[name]


def run_launch_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Its globals, and as `entities` what its description consists of."""
    _forget()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "meta_path", [_Finder(), *sys.meta_path])
        try:
            found = runpy.run_path(str(path))
            found["entities"] = found["generate_launch_description"]().args[0]
        finally:
            _forget()
    return found
