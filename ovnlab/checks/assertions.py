"""Assertions on the state of a lab: pure functions of a status. Nothing here asks or sends anything."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.checks.check_result import CheckResult, failed, held
from ovnlab.lab.status import DaemonStatus, NodeStatus, PortStatus, Status, family
from ovnlab.topology.resolved import Topology


def daemon_runs(node: NodeStatus, daemon: DaemonStatus) -> CheckResult:
    """Return whether a daemon that should run does, from the software of its node."""
    title = f"{daemon.name} runs on {node.name}"
    if not node.running:
        return failed("daemons", title, "running", f"{node.name} does not run", "ovnlab up")
    if not daemon.running:
        return failed("daemons", title, "running", "not running", f"ovnlab logs {node.name}")
    if not daemon.answers:
        return failed("daemons", title, "running", "does not answer", "ovnlab diagnose")
    if daemon.outdated:
        return failed("daemons", title, "of what its node has", f"{daemon.version}, of another build", "ovnlab up")
    return held("daemons", title, daemon.version or "running")


def versions(status: Status, topology: Topology) -> Iterator[CheckResult]:
    """Yield whether nodes that should have the same OVS and OVN run the same."""
    groups: dict[str, list[NodeStatus]] = {}
    for node in status.nodes:
        found = topology.node(node.name)
        groups.setdefault(repr(found.software) if found else "", []).append(node)
    for nodes in groups.values():
        for kind in ("OVS", "OVN"):
            running: dict[str, list[str]] = {}
            for node in nodes:
                for daemon in node.daemons:
                    if daemon.running and daemon.version and family(daemon.name) == kind:
                        running.setdefault(daemon.version, []).append(f"{daemon.name} on {node.name}")
            names = ", ".join(node.name for node in nodes)
            if len(running) > 1:
                few = min(running.items(), key=lambda item: len(item[1]))
                told = f"{', '.join(sorted(running))} ({few[0]}: {', '.join(few[1][:3])})"
                yield failed("versions", f"one {kind} on {names}", "one version", told, "ovnlab up")
            elif running:
                yield held("versions", f"one {kind} on {names}", next(iter(running)))


def chassis_registered(node: NodeStatus) -> CheckResult:
    """Return whether a chassis has a row in the Southbound database (ovn-sb(5), Chassis)."""
    title = f"{node.name} is registered as a chassis"
    if node.registered:
        return held("chassis", title, f"encap {node.encap}")
    return failed("chassis", title, "a row in Chassis", "none", f"ovnlab logs {node.name}")


def tunnel_up(node: NodeStatus, peer: str) -> CheckResult:
    """Return whether a node has a working tunnel port to a peer."""
    title = f"{node.name} has a tunnel to {peer}"
    found = [tunnel for tunnel in node.tunnels if tunnel.peer == peer]
    working = next((tunnel for tunnel in found if tunnel.working), None)
    if working:
        return held("tunnels", title, f"{working.encap} to {working.remote_ip}")
    observed = "a port without an OpenFlow number" if found else "none"
    return failed("tunnels", title, "a tunnel port", observed, f"ovnlab vsctl {node.name} show")


def port_bound(port: PortStatus, chassis: str | None = None) -> CheckResult:
    """Return whether a logical switch port is bound, to `chassis` where one is named, and up."""
    where = f" on {chassis}" if chassis else ""
    title = f"{port.name} is bound{where} and up"
    expected = f"bound to {chassis}, up" if chassis else "bound, up"
    if port.chassis is None:
        return failed("ports", title, expected, "bound nowhere", f"ovnlab explain {port.name}")
    observed = f"bound to {port.chassis}, {'up' if port.up else 'down'}"
    if (chassis and port.chassis != chassis) or not port.up:
        return failed("ports", title, expected, observed, f"ovnlab explain {port.name}")
    return held("ports", title, observed)


def all_of(status: Status, topology: Topology) -> Iterator[CheckResult]:
    """Yield daemons, versions, chassis, the mesh of tunnels, and the ports that are bound, or that the file binds."""
    for node in status.nodes:
        yield from (daemon_runs(node, daemon) for daemon in node.daemons)
    yield from versions(status, topology)
    yield from (chassis_registered(node) for node in status.nodes if node.is_chassis)
    for node in status.nodes:
        wanted = topology.node(node.name)
        if wanted is not None and wanted.chassis:
            yield from (tunnel_up(node, peer.name) for peer in topology.peers(wanted))
    running = {node.name for node in status.nodes if node.running}
    for port in status.ports:
        vm = topology.vm(port.name)
        if port.chassis is not None and port.chassis not in running:
            title = f"{port.name} is bound and up"
            yield failed("ports", title, "bound, up", f"bound to {port.chassis}, which does not run", "ovnlab up")
        elif port.chassis is not None or (vm is not None and vm.chassis):
            yield port_bound(port)
