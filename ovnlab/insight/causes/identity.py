"""The identity of a chassis: system-id, encapsulation, transport zones, and its Southbound row."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.ovsdb.client import listed
from ovnlab.topology.resolved import Node


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    chassis = [(node, snapshot.nodes[node.name]) for node in snapshot.topology.chassis if node.name in snapshot.nodes]
    for node, seen in chassis:
        if not seen.ids:
            continue
        others = [other for _, other in chassis if other is not seen]
        yield from _system_id(node, seen, others)
        yield from _encap_ip(node, seen, others)
        yield from _encap_type(snapshot, node, seen)
        yield from _registered(snapshot, node, seen)
    yield from _zones_apart(snapshot)
    yield from _strangers(snapshot)


def _tunnels(name: str) -> tuple[str, ...]:
    return (
        f"tunnel {name} *",
        f"tunnel * {name}",
        f"size tunnel {name} *",
        f"size tunnel * {name}",
        f"active {name}",
        f"bfd {name} *",
        f"bfd * {name}",
    )


def _system_id(node: Node, seen: NodeSnapshot, others: list[NodeSnapshot]) -> Iterator[Finding]:
    own = seen.ids.get("system-id", "")
    if own == node.name:
        return
    same = [other.name for other in others if other.ids.get("system-id") == own]
    problem = f"is {own or 'not set'} instead of {node.name}"
    effects = everything_on(node.name)
    if same:
        problem += f", which is also that of {', '.join(same)}: they fight over one row of Chassis"
        effects += tuple(key for name in same for key in everything_on(name))
    yield Finding(
        "system-id",
        f"system-id of {node.name}",
        problem,
        (f"{node.name}: Open_vSwitch external_ids:system-id={own or 'not set'}",),
        "ovnlab up",
        keys=frozenset({f"identity {node.name}"}),
        effects=(*effects, f"identity {own}"),
        drift=(f"configure {node.name}: system-id is {own or 'not set'} instead of {node.name}",),
    )


def _encap_ip(node: Node, seen: NodeSnapshot, others: list[NodeSnapshot]) -> Iterator[Finding]:
    own = seen.ids.get("ovn-encap-ip", "")
    addresses = {a["local"] for link in seen.network[0] for a in link.get("addr_info", ()) if "local" in a}
    same = [other.name for other in others if other.ids.get("ovn-encap-ip") == own]
    if own == node.ip and not same:
        return
    if own == node.ip:
        return  # the other one says it
    problem = f"is {own or 'not set'} instead of {node.ip}"
    if same:
        problem += f", which is that of {', '.join(same)} as well"
    elif own and addresses and own not in addresses:
        problem += f", which is not an address of {node.name}: tunnels to it end nowhere"
    effects = _tunnels(node.name) + tuple(key for name in same for key in _tunnels(name))
    yield Finding(
        "encap-ip",
        f"ovn-encap-ip of {node.name}",
        problem,
        (f"{node.name}: Open_vSwitch external_ids:ovn-encap-ip={own or 'not set'}",),
        "ovnlab up",
        keys=frozenset({f"encap {node.name}"}),
        effects=(*effects, f"registered {node.name}", f"lag {node.name}"),
        drift=(f"configure {node.name}: ovn-encap-ip is {own or 'not set'} instead of {node.ip}",),
    )


def _encap_type(snapshot: LabSnapshot, node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    own, meant = seen.ids.get("ovn-encap-type", ""), ",".join(node.encaps)
    if own == meant:
        return
    apart = [
        peer.name
        for peer in snapshot.topology.peers(node)
        if peer.name in snapshot.nodes
        and not set(own.split(",")) & set(snapshot.nodes[peer.name].ids.get("ovn-encap-type", "").split(","))
    ]
    problem = f"is {own or 'not set'} instead of {meant}"
    if apart:
        problem += f": no encapsulation in common with {', '.join(apart)}"
    yield Finding(
        "encap-type",
        f"ovn-encap-type of {node.name}",
        problem,
        (f"{node.name}: Open_vSwitch external_ids:ovn-encap-type={own or 'not set'}",),
        "ovnlab up",
        keys=frozenset({f"encap {node.name}"}),
        effects=_tunnels(node.name),
        drift=(f"configure {node.name}: ovn-encap-type is {own or 'not set'} instead of {meant}",),
    )


def _registered(snapshot: LabSnapshot, node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    zone = snapshot.zone_of(node.name)
    if zone is None or not zone.southbound or node.name in zone.chassis:
        return
    yield Finding(
        "not-registered",
        f"chassis {node.name}",
        "has no row in the Southbound database",
        (
            f"Chassis has {', '.join(sorted(zone.chassis)) or 'no rows'}",
            *(f"{node.name}, its log: {line.rpartition('|')[2]}" for line in seen.log("ovn-controller")[-2:]),
        ),
        f"ovnlab appctl {node.name} -t ovn-controller exit --restart; ovnlab up",
        keys=frozenset({f"registered {node.name}"}),
        effects=everything_on(node.name),
    )


def _zones_of(snapshot: LabSnapshot, name: str) -> set[str]:
    """Return the transport zones of a chassis (ovn-controller(8), ovn-transport-zones)."""
    zone = snapshot.zone_of(name)
    row = zone.chassis.get(name) if zone is not None else None
    said = snapshot.nodes[name].ids.get("ovn-transport-zones", "")
    return set(filter(None, said.split(","))) or set(listed(row["transport_zones"]) if row else ())


def _zones_apart(snapshot: LabSnapshot) -> Iterator[Finding]:
    for node in snapshot.topology.chassis:
        if node.name not in snapshot.nodes or not (own := _zones_of(snapshot, node.name)):
            continue
        peers = [peer.name for peer in snapshot.topology.peers(node) if peer.name in snapshot.nodes]
        apart = [name for name in peers if not own & _zones_of(snapshot, name)]
        if not apart:
            continue
        told = ", ".join(sorted(own))
        yield Finding(
            "transport-zones",
            f"ovn-transport-zones of {node.name}",
            f"are {told}: none in common with {', '.join(apart)}, so there is no tunnel",
            (f"{node.name}: Open_vSwitch external_ids:ovn-transport-zones={told}",),
            "ovnlab up",
            keys=frozenset({f"encap {node.name}"}),
            effects=tuple(f"tunnel {a} {b}" for peer in apart for a, b in ((node.name, peer), (peer, node.name))),
            drift=(f"configure {node.name}: ovn-transport-zones is",),
        )


def _strangers(snapshot: LabSnapshot) -> Iterator[Finding]:
    """Yield chassis that are no node of the lab, where they have an address of one."""
    nodes = {node.ip: node.name for node in snapshot.topology.nodes if node.ip}
    names = {node.name for node in snapshot.topology.nodes}
    for zone in snapshot.zones.values():
        for encap in zone.names.encaps:
            if encap.chassis in names or encap.ip not in nodes:
                continue
            yield Finding(
                "chassis-stale",
                f"chassis {encap.chassis}",
                f"is not a node of the lab, and has the encap IP {encap.ip} of {nodes[encap.ip]}",
                (f"Chassis {encap.chassis}, Encap {encap.type} {encap.ip}",),
                f"ovnlab sbctl chassis-del {encap.chassis}",
                certainty=LIKELY,
                keys=frozenset({f"identity {encap.chassis}"}),
                may=_tunnels(nodes[encap.ip]),
            )


CAUSE = Cause(
    name="identity",
    title="A chassis that is not who it should be",
    reads="Open_vSwitch external_ids of each node against the file and against one another; Chassis and Encap",
    certainty="certain; a chassis that is not a node: likely",
    explains="tunnels that are missing, chassis that are not registered, pairs through the chassis",
    remedy="ovnlab up",
    find=_find,
)
