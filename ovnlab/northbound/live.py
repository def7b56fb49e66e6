"""Northbound rows that are there, ours and others'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ovnlab.northbound.rows import BY_BIND, MARK, NAME_KEY
from ovnlab.northbound.schema import TABLES, Table, holders, read_columns
from ovnlab.ovsdb.client import Row, Tables, listed
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.ovsdb.queries import NORTHBOUND, TableQuery
from ovnlab.tasks.script import run_script

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

QUESTION = TableQuery(NORTHBOUND, read_columns())
"""All rows of the tables that ovnlab writes."""


class Parent(msgspec.Struct, frozen=True):
    """The row that another one belongs to, and the column that holds it there."""

    table: str
    name: str
    uuid: str
    column: str


class LiveRow(msgspec.Struct, frozen=True):
    """A row of the database. `name` is empty where neither a name column nor a mark says one."""

    table: str
    uuid: str
    name: str
    columns: Mapping[str, Any]
    belongs: Parent | None = None
    zone: str = ""
    own_schema: Table | None = None

    @property
    def schema(self) -> Table:
        """Return what its table is."""
        return self.own_schema or TABLES[self.table]

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what tells it from every other row that has a name."""
        return (self.zone, self.table, self.name)

    @property
    def parent(self) -> str | None:
        """Return the name of the row that it belongs to."""
        return self.belongs.name if self.belongs else None

    @property
    def mark(self) -> str | None:
        """Return the lab that the row is of, None where somebody else made it."""
        mark: str | None = self.columns["external_ids"].get(MARK)
        return mark

    @property
    def by_bind(self) -> bool:
        """Return True if `ovnlab bind` made it."""
        return BY_BIND in self.columns["external_ids"]

    @property
    def is_learned(self) -> bool:
        """Return True for a route that ovn-ic learned of another zone (ovn-nb(5), Logical_Router_Static_Route)."""
        return "ic-learned-route" in self.columns["external_ids"]


def read(central: Context, databases: Databases, schemas: Mapping[str, Table] = TABLES) -> list[LiveRow]:
    """Return all rows of the tables that ovnlab writes, or of these, of one zone, in one ovn-nbctl."""
    query = QUESTION if schemas is TABLES else TableQuery(NORTHBOUND, read_columns(schemas))
    printed = run_script(central, query.script(databases), where="central: reading the Northbound database")
    return rows_in(query.parse(printed), databases.zone, schemas)


def rows_in(tables: Tables, zone: str = "", schemas: Mapping[str, Table] = TABLES) -> list[LiveRow]:
    """Return the rows of one zone, of the answer to QUESTION."""
    parents = {
        uuid: Parent(table, _name(schemas[table], row), row["_uuid"], column)
        for table, columns in holders(schemas).items()
        for row in tables[table]
        for column in columns
        for uuid in listed(row.get(column, []))
    }
    marks = {key: value for row in tables["NB_Global"] for key, value in row["external_ids"].items()}
    return [
        LiveRow(
            name,
            row["_uuid"],
            _name(schemas[name], row),
            _columns(name, schemas[name], row, marks),
            parents.get(row["_uuid"]),
            zone,
            None if schemas is TABLES else schemas[name],
        )
        for name, found in tables.items()
        for row in found
    ]


def mark_key(table: str, name: str) -> str:
    """Return the key in NB_Global's external_ids with the mark of a row that has no external_ids of its own.

    >>> mark_key("Static_MAC_Binding", "router1-network1 192.168.0.11")
    'ovnlab-Static_MAC_Binding router1-network1 192.168.0.11'
    """
    return f"{MARK}-{table} {name}"


def _name(table: Table, row: Row) -> str:
    if table.single:
        return "."
    if table.index:
        return " ".join(str(row[column]) for column in table.index)
    return str(row["name"] if table.named else row["external_ids"].get(NAME_KEY, ""))


def _columns(name: str, table: Table, row: Row, marks: Mapping[str, str]) -> dict[str, Any]:
    """Return its columns, with sets and references as tuples whatever their size."""
    plural = table.sets | set(table.references)
    maps = table.shared
    found = {
        column: tuple(sorted(listed(row.get(column, []))))
        if column in plural
        else row.get(column, {} if column in maps else "")
        for column in table.columns
        if column != "name" or not table.named
    }
    if not table.marked:
        mark = marks.get(mark_key(name, _name(table, row)))
        found["external_ids"] = {MARK: mark} if mark else {}
    return found
