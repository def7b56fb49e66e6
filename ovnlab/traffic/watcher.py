"""A watcher of takeovers during traffic: gateways, RAFT leaders and BFD sessions, with their times.

The databases tell by themselves (RFC 7047, 4.1.5, monitor), where their sockets can be had. Elsewhere, what is another
one at the end than at the beginning is told without the moment.
"""

from __future__ import annotations

import codecs
import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovnlab.errors import OvnlabError
from ovnlab.nodes.node import RunningNode
from ovnlab.ovsdb.client import Row, Tables, listed, value
from ovnlab.ovsdb.queries import NORTHBOUND, SOUTHBOUND, SWITCH, Server, TableQuery
from ovnlab.parallel import for_each
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Topology
from ovnlab.waiting import CLOCK, now_ns

RETRY = 0.2
"""Seconds after which a database that does not run is tried again."""

FIRST_TIMEOUT = 5.0
"""Seconds that the databases may take to tell what they are at first."""

ASK_TIMEOUT = 10.0
"""Seconds that a database may take to answer where it has to be asked."""

BINDINGS = {"Port_Binding": ("logical_port", "type", "chassis"), "Chassis": ("name",)}
SESSIONS = {"Interface": ("name", "options", "bfd_status")}
LEADERS = {"Database": ("name", "model", "leader")}

MOVING = ("chassisredirect", "l3gateway", "virtual")
"""Types of port bindings of which one chassis at a time is in charge (ovn-sb(5), Port_Binding)."""


@dataclass(frozen=True)
class Takeover:
    """A change of what is in charge; `when` is in nanoseconds since 1970, None where unknown."""

    kind: str
    name: str
    before: str
    after: str
    when: int | None

    @property
    def text(self) -> str:
        """Return the change, for people."""
        return f"{self.title}: {self.before or 'none'} → {self.after or 'none'}"

    @property
    def title(self) -> str:
        """Return what has changed, as a title."""
        return {"gateway": "gateway of ", "leader": "leader of ", "bfd": "BFD "}.get(self.kind, "") + self.name


Fact = tuple[str, str]
"""The kind of a fact and its name."""

Facts = dict[Fact, str]


@dataclass
class WatchedDatabase:
    """A database of a node, and how its rows are read.

    `known` is the last that it told of each fact, `now` what it tells now: nothing while it does not run.
    """

    node: RunningNode
    server: Server
    database: str
    columns: Mapping[str, Sequence[str]]
    facts_in: Callable[[Tables], Iterator[tuple[Fact, str]]]
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    known: Facts = field(default_factory=dict)
    now: Facts = field(default_factory=dict)
    socket: socket.socket | None = None
    received: str = ""
    decoder: Any = None
    heard: bool = False

    def ask(self) -> Tables:
        """Return the rows, by the tools on the node. Raises OvnlabError where they cannot be had."""
        if self.database == self.server.database:
            query = TableQuery(self.server, {table: ("_uuid", *names) for table, names in self.columns.items()})
            script = query.script()
        else:
            query = TableQuery(self.server, self.columns)
            script = render("node/list-server.sh.j2", socket=self.server.socket, tables=self.columns)
        return query.parse(run_script(self.node.context, script, where=self.node.name, timeout=ASK_TIMEOUT))

    def facts(self) -> Facts:
        """Return the facts in the rows."""
        return dict(self.facts_in({table: list(rows.values()) for table, rows in self.rows.items()}))


def gateways(tables: Tables) -> Iterator[tuple[Fact, str]]:
    """Find the chassis of each port that one chassis is in charge of; the rows of Chassis know their own `_uuid`."""
    names = {row["_uuid"]: row["name"] for row in tables.get("Chassis", ())}
    for row in tables.get("Port_Binding", ()):
        if row["type"] in MOVING:
            chassis = [names.get(one, "") for one in listed(row["chassis"])]
            yield ("gateway", row["logical_port"].removeprefix("cr-")), next(iter(chassis), "")


def sources(topology: Topology, nodes: Mapping[str, RunningNode]) -> list[WatchedDatabase]:
    """Return what is read of which node."""
    peers = {node.ip: node.name for node in topology.nodes if node.ip}

    def sessions(name: str) -> Callable[[Tables], Iterator[tuple[Fact, str]]]:
        def found(tables: Tables) -> Iterator[tuple[Fact, str]]:
            for row in tables.get("Interface", ()):
                state = dict(row["bfd_status"]).get("state") if row["bfd_status"] else None
                if state is not None:
                    peer = peers.get(dict(row["options"]).get("remote_ip", ""), row["name"])
                    yield ("bfd", f"{name} → {peer}"), state

        return found

    def leaders(name: str) -> Callable[[Tables], Iterator[tuple[Fact, str]]]:
        def found(tables: Tables) -> Iterator[tuple[Fact, str]]:
            for row in tables.get("Database", ()):
                if row["model"] == "clustered" and row["leader"]:
                    yield ("leader", row["name"]), name

        return found

    read: list[WatchedDatabase] = []
    for node in topology.nodes:
        if node.name not in nodes:
            continue
        own = nodes[node.name]
        if node.has_switch:
            read.append(WatchedDatabase(own, SWITCH, SWITCH.database, SESSIONS, sessions(node.name)))
        if node.central:
            read.append(WatchedDatabase(own, SOUTHBOUND, SOUTHBOUND.database, BINDINGS, gateways))
            if len(topology.centrals(node.zone)) > 1:
                read += [
                    WatchedDatabase(own, one, "_Server", LEADERS, leaders(node.name))
                    for one in (NORTHBOUND, SOUTHBOUND)
                ]
    return read


