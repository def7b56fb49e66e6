"""Rows that the file has in the words of the Northbound schema (`logical.rows`): for what has no key of its own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ovnlab.errors import Problem, TopologyError
from ovnlab.northbound.ovsschema import ColumnType, NorthboundSchema
from ovnlab.northbound.ownership import is_empty
from ovnlab.northbound.rows import MARK, WantedRow
from ovnlab.northbound.schema import Table, holders
from ovnlab.topology.resolved import SchemaRow, Topology

Place = tuple[str, str]
"""A table and the name of a row."""


def with_schema_rows(topology: Topology, wanted: Sequence[WantedRow], schema: NorthboundSchema) -> list[WantedRow]:
    """Return the rows that a topology wants, with those that it has in the words of the schema.

    Raises TopologyError with all that the schema does not have, or has otherwise.
    """
    return _Rows(topology, wanted, schema).all()


class _Rows:
    """The meaning of the rows of a file, and the problems in them."""

    def __init__(self, topology: Topology, wanted: Sequence[WantedRow], schema: NorthboundSchema) -> None:
        self.topology, self.schema = topology, schema
        self.tables = schema.tables()
        self.holders = holders()
        self.found = {row.key: msgspec.structs.replace(row, own_schema=self.tables.get(row.table)) for row in wanted}
        self.problems: list[Problem] = []
        rows = [row for row in topology.schema_rows if self._has_table(row)]
        self.columns = {(row.table, row.name): self._typed(row) for row in rows}
        self.names = {key: self._name(key) for key in self.columns}
        self.rows = rows
        self.parents: dict[Place, WantedRow] = {}
        self.referred: set[Place] = set()
        self.referring: dict[Place, list[Place]] = {}

    def all(self) -> list[WantedRow]:
        """Return all rows, those that others belong to before these."""
        for row in self.rows:
            self._link(row)
        for row in sorted(self.rows, key=lambda row: list(self.tables).index(row.table)):
            self._add(row)
        for row in self.rows:
            self._refuse_other_zones(row)
        if self.problems:
            path = self.topology.schema_rows[0].places[""].rsplit(":", 2)[0]
            raise TopologyError(path, self.problems)
        return list(self.found.values())

    # ── columns ──────────────────────────────────────────────────────────────────────────────────────

    def _has_table(self, row: SchemaRow) -> bool:
        if row.table in self.tables:
            return True
        self._complain(row, "", f"unknown table {row.table}", _close(row.table, self.tables))
        return False

    def _typed(self, row: SchemaRow) -> dict[str, Any]:
        """Return its columns as the schema has them."""
        types, found = self.schema.columns[row.table], {}
        for column, given in row.columns.items():
            if column not in types:
                version = f"OVN's schema {self.schema.version}"
                hint = _close(column, types) or f"{version} has: {', '.join(types)}"
                self._complain(row, column, f"unknown column {column} of {row.table}", hint)
            elif column == "name" and self.tables[row.table].named:
                self._complain(
                    row, column, "invalid column name: the row is named by its key", f"remove it: {row.name}"
                )
            else:
                try:
                    found[column] = types[column].convert(given)
                except ValueError as error:
                    self._complain(row, column, f"invalid {column}: {error}")
        if any(str(key).startswith("ovnlab") for key in found.get("external_ids", ())):
            self._complain(row, "external_ids", "invalid external_ids: keys that begin with ovnlab are ovnlab's own")
        return found

    def _name(self, key: Place) -> str:
        """Return what tells a row from others in the database."""
        table, types = self.tables[key[0]], self.schema.columns[key[0]]
        if table.single:
            return "."
        if table.index:
            return " ".join(str(self.columns[key].get(column, _default(types[column]))) for column in table.index)
        return key[1]

    # ── what refers to what ──────────────────────────────────────────────────────────────────────────

    def _link(self, row: SchemaRow) -> None:
        """Note what a row holds or refers to, by the names that the database has."""
        columns = self.columns[row.table, row.name]
        for column in list(columns):
            target = self.schema.columns[row.table][column].references
            if not target:
                continue
            names = tuple(name for name in columns[column] if self._knows(row, column, target, name))
            for name in names:
                self.referring.setdefault((target, name), []).append((row.table, row.name))
            if self.schema.columns[row.table][column].is_strong:
                self.referred.update((target, name) for name in names)
            if column in self.holders.get(row.table, ()):
                del columns[column]
                self._hold(row, column, target, names)
            else:
                columns[column] = tuple(self.names.get((target, name), name) for name in names)

    def _knows(self, row: SchemaRow, column: str, target: str, name: str) -> bool:
        there = [key[1] for key in self.names if key[0] == target]
        there += [key[2] for key in self.found if key[1] == target]
        if name not in there:
            hint = _close(name, there) or (f"available: {', '.join(sorted(set(there)))}" if there else "")
            self._complain(row, column, f"unknown {target} {name}: the file has no such row", hint)
        return name in there

    def _hold(self, row: SchemaRow, column: str, target: str, names: Iterable[str]) -> None:
        holder = self._of_topology(row.table, self.names[row.table, row.name])
        parent = holder or WantedRow(row.table, self.names[row.table, row.name])
        for name in names:
            if (target, name) in self.names:
                other = self.parents.setdefault((target, name), parent)
                if (other.table, other.name) != (parent.table, parent.name):
                    message = f"{target} {name} belongs to {other.table} {other.name} already"
                    self._complain(row, column, message, "give each a row of its own")

    def _of_topology(self, table: str, name: str) -> WantedRow | None:
        """Return the row that other keys of the file mean."""
        return next((found for key, found in self.found.items() if key[1:] == (table, name)), None)

    def _zone(self, row: SchemaRow) -> str:
        """Return the availability zone of what a row belongs to or what refers to it, the first where nothing does."""
        places: list[Place] = [(row.table, row.name)]
        for place in places:  # which grows
            found = self._of_topology(place[0], self.names.get(place, place[1]))
            if found is not None:
                return found.zone
            places += [other for other in self.referring.get(place, ()) if other not in places]
        return self.topology.zones[0]

    def _refuse_other_zones(self, row: SchemaRow) -> None:
        found = self._of_topology(row.table, self.names[row.table, row.name])
        for column, value in self.columns[row.table, row.name].items():
            target = self.schema.columns[row.table][column].references
            for name in value if target and found else ():
                if found and (found.zone, target, name) not in self.found:
                    where = f"in availability zone {found.zone}, where {row.name} is"
                    self._complain(row, column, f"unknown {target} {name}: there is none {where}")

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, row: SchemaRow) -> None:
        columns, name = self.columns[row.table, row.name], self.names[row.table, row.name]
        emptied = frozenset(column for column, value in columns.items() if is_empty(value))
        found = self._of_topology(row.table, name)
        if found is None:
            parent = self.parents.get((row.table, row.name))
            self._refuse_unheld(row, parent)
            found = WantedRow(
                row.table,
                name,
                {},
                parent.name if parent else None,
                parent.table if parent else "",
                self._zone(row),
                (MARK, self.topology.name),
                own_schema=self.tables[row.table],
            )
        merged = _merged(found.columns, columns, self.tables[row.table])
        more = found.more | (frozenset(columns) - found.columns.keys())
        self.found[found.key] = msgspec.structs.replace(
            found, columns=merged, more=more, emptied=found.emptied | emptied
        )

    def _refuse_unheld(self, row: SchemaRow, parent: WantedRow | None) -> None:
        """OVSDB removes rows that nothing refers to, but for those of some tables."""
        if parent is not None or row.table in self.schema.roots or (row.table, row.name) in self.referred:
            return
        places = [
            f"{table}.{column}"
            for table, columns in self.schema.columns.items()
            for column, type_ in columns.items()
            if type_.references == row.table and type_.is_strong
        ]
        hint = f"name it in a row of {' or '.join(places)}"
        self._complain(row, "", f"{row.table} {row.name} belongs to nothing, and OVSDB would remove it", hint)

    def _complain(self, row: SchemaRow, column: str, message: str, hint: str = "") -> None:
        words = row.places.get(column, "").rsplit(":", 2)
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            self.problems.append(Problem(int(words[1]), int(words[2]), message, hint))
        else:
            self.problems.append(Problem(0, 0, message, hint, option=row.places.get(column, "")))


def _merged(here: Mapping[str, Any], more: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return columns with further ones; of a map that both write each has its keys, and a set of rows all members."""
    columns = dict(here)
    for column, value in more.items():
        before = columns.get(column)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            columns[column] = {**before, **value}
        elif isinstance(value, tuple) and isinstance(before, tuple) and column in table.many:
            columns[column] = (*before, *(item for item in value if item not in before))
        else:
            columns[column] = value
    return columns


def _default(column: ColumnType) -> object:
    return {"integer": 0, "boolean": False}.get(column.key, "")


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""
