"""Gateways: router ports that are bound nowhere, or to a chassis without their physical network; BFD of routes."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.names import LogicalPort
from ovnlab.insight.probe_packet import bridge_mappings
from ovnlab.insight.snapshot import LabSnapshot, ZoneSnapshot
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for zone in snapshot.zones.values():
        if not zone.southbound:
            continue
        for port in zone.names.ports.values():
            if port.type == "chassisredirect":
                yield from _redirect(snapshot, zone, port)
            elif port.type == "l3gateway" and "l3gateway-chassis" in port.options:
                yield from _gateway_router(port)
        yield from _distributed_nat(snapshot, zone)
        for row in zone.northbound.get("BFD", ()):
            yield from _bfd(row)


def networks_of(zone: ZoneSnapshot, router_port: str) -> list[str]:
    """Return the physical networks of the switch that a router port is on."""
    own = zone.names.ports.get(router_port)
    peer = zone.names.peer(own) if own is not None else None
    switch = peer.datapath if peer is not None else ""
    if not switch:
        switch = next(
            (
                p.datapath
                for p in zone.names.ports.values()
                if p.type == "patch" and p.options.get("peer") == router_port
            ),
            "",
        )
    return [p.options.get("network_name", "") for p in zone.names.ports_of(switch) if p.type == "localnet"]


def _preferred(zone: ZoneSnapshot, router_port: str) -> list[str]:
    """Return the chassis that may have a gateway port, the preferred first, of the Northbound database."""
    ports = [row for row in zone.northbound.get("Logical_Router_Port", ()) if row["name"] == router_port]
    found: list[tuple[int, str]] = []
    rows = {row["_uuid"]: row for row in zone.northbound.get("Gateway_Chassis", ())}
    members = {row["_uuid"]: row for row in zone.northbound.get("HA_Chassis", ())}
    groups = {row["_uuid"]: row for row in zone.northbound.get("HA_Chassis_Group", ())}
    for port in ports:
        having = [rows[uuid] for uuid in _list(port["gateway_chassis"]) if uuid in rows]
        found += [(-row["priority"], row["chassis_name"]) for row in having]
        for group in _list(port["ha_chassis_group"]):
            having = [members[uuid] for uuid in _list(groups.get(group, {}).get("ha_chassis")) if uuid in members]
            found += [(-row["priority"], row["chassis_name"]) for row in having]
    return [name for _, name in sorted(found)]


def _list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def _redirect(snapshot: LabSnapshot, zone: ZoneSnapshot, port: LogicalPort) -> Iterator[Finding]:
    router_port = port.options.get("distributed-port", port.name.removeprefix("cr-"))
    router, wanted = port.datapath, _preferred(zone, router_port)
    effects = (f"gateway {router}",)
    keys = frozenset({f"gateway-port {router}", *(f"active {name}" for name in wanted[:1])})
    told = f"Port_Binding {port.name} type=chassisredirect chassis={port.chassis or '[]'}"
    if port.chassis is None:
        yield Finding(
            "gateway-unbound",
            f"gateway port {router_port} of router {router}",
            f"is bound to no chassis ({', '.join(wanted) or 'none'} may have it)",
            (told,),
            f"ovnlab logs {wanted[0]} ovn-controller" if wanted else "ovnlab up",
            keys=keys,
            effects=effects,
        )
        return
    yield from _without_network(
        snapshot,
        port.chassis,
        networks_of(zone, router_port),
        f"gateway port {router_port} of router {router}",
        effects,
    )
    if wanted and port.chassis != wanted[0] and wanted[0] in snapshot.nodes:
        yield Finding(
            "gateway-failover",
            f"gateway port {router_port} of router {router}",
            f"is on {port.chassis}, and {wanted[0]} is preferred",
            (told, f"preferred: {', '.join(wanted)}"),
            f"ovnlab vsctl {wanted[0]} --columns=name,bfd_status find Interface bfd:enable=true",
            certainty=LIKELY,
            keys=keys,
            may=effects,
        )


def _without_network(
    snapshot: LabSnapshot, chassis: str, networks: list[str], what: str, effects: tuple[str, ...]
) -> Iterator[Finding]:
    seen = snapshot.nodes.get(chassis)
    if seen is None or not seen.ids:
        return
    mapped = bridge_mappings(seen.ids.get("ovn-bridge-mappings", ""))
    lacking = [network for network in networks if network and network not in mapped]
    node = snapshot.topology.node(chassis)
    meant = [network for network in lacking if node is not None and node.nic(network) is not None]
    if not lacking or meant:  # the mapping itself is what is wrong, and is told
        return
    yield Finding(
        "without-network",
        what,
        f"is on {chassis}, which is not on physical network {', '.join(lacking)}",
        (f"{chassis}: ovn-bridge-mappings={seen.ids.get('ovn-bridge-mappings', 'not set')}",),
        f"ovnlab explain {chassis}",
        keys=frozenset({f"gateway-port {what}"}),
        effects=effects,
    )


def _gateway_router(port: LogicalPort) -> Iterator[Finding]:
    wanted = port.options["l3gateway-chassis"]
    if port.chassis is not None:
        return
    yield Finding(
        "gateway-router-unbound",
        f"gateway router {port.datapath}",
        f"is on no chassis: {wanted} does not claim its ports",
        (f"Port_Binding {port.name} type=l3gateway chassis=[], wanted {wanted}",),
        f"ovnlab logs {wanted} ovn-controller",
        keys=frozenset({f"gateway-port {port.datapath}", f"claims {wanted}"}),
        effects=(f"gateway {port.datapath}", f"router {port.datapath}"),
    )


def _distributed_nat(snapshot: LabSnapshot, zone: ZoneSnapshot) -> Iterator[Finding]:
    """Yield floating IPs that the VM's own chassis speaks for, which has to be on the network (ovn-nb(5), NAT)."""
    nats: list[LiveRow] = [row for row in snapshot.rows if row.table == "NAT" and row.zone == zone.name]
    for nat in nats:
        columns = nat.columns
        if not columns["logical_port"] or not columns["external_mac"] or nat.parent is None:
            continue
        port = zone.names.ports.get(columns["logical_port"][0])
        if port is None or port.chassis is None:
            continue
        outside = [p.name.removeprefix("cr-") for p in zone.names.ports_of(nat.parent) if p.type == "chassisredirect"]
        networks = [network for name in outside for network in networks_of(zone, name)]
        what = f"distributed floating IP {columns['external_ip']} of {port.name}"
        yield from _without_network(
            snapshot,
            port.chassis,
            networks,
            what,
            (f"floating {columns['external_ip']}", f"floating {port.name}"),
        )


def _bfd(row: Row) -> Iterator[Finding]:
    status = row["status"] if isinstance(row["status"], str) else ""
    if status not in ("", "up", "admin_down"):
        yield Finding(
            "route-bfd",
            f"BFD of {row['logical_port']} to {row['dst_ip']}",
            f"is {status}: routes that depend on it are not used",
            (f"BFD logical_port={row['logical_port']} dst_ip={row['dst_ip']} status={status}",),
            f"ovnlab nbctl list BFD {row['_uuid'][:8]}",
            keys=frozenset({f"route-bfd {row['logical_port']}"}),
            may=("gateway *", "router *"),
        )


CAUSE = Cause(
    name="gateways",
    title="A gateway that nobody is, or that is on the wrong chassis",
    reads="Port_Binding of type chassisredirect and l3gateway, Gateway_Chassis, HA_Chassis, localnet ports, bridge "
    "mappings, NAT, BFD",
    certainty="certain; a failover: likely",
    explains="pairs to and from outside by that router",
    remedy="what made it fail over; ovnlab up",
    find=_find,
)
