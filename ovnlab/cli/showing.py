"""The status of a lab, for people."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.cli import output
from ovnlab.status import MemberStatus, NodeStatus, PortStatus, Status, family, software_of


def show(status: Status) -> None:
    """Three tables: nodes, tunnels, ports."""
    versions = sorted({f"{family(d.name)} {d.version}" for n in status.nodes for d in n.daemons if d.version})
    several = {software_of(n.daemons) for n in status.nodes if n.daemons and n.running}
    shows_software = len(several) > 1 or any(daemon.build for node in status.nodes for daemon in node.daemons)
    state = output.coloured(status.state, output.STATES[status.state])
    output.line(f"lab {output.coloured(status.lab, 'bold')} is {state} — {', '.join([status.provider, *versions])}")
    output.line()
    output.table(
        ("NODE", "ROLE", "ADDRESS", "STATE", "CHASSIS", "ENCAP", "DAEMONS", *(["SOFTWARE"] if shows_software else [])),
        [(*_node(node), *([software_of(node.daemons)] if shows_software else [])) for node in status.nodes],
        colours=output.STATES,
    )
    tunnels = [row for node in status.nodes for row in _tunnels(node)]
    if tunnels:
        output.line()
        output.table(("TUNNELS FROM", "TO", "ENCAP", "STATE"), tunnels, colours=output.STATES)
    if status.clusters:
        output.line()
        members = [
            (m.database, m.node, m.role, str(m.term or "-"), m.leader or "-", _behind(m)) for m in status.clusters
        ]
        output.table(("CLUSTER", "MEMBER", "ROLE", "TERM", "LEADER", "BEHIND"), members, colours=output.STATES)
    if status.ports:
        output.line()
        output.table(
            ("PORT", "SWITCH", "ADDRESSES", "STATE", "CHASSIS", "KEY"),
            [_port(p) for p in status.ports],
            colours=output.STATES,
        )


MOST_NAMED = 6
"""Peers that are named; of more only the number is told."""


def _tunnels(node: NodeStatus) -> Iterator[tuple[str, ...]]:
    """A row for all tunnels of a node that are alike."""
    kinds = dict.fromkeys((tunnel.encap, tunnel.working) for tunnel in node.tunnels)
    for encap, working in kinds:
        peers = sorted(t.peer for t in node.tunnels if (t.encap, t.working) == (encap, working))
        named = ", ".join(peers) if len(peers) <= MOST_NAMED or not working else f"{len(peers)} chassis"
        yield (node.name, named, encap, "up" if working else "down")


def _behind(member: MemberStatus) -> str:
    if member.behind is None:
        return "?"
    return f"{member.behind} entries" if member.behind > 1 else "1 entry" if member.behind else "nothing"


def _node(node: NodeStatus) -> tuple[str, ...]:
    missing = [daemon.name for daemon in node.daemons if not daemon.running]
    silent = [daemon.name for daemon in node.daemons if daemon.running and not daemon.answers]
    wrong = [f"not running: {', '.join(missing)}"] if missing else []
    wrong += [f"does not answer: {', '.join(silent)}"] if silent else []
    daemons = "; ".join(wrong) or f"all {len(node.daemons)} running"
    if not node.daemons:
        daemons = "-"
    return (
        node.name,
        node.role,
        node.ip or "-",
        node.state,
        ("yes" if node.registered else "no") if node.is_chassis else "-",
        node.encap or "-",
        daemons if node.running else "",
    )


def _port(port: PortStatus) -> tuple[str, ...]:
    state = "up" if port.up else "down" if port.chassis else "unbound"
    key = "" if port.tunnel_key is None else str(port.tunnel_key)
    return (port.name, port.switch, "; ".join(port.addresses), state, port.chassis or "-", key)
