"""What stands in the way of converting a Northbound database, and what converting it loses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnlab.tasks.conversion import lost, obstacles, parse


def column(kind: Any) -> dict[str, Any]:
    return {"T": {"columns": {"c": {"type": kind}, "name": {"type": "string"}}}}


def string(**limits: Any) -> dict[str, Any]:
    return {"key": {"type": "string", **limits}, "min": 0, "max": 1}


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("string", "x", ""),
        ("string", 5, "5 is not a string"),
        ("integer", True, "true is not an integer"),
        ("boolean", True, ""),
        ("real", 1, ""),
        (string(enum=["set", ["a", "b"]]), "b", ""),
        (string(enum=["set", ["a", "b"]]), "z", '"z" is not one of "a", "b"'),
        (string(enum="a"), "z", '"z" is not one of "a"'),
        (string(maxLength=3), "four", '"four" is longer than 3'),
        ({"key": {"type": "integer", "maxInteger": 4095}}, 5000, "5000 is more than 4095"),
        ({"key": {"type": "integer", "minInteger": 1}}, 0, "0 is less than 1"),
        ({"key": "string", "min": 0, "max": 3}, ["set", ["a", "b", "c", "d"]], "has 4 values, at most 3 are allowed"),
        ({"key": "string", "min": 0, "max": "unlimited"}, ["set", ["a", "b", "c", "d"]], ""),
        ({"key": "string", "min": 1, "max": 1}, ["set", []], "must have a value"),
        ({"key": "string", "value": "string", "min": 0, "max": "unlimited"}, ["map", [["k", "v"]]], ""),
        ({"key": "string", "value": "string", "min": 0, "max": "unlimited"}, "k", "must be a map"),
        ({"key": "string", "value": "integer", "min": 0, "max": 9}, ["map", [["k", "v"]]], '"v" is not an integer'),
        ({"key": {"type": "uuid", "refTable": "T"}}, ["uuid", "6c1f0bfa"], ""),
        ({"key": {"type": "uuid", "refTable": "T"}}, "x", '"x" is not a reference to a row'),
    ],
)
def test_a_value_is_an_obstacle_where_its_new_type_does_not_allow_it(kind: Any, value: Any, reason: str) -> None:
    found = list(obstacles(column(kind), {"T": {"1-2-3": {"c": value, "name": "row"}}}))
    assert found == ([f"T row: c {reason}"] if reason else [])


def test_what_a_schema_does_not_have_is_lost() -> None:
    rows: dict[str, Any] = {"T": {"1-2-3": {"c": "x", "later": 1}}, "Later": {"4-5-6": {"name": "mine"}}}
    assert list(lost(column("string"), rows)) == ["T 1-2-3: later", "Later mine: the row"]


def test_a_copy_is_read_record_by_record() -> None:
    old: dict[str, Any] = {"tables": {"T": {"columns": {}}}}
    first = {"_date": 1, "T": {"1-2-3": {"name": "row", "c": "x"}, "4-5-6": {"c": "y\u2028\x85"}}}
    second = {"T": {"4-5-6": None}}
    records = (json.dumps(record, ensure_ascii=False) for record in (old, first, second))
    log = "".join(f"OVSDB JSON 1 0\n{record}\n" for record in records)
    new = json.dumps({"tables": column(string(maxLength=0))})
    found = parse(f"ovsdb-tool: syntax error \n{new}\n{log}")
    assert found is not None
    assert found.said == "syntax error"
    assert found.obstacles == ('T row: c "x" is longer than 0',)
    assert parse("") is None
