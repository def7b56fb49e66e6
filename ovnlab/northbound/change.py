"""The difference between wanted and live rows, and the one ovn-nbctl that removes it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.northbound.live import LiveRow, mark_key
from ovnlab.northbound.ownership import KEYS_KEY, is_empty, recorded, written
from ovnlab.northbound.rows import BY_BIND, MARK, Value, WantedRow
from ovnlab.northbound.schema import TABLES
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context
    from ovnlab.topology.resolved import Topology

Key = tuple[str, str, str]
Command = tuple[str, ...]


class Change(msgspec.Struct, frozen=True):
    """A row to add, change or remove, and the ovn-nbctl commands that do it."""

    verb: str
    table: str
    name: str
    reason: str
    commands: tuple[Command, ...]
    zone: str = ""

    def __str__(self) -> str:
        where = f" in zone {self.zone}" if self.zone else ""
        kind = TABLES[self.table].kind if self.table in TABLES else self.table
        return f"{self.verb} {kind} {self.name}{where}: {self.reason}"


def changes(lab: str, wanted: Sequence[WantedRow], live: Sequence[LiveRow]) -> list[Change]:
    """Return what makes the live rows of a lab the wanted ones; rows without the lab's mark are left alone.

    Raises OvnlabError where a row of somebody else's has a name that the lab needs.
    """
    return _Difference(lab, wanted, live).changes()


def without_schema_rows(topology: Topology, found: Sequence[Change]) -> list[Change]:
    """Return changes of what is known without a schema: rows of the file in its words are as they should be."""
    left = {(row.table, row.name) for row in topology.schema_rows}
    tables = {table for table, _ in left}
    return [
        change
        for change in found
        if (change.table, change.name) not in left and not (change.verb == "remove" and change.table in tables)
    ]


class _Difference:
    """Wanted and live rows, by what tells them apart."""

    def __init__(self, lab: str, wanted: Sequence[WantedRow], live: Sequence[LiveRow], *, alone: bool = False) -> None:
        self.wanted = wanted
        self.names = {row.key for row in wanted}
        going = {row.key for row in live if row.mark == lab and row.key not in self.names}
        self.ours = {
            row.key: row
            for row in live
            if row.mark == lab
            or row.schema.single
            or (row.by_bind and (row.key in self.names or (row.zone, "Logical_Switch", row.parent) in going))
        }
        self.others = [row for row in live if row.key not in self.ours or self.ours[row.key] is not row]
        self.kept: set[Key] = set()
        for row in wanted:
            if self._is_kept(row):
                self.kept.add(row.key)
        self.uuids = {row.key: row.uuid for row in live if row.key in self.kept or alone}
        self.ids = _ids([row for row in wanted if row.key not in self.kept])
        self.marked = {row.uuid for row in live if row.mark == lab}
        self.going = {row.uuid for key, row in self.ours.items() if key not in self.kept and not row.schema.single}
        self.labels = {row.uuid: row.name for row in live}

    def _is_kept(self, row: WantedRow) -> bool:
        """Return a row that belongs elsewhere now, or to a row that is made anew, is made anew: it cannot be moved."""
        live = self.ours.get(row.key)
        if live is None or live.parent != row.parent:
            return False
        parent = (row.zone, row.parent_table, str(row.parent))
        return row.parent is None or parent in self.kept or parent not in self.names

    def changes(self) -> list[Change]:
        self._refuse_foreign()
        removed = [row for key, row in self.ours.items() if key not in self.kept and not row.schema.single]
        self._refuse_taking_along(removed)
        gone = {row.uuid for row in removed}
        removals = [
            remove(
                row,
                "the topology does not have it any more" if row.key not in self.names else "it moves",
                goes_along=row.belongs is not None and row.belongs.uuid in gone,
            )
            for row in removed
        ]
        children = self._children()
        made = [
            change
            for row in self.wanted
            if (change := self._update(row, self.ours[row.key]) if row.key in self.kept else self._new(row, children))
        ]
        return [*sorted(removals, key=lambda change: -_order(change.table)), *made]

    # ── what must not be touched ─────────────────────────────────────────────────────────────────────

    def _refuse_taking_along(self, removed: Sequence[LiveRow]) -> None:
        """Raise OvnlabError where a removal would take along what a person put on a switch or router of ours."""
        going = {row.uuid: row for row in removed}
        for row in self.others:
            if row.belongs is not None and row.belongs.uuid in going:
                label = row.name or row.uuid
                raise OvnlabError(
                    f"{row.parent} is to go, and there is {_article(row)} {label} on it that ovnlab did not make",
                    where="Northbound database",
                    hint=f"remove that first: ovnlab nbctl {_typed_removal(row)}",
                )

    def _refuse_foreign(self) -> None:
        named = {row.key: row for row in self.others if row.schema.named or row.schema.index}
        for wanted in self.wanted:
            if (row := named.get(wanted.key)) is not None:
                raise OvnlabError(
                    f"there is {_article(row)} {row.name} already that ovnlab did not make",
                    where="Northbound database",
                    hint=f"rename one of them, or remove it: ovnlab nbctl {_typed_removal(row)}",
                )

    # ── adding ───────────────────────────────────────────────────────────────────────────────────────

    def _children(self) -> dict[Key, dict[str, list[str]]]:
        """Return, for each new row, the names in this transaction of the new rows that belong to it."""
        found: dict[Key, dict[str, list[str]]] = {}
        for row in self.wanted:
            if row.parent is None or row.key in self.kept:
                continue
            parent = (row.zone, row.parent_table, row.parent)
            if parent in self.ids:
                found.setdefault(parent, {}).setdefault(_column(row), []).append(self.ids[row.key])
        return found

    def _new(self, row: WantedRow, children: Mapping[Key, Mapping[str, Sequence[str]]]) -> Change | None:
        if not row.schema.single:
            return self._add(row, children)
        if not any(row.columns.values()):
            return None
        more = {column for column in row.schema.many if row.columns.get(column)}
        words = list(self._assignments(row, {key: item for key, item in row.values.items() if key not in more}))
        commands: list[Command] = [("set", row.table, row.name, *words)] if words else []
        for column in sorted(more):
            ids = [self._reference(row, row.schema.references[column], str(name)) for name in row.columns[column]]  # type: ignore[union-attr]
            commands.append(("add", row.table, row.name, column, *ids))
        return Change("change", row.table, row.name, "it is empty", tuple(commands), row.zone)

    def _add(self, row: WantedRow, children: Mapping[Key, Mapping[str, Sequence[str]]]) -> Change:
        words = [*self._assignments(row, row.values)]
        words += [f"{column}={','.join(ids)}" for column, ids in children.get(row.key, {}).items()]
        commands: list[Command] = [(f"--id={self.ids[row.key]}", "create", row.table, *words)]
        if row.parent is not None and (row.zone, row.parent_table, row.parent) not in self.ids:
            parent = self.uuids.get((row.zone, row.parent_table, row.parent))
            if parent is None:
                commands.insert(0, ("wait-until", row.parent_table, row.parent))  # somebody else makes it
            commands.append(("add", row.parent_table, parent or row.parent, _column(row), self.ids[row.key]))
        if not row.schema.marked:
            key = _atom(mark_key(row.table, row.name))
            commands.append(("set", "NB_Global", ".", f"external_ids:{key}={_atom(row.mark[1])}"))
        return Change("add", row.table, row.name, "it is missing", tuple(commands), row.zone)

    def _assignments(self, row: WantedRow, values: Mapping[str, Value]) -> Iterator[str]:
        references = row.schema.references
        for column, value in values.items():
            if column in references:
                found = dict.fromkeys(self._reference(row, references[column], str(name)) for name in value)  # type: ignore[union-attr]
                if found:
                    yield f"{column}={','.join(found)}"
            elif value not in ((), {}):
                yield from _assign(column, value)

    def _reference(self, row: WantedRow, table: str, name: str) -> str:
        """Return a row as a value: its UUID, or its name in this transaction."""
        key = (row.zone, table, name)
        return self.ids.get(key) or self.uuids[key]

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────

    def _update(self, row: WantedRow, live: LiveRow) -> Change | None:
        """Return what corrects a live row: what the file names of it, and what it named before and no longer does."""
        edit = _Edit(row, live)
        for column, value in row.columns.items():
            if column == "external_ids" or (column == "name" and row.schema.named):
                continue
            if column in row.schema.references:
                self._relink(edit, column, [str(name) for name in value])  # type: ignore[union-attr]
            elif isinstance(value, Mapping):
                edit.set_keys(column, value)
            elif row.names(column) or not row.schema.marked:  # without external_ids there is no record of it
                edit.set(column, value)
            elif column in edit.before:
                edit.clear(column)
        for column in edit.before:
            if column in row.columns or column == "external_ids":
                continue
            if column in row.schema.references and column in live.columns:
                self._relink(edit, column, [])
            else:
                edit.clear(column)
        edit.set_ids()
        return edit.change()

    def _relink(self, edit: _Edit, column: str, names: Sequence[str]) -> None:
        """Make a column point where the file says; references that it does not name are left alone."""
        table, row = edit.row.schema, edit.row
        wanted = {self._reference(row, table.references[column], name): name for name in names}
        found: Sequence[str] = edit.live.columns[column]
        if column in table.many:
            ours = {
                uuid
                for uuid in found
                if (
                    uuid in self.marked
                    if column in table.fixed
                    else self.labels.get(uuid) in edit.before.get(column, ())
                )
                or uuid in self.going
            }
            missing = [uuid for uuid in wanted if uuid not in found]
            extra = [uuid for uuid in found if uuid in ours and uuid not in wanted]
        else:
            is_ours = column in edit.before or column in row.emptied or any(uuid in self.going for uuid in found)
            missing = [uuid for uuid in wanted if uuid not in found]
            extra = [uuid for uuid in found if uuid not in wanted and (wanted or is_ours)]
        if not (missing or extra):
            return
        if column in table.many:
            edit.add(column, missing)
            edit.remove(column, extra)
        elif wanted:
            edit.commands.append(("set", row.table, edit.live.uuid, f"{column}={','.join(wanted)}"))
        else:
            edit.commands.append(("clear", row.table, edit.live.uuid, column))
        after = [*(uuid for uuid in found if uuid not in extra), *missing]
        edit.reasons.append(f"{column}: {self._labelled(found)} → {self._labelled(after, wanted)}")

    def _labelled(self, uuids: Sequence[str], new: Mapping[str, str] | None = None) -> str:
        """Return references by the names of the rows that they point to; one that was removed is none."""
        known = {**{uuid: name or uuid for uuid, name in self.labels.items()}, **(new or {})}
        return ", ".join(sorted(known[uuid] for uuid in uuids if uuid in known)) or NOT_SET


class _Edit:
    """The commands that set a live row right, and what they change."""

    def __init__(self, row: WantedRow, live: LiveRow) -> None:
        self.row, self.live = row, live
        self.before = recorded(live.columns["external_ids"].get(KEYS_KEY, ""))
        self.setting: list[str] = []
        self.commands: list[Command] = []
        self.reasons: list[str] = []

    def set(self, column: str, value: Value) -> None:
        """Give a column its value."""
        found = self.live.columns[column]
        if not self._is_written(column, value) and not _same(value, found):
            self.setting += _assign(column, value)
            self.reasons.append(f"{column}: {_shown(found)} → {_shown(value)}")

    def set_keys(self, column: str, value: Mapping[str, str | int]) -> None:
        """Give the keys of a map their values, and remove those that the file named before."""
        found: Mapping[str, str | int] = self.live.columns[column]
        if self._is_written(column, value):
            return
        named = self.before.get(column, ())
        if column in self.row.emptied:
            named = tuple(key for key in found if not (column == "external_ids" and key.startswith(MARK)))
        stale = [key for key in named if key in found and key not in value]
        differing = {key: item for key, item in value.items() if found.get(key) != item}
        self.setting += _assign(column, differing)
        self.remove(column, [_atom(key) for key in stale])
        self.reasons += [f"{column}:{key}: {_shown(found.get(key, ''))} → {item}" for key, item in differing.items()]
        self.reasons += [f"{column}:{key}: {_shown(found[key])} → {NOT_SET}" for key in stale]

    def _is_written(self, column: str, value: object) -> bool:
        """Return True if OVN writes a column, and it had the value of the file once."""
        schema = self.row.schema
        return column in schema.written and (not schema.marked or self.before.get(column) == (written(value),))

    def clear(self, column: str) -> None:
        """Take away what the file named of a column before."""
        found = self.live.columns.get(column)
        if column in self.row.schema.written:
            return
        if isinstance(found, Mapping):
            self.set_keys(column, {})
        elif isinstance(found, tuple) and found:
            self.commands.append(("clear", self.row.table, self.live.uuid, column))
            self.reasons.append(f"{column}: {_shown(found)} → {NOT_SET}")
        elif found is not None and not is_empty(found):
            self.setting += _assign(column, type(found)())
            self.reasons.append(f"{column}: {_shown(found)} → {_shown(type(found)())}")

    def add(self, column: str, words: Sequence[str]) -> None:
        """Add members to a set."""
        if words:
            self.commands.append(("add", self.row.table, self.live.uuid, column, *words))

    def remove(self, column: str, words: Sequence[str]) -> None:
        """Remove members of a set, or keys of a map."""
        if words:
            self.commands.append(("remove", self.row.table, self.live.uuid, column, *words))

    def set_ids(self) -> None:
        """Write the mark, and which part of the row the file names."""
        if not self.row.schema.marked:
            return
        given = self.row.columns.get("external_ids", {})
        if isinstance(given, Mapping):
            self.set_keys("external_ids", given)
        found = self.live.columns["external_ids"]
        self.setting += _assign(
            "external_ids", {key: item for key, item in self.row.ids.items() if found.get(key) != item}
        )
        if KEYS_KEY in found and KEYS_KEY not in self.row.ids:
            self.remove("external_ids", [_atom(KEYS_KEY)])
        if self.live.by_bind and self.row.mark[0] == MARK:
            self.remove("external_ids", [BY_BIND])

    def change(self) -> Change | None:
        """Return the change, None if there is nothing to do."""
        setting: list[Command] = [("set", self.row.table, self.live.uuid, *self.setting)] if self.setting else []
        if not (setting or self.commands):
            return None
        reason = "; ".join(self.reasons) or "it is not marked as the lab's"
        return Change("change", self.row.table, self.row.name, reason, (*setting, *self.commands), self.row.zone)


def _order(table: str) -> int:
    """Return the place of a table behind those that its rows belong to."""
    return list(TABLES).index(table) if table in TABLES else len(TABLES)


def _ids(rows: Sequence[WantedRow]) -> dict[Key, str]:
    """Return a name in the transaction for each new row: @ and its own, as far as that goes."""
    found: dict[Key, str] = {}
    used: set[str] = set()
    for row in rows:
        name = f"@{re.sub(r'[^A-Za-z0-9]+', '_', row.name)[:40]}"
        while name in used:
            name = f"{name}_{len(used)}"
        used.add(name)
        found[row.key] = name
    return found


def _column(row: WantedRow) -> str:
    """Return the column of its parent that holds a row."""
    return next(column for table, column in row.schema.belongs if table == row.parent_table)


def add(row: WantedRow, live: Sequence[LiveRow]) -> Change:
    """Return the change that makes a row that belongs to one that is there."""
    return _Difference("", [row], live, alone=True).changes()[0]


def remove(row: LiveRow, reason: str, *, goes_along: bool = False) -> Change:
    """Return the change that removes a row; nothing has to be done where it goes along with what it belongs to."""
    commands: list[Command] = [] if goes_along else [_removal(row)]
    if not row.schema.marked:
        commands.append(("remove", "NB_Global", ".", "external_ids", _atom(mark_key(row.table, row.name))))
    if row.belongs is not None:  # references are checked before what nobody holds any more is collected
        referring = [column for column in row.schema.references if row.columns.get(column)]
        commands[:0] = [("clear", row.table, row.uuid, column) for column in referring]
    return Change("remove", row.table, row.name, reason, tuple(commands), row.zone)


def _removal(row: LiveRow) -> Command:
    if row.belongs is None:
        return ("destroy", row.table, row.uuid)
    return ("remove", row.belongs.table, row.belongs.uuid, row.belongs.column, row.uuid)


_DELETE = {
    "Logical_Switch": "ls-del",
    "Logical_Switch_Port": "lsp-del",
    "Logical_Router": "lr-del",
    "Logical_Router_Port": "lrp-del",
    "Load_Balancer": "lb-del",
    "Port_Group": "pg-del",
}


def _article(row: LiveRow) -> str:
    kind = row.schema.kind
    return f"{'an' if kind[0] in 'aeioAH' else 'a'} {kind}"


def _typed_removal(row: LiveRow) -> str:
    """Return what a person would type to remove it."""
    zone = f"--zone {row.zone} " if row.zone else ""
    return zone + shlex.join((_DELETE[row.table], row.name) if row.table in _DELETE else _removal(row))


def forget_port(name: str, zone: str) -> Change:
    """Return the change that removes a logical switch port by its name, if it is there."""
    commands = (("--if-exists", "lsp-del", name),)
    return Change("remove", "Logical_Switch_Port", name, "it could not be bound", commands, zone)


# ── values as ovn-nbctl writes them (ovs-vsctl(8), Database Values) ──────────────────────────────────────


def _assign(column: str, value: Value) -> list[str]:
    """Return the words that set a column: strings in quotes, as OVSDB atoms; of a map the given keys."""
    if isinstance(value, Mapping):
        return [f"{column}:{_atom(key)}={_atom(item)}" for key, item in value.items()]
    if isinstance(value, tuple):
        return [f"{column}=[{','.join(dict.fromkeys(map(_atom, value)))}]"]
    return [f"{column}={_atom(value)}"]


def _atom(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def _same(wanted: Value, live: object) -> bool:
    if isinstance(wanted, tuple):
        return tuple(sorted(set(wanted), key=str)) == live
    return wanted == live


NOT_SET = "not set"
"""What is shown of a value that is not there."""


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value)) or NOT_SET
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or NOT_SET


def transaction_script(changes: Sequence[Change], databases: Databases) -> str:
    """Return the shell script that makes changes in one transaction."""
    commands = [command for change in changes for command in change.commands]
    return render("node/apply-transaction.sh.j2", commands=commands, databases=databases)


def apply(central: Context, databases: Databases, changes: Sequence[Change]) -> None:
    """Make changes to the database of one zone, all of them or none."""
    if any(change.commands for change in changes):
        run_script(central, transaction_script(changes, databases), where="central: writing the Northbound database")
