"""Tables of YAML or JSON as frozen dataclasses: every key is known, and every value has its field's type."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from thfm_ros.errors import UserError

T = TypeVar("T")


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Reads a table from a YAML file; UserError where there is none. what: the file's role, for the message."""
    try:
        table = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"no {what} at {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise UserError(f"{path}: expected a table of keys, found {type(table).__name__}")
    return table


def parse(kind: type[T], table: Any, where: str, without: Collection[str] = (), complete: bool = False) -> T:
    """Makes a dataclass out of a table.

    Args:
        where: place of the table, which begins every message.
        without: fields that the table does not have.
        complete: fields with a default must be there too.
    Raises:
        UserError: a key is unknown or missing, or a value is of another type.
    """
    if not isinstance(table, dict):
        raise UserError(f"{where}: expected a table, found {table!r}")
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind)) if f.name not in without}
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            expected = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(fields)}, found another"
            raise UserError(f"{where}: unknown key '{key}': {expected}")
    needed = [n for n, f in fields.items() if complete or f.default is f.default_factory]  # both MISSING
    if missing := [name for name in needed if name not in table]:
        raise UserError(f"{where}: expected {', '.join(missing)}, found none")
    values = {key: _value(hints[key], value, f"{where}: {key}", complete) for key, value in table.items()}
    return kind(**values)


_hints = functools.cache(typing.get_type_hints)


def _value(hint: Any, value: Any, where: str, complete: bool) -> Any:
    if dataclasses.is_dataclass(hint):
        return parse(typing.cast(type, hint), value, where, complete=complete)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union) and type(None) in args and len(args) == 2:
        return None if value is None else _value(next(a for a in args if a is not type(None)), value, where, complete)
    if origin in (types.UnionType, typing.Union) or hint is Any:
        return value
    if origin is Literal:
        if value not in args:
            raise UserError(f"{where}: expected one of {', '.join(map(str, args))}, found {value!r}")
        return value
    if origin in (tuple, list):
        return _sequence(args, value, where, complete)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a table, found {value!r}")
        return {str(k): _value(args[1], v, f"{where}.{k}", complete) for k, v in value.items()}
    if hint is float:
        return _number(value, where)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _sequence(items: tuple[Any, ...], value: Any, where: str, complete: bool) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: expected a list, found {value!r}")
    if items[-1] is not Ellipsis and len(items) > 1 and len(value) != len(items):
        raise UserError(f"{where}: expected {len(items)} values, found {len(value)}")
    return tuple(_value(items[0], v, f"{where}[{i}]", complete) for i, v in enumerate(value))


def _number(value: Any, where: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:  # YAML 1.1 reads 1e-3 as a string
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: expected a finite number, found {value!r}")
    return number
