"""Northbound rows that are there, ours and others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invoke.context import Context

from ovnlab.northbound.rows import BY_BIND, MARK
from ovnlab.ovsdb import Row, listed, rows
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

COLUMNS: dict[str, tuple[str, ...]] = {
    "Logical_Switch": ("_uuid", "name", "ports", "external_ids"),
    "Logical_Switch_Port": ("_uuid", "name", "type", "addresses", "options", "up", "external_ids"),
    "Logical_Router": ("_uuid", "name", "ports", "external_ids"),
    "Logical_Router_Port": ("_uuid", "name", "mac", "networks", "external_ids"),
}
"""What is read of each table."""

SETS = {("Logical_Switch_Port", "addresses"), ("Logical_Router_Port", "networks")}


@dataclass(frozen=True)
class LiveRow:
    """A row of the database, with the name of the switch or router that it belongs to."""

    table: str
    uuid: str
    name: str
    columns: Mapping[str, Any]
    parent: str | None

    @property
    def mark(self) -> str | None:
        """The lab that the row is of, None where somebody else made it."""
        mark: str | None = self.columns["external_ids"].get(MARK)
        return mark

    @property
    def by_bind(self) -> bool:
        """Whether `ovnlab bind` made it."""
        return BY_BIND in self.columns["external_ids"]


def read(central: Context) -> list[LiveRow]:
    """All rows of the tables that ovnlab writes, in one ovn-nbctl."""
    script = render("node/northbound.sh.j2", tables=COLUMNS)
    return parse(run_script(central, script, where="central: reading the Northbound database"))


def parse(printed: str) -> list[LiveRow]:
    """The rows that templates/node/northbound.sh.j2 printed."""
    tables = dict(zip(COLUMNS, map(rows, printed.splitlines()), strict=True))
    parents = {
        uuid: row["name"]
        for table in ("Logical_Switch", "Logical_Router")
        for row in tables[table]
        for uuid in listed(row["ports"])
    }
    return [
        LiveRow(table, row["_uuid"], row["name"], _columns(table, row), parents.get(row["_uuid"]))
        for table, found in tables.items()
        for row in found
    ]


def _columns(table: str, row: Row) -> dict[str, Any]:
    """Its columns, with sets as tuples whatever their size."""
    return {
        column: tuple(sorted(listed(value))) if (table, column) in SETS else value
        for column, value in row.items()
        if column not in ("_uuid", "name", "ports")
    }
