"""Pickled annotations without executing anything: numpy arrays and plain containers only."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thfm_ros.errors import UserError

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # how protocol 2 stores an array's bytes
    ("collections", "OrderedDict"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *((m, n) for m in ("builtins", "__builtin__") for n in ("dict", "list", "tuple", "set", "frozenset", "bytearray")),
}


class Chumpy:
    """Stands in for the arrays of a package that old body models were saved with; `x` is the array."""

    x: np.ndarray

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.x = state["x"]


def _sparse() -> Any:
    from scipy.sparse import csc_matrix

    return csc_matrix


# Further classes that body model files hold, each by what makes it.
BODY_MODELS: dict[tuple[str, str], Callable[[], Any]] = {
    ("chumpy.ch", "Ch"): lambda: Chumpy,
    ("scipy.sparse.csc", "csc_matrix"): _sparse,
    ("scipy.sparse._csc", "csc_matrix"): _sparse,
}


class _Unpickler(pickle.Unpickler):
    further: Mapping[tuple[str, str], Callable[[], Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.further:
            return self.further[module, name]()
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, only numpy arrays and plain containers are read")
        return super().find_class(module.replace("__builtin__", "builtins"), name)


def load(path: Path, further: Mapping[tuple[str, str], Callable[[], Any]] | None = None) -> Any:
    """The content of a pickle file; UserError for anything but numpy arrays, plain containers and `further` classes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        unpickler = _Unpickler(io.BytesIO(data), encoding="latin1")
        unpickler.further = further or {}
        return unpickler.load()
    except Exception as error:  # a damaged or hostile stream raises almost anything
        raise UserError(f"cannot read {path}: {error}") from None


def entry(table: Any, path: Path, *names: str) -> Any:
    """table[names[0]][names[1]]..; UserError that names the missing entry and what is there."""
    for depth, name in enumerate(names):
        if not isinstance(table, dict) or name not in table:
            found = ", ".join(map(str, table)) if isinstance(table, dict) else type(table).__name__
            raise UserError(f"{path}: expected entry '{'.'.join(names[: depth + 1])}', found {found}: another version?")
        table = table[name]
    return table
