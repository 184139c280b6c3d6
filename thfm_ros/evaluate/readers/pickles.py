"""Pickled annotations without executing anything: numpy arrays and plain containers only."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

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


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, only numpy arrays and plain containers are read")
        return super().find_class(module.replace("__builtin__", "builtins"), name)


def load(path: Path) -> Any:
    """The content of a pickle file; UserError for anything but numpy arrays and plain containers."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
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
