"""The difference between wanted and live rows, and the one ovn-nbctl that removes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.northbound.live import LiveRow, mark_key
from ovnlab.northbound.rows import BY_BIND, KEYS_KEY, MARK, NAME_KEY, Value, WantedRow, keys_of
from ovnlab.northbound.schema import TABLES
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

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
        return f"{self.verb} {TABLES[self.table].kind} {self.name}{where}: {self.reason}"


def changes(lab: str, wanted: Sequence[WantedRow], live: Sequence[LiveRow]) -> list[Change]:
    """What makes the live rows of a lab the wanted ones; rows without the lab's mark are left alone.

    Raises OvnlabError where a row of somebody else's has a name that the lab needs.
    """
    return _Difference(lab, wanted, live).changes()


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
            or TABLES[row.table].single
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

    def _is_kept(self, row: WantedRow) -> bool:
        """A row that belongs elsewhere now, or to a row that is made anew, is made anew: it cannot be moved."""
        live = self.ours.get(row.key)
        if live is None or live.parent != row.parent:
            return False
        parent = (row.zone, row.parent_table, str(row.parent))
        return row.parent is None or parent in self.kept or parent not in self.names

    def changes(self) -> list[Change]:
        self._refuse_foreign()
        removed = [row for key, row in self.ours.items() if key not in self.kept and not TABLES[row.table].single]
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
        return [*sorted(removals, key=lambda change: -list(TABLES).index(change.table)), *made]

    # ── what must not be touched ─────────────────────────────────────────────────────────────────────

    def _refuse_taking_along(self, removed: Sequence[LiveRow]) -> None:
        """What a person put on a switch or router of ours is not removed with it."""
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
        named = {row.key: row for row in self.others if TABLES[row.table].named or TABLES[row.table].index}
        for wanted in self.wanted:
            if (row := named.get(wanted.key)) is not None:
                raise OvnlabError(
                    f"there is {_article(row)} {row.name} already that ovnlab did not make",
                    where="Northbound database",
                    hint=f"rename one of them, or remove it: ovnlab nbctl {_typed_removal(row)}",
                )

    # ── adding ───────────────────────────────────────────────────────────────────────────────────────

    def _children(self) -> dict[Key, dict[str, list[str]]]:
        """For each row that is new, the names in this transaction of the new rows that belong to it."""
        found: dict[Key, dict[str, list[str]]] = {}
        for row in self.wanted:
            if row.parent is None or row.key in self.kept:
                continue
            parent = (row.zone, row.parent_table, row.parent)
            if parent in self.ids:
                found.setdefault(parent, {}).setdefault(_column(row), []).append(self.ids[row.key])
        return found

    def _new(self, row: WantedRow, children: Mapping[Key, Mapping[str, Sequence[str]]]) -> Change | None:
        if not TABLES[row.table].single:
            return self._add(row, children)
        if not any(row.columns.values()):
            return None
        words = list(self._assignments(row, row.values))
        return Change("change", row.table, row.name, "it is empty", (("set", row.table, row.name, *words),), row.zone)

    def _add(self, row: WantedRow, children: Mapping[Key, Mapping[str, Sequence[str]]]) -> Change:
        words = [*self._assignments(row, row.values)]
        words += [f"{column}={','.join(ids)}" for column, ids in children.get(row.key, {}).items()]
        commands: list[Command] = [(f"--id={self.ids[row.key]}", "create", row.table, *words)]
        if row.parent is not None and (row.zone, row.parent_table, row.parent) not in self.ids:
            parent = self.uuids.get((row.zone, row.parent_table, row.parent))
            if parent is None:
                commands.insert(0, ("wait-until", row.parent_table, row.parent))  # somebody else makes it
            commands.append(("add", row.parent_table, parent or row.parent, _column(row), self.ids[row.key]))
        if not TABLES[row.table].marked:
            key = _atom(mark_key(row.table, row.name))
            commands.append(("set", "NB_Global", ".", f"external_ids:{key}={_atom(row.mark[1])}"))
        return Change("add", row.table, row.name, "it is missing", tuple(commands), row.zone)

    def _assignments(self, row: WantedRow, values: Mapping[str, Value]) -> Iterator[str]:
        references = TABLES[row.table].references
        for column, value in values.items():
            if column in references:
                found = [self._reference(row, references[column], str(name)) for name in value]  # type: ignore[union-attr]
                if found:
                    yield f"{column}={','.join(found)}"
            elif value not in ((), {}):
                yield from _assign(column, value)

    def _reference(self, row: WantedRow, table: str, name: str) -> str:
        """A row as a value: its UUID, or its name in this transaction."""
        key = (row.zone, table, name)
        return self.ids.get(key) or self.uuids[key]

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────

    def _update(self, row: WantedRow, live: LiveRow) -> Change | None:
        """What sets a live row right: columns that we want; in shared maps only the keys that are ours."""
        table = TABLES[row.table]
        commands: list[Command] = []
        reasons: list[str] = []
        setting: list[str] = []
        for column, value in row.values.items():
            if column == "name" and table.named:
                continue
            found = live.columns[column]
            if column in table.references:
                names = [str(name) for name in value]  # type: ignore[union-attr]
                more = list(self._relink(row, live, column, names))
                if more:
                    commands += more
                    reasons.append(f"{column} is not {', '.join(names) or 'empty'}")
                continue
            shared = column in table.shared
            stale = self._stale(row, live, column) if shared else []
            commands += [("remove", row.table, live.uuid, column, _atom(key)) for key in stale]
            if not _same(value, found, shared=shared):
                setting += _assign(column, value, shared=shared)
            elif not stale or column == "external_ids":
                continue
            if _shown(found) != _shown(value):
                reasons.append(f"{column} is {_shown(found)} instead of {_shown(value)}")
        if setting:
            commands.insert(0, ("set", row.table, live.uuid, *setting))
        for column in self._dropped(row, live):
            commands += self._reset(row, live, column)
            reasons.append(f"{column} is {_shown(live.columns[column])}, and the topology does not say it any more")
        if live.by_bind and row.mark[0] == MARK:
            commands.append(("remove", row.table, live.uuid, "external_ids", BY_BIND))
        if not commands:
            return None
        reason = "; ".join(reasons) or "it lacks the lab's mark"
        return Change("change", row.table, row.name, reason, tuple(commands), row.zone)

    def _stale(self, row: WantedRow, live: LiveRow, column: str) -> list[str]:
        """The keys of a shared map that we set once and do not want any more."""
        if column == "external_ids":
            return [KEYS_KEY] if KEYS_KEY in live.columns[column] and KEYS_KEY not in row.values[column] else []  # type: ignore[operator]
        before = live.columns["external_ids"].get(KEYS_KEY, "").split()
        ours = [item.partition(":")[2] for item in before if item.partition(":")[0] == column]
        wanted = keys_of(row.columns.get(column, {}))
        return [key for key in ours if key not in wanted and key in live.columns[column]]

    def _dropped(self, row: WantedRow, live: LiveRow) -> list[str]:
        """The columns that we set once and do not want any more, those of shared maps excepted."""
        before = live.columns["external_ids"].get(KEYS_KEY, "").split()
        columns = dict.fromkeys(item.partition(":")[0] for item in before)
        return [column for column in columns if column in live.columns and column not in row.columns]

    def _reset(self, row: WantedRow, live: LiveRow, column: str) -> list[Command]:
        """What gives a column its default, but for keys and references that are others'."""
        value = live.columns[column]
        if column in TABLES[row.table].shared:
            return [("remove", row.table, live.uuid, column, _atom(key)) for key in self._stale(row, live, column)]
        if column in TABLES[row.table].many:
            ours = [uuid for uuid in value if uuid in self.marked]
            return [("remove", row.table, live.uuid, column, *ours)] if ours else []
        if isinstance(value, str | bool | int):
            return [("set", row.table, live.uuid, f"{column}={_atom(type(value)())}")]
        return [("clear", row.table, live.uuid, column)]

    def _relink(self, row: WantedRow, live: LiveRow, column: str, names: Sequence[str]) -> Iterator[Command]:
        """What makes a column point where it should; of several references others' are left alone."""
        table = TABLES[row.table]
        wanted = [self._reference(row, table.references[column], name) for name in names]
        found = live.columns[column]
        if column not in table.many:
            if tuple(wanted) != found:
                yield (
                    ("set", row.table, live.uuid, f"{column}={','.join(wanted)}")
                    if wanted
                    else (
                        "clear",
                        row.table,
                        live.uuid,
                        column,
                    )
                )
            return
        if missing := [uuid for uuid in wanted if uuid not in found]:
            yield ("add", row.table, live.uuid, column, *missing)
        if extra := [uuid for uuid in found if uuid not in wanted and uuid in self.marked]:
            yield ("remove", row.table, live.uuid, column, *extra)


