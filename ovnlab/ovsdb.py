"""Reads what OVS's and OVN's tools print with --format=json --data=json (ovs-vsctl(8), Table Formatting Options)."""

from __future__ import annotations

from typing import Any

import msgspec

Row = dict[str, Any]


class _Table(msgspec.Struct):
    headings: list[str]
    data: list[list[Any]]


def rows(table: str | bytes) -> list[Row]:
    """The rows of one printed table.

    Maps become dicts, sets lists, UUIDs their text. A set of one is printed as its member alone, so an
    optional value is the value itself or an empty list.
    """
    decoded = msgspec.json.decode(table, type=_Table)
    return [dict(zip(decoded.headings, map(value, row), strict=True)) for row in decoded.data]


def value(given: Any) -> Any:
    """A value of the OVSDB wire format (RFC 7047, 5.1) as a plain one."""
    match given:
        case ["uuid" | "named-uuid", text]:
            return text
        case ["set", members]:
            return [value(member) for member in members]
        case ["map", pairs]:
            return {value(key): value(item) for key, item in pairs}
    return given


def listed(given: Any) -> list[Any]:
    """A column that holds a set, whatever the number of its members."""
    return given if isinstance(given, list) else [given]
