"""The state of a lab, as its own daemons and databases tell it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ovnlab.deliberate import active
from ovnlab.errors import OvnlabError
from ovnlab.lab.fast_probe import look
from ovnlab.lab.lab import Lab
from ovnlab.lab.lab_list import COMING_UP, is_coming_up, state_of_silent
from ovnlab.lab.plan import daemons as expected_daemons
from ovnlab.nodes.node import RunningNode
from ovnlab.northbound import live, southbound
from ovnlab.northbound.southbound import Southbound
from ovnlab.parallel import for_each
from ovnlab.providers.base import DOES_NOT_ANSWER
from ovnlab.tasks import probe
from ovnlab.tasks.probe import Daemon, NodeState
from ovnlab.topology.resolved import Node as TopologyNode
from ovnlab.topology.resolved import Topology


class DaemonStatus(msgspec.Struct, frozen=True):
    """A daemon that runs, or that should.

    `build` is the key of the build that it is of, empty where it is of a package; `outdated` says that it is neither of
    what its node has now; `answers` is False for a process that is there and gives no answer.
    """

    name: str
    running: bool
    pid: int | None
    version: str
    build: str = ""
    outdated: bool = False
    answers: bool = True

    @property
    def works(self) -> bool:
        """Return True if the daemon runs and answers."""
        return self.running and self.answers


class TunnelStatus(msgspec.Struct, frozen=True):
    """A tunnel of a node to one of its peers."""

    peer: str
    remote_ip: str
    encap: str
    working: bool


class NodeStatus(msgspec.Struct, frozen=True):
    """A node. `state` is `running`, or why it is not, in a word or two."""

    name: str
    role: str
    ip: str
    running: bool
    state: str
    is_chassis: bool
    registered: bool
    encap: str
    daemons: tuple[DaemonStatus, ...]
    tunnels: tuple[TunnelStatus, ...]


class MemberStatus(msgspec.Struct, frozen=True):
    """A member of a RAFT cluster.

    `behind` are the entries of the leader's log that it has not yet, None where nobody leads; `leader` is empty then.
    """

    database: str
    node: str
    role: str
    term: int
    leader: str
    behind: int | None


class PortStatus(msgspec.Struct, frozen=True):
    """A logical switch port of a fake VM, and where it is bound."""

    name: str
    switch: str
    addresses: tuple[str, ...]
    up: bool
    chassis: str | None
    tunnel_key: int | None
    by_ovnlab: bool


class GatewayStatus(msgspec.Struct, frozen=True):
    """A router port on a gateway: the chassis that has it, and those that may, the preferred first."""

    port: str
    router: str
    chassis: str | None
    candidates: tuple[str, ...]

    @property
    def state(self) -> str:
        """Return active on the preferred chassis, failed over on another one, unbound on none."""
        if self.chassis is None:
            return "unbound"
        return "active" if self.chassis in self.candidates[:1] or not self.candidates else "failed over"


class BackendStatus(msgspec.Struct, frozen=True):
    """A backend that does not answer OVN's health check, and the logical port that has it."""

    backend: str
    port: str


