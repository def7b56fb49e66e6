"""The state of a lab, as its own daemons and databases tell it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ovnlab.lab import Lab
from ovnlab.northbound import live
from ovnlab.northbound.southbound import Southbound, read
from ovnlab.parallel import for_each
from ovnlab.plan import daemons as expected_daemons
from ovnlab.tasks.probe import NodeState, probe


@dataclass(frozen=True)
class DaemonStatus:
    """A daemon that runs, or that should."""

    name: str
    running: bool
    pid: int | None
    version: str


@dataclass(frozen=True)
class TunnelStatus:
    """A tunnel of a node to one of its peers."""

    peer: str
    remote_ip: str
    encap: str
    working: bool


@dataclass(frozen=True)
class NodeStatus:
    """A node."""

    name: str
    role: str
    ip: str
    running: bool
    registered: bool
    encap: str
    daemons: tuple[DaemonStatus, ...]
    tunnels: tuple[TunnelStatus, ...]


@dataclass(frozen=True)
class PortStatus:
    """A logical switch port of a fake VM, and where it is bound."""

    name: str
    switch: str
    addresses: tuple[str, ...]
    up: bool
    chassis: str | None
    tunnel_key: int | None
    by_ovnlab: bool


@dataclass(frozen=True)
class Status:
    """A whole lab."""

    lab: str
    state: str
    provider: str
    topology: str
    software: dict[str, str]
    nodes: tuple[NodeStatus, ...]
    ports: tuple[PortStatus, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def status(lab: Lab) -> Status:
    """What a lab is like just now: nodes and databases are asked at once, each in one round trip."""
    topology = lab.topology
    nodes = lab.nodes()
    central = nodes.get(topology.central.name)

    def ask(name: str) -> NodeState | list[live.LiveRow] | Southbound:
        if name == "/northbound" and central:
            return live.read(central.context)
        if name == "/southbound" and central:
            return read(central.context)
        return probe(nodes[name].context, name, versions=True)

    questions = [*nodes, *(("/northbound", "/southbound") if central else ())]
    answers = dict(zip(questions, for_each(questions, lambda name: _answer(ask, name)), strict=True))
    southbound = answers.get("/southbound")
    rows = answers.get("/northbound")
    southbound = southbound if isinstance(southbound, Southbound) else Southbound({}, {})
    states = {name: state for name in nodes if isinstance(state := answers[name], NodeState)}
    found = tuple(_node(lab, name, states.get(name), southbound) for name in [n.name for n in topology.nodes])
    healthy = all(node.running and all(d.running for d in node.daemons) for node in found)
    return Status(
        lab=lab.name,
        state="down" if not nodes else "up" if healthy else "degraded",
        provider=topology.provider,
        topology=lab.stored.source if lab.stored else "",
        software=dict(lab.software.versions) if lab.software else {},
        nodes=found,
        ports=tuple(
            _port(row, southbound)
            for row in sorted(rows if isinstance(rows, list) else (), key=lambda row: row.name)
            if _is_vm(row)
        ),
    )


def _answer(ask: Any, name: str) -> Any:
    """What a node or database answers; None where it cannot, which is what status is there to show."""
    from ovnlab.errors import OvnlabError  # noqa: PLC0415

    try:
        return ask(name)
    except OvnlabError:
        return None


def _node(lab: Lab, name: str, state: NodeState | None, southbound: Southbound) -> NodeStatus:
    node = lab.topology.node(name)
    assert node is not None  # noqa: S101  the names are the topology's
    running = state.daemons if state else {}
    peers = {peer.ip: peer.name for peer in lab.topology.nodes}
    return NodeStatus(
        name=name,
        role=node.role,
        ip=node.ip,
        running=state is not None,
        registered=name in southbound.chassis,
        encap=southbound.chassis.get(name, ""),
        daemons=tuple(
            DaemonStatus(daemon, True, running[daemon].pid, running[daemon].version)
            if daemon in running
            else DaemonStatus(daemon, False, None, "")
            for daemon in expected_daemons(node)
        ),
        tunnels=tuple(
            TunnelStatus(peers.get(t.remote_ip, "?"), t.remote_ip, t.encap, t.working)
            for t in sorted(state.tunnels if state else (), key=lambda tunnel: tunnel.name)
        ),
    )


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