def _ids(rows: Sequence[WantedRow]) -> dict[Key, str]:
    """A name in the transaction for each new row: @ and its own, as far as that goes."""
    found: dict[Key, str] = {}
    used: set[str] = set()
    for row in rows:
        name = f"@{re.sub(r'[^A-Za-z0-9]+', '_', row.name)[:40]}"
        if name in used:
            name = f"{name}_{len(used)}"
        used.add(name)
        found[row.key] = name
    return found


def _column(row: WantedRow) -> str:
    """The column of its parent that holds a row."""
    return next(column for table, column in TABLES[row.table].belongs if table == row.parent_table)


def add(row: WantedRow, live: Sequence[LiveRow]) -> Change:
    """The change that makes a row that belongs to one that is there."""
    return _Difference("", [row], live, alone=True).changes()[0]


def remove(row: LiveRow, reason: str, *, goes_along: bool = False) -> Change:
    """The change that removes a row; nothing has to be done where it goes along with what it belongs to."""
    commands: list[Command] = [] if goes_along else [_removal(row)]
    if not TABLES[row.table].marked:
        commands.append(("remove", "NB_Global", ".", "external_ids", _atom(mark_key(row.table, row.name))))
    if row.columns.get("ha_chassis_group"):  # checked before what nobody holds any more is collected
        commands.insert(0, ("clear", row.table, row.uuid, "ha_chassis_group"))
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
    kind = TABLES[row.table].kind
    return f"{'an' if kind[0] in 'aeioAH' else 'a'} {kind}"


