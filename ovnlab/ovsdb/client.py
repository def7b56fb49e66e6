"""Rows of OVSDB: as its servers send them (RFC 7047), and as OVS's and OVN's tools print them.

The tools print values as the servers send them with --format=json --data=json (ovs-vsctl(8), Table Formatting Options).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

Row = dict[str, Any]
Tables = dict[str, list[Row]]

ANSWER_TIMEOUT = 5.0
"""Seconds that a server may take to answer."""


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


def connect(path: Path) -> socket.socket | None:
    """A connection to a UNIX socket, None where nobody listens."""
    found = socket.socket(socket.AF_UNIX)
    try:
        found.settimeout(ANSWER_TIMEOUT)
        found.connect(str(path))
    except OSError:
        found.close()
        return None
    return found


def select(server: socket.socket, database: str, columns: Mapping[str, Sequence[str]]) -> Tables:
    """The rows of tables of a database, with these columns each, by one transaction (RFC 7047, 4.1.3 and 5.2.2).

    Raises TimeoutError where the server is silent, OSError where it goes away or refuses.
    """
    operations = [{"op": "select", "table": table, "where": [], "columns": names} for table, names in columns.items()]
    server.sendall(msgspec.json.encode({"method": "transact", "params": [database, *operations], "id": 0}))
    answer = _receive(server)
    if answer.error is not None or answer.result is None:
        raise OSError(f"{database} refuses: {answer.error}")
    results = [found for found in answer.result if found is not None]
    if refusal := next((found for found in results if "rows" not in found), None):
        raise OSError(f"{database} refuses: {refusal}")
    if len(results) != len(columns):
        raise OSError(f"{database} refuses")
    return {
        table: [{name: value(given) for name, given in row.items()} for row in found["rows"]]
        for table, found in zip(columns, results, strict=True)
    }


class _Answer(msgspec.Struct):
    result: list[dict[str, Any] | None] | None = None  # nothing of what comes after one that fails (RFC 7047, 4.1.3)
    error: Any = None


def _receive(server: socket.socket) -> _Answer:
    """One message. Nothing tells where it ends but that it is whole."""
    received = bytearray()
    while part := server.recv(1 << 18):
        received += part
        if part.endswith(b"}"):
            try:
                return msgspec.json.decode(received, type=_Answer)
            except msgspec.DecodeError:  # it goes on
                continue
    raise OSError("the server went away")


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
