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
    """Return the rows of one printed table.

    Maps become dicts, sets lists, UUIDs their text. A set of one is printed as its member alone, so an
    optional value is the value itself or an empty list.
    """
    decoded = msgspec.json.decode(table, type=_Table)
    return [dict(zip(decoded.headings, map(value, row), strict=True)) for row in decoded.data]


def connect(path: Path) -> socket.socket | None:
    """Return a connection to a UNIX socket, None where nobody listens."""
    found = socket.socket(socket.AF_UNIX)
    try:
        found.settimeout(ANSWER_TIMEOUT)
        found.connect(str(path))
    except OSError:
        found.close()
        return None
    return found


def select(server: socket.socket, database: str, columns: Mapping[str, Sequence[str]]) -> Tables:
    """Return the rows of tables of a database, with these columns each, by one transaction (RFC 7047, 4.1.3 and 5.2.2).

    Of tables that the database does not have, there are no rows, and rows lack columns that it does not have: an
    older release of OVN knows less.

    Raises TimeoutError where the server is silent, OSError where it goes away or refuses.
    """
    try:
        return _select(server, database, columns)
    except OSError as error:
        if not (isinstance(error, _Refusal) and error.unknown):
            raise
    known = _known_columns(server, database)
    asked = {t: [c for c in names if c == "_uuid" or c in known[t]] for t, names in columns.items() if t in known}
    found = _select(server, database, asked)
    return {table: found.get(table, []) for table in columns}


class _Refusal(OSError):
    """A server's refusal; `unknown` is True where its schema has no such table or column."""

    def __init__(self, database: str, said: Any, *, unknown: bool = False) -> None:
        super().__init__(f"{database} refuses: {said}")
        self.unknown = unknown


def _select(server: socket.socket, database: str, columns: Mapping[str, Sequence[str]]) -> Tables:
    operations = [{"op": "select", "table": table, "where": [], "columns": names} for table, names in columns.items()]
    server.sendall(msgspec.json.encode({"method": "transact", "params": [database, *operations], "id": 0}))
    answer = _receive(server)
    if answer.error is not None or answer.result is None:
        raise _Refusal(database, answer.error)
    results = [found for found in answer.result if found is not None]
    if refusal := next((found for found in results if "rows" not in found), None):
        details = str(refusal.get("details", ""))
        raise _Refusal(database, refusal, unknown="No table named" in details or "No column" in details)
    if len(results) != len(columns):
        raise _Refusal(database, "")
    return {
        table: [{name: value(given) for name, given in row.items()} for row in found["rows"]]
        for table, found in zip(columns, results, strict=True)
    }


def _known_columns(server: socket.socket, database: str) -> dict[str, set[str]]:
    """Return the columns of each table of a database's schema (RFC 7047, 3.2 and 4.1.2)."""
    server.sendall(msgspec.json.encode({"method": "get_schema", "params": [database], "id": 0}))
    received = _receive(server).result
    if not isinstance(received, dict):
        raise _Refusal(database, received)
    return {name: set(table["columns"]) for name, table in received["tables"].items()}


class _Answer(msgspec.Struct):
    result: Any = None  # nothing of what comes after one that fails (RFC 7047, 4.1.3)
    error: Any = None


def _receive(server: socket.socket) -> _Answer:
    """Return one message. Only its being complete tells where it ends."""
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
    """Return a value of the OVSDB wire format (RFC 7047, 5.1) as a plain one."""
    match given:
        case ["uuid" | "named-uuid", text]:
            return text
        case ["set", members]:
            return [value(member) for member in members]
        case ["map", pairs]:
            return {value(key): value(item) for key, item in pairs}
    return given


def listed(given: Any) -> list[Any]:
    """Return a column that holds a set, whatever the number of its members."""
    return given if isinstance(given, list) else [given]