def _typed_removal(row: LiveRow) -> str:
    """What a person would type to remove it."""
    zone = f"--zone {row.zone} " if row.zone else ""
    return zone + (f"{_DELETE[row.table]} {row.name}" if row.table in _DELETE else " ".join(_removal(row)))


def forget_port(name: str, zone: str) -> Change:
    """The change that removes a logical switch port by its name, if it is there."""
    commands = (("--if-exists", "lsp-del", name),)
    return Change("remove", "Logical_Switch_Port", name, "it could not be bound", commands, zone)


# ── values as ovn-nbctl writes them (ovs-vsctl(8), Database Values) ──────────────────────────────────────


def _assign(column: str, value: Value, *, shared: bool = True) -> list[str]:
    """The words that set a column: strings in quotes, as OVSDB atoms."""
    if isinstance(value, Mapping):
        if shared:
            return [f"{column}:{_atom(key)}={_atom(item)}" for key, item in value.items()]
        return [f"{column}={{{','.join(f'{_atom(key)}={_atom(item)}' for key, item in value.items())}}}"]
    if isinstance(value, tuple):
        return [f"{column}=[{','.join(map(_atom, value))}]"]
    return [f"{column}={_atom(value)}"]


def _atom(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _same(wanted: Value, live: object, *, shared: bool) -> bool:
    if isinstance(wanted, Mapping):
        if not isinstance(live, dict):
            return False
        return all(live.get(key) == value for key, value in wanted.items()) if shared else dict(wanted) == live
    if isinstance(wanted, tuple):
        return tuple(sorted(wanted, key=str)) == live
    return wanted == live


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        hidden = (MARK, NAME_KEY, KEYS_KEY)
        return ", ".join(f"{key}={item}" for key, item in value.items() if key not in hidden) or "nothing"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value) or "nothing"


def transaction_script(changes: Sequence[Change], databases: Databases) -> str:
    """The shell script that makes changes in one transaction."""
    commands = [command for change in changes for command in change.commands]
    return render("node/apply-transaction.sh.j2", commands=commands, databases=databases)


def apply(central: Context, databases: Databases, changes: Sequence[Change]) -> None:
    """Make changes to the database of one zone, all of them or none."""
    if any(change.commands for change in changes):
        run_script(central, transaction_script(changes, databases), where="central: writing the Northbound database")
