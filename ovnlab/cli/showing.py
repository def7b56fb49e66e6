"""The status of a lab, for people."""

from __future__ import annotations

from ovnlab.cli import output
from ovnlab.status import NodeStatus, PortStatus, Status

_COLOURS = {
    "up": "green", "down": "red", "degraded": "yellow", "missing": "red", "yes": "green", "no": "red",
    "unbound": "dim", "running": "green", "not running": "red",
}  # fmt: skip


def show(status: Status) -> None:
    """Three tables: nodes, tunnels, ports."""
    versions = sorted({f"{_family(d.name)} {d.version}" for n in status.nodes for d in n.daemons if d.version})
    state = output.coloured(status.state, _COLOURS[status.state])
    output.line(f"lab {output.coloured(status.lab, 'bold')} is {state} — {', '.join([status.provider, *versions])}")
    output.line()
    output.table(
        ("NODE", "ROLE", "ADDRESS", "STATE", "CHASSIS", "ENCAP", "DAEMONS"),
        [_node(node) for node in status.nodes],
        colours=_COLOURS,
    )
    tunnels = [
        (node.name, t.peer, t.encap, t.remote_ip, "up" if t.working else "down")
        for node in status.nodes
        for t in node.tunnels
    ]
    if tunnels:
        output.line()
        output.table(("TUNNEL FROM", "TO", "ENCAP", "REMOTE IP", "STATE"), tunnels, colours=_COLOURS)
    if status.ports:
        output.line()
        output.table(
            ("PORT", "SWITCH", "ADDRESSES", "STATE", "CHASSIS", "KEY"),
            [_port(p) for p in status.ports],
            colours=_COLOURS,
        )


def _family(daemon: str) -> str:
    return "OVN" if daemon in ("ovn-northd", "ovn-controller") else "OVS"


def _node(node: NodeStatus) -> tuple[str, ...]:
    missing = [daemon.name for daemon in node.daemons if not daemon.running]
    daemons = f"not running: {', '.join(missing)}" if missing else f"all {len(node.daemons)} running"
    return (
        node.name,
        node.role,
        node.ip,
        "running" if node.running else "not running",
        "yes" if node.registered else "no",
        node.encap,
        daemons if node.running else "",
    )


def _port(port: PortStatus) -> tuple[str, ...]:
    state = "up" if port.up else "down" if port.chassis else "unbound"
    key = "" if port.tunnel_key is None else str(port.tunnel_key)
    return (port.name, port.switch, "; ".join(port.addresses), state, port.chassis or "-", key)
