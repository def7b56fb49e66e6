"""Conversion of the Northbound database to the schema of other software, and what prevents it.

Source: RFC 7047, section 3.2 (schemas), section 5.1 (notation of values); ovsdb(5), Standalone Format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

MOST_SHOWN = 10
"""Rows and columns that one message lists."""

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Tables by name, their rows by UUID, and the columns of each that differ from their defaults."""


class Conversion(msgspec.Struct, frozen=True):
    """The result of converting a copy: `said` is the error of ovsdb-tool(1), empty where it was converted.

    `obstacles` are the values that the new schema does not allow, `lost` the columns that it does not have.
    """

    said: str
    obstacles: tuple[str, ...]
    lost: tuple[str, ...]


def script(node: str, build: str) -> str:
    """Return the script that converts a copy of a node's Northbound database with a build's tools, or packages'."""
    return render("node/convert-copy.sh.j2", node=node, build=build)


def check(context: Context, node: str, build: str) -> str:
    """Return a sentence about what converting the Northbound database will lose, empty where that is nothing.

    Raises OvnlabError with the rows and columns in the way where it cannot be converted.
    """
    found = parse(run_script(context, script(node, build), where=f"{node}: converting a copy of its database"))
    if found is None:
        return ""
    if found.said:
        raise OvnlabError(
            "the Northbound database cannot be converted to the schema of its new software: nothing was changed",
            where=node,
            detail=_listed(found.obstacles) or found.said,
            hint="change or remove these rows with `ovnlab nbctl` first, or keep the software that the lab runs",
        )
    if not found.lost:
        return ""
    what = "\n".join(("columns that its new software does not know are lost:", _listed(found.lost)))
    return f"{node}: of the Northbound database, {what}"


def _listed(lines: tuple[str, ...]) -> str:
    more = [f"and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return "\n".join([*lines[:MOST_SHOWN], *more])


def parse(printed: str) -> Conversion | None:
    """Return what the script found; None where the database has the schema already, or is not there."""
    said, _, rest = printed.partition("\n")
    new, _, copy = rest.partition("\n")
    if not said or not copy:
        return None
    records = [line for line in copy.split("\n") if line.startswith("{")]  # a value may have other ends of lines
    old, *contents = map(msgspec.json.decode, records)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for table, changed in (item for record in contents for item in record.items() if item[0] in old["tables"]):
        for uuid, row in changed.items():
            there = rows.setdefault(table, {}).pop(uuid, {})
            if row is not None:
                rows[table][uuid] = {**there, **_set(row)}
    tables = msgspec.json.decode(new)["tables"]
    said = "" if said == "converted" else re.sub(r"^ovsdb-tool: ", "", said.strip())
    return Conversion(said, tuple(obstacles(tables, rows)), tuple(lost(tables, rows)))


def _set(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that have a value other than the default of most types."""
    return {column: value for column, value in row.items() if value not in (["set", []], ["map", []], "", 0, False)}


def lost(tables: Mapping[str, Any], rows: Rows) -> Iterator[str]:
    """Yield the tables, rows and columns with values that a schema does not have."""
    for table, found in rows.items():
        for uuid, row in found.items():
            known = tables[table]["columns"] if table in tables else {}
            gone = [column for column in row if column not in known]
            if gone:
                yield f"{table} {_name(row, uuid)}: {', '.join(gone) if table in tables else 'the row'}"


def obstacles(tables: Mapping[str, Any], rows: Rows) -> Iterator[str]:
    """Yield a line for each value that is not allowed by the type that a schema gives its column."""
    for table, found in rows.items():
        columns = tables[table]["columns"] if table in tables else {}
        for uuid, row in found.items():
            for column, value in row.items():
                reason = _reason(columns[column]["type"], value) if column in columns else ""
                if reason:
                    yield f"{table} {_name(row, uuid)}: {column} {reason}"


def _name(row: Mapping[str, Any], uuid: str) -> str:
    name = row.get("name")
    return name if isinstance(name, str) and name else uuid


def _reason(wanted: Any, value: Any) -> str:
    """Return why a value is not of a type, empty where it is."""
    kind: Mapping[str, Any] = {"key": wanted} if isinstance(wanted, str) else wanted
    is_map = "value" in kind
    match value:
        case ["map", list(pairs)]:
            keys, values, values_are_map = [pair[0] for pair in pairs], [pair[1] for pair in pairs], True
        case ["set", list(members)]:
            keys, values, values_are_map = members, [], False
        case _:
            keys, values, values_are_map = [value], [], False
    if keys and is_map != values_are_map:
        return f"must be a {'map' if is_map else 'set'}"
    most: Any = kind.get("max", 1)
    if most != "unlimited" and len(keys) > most:
        return f"has {len(keys)} values, at most {most} {'is' if most == 1 else 'are'} allowed"
    least: Any = kind.get("min", 1)
    if len(keys) < least:
        return "must have a value"
    reasons = [_wrong(kind["key"], atom) for atom in keys]
    reasons += [_wrong(kind["value"], atom) for atom in values]
    return next(filter(None, reasons), "")


_TYPES: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "real": (int, float), "boolean": (bool,)}


def _wrong(wanted: Any, atom: Any) -> str:
    """Return why an atom is not of a base type, empty where it is."""
    base: Mapping[str, Any] = {"type": wanted} if isinstance(wanted, str) else wanted
    name = base["type"]
    shown = msgspec.json.encode(atom).decode()
    if name == "uuid":
        is_reference = isinstance(atom, list) and atom[:1] in (["uuid"], ["named-uuid"])
        return "" if is_reference else f"{shown} is not a reference to a row"
    if not isinstance(atom, _TYPES[name]) or (name != "boolean" and isinstance(atom, bool)):
        return f"{shown} is not {'an' if name == 'integer' else 'a'} {name}"
    allowed = base.get("enum")
    if allowed is not None:
        members = allowed[1] if isinstance(allowed, list) else [allowed]
        if atom not in members:
            return f"{shown} is not one of {', '.join(msgspec.json.encode(member).decode() for member in members)}"
    size: Any = len(atom) if isinstance(atom, str) else atom
    unit = "Length" if name == "string" else name.capitalize()
    if (least := base.get(f"min{unit}")) is not None and size < least:
        return f"{shown} is {'shorter' if name == 'string' else 'less'} than {least}"
    if (most := base.get(f"max{unit}")) is not None and size > most:
        return f"{shown} is {'longer' if name == 'string' else 'more'} than {most}"
    return ""
