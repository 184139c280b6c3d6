"""Tables become dataclasses of exactly their fields and types, or one line says what is wrong where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from thfm_ros.errors import UserError
from thfm_ros.schema import parse, read_yaml


@dataclass(frozen=True)
class Part:
    size: tuple[int, int]
    weight: float = 1.0


@dataclass(frozen=True)
class Whole:
    kind: Literal["a", "b"]
    part: Part
    parts: dict[str, Part] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    limit: int | None = None
    anything: dict[str, Any] = field(default_factory=dict)


GOOD: dict[str, Any] = {"kind": "a", "part": {"size": [1, 2]}}


def test_a_table_becomes_its_dataclass() -> None:
    more = {"parts": {"x": {"size": [3, 4], "weight": "1e-3"}}, "names": ["n"], "limit": 5, "anything": {"k": [1]}}
    found = parse(Whole, GOOD | more, "here")
    assert found == Whole("a", Part((1, 2)), {"x": Part((3, 4), 1e-3)}, ("n",), 5, {"k": [1]})
    assert parse(Whole, GOOD | {"limit": None}, "here") == Whole("a", Part((1, 2)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"knid": 1}, "here: unknown key 'knid': did you mean 'kind'?"),
        ({"xyz": 1}, "here: unknown key 'xyz': expected one of kind, part"),
        ({"kind": "c"}, "here: kind: expected one of a, b, found 'c'"),
        ({"part": {}}, "here: part: expected size, found none"),
        ({"part": 3}, "here: part: expected a table, found 3"),
        ({"part": {"size": [1]}}, "here: part: size: expected 2 values, found 1"),
        ({"part": {"size": 1}}, "here: part: size: expected a list, found 1"),
        ({"part": {"size": [1, True]}}, "here: part: size[1]: expected int, found True"),
        ({"part": {"size": [1, 2], "weight": float("nan")}}, "weight: expected a finite number, found nan"),
        ({"part": {"size": [1, 2], "weight": "much"}}, "weight: expected a finite number, found 'much'"),
        ({"parts": {"x": {"size": [1, 2], "wight": 1}}}, "here: parts.x: unknown key 'wight': did you mean 'weight'?"),
        ({"names": "n"}, "here: names: expected a list, found 'n'"),
        ({"limit": "5"}, "here: limit: expected int, found '5'"),
        ({"anything": []}, "here: anything: expected a table, found []"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Whole, GOOD | change, "here")
    assert words in str(caught.value)


def test_fields_may_be_elsewhere_or_all_be_needed() -> None:
    with pytest.raises(UserError, match="unknown key 'limit'"):
        parse(Whole, GOOD | {"limit": 1}, "here", without=("limit",))
    with pytest.raises(UserError, match=r"here: part: expected weight, found none|here: expected parts, names"):
        parse(Whole, GOOD, "here", complete=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "expected YAML"), ("3", "expected a table"), ("a: !!python/object/apply:os.getpid []", "expected YAML")],
)
def test_files_that_are_no_tables(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        read_yaml(tmp_path / "t.yaml", "table")
    with pytest.raises(UserError, match="no table at"):
        read_yaml(tmp_path / "none.yaml", "table")
