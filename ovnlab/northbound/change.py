"""The difference between wanted and live rows, and the one ovn-nbctl that removes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from invoke.context import Context

from ovnlab.errors import OvnlabError
from ovnlab.northbound.live import LiveRow
from ovnlab.northbound.rows import BY_BIND, MARK, Value, WantedRow
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

_KIND = {
    "Logical_Switch": "logical switch",
    "Logical_Switch_Port": "logical switch port",
    "Logical_Router": "logical router",
    "Logical_Router_Port": "logical router port",
}


@dataclass(frozen=True)
class Change:
    """One row that is added, changed or removed, and the ovn-nbctl commands that do it."""

    verb: str
    table: str
    name: str
    reason: str
    commands: tuple[tuple[str, ...], ...] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.verb} {_KIND[self.table]} {self.name}: {self.reason}"


def changes(lab: str, wanted: Sequence[WantedRow], live: Sequence[LiveRow]) -> list[Change]:
    """What makes the live rows of a lab the wanted ones; rows without the lab's mark are left alone.

    Raises OvnlabError where a row of somebody else's has a name that the lab needs.
    """
    names = _keys(wanted)
    ours = {
        (row.table, row.name): row
        for row in live
        if row.mark == lab or (row.by_bind and ((row.table, row.name) in names or _loses_parent(row, live, lab, names)))
    }
    others = [row for row in live if (row.table, row.name) not in ours]
    _refuse_foreign(wanted, others)
    kept = {(row.table, row.name) for row in wanted if _is_kept(row, ours.get((row.table, row.name)))}
    removals = [
        remove(row, "the topology does not have it any more" if key not in names else "it moves")
        for key, row in ours.items()
        if key not in kept
    ]
    _refuse_taking_along(removals, others)
    made = [
        change
        for row in wanted
        if (change := _update(row, ours[row.table, row.name]) if (row.table, row.name) in kept else add(row))
    ]
    return [*_in_order(removals), *made]


def _keys(wanted: Sequence[WantedRow]) -> set[tuple[str, str]]:
    return {(row.table, row.name) for row in wanted}


def _is_kept(row: WantedRow, live: LiveRow | None) -> bool:
    """A row that has another parent now is made anew: it cannot be moved."""
    return live is not None and live.parent == row.parent


def _loses_parent(row: LiveRow, live: Sequence[LiveRow], lab: str, names: set[tuple[str, str]]) -> bool:
    """Whether the switch that a port is on is ours, and goes."""
    key = ("Logical_Switch", str(row.parent))
    return key not in names and any((other.table, other.name) == key and other.mark == lab for other in live)


def _refuse_taking_along(removals: Sequence[Change], others: Sequence[LiveRow]) -> None:
    """What a person put on a switch or router of ours is not removed with it."""
    going = {change.name for change in removals if change.table in _ADD}
    for row in others:
        if row.parent in going:
            raise OvnlabError(
                f"{row.parent} is to go, and there is a {_KIND[row.table]} {row.name} on it that ovnlab did not make",
                where="Northbound database",
                hint=f"remove that first: ovnlab nbctl {_DELETE[row.table]} {row.name}",
            )


def _refuse_foreign(wanted: Sequence[WantedRow], others: Sequence[LiveRow]) -> None:
    foreign = {(row.table, row.name) for row in others}
    for row in wanted:
        if (row.table, row.name) in foreign:
            raise OvnlabError(
                f"there is a {_KIND[row.table]} {row.name} already that ovnlab did not make",
                where="Northbound database",
                hint=f"rename one of them, or remove it: ovnlab nbctl {_DELETE[row.table]} {row.name}",
            )


_ADD = {"Logical_Switch": "ls-add", "Logical_Router": "lr-add"}
_DELETE = {
    "Logical_Switch": "ls-del",
    "Logical_Switch_Port": "lsp-del",
    "Logical_Router": "lr-del",
    "Logical_Router_Port": "lrp-del",
}
_REMOVAL_ORDER = ("Logical_Switch_Port", "Logical_Router_Port", "Logical_Switch", "Logical_Router")


def _in_order(removals: Sequence[Change]) -> list[Change]:
    """Ports go before what they are on: a switch takes its ports along, and then they could not be removed."""
    return sorted(removals, key=lambda change: _REMOVAL_ORDER.index(change.table))


def add(row: WantedRow) -> Change:
    """The change that makes a row that is missing."""
    return Change("add", row.table, row.name, "it is missing", tuple(_add_commands(row)))


def _add_commands(row: WantedRow) -> Iterator[tuple[str, ...]]:
    columns = dict(row.columns)
    if row.table in _ADD:
        yield (_ADD[row.table], row.name)
    elif row.table == "Logical_Switch_Port":
        yield ("lsp-add", str(row.parent), row.name)
    else:
        networks = columns.pop("networks")
        yield ("lrp-add", str(row.parent), row.name, str(columns.pop("mac")), *networks)
    if columns:
        yield ("set", row.table, row.name, *(word for item in columns.items() for word in _assign(*item)))


def _assign(column: str, value: Value) -> list[str]:
    """The words that set a column in `ovn-nbctl set`: strings in quotes, as OVSDB atoms."""
    if isinstance(value, Mapping):
        return [f"{column}:{key}={_atom(item)}" for key, item in value.items()]
    if isinstance(value, tuple):
        return [f"{column}=[{','.join(map(_atom, value))}]"]
    return [f"{column}={_atom(value)}"]


def _atom(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def remove(row: LiveRow, reason: str) -> Change:
    """The change that removes a row."""
    return Change("remove", row.table, row.name, reason, ((_DELETE[row.table], row.uuid),))


def forget_port(name: str) -> Change:
    """The change that removes a logical switch port by its name, if it is there."""
    return Change("remove", "Logical_Switch_Port", name, "it could not be bound", (("--if-exists", "lsp-del", name),))


def _update(row: WantedRow, live: LiveRow) -> Change | None:
    """What sets a live row right: columns that we want; in maps only the keys that we want."""
    differing = {column: value for column, value in row.columns.items() if not _same(value, live.columns[column])}
    if not differing:
        return None
    adopt = (("remove", row.table, live.uuid, "external_ids", BY_BIND),) if live.by_bind else ()
    words = [word for item in differing.items() for word in _assign(*item)]
    reason = "; ".join(
        f"{column} is {_shown(live.columns[column])} instead of {_shown(value)}" for column, value in differing.items()
    )
    return Change("change", row.table, row.name, reason, (("set", row.table, live.uuid, *words), *adopt))


def _same(wanted: Value, live: object) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(live, dict) and all(live.get(key) == value for key, value in wanted.items())
    if isinstance(wanted, tuple):
        return tuple(sorted(wanted)) == live
    return wanted == live


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        shown = {key: item for key, item in value.items() if key != MARK}
        return ", ".join(f"{key}={item}" for key, item in shown.items()) or "nothing"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value) or "nothing"


def transaction_script(changes: Sequence[Change]) -> str:
    """The shell script that makes changes in one transaction."""
    commands = [command for change in changes for command in change.commands]
    return render("node/transaction.sh.j2", commands=commands)


def apply(central: Context, changes: Sequence[Change]) -> None:
    """Make changes, all of them or none."""
    if changes:
        run_script(central, transaction_script(changes), where="central: writing the Northbound database")