class Status(msgspec.Struct, frozen=True):
    """A whole lab; `faults` are sentences on what is broken on purpose.

    `behind` says of chassis that lag how many configurations they are behind ovn-northd.
    """

    lab: str
    state: str
    provider: str
    topology: str
    software: dict[str, str]
    nodes: tuple[NodeStatus, ...]
    ports: tuple[PortStatus, ...]
    clusters: tuple[MemberStatus, ...] = ()
    faults: tuple[str, ...] = ()
    gateways: tuple[GatewayStatus, ...] = ()
    offline: tuple[BackendStatus, ...] = ()
    behind: dict[str, int] = {}

    def as_dict(self) -> dict[str, Any]:
        """Return the status as plain data."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def status(lab: Lab) -> Status:
    """Return what a lab is like just now: all nodes are asked at once, each for all that it knows in one round trip."""
    topology = lab.topology
    nodes = lab.nodes()
    states: dict[str, NodeState] = {}
    rows: list[live.LiveRow] = []
    bindings: list[Southbound] = []

    remembered = lab.versions()
    centrals = {zone: [node.name for node in topology.centrals(zone) if node.name in nodes] for zone in topology.zones}
    asked = {running[0]: zone for zone, running in centrals.items() if running}

    def ask(node: RunningNode) -> None:
        script = lab.daemons_script(node.name, remembered)
        questions = [probe.QUESTION, *([live.QUESTION, southbound.QUESTION] if node.name in asked else [])]
        daemons, (own, *zone) = look(node, questions, script)
        if daemons is not None:
            states[node.name] = lab.daemons(node.name, daemons, remembered, own)
        if zone and zone[0] is not None:
            rows.extend(live.rows_in(zone[0], asked[node.name]))
        if zone and zone[1] is not None:
            bindings.append(southbound.bindings_in(zone[1]))

    for_each([functools.partial(ask, node) for node in nodes.values()], _ask)
    lab.remember(states, remembered)
    southern = Southbound()
    for part in bindings:
        southern = Southbound(
            {**southern.chassis, **part.chassis},
            {**southern.ports, **part.ports},
            {**southern.behind, **part.behind},
            {**southern.offline, **part.offline},
        )
    silent = [node.name for node in topology.nodes if node.name not in nodes]
    resting = dict(lab.provider.stopped_reasons(silent) if silent else {})
    words = {name: "running" if name in states else DOES_NOT_ANSWER for name in nodes} | resting
    if is_coming_up(lab) or (not nodes and state_of_silent(lab, set(resting.values())) == COMING_UP):
        words = {name: COMING_UP if word == DOES_NOT_ANSWER else word for name, word in words.items()}
    found = tuple(
        _node(topology, node, words.get(node.name, "not running"), states.get(node.name), southern)
        for node in topology.nodes
    )
    well = all(_is_well(topology, wanted, node) for wanted, node in zip(topology.nodes, found, strict=True))
    return Status(
        lab=lab.name,
        state=_state(lab, nodes, resting.values(), well=well),
        provider=topology.provider,
        topology=lab.stored.source if lab.stored else "",
        software=dict(lab.base.versions) if lab.base else {},
        nodes=found,
        clusters=tuple(_members(topology, states)),
        faults=tuple(fault.title for fault in active(lab.folder)),
        gateways=tuple(_gateways(rows, southern)),
        offline=tuple(BackendStatus(backend, port) for backend, port in sorted(southern.offline.items())),
        behind=dict(southern.behind),
        ports=tuple(_port(row, southern) for row in sorted(rows, key=lambda row: row.name) if _is_vm(row)),
    )


def _state(lab: Lab, running: Collection[str], resting: Iterable[str], *, well: bool) -> str:
    """Return the state of a lab of whose nodes these run, by what became of the others."""
    if is_coming_up(lab):
        return COMING_UP
    if running:
        return "up" if well else "degraded"
    return state_of_silent(lab, set(resting))


def _ask(question: Callable[[], None]) -> None:
    """Ask, and treat silence as an answer: a status is there to show what does not answer."""
    with contextlib.suppress(OvnlabError):
        question()


def _is_well(topology: Topology, wanted: TopologyNode, node: NodeStatus) -> bool:
    """Return True if all of a node is there: its daemons, its place among the chassis, its tunnels."""
    tunnels = {tunnel.peer for tunnel in node.tunnels if tunnel.working}
    return (
        node.running
        and all(daemon.works for daemon in node.daemons)
        and (node.registered or not wanted.chassis)
        and {peer.name for peer in topology.peers(wanted)} <= tunnels
    )


def _node(
    topology: Topology, node: TopologyNode, word: str, state: NodeState | None, southbound: Southbound
) -> NodeStatus:
    """Return the status of a node; `state` is None where it does not answer, which is not the same as absent."""
    running = state.daemons if state else {}
    peers = {peer.ip: peer.name for peer in topology.nodes if peer.ip}
    return NodeStatus(
        name=node.name,
        role=node.role,
        ip=next(iter(node.addresses), ""),
        running=word == "running",
        state=word,
        is_chassis=node.chassis,
        registered=node.name in southbound.chassis,
        encap=southbound.chassis.get(node.name, ""),
        daemons=tuple(
            daemon_status(running[name], state.build if state else "")
            if name in running
            else DaemonStatus(name, False, None, "")
            for name in expected_daemons(topology, node)
        ),
        tunnels=tuple(
            TunnelStatus(peers.get(t.remote_ip, "?"), t.remote_ip, t.encap, t.working)
            for t in sorted(state.tunnels if state else (), key=lambda tunnel: tunnel.name)
        ),
    )


def daemon_status(daemon: Daemon, build: str) -> DaemonStatus:
    """Return a daemon that runs on a node with that build."""
    return DaemonStatus(
        daemon.name,
        True,
        daemon.pid,
        daemon.version,
        build if daemon.built else "",
        outdated=daemon.outdated,
        answers=bool(daemon.version) and not daemon.stopped,  # each was asked for its version, now or before
    )


def family(daemon: str) -> str:
    """Return whose daemon one is, by its name: OVS or OVN; databases are served by OVS."""
    return "OVN" if daemon.startswith("ovn-") else "OVS"


def software_of(daemons: Iterable[DaemonStatus]) -> str:
    """Return what daemons that run are of, such as `OVS 3.1.0 build 78205918246c5dbf, OVN 23.03.1`."""
    found: dict[str, None] = {}
    for daemon in daemons:
        if daemon.running and daemon.version:
            which = " (old)" if daemon.outdated else f" build {daemon.build[:8]}" if daemon.build else ""
            found[f"{family(daemon.name)} {daemon.version}{which}"] = None
    return ", ".join(sorted(found, reverse=True))


def _members(topology: Topology, states: Mapping[str, NodeState]) -> Iterator[MemberStatus]:
    """Yield the members of each cluster, as they tell of themselves; also those that should be there and are not."""
    for zone in topology.zones:
        names = [node.name for node in topology.centrals(zone)]
        for key, database in (("nb", "Northbound"), ("sb", "Southbound")) if len(names) > 1 else ():
            seen = {name: states[name].clusters for name in names if name in states}
            members = {name: clusters[key] for name, clusters in seen.items() if key in clusters}
            servers = {member.server[:4]: name for name, member in members.items()}
            last = max((m.last_entry for m in members.values() if m.role == "leader"), default=None)
            for name in names:
                member = members.get(name)
                if member is None:
                    yield MemberStatus(database, name, "not running", 0, "", None)
                    continue
                leader = name if member.leader == "self" else servers.get(member.leader[:4], "")
                behind = None if last is None else max(0, last - member.last_entry)
                yield MemberStatus(database, name, member.role, member.term, leader, behind)


def _gateways(rows: Sequence[live.LiveRow], southbound: Southbound) -> Iterator[GatewayStatus]:
    """Return the router ports that are on a gateway, and the routers that are on one as a whole (ovn-nb(5))."""
    members: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        if row.table in ("Gateway_Chassis", "HA_Chassis") and row.belongs is not None:
            members.setdefault(row.belongs.uuid, []).append((-row.columns["priority"], row.columns["chassis_name"]))
    routers = {row.name: row.columns["options"].get("chassis", "") for row in rows if row.table == "Logical_Router"}
    for row in sorted((row for row in rows if row.table == "Logical_Router_Port"), key=lambda row: row.name):
        found = [item for uuid in (row.uuid, *row.columns["ha_chassis_group"]) for item in members.get(uuid, ())]
        candidates = tuple(name for _, name in sorted(found))
        binding = southbound.ports.get(f"cr-{row.name}")
        if candidates or binding is not None:
            yield GatewayStatus(row.name, row.parent or "", binding.chassis if binding else None, candidates)
        elif (wanted := routers.get(row.parent or "", "")) and row.name in southbound.ports:
            yield GatewayStatus(row.name, row.parent or "", southbound.ports[row.name].chassis, (wanted,))


def _is_vm(row: live.LiveRow) -> bool:
    return row.table == "Logical_Switch_Port" and not row.columns["type"]


def _port(row: live.LiveRow, southbound: Southbound) -> PortStatus:
    binding = southbound.ports.get(row.name)
    return PortStatus(
        name=row.name,
        switch=row.parent or "",
        addresses=tuple(row.columns["addresses"]),
        up=row.columns["up"] is True,
        chassis=binding.chassis if binding else None,
        tunnel_key=binding.tunnel_key if binding else None,
        by_ovnlab=row.mark is not None or row.by_bind,
    )
