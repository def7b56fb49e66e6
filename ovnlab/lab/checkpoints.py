"""Checkpoints of a lab that runs: its topology, its Northbound databases and where fake VMs are bound, under a name.

A lab whose nodes are virtual machines has snapshots of all memory and disks instead. A checkpoint is taken and restored
while everything runs: what follows from the Northbound database, OVN makes again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ovnlab.atomic_write import write_whole
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.ovsdb.endpoints import TLS_OPTIONS, of_zone
from ovnlab.state import Stored
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import LAB_NAME, Topology
from ovnlab.waiting import now_ns

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab

FOLDER = "checkpoints"
"""Where a lab has them, in its own folder: they go with it."""

TIMEOUT = 60.0

Row = dict[str, Any]

IGNORED_TABLES = frozenset({"Connection", "SSL"})

IGNORED_COLUMNS = frozenset(
    {
        "nb_cfg", "nb_cfg_timestamp", "sb_cfg", "sb_cfg_timestamp", "hv_cfg", "hv_cfg_timestamp", "up", "status", "ssl",
        "hosting-chassis", "connections",
    }
)  # fmt: skip
"""What OVN itself writes, and counters."""

MOST_OF_A_VALUE = 60
"""Characters of a value that are shown."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A lab at one moment.

    `northbound` has the database of each zone as ovsdb-client wrote it, `homes` the node of each fake VM, `text` the
    file that the lab was made from; `made` are seconds since 1970.
    """

    made: int
    stored: Stored
    northbound: Mapping[str, str]
    homes: Mapping[str, str]
    text: str


class Checkpoints:
    """The checkpoints of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def _folder(self) -> Path:
        return self._lab.folder.path / FOLDER

    def _path(self, name: str) -> Path:
        if not LAB_NAME.fullmatch(name):
            raise UsageError(f"invalid name {name!r}: expected lower-case letters, digits and '-'")
        return self._folder / f"{name}.json"

    def save(self, name: str) -> None:
        """Take a checkpoint. Raises UsageError for a name that there is, OvnlabError where the lab is down."""
        with self._lab.locked():
            path = self._path(name)
            if path.exists():
                hint = f"ovnlab snapshot rm {name}, or another name"
                raise UsageError(f"lab {self._lab.name} has a snapshot {name} already", hint=hint)
            self._lab.require_up()
            found = self._now()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_whole(path, msgspec.json.encode(found))

    def restore(self, name: str) -> None:
        """Make the lab what it was. Raises UsageError for a name that there is not."""
        saved = self._read(name)
        with self._lab.locked():
            self._lab.require_up()
            self._refuse_other_zones(name, saved)
            homes = self._homes()
        if extra := sorted(set(homes) - set(saved.homes)):
            self._lab.unbind(extra)
        with self._lab.locked():
            for zone, text in saved.northbound.items():
                self._put(self._lab.topology, zone, text)  # where its databases are now
            self._lab.become(saved.stored)
            homes = self._homes()
        if wrong := {vm: node for vm, node in saved.homes.items() if homes.get(vm) != node}:
            self._lab.bind(wrong)
        if unwanted := sorted(set(homes) - set(saved.homes)):
            self._lab.unbind(unwanted)

    def _refuse_other_zones(self, name: str, saved: Checkpoint) -> None:
        """Raise UsageError where there are databases of other zones: theirs have no place to go."""
        if set(self._lab.topology.zones) != set(saved.northbound):
            raise UsageError(
                f"snapshot {name} is of other availability zones than lab {self._lab.name} has now",
                hint="`ovnlab up` with those zones first",
            )

    def snapshots(self) -> Mapping[str, int]:
        """Return the names of all, and when each was taken, in seconds since 1970."""
        names = sorted(path.stem for path in self._folder.glob("*.json")) if self._folder.is_dir() else []
        found = {name: self._read(name).made for name in names}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def forget(self, name: str) -> bool:
        """Remove one. Returns True if it was there."""
        path = self._path(name)
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    def diff(self, name: str) -> list[str]:
        """Return what has changed since a checkpoint, in words."""
        saved = self._read(name)
        self._lab.require_up()
        return list(_differences(saved, self._now()))

    def _read(self, name: str) -> Checkpoint:
        path = self._path(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            hint = "`ovnlab snapshot ls` lists them"
            raise UsageError(f"lab {self._lab.name} has no snapshot {name}", hint=hint) from None
        except msgspec.DecodeError:
            raise OvnlabError("damaged snapshot", where=str(path), hint=f"ovnlab snapshot rm {name}") from None

    def _now(self) -> Checkpoint:
        stored = self._lab.stored
        if stored is None:
            raise OvnlabError(f"what lab {self._lab.name} was made from is lost")
        topology = stored.topology
        northbound = {zone: self._backup(topology, zone) for zone in topology.zones}
        return Checkpoint(now_ns() // 10**9, stored, northbound, self._homes(), _text(stored.source))

    def _homes(self) -> dict[str, str]:
        """Return the node of each fake VM."""
        found, _ = self._lab.vm_hosts(self._lab.nodes().values())
        return {vm: node.name for vm, node in sorted(found.items())}

    def _backup(self, topology: Topology, zone: str) -> str:
        where = of_zone(topology, zone)
        script = render(
            "node/save-northbound.sh.j2",
            databases=where,
            northbound=where.northbound_or_socket,
            tls=TLS_OPTIONS if where.tls else (),
        )
        central = self._lab.central(zone)
        return run_script(
            central.context, script, where=f"{central.name}: saving the Northbound database", timeout=TIMEOUT
        )

    def _put(self, topology: Topology, zone: str, text: str) -> None:
        where = of_zone(topology, zone)
        script = render(
            "node/restore-northbound.sh.j2",
            databases=where,
            northbound=where.northbound_or_socket,
            tls=TLS_OPTIONS if where.tls else (),
            saved=text.rstrip("\n"),
        )
        central = self._lab.central(zone)
        run_script(central.context, script, where=f"{central.name}: restoring the Northbound database", timeout=TIMEOUT)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _differences(then: Checkpoint, now: Checkpoint) -> Iterator[str]:
    """Yield what is another: the file, nodes, rows, bindings."""
    if then.text != now.text:
        yield f"file {now.stored.source}: changed"
    nodes = [{node.name for node in one.stored.topology.nodes} for one in (then, now)]
    yield from (f"node {name}: removed" for name in sorted(nodes[0] - nodes[1]))
    yield from (f"node {name}: added" for name in sorted(nodes[1] - nodes[0]))
    for zone in dict.fromkeys([*then.northbound, *now.northbound]):
        before, after = _rows(then.northbound.get(zone, "")), _rows(now.northbound.get(zone, ""))
        yield from _row_differences(before, after)
    for vm in sorted(set(then.homes) | set(now.homes)):
        was, is_now = then.homes.get(vm), now.homes.get(vm)
        if was != is_now:
            yield f"fake VM {vm}: {was or 'unbound'} → {is_now or 'unbound'}"


def _rows(backup: str) -> dict[tuple[str, str], Row]:
    """Return the rows of a backup by table and UUID: it is a log of OVSDB whose last record has all of them."""
    records = [line for line in backup.split("\n") if line.startswith("{")]  # a value may have other ends of lines
    if len(records) < 2:
        return {}
    found: dict[tuple[str, str], Row] = {}
    for text in records[1:]:
        for table, rows in msgspec.json.decode(text).items():
            if not table.startswith("_") and table not in IGNORED_TABLES:
                found.update({(table, uuid): row for uuid, row in rows.items() if row is not None})
    return found


Key = tuple[str, str, int]
"""The table and name of a row, and its number among those of that name."""


def _row_differences(before: Mapping[tuple[str, str], Row], after: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    """Yield rows that went and came, and values that changed. A row that is restored has another UUID."""
    old, new = _readable(before), _readable(after)
    for (table, name, _), _ in sorted(item for item in old.items() if item[0] not in new):
        yield f"{_kind(table)} {name}: removed"
    for (table, name, _), _ in sorted(item for item in new.items() if item[0] not in old):
        yield f"{_kind(table)} {name}: added"
    for key in sorted(old.keys() & new.keys()):
        for column in sorted(old[key].keys() | new[key].keys()):
            was, is_now = old[key].get(column, "none"), new[key].get(column, "none")
            if was != is_now:
                yield f"{_kind(key[0])} {key[1]}: {column}: {_cut(was)} → {_cut(is_now)}".replace(" : ", ": ")


def _readable(rows: Mapping[tuple[str, str], Row]) -> dict[Key, dict[str, str]]:
    """Return rows as a person reads them, by what tells them apart."""
    names = {uuid: _name(table, row) for (table, uuid), row in rows.items()}
    told: dict[tuple[str, str], list[dict[str, str]]] = {}
    for (table, uuid), row in rows.items():
        values = {column: _told(value, names) for column, value in row.items() if column not in IGNORED_COLUMNS}
        told.setdefault((table, names[uuid]), []).append(values)
    return {
        (table, name, number): values
        for (table, name), alike in told.items()
        for number, values in enumerate(sorted(alike, key=lambda values: sorted(values.items())))
    }


def _kind(table: str) -> str:
    """Return the name of a table as a noun: `logical switch port`, `ACL`."""
    return " ".join(word if word.isupper() else word.lower() for word in table.split("_"))


def _name(table: str, row: Row) -> str:
    name = row.get("name")
    if isinstance(name, str) and name:
        return name
    ids = row.get("external_ids")
    pairs = dict(ids[1]) if isinstance(ids, list) and ids and ids[0] == "map" else {}
    if "ovnlab-name" in pairs:
        return str(pairs["ovnlab-name"])
    for column in ("match", "ip_prefix", "external_ip", "cidr"):
        if row.get(column):
            return f"{row[column]}"
    return "" if table == "NB_Global" else "without a name"


def _told(value: Any, names: Mapping[str, str]) -> str:
    """Return a value of OVSDB as a person reads it; references by the names of their rows."""
    if isinstance(value, list) and value and value[0] == "uuid":
        return names.get(value[1], value[1][:8])
    if isinstance(value, list) and value and value[0] == "set":
        text = ", ".join(sorted(_told(item, names) for item in value[1]))
    elif isinstance(value, list) and value and value[0] == "map":
        text = ", ".join(f"{key}={_told(item, names)}" for key, item in sorted(value[1]))
    else:
        text = "" if value is None else str(value)
    return re.sub(r"\s+", " ", text) or "none"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_OF_A_VALUE else f"{text[: MOST_OF_A_VALUE - 1]}…"
