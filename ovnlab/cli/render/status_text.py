"""The status of a lab, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ovnlab.cli import output
from ovnlab.lab.status import MemberStatus, NodeStatus, PortStatus, Status, family, software_of

MANY = 30
"""Rows that are shown of a table; of more, how many there are, and those that are not as they should be."""


def show(status: Status, *, everything: bool = False) -> None:
    """Print tables of nodes, tunnels, clusters and ports; of a large lab only problems, unless `everything` is set."""
    versions = sorted({f"{family(d.name)} {d.version}" for n in status.nodes for d in n.daemons if d.version})
    state = output.coloured(status.state, output.STATES[status.state])
    output.line(f"lab {output.coloured(status.lab, 'bold')} is {state} — {', '.join([status.provider, *versions])}")
    for fault in status.faults:
        output.line(f"deliberately, {fault}")
    limit = None if everything else MANY
    _show_nodes(status, limit)
    _show_tunnels(status, limit)
    if status.clusters:
        output.line()
        members = [
            (m.database, m.node, m.role, str(m.term or "-"), m.leader or "-", _behind(m)) for m in status.clusters
        ]
        output.table(("CLUSTER", "MEMBER", "ROLE", "TERM", "LEADER", "BEHIND"), members, colours=output.STATES)
    _show_gateways(status)
    _show_ports(status, limit)
    for one in status.offline:
        said = f"backend {one.backend} ({one.port}) is offline by OVN's health check: it gets no connections"
        output.line(f"{output.coloured('!', 'red')} {said}")
    if limit is not None and max(len(status.nodes), len(status.ports)) > limit:
        output.line()
        output.line(output.coloured("`ovnlab status --all` shows every node, tunnel and port", "dim"))


def _is_large(rows: Sequence[object], limit: int | None) -> bool:
    return limit is not None and len(rows) > limit


def _show_nodes(status: Status, limit: int | None) -> None:
    several = {software_of(n.daemons) for n in status.nodes if n.daemons and n.running}
    shows_software = len(several) > 1 or any(daemon.build for node in status.nodes for daemon in node.daemons)
    shown = list(status.nodes)
    output.line()
    if _is_large(shown, limit):
        chassis = [node for node in shown if node.is_chassis]
        registered, running = sum(node.registered for node in chassis), sum(node.running for node in shown)
        output.line(f"nodes: {running} of {len(shown)} running, {registered} of {len(chassis)} chassis registered")
        shown = [node for node in shown if not _is_well(node) or node.name in status.behind]
        if not shown:
            return
    output.table(
        ("NODE", "ROLE", "ADDRESS", "STATE", "CHASSIS", "ENCAP", "DAEMONS", *(["SOFTWARE"] if shows_software else [])),
        [
            (*_node(node, status.behind.get(node.name, 0)), *([software_of(node.daemons)] if shows_software else []))
            for node in shown
        ],
        colours=output.STATES,
    )


def _is_well(node: NodeStatus) -> bool:
    daemons = all(daemon.running and not daemon.outdated for daemon in node.daemons)
    return node.running and daemons and (node.registered or not node.is_chassis)


def _show_tunnels(status: Status, limit: int | None) -> None:
    shown = [node for node in status.nodes if node.tunnels]
    if not shown:
        return
    output.line()
    if _is_large(shown, limit):
        up = {node.name: sum(tunnel.working for tunnel in node.tunnels) for node in shown}
        ends = sum(len(node.tunnels) for node in shown)
        output.line(
            f"tunnels: {sum(up.values())} of {ends} ends up, {min(up.values())} to {max(up.values())} a chassis"
        )
        shown = [node for node in shown if up[node.name] < max(up.values()) or up[node.name] < len(node.tunnels)]
        if not shown:
            return
    rows = [row for node in shown for row in _tunnels(node)]
    output.table(("TUNNELS FROM", "TO", "ENCAP", "STATE"), rows, colours=output.STATES)


def _show_gateways(status: Status) -> None:
    if not status.gateways:
        return
    output.line()
    rows = [
        (one.port, one.router, one.state, one.chassis or "-", ", ".join(one.candidates) or "-")
        for one in status.gateways
    ]
    output.table(("GATEWAY PORT", "ROUTER", "STATE", "CHASSIS", "CANDIDATES"), rows, colours=output.STATES)


def _show_ports(status: Status, limit: int | None) -> None:
    shown = list(status.ports)
    if not shown:
        return
    output.line()
    if _is_large(shown, limit):
        states = [_port_state(port) for port in shown]
        totals = ", ".join(f"{states.count(state)} {state}" for state in ("up", "down", "unbound"))
        output.line(f"ports: {len(shown)}, of which {totals}")
        shown = [port for port in shown if _port_state(port) == "down"]
        if not shown:
            return
    output.table(
        ("PORT", "SWITCH", "ADDRESSES", "STATE", "CHASSIS", "KEY"),
        [_port(port) for port in shown],
        colours=output.STATES,
    )


MOST_NAMED = 6
"""Peers that are named; of more only the number is told."""


def _tunnels(node: NodeStatus) -> Iterator[tuple[str, ...]]:
    """Yield a row for all tunnels of a node that are alike."""
    kinds = dict.fromkeys((tunnel.encap, tunnel.working) for tunnel in node.tunnels)
    for encap, working in kinds:
        peers = sorted(t.peer for t in node.tunnels if (t.encap, t.working) == (encap, working))
        named = ", ".join(peers) if len(peers) <= MOST_NAMED or not working else f"{len(peers)} chassis"
        yield (node.name, named, encap, "up" if working else "down")


def _behind(member: MemberStatus) -> str:
    if member.behind is None:
        return "?"
    return f"{member.behind} entries" if member.behind > 1 else "1 entry" if member.behind else "nothing"


def _node(node: NodeStatus, behind: int = 0) -> tuple[str, ...]:
    missing = [daemon.name for daemon in node.daemons if not daemon.running]
    silent = [daemon.name for daemon in node.daemons if daemon.running and not daemon.answers]
    wrong = [f"not running: {', '.join(missing)}"] if missing else []
    wrong += [f"does not answer: {', '.join(silent)}"] if silent else []
    wrong += [f"ovn-controller is {behind} behind"] if behind else []
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


def _port_state(port: PortStatus) -> str:
    return "up" if port.up else "down" if port.chassis else "unbound"


def _port(port: PortStatus) -> tuple[str, ...]:
    key = "" if port.tunnel_key is None else str(port.tunnel_key)
    return (port.name, port.switch, "; ".join(port.addresses), _port_state(port), port.chassis or "-", key)
