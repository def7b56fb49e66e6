"""Services that should answer and do not listen, and limits that are reached."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.northbound.live import LiveRow
from ovnlab.topology.addresses import host_of, ip_of, port_of

FULL = 0.95
"""The part of its connections above which connection tracking is as good as full."""


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    homes = {
        ip_of(address): (seen, bound.name)
        for seen in snapshot.nodes.values()
        for bound in seen.state.vms
        for address in bound.addresses
    }
    told: set[tuple[str, int]] = set()
    for row in snapshot.rows:
        if row.table == "Load_Balancer":
            for finding, key in _backends(row, homes):
                told.add(key)
                yield finding
    yield from _servers(snapshot, told)
    yield from _monitors(snapshot)


def _backends(row: LiveRow, homes: dict[str, tuple[NodeSnapshot, str]]) -> Iterator[tuple[Finding, tuple[str, int]]]:
    """Yield backends at fake VMs where nobody listens."""
    if (row.columns["protocol"] or ("tcp",))[0] != "tcp":
        return
    for vip, behind in row.columns["vips"].items():
        for backend in filter(None, (word.strip() for word in behind.split(","))):
            seen, vm = homes.get(host_of(backend), (None, ""))
            port = port_of(backend)
            inside = seen.inside(vm) if seen is not None else None
            if seen is None or inside is None or not port or port in inside.listening:
                continue
            yield (
                Finding(
                    "no-listener",
                    f"backend {backend} ({vm}) of load balancer {row.name}",
                    f"nobody listens at TCP port {port} of {vm}: it refuses",
                    (
                        f"{seen.name}: {vm}: /proc/net/tcp has no listener at {port}",
                        f"Load_Balancer {row.name}: {vip} → {behind}",
                    ),
                    "ovnlab up",
                    keys=frozenset({f"serves {seen.name} {vm}"}),
                    effects=(f"balancer {row.name}", f"vip {host_of(vip)}", f"tcp {vm} {port}"),
                    drift=(f"bind {vm} to {seen.name}", f"unbind {vm} from {seen.name}"),
                ),
                (vm, port),
            )


def _servers(snapshot: LabSnapshot, told: set[tuple[str, int]]) -> Iterator[Finding]:
    """Yield servers that the file asks for."""
    for seen in snapshot.nodes.values():
        for bound in seen.state.vms:
            wanted = snapshot.topology.vm(bound.name)
            inside = seen.inside(bound.name)
            if wanted is None or inside is None:
                continue
            missing = [
                port for port in wanted.serves if port not in inside.listening and (bound.name, port) not in told
            ]
            if missing:
                yield Finding(
                    "no-server",
                    f"server of fake VM {bound.name}",
                    f"does not listen at TCP port {', '.join(map(str, missing))}: it refuses",
                    (f"{seen.name}: {bound.name}: /proc/net/tcp",),
                    "ovnlab up",
                    keys=frozenset({f"serves {seen.name} {bound.name}"}),
                    effects=tuple(f"tcp {bound.name} {port}" for port in missing),
                    drift=(f"bind {bound.name} to {seen.name}", f"unbind {bound.name} from {seen.name}"),
                )


def _monitors(snapshot: LabSnapshot) -> Iterator[Finding]:
    """Yield backends that OVN's health checks find offline (ovn-sb(5), Service_Monitor)."""
    for zone in snapshot.zones.values():
        for row in zone.table("Service_Monitor"):
            if row["status"] == "offline":
                home = snapshot.home(row["logical_port"])
                yield Finding(
                    "backend-offline",
                    f"backend {row['ip']}:{row['port']} ({row['logical_port']})",
                    "is offline by OVN's health check: it gets no connections",
                    (f"Service_Monitor {row['_uuid'][:8]} status=offline",),
                    f"ovnlab explain {row['logical_port']}",
                    keys=frozenset({f"serves {home} {row['logical_port']}", f"vm {row['logical_port']}"}),
                    effects=(),
                )


CAUSE = Cause(
    name="services",
    title="A server or backend that does not answer",
    reads="listening TCP ports in each namespace, Load_Balancer, Service_Monitor",
    certainty="certain",
    explains="connections to the load balancer or the server",
    remedy="ovnlab up",
    find=_find,
)


def _find_limits(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for seen in snapshot.nodes.values():
        used, most = (_number(seen.answer(name).text) for name in ("connections", "most-connections"))
        if used is not None and most and used >= most * FULL:
            yield Finding(
                "conntrack-full",
                f"connection tracking of {seen.name}",
                f"is full: {used} of {most} connections, and new ones are dropped",
                (f"{seen.name}: ovs-appctl dpctl/ct-get-nconns: {used}; dpctl/ct-get-maxconns: {most}",),
                f"ovnlab appctl {seen.name} dpctl/ct-set-maxconns 3000000",
                keys=frozenset({f"limit {seen.name}"}),
                effects=(f"node {seen.name}",),
            )
        elif most is not None and most < FEW:
            yield Finding(
                "conntrack-small",
                f"connection tracking of {seen.name}",
                f"takes no more than {most} connections",
                (f"{seen.name}: ovs-appctl dpctl/ct-get-maxconns: {most}",),
                f"ovnlab appctl {seen.name} dpctl/ct-set-maxconns 3000000",
                certainty=LIKELY,
                keys=frozenset({f"limit {seen.name}"}),
                may=(f"node {seen.name}",),
            )


FEW = 1000
"""Connections that the datapath takes where somebody has limited them; it takes 3,000,000 by itself."""


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isdigit() else None


LIMITS = Cause(
    name="limits",
    title="A limit that is reached",
    reads="dpctl/ct-get-nconns and ct-get-maxconns of each switch",
    certainty="certain where it is full, likely where it is small",
    explains="pairs through the node that need connection tracking",
    remedy="dpctl/ct-set-maxconns",
    find=_find_limits,
)