class Watcher:
    """A recorder of changes of what is in charge, from when it is entered until it is left."""

    def __init__(self, topology: Topology, nodes: Callable[[], Mapping[str, RunningNode]]) -> None:
        self._topology = topology
        self._nodes = nodes
        self._over = threading.Event()
        self._first = threading.Event()
        self._changes: list[Takeover] = []
        self._facts: Facts = {}
        self._at_first: Facts = {}
        self._sources: list[WatchedDatabase] = []
        self._silent: list[WatchedDatabase] = []

    def __enter__(self) -> Watcher:
        self._sources = sources(self._topology, self._nodes())
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._first.wait(FIRST_TIMEOUT)
        self._silent = [source for source in self._sources if not source.heard]
        self._asked = self._ask()
        self._at_first = dict(self._facts)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(FIRST_TIMEOUT)
        for fact, after in self._ask().items():
            before = self._asked.get(fact, "")
            if after != before and fact in self._asked and not any((c.kind, c.name) == fact for c in self._changes):
                self._changes.append(Takeover(*fact, before, after, None))

    @property
    def changes(self) -> tuple[Takeover, ...]:
        """Return what has changed so far, in order."""
        return tuple(self._changes)

    @property
    def facts(self) -> Facts:
        """Return what is in charge now."""
        return dict(self._facts)

    @property
    def is_settled(self) -> bool:
        """False while nobody is in charge: of a gateway, or of a RAFT cluster whose leader has gone."""
        leading = {fact for source in self._sources for fact in source.now}
        told = {fact for source in self._sources for fact in list(source.known)}

        def is_open(fact: Fact, value: str) -> bool:
            if fact[0] == "leader":
                return fact in told and fact not in leading
            return not value and bool(self._at_first.get(fact))

        return not any(is_open(fact, value) for fact, value in list(self._facts.items()))

    def _ask(self) -> Facts:
        """Return the facts of databases that tell nothing by themselves."""
        there = self._nodes()
        asked = [one for one in self._silent if one.node.name in there]

        def ask(source: WatchedDatabase) -> Facts:
            try:
                return dict(source.facts_in(source.ask()))
            except OvnlabError:  # what does not answer has no facts
                return {}

        found: Facts = {}
        for facts in for_each(asked, ask):
            found |= facts
        self._facts |= found
        return found

    # ── listening ────────────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            retry = 0.0
            while not self._over.is_set():
                if CLOCK.monotonic() >= retry:
                    for source in self._sources:
                        if source.socket is None:
                            self._connect(source, selector)
                    retry = CLOCK.monotonic() + RETRY
                for key, _ in selector.select(RETRY / 2):
                    self._read(key.data, selector)
                if all(source.heard or source.socket is None for source in self._sources):
                    self._first.set()
            for source in self._sources:
                if source.socket is not None:
                    source.socket.close()

    def _connect(self, source: WatchedDatabase, selector: selectors.BaseSelector) -> None:
        node = self._nodes_now().get(source.node.name) if source.heard else source.node
        found = node.connect(source.server.socket) if node is not None else None
        if found is None:
            return
        source.rows, source.received, source.decoder = {}, "", codecs.getincrementaldecoder("utf-8")(errors="replace")
        wanted = {table: {"columns": list(columns)} for table, columns in source.columns.items()}
        try:
            found.sendall(
                json.dumps({"method": "monitor", "params": [source.database, None, wanted], "id": 1}).encode()
            )
        except OSError:
            found.close()
            return
        found.setblocking(False)
        source.socket = found
        selector.register(found, selectors.EVENT_READ, source)

    def _nodes_now(self) -> Mapping[str, RunningNode]:
        try:
            return self._nodes()
        except (OvnlabError, OSError):  # the lab may be going away: then nothing takes over any more
            return {}

    def _read(self, source: WatchedDatabase, selector: selectors.BaseSelector) -> None:
        if source.socket is None:
            return
        now = now_ns()
        try:
            part = source.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            selector.unregister(source.socket)
            source.socket.close()
            source.socket, source.now = None, {}
            return
        source.received += source.decoder.decode(part)
        if not part.rstrip().endswith(b"}"):
            return
        decoder = json.JSONDecoder()
        while source.received:
            try:
                message, end = decoder.raw_decode(source.received)
            except ValueError:  # it goes on
                return
            source.received = source.received[end:].lstrip()
            self._take(source, message, now)

    def _take(self, source: WatchedDatabase, message: Mapping[str, Any], now: int) -> None:
        if message.get("method") == "echo" and source.socket is not None:
            try:
                source.socket.send(
                    json.dumps({"result": message["params"], "error": None, "id": message["id"]}).encode()
                )
            except OSError:
                pass
            return
        updates = message["params"][1] if message.get("method") == "update" else message.get("result")
        if not isinstance(updates, dict):
            return
        for table, rows in updates.items():
            kept = source.rows.setdefault(table, {})
            for uuid, row in rows.items():
                new = row.get("new")
                if new is None:
                    kept.pop(uuid, None)
                else:
                    plain = {name: value(given) for name, given in new.items()}
                    kept[uuid] = {**kept.get(uuid, {}), **plain, "_uuid": uuid}
        self._compare(source, now)

    def _compare(self, source: WatchedDatabase, now: int) -> None:
        found = source.facts()
        for fact, after in found.items():
            # A server tells that it leads, not that it has ceased to: it may come to lead once more.
            before = source.now if fact[0] == "leader" else source.known
            if source.heard and before.get(fact) != after and self._facts.get(fact, after) != after:
                self._changes.append(Takeover(*fact, self._facts[fact], after, now))
                self._facts[fact] = after
            self._facts.setdefault(fact, after)
        source.known |= found
        source.now = found
        source.heard = True
