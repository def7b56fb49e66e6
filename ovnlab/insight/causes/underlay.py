"""The network below the tunnels: NICs, addresses, MTU, routes hop by hop, neighbours, and what shapes or filters."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.ovsdb.client import Row
from ovnlab.topology.resolved import Node

MOST_HOPS = 8
REFUSING = ("blackhole", "unreachable", "prohibit", "throw")
"""Types of routes that lead nowhere (ip-route(8))."""
SLOWING = ("netem", "tbf", "htb", "ingress")
"""Queueing disciplines that nothing of a lab sets by itself (tc(8))."""


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for node in snapshot.topology.nodes:
        seen = snapshot.nodes.get(node.name)
        if seen is None or not seen.network[0]:
            continue
        yield from _devices(snapshot, node, seen)
        yield from _shaping(seen)
    owners = _owners(snapshot)
    yield from _twins(snapshot)
    yield from _ways(snapshot, owners)
    yield from _neighbours(snapshot, owners)


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _devices(snapshot: LabSnapshot, node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    mtu = snapshot.topology.underlay.mtu
    own = [] if not node.underlay_device else ["eth1"]
    if node.underlay_device == "br-eth1":
        own.append("br-eth1")
    for device in own:
        yield from _device(node, seen, device, mtu, everything_on(node.name))
    for nic in node.nics:
        effects = (f"physical {node.name} {nic.network}", *(everything_on(node.name) if node.role == "host" else ()))
        yield from _device(node, seen, nic.device, 0, effects)
    if node.underlay_device:
        yield from _address(node, seen)


def _device(node: Node, seen: NodeSnapshot, name: str, mtu: int, effects: tuple[str, ...]) -> Iterator[Finding]:
    link = seen.links.get(name)
    where, keys = f"{name} of {node.name}", frozenset({f"nic {node.name} {name}"})
    if link is None:
        yield Finding(
            "nic-missing",
            where,
            "is not there",
            (f"{node.name}: ip link has no {name}",),
            "ovnlab up",
            keys=keys,
            effects=effects,
        )
        return
    flags = link.get("flags", [])
    if "UP" not in flags:
        yield Finding(
            "nic-down",
            where,
            "is down",
            (f"{node.name}: ip link: {name} is not UP",),
            f"ovnlab exec {node.name} -- ip link set {name} up",
            keys=keys,
            effects=effects,
            drift=(f"configure {node.name}: {name} is down",),
        )
        return
    if "NO-CARRIER" in flags or link.get("operstate") == "LOWERLAYERDOWN":
        yield Finding(
            "nic-no-carrier",
            where,
            "has no carrier: the other end of its link is down",
            (f"{node.name}: ip link: {name} is NO-CARRIER",),
            "ovnlab up",
            keys=keys,
            effects=effects,
        )
        return
    if mtu and link.get("mtu") != mtu:
        smaller = link.get("mtu", 0) < mtu
        yield Finding(
            "nic-mtu",
            where,
            f"has MTU {link.get('mtu')} instead of {mtu}" + (": larger packets are lost" if smaller else ""),
            (f"{node.name}: ip link: {name} mtu {link.get('mtu')}",),
            f"ovnlab exec {node.name} -- ip link set {name} mtu {mtu}",
            keys=frozenset({*keys, f"mtu {node.name}"}),
            effects=(f"size node {node.name}", f"size tunnel {node.name} *", f"size tunnel * {node.name}")
            if smaller
            else (),
            drift=(f"configure {node.name}: {name} has MTU {link.get('mtu')} instead of {mtu}",),
        )


def _address(node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    device = node.underlay_device
    found = seen.state.device(device).addresses
    if node.cidr in found:
        return
    yield Finding(
        "address",
        f"{device} of {node.name}",
        f"has {', '.join(found) or 'no address'} instead of {node.cidr}",
        (f"{node.name}: ip address show {device}",),
        "ovnlab up",
        keys=frozenset({f"address {node.name}"}),
        effects=(*everything_on(node.name), f"route {node.name}"),
        drift=(f"configure {node.name}: {device} has {', '.join(found) or 'no address'} instead of {node.cidr}",),
    )


def _shaping(seen: NodeSnapshot) -> Iterator[Finding]:
    for line in seen.answer("shaping").text.splitlines():
        for row in _json(line):
            if row.get("kind") in SLOWING and not str(row.get("dev", "")).startswith(("lo", "ovs-")):
                where = "ingress" if row["kind"] == "ingress" else "root"
                options = ", ".join(f"{key} {value}" for key, value in row.get("options", {}).items())
                yield Finding(
                    "shaped",
                    f"{row['dev']} of {seen.name}",
                    f"has the queueing discipline {row['kind']}, which delays or drops",
                    (f"{seen.name}: tc qdisc: {row['kind']} {options}".strip(),),
                    f"ovnlab exec {seen.name} -- tc qdisc del dev {row['dev']} {where}",
                    certainty=LIKELY,
                    keys=frozenset({f"shaping {seen.name}"}),
                    may=everything_on(seen.name),
                )
    for name, row in seen.interfaces.items():
        if row["ingress_policing_rate"]:
            yield Finding(
                "policed",
                f"interface {name} of {seen.name}",
                f"lets in no more than {row['ingress_policing_rate']} kbit/s",
                (f"{seen.name}: Interface ingress_policing_rate={row['ingress_policing_rate']}",),
                f"ovnlab vsctl {seen.name} set Interface {name} ingress_policing_rate=0",
                certainty=LIKELY,
                keys=frozenset({f"shaping {seen.name}"}),
                may=everything_on(seen.name),
            )


def _json(line: str) -> list[Row]:
    try:
        found = json.loads(line)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Owner:
    """The owner of an address: node, device and MAC."""

    node: str
    device: str
    mac: str


def _owners(snapshot: LabSnapshot) -> dict[str, _Owner]:
    """Return who has each address. That of a NIC which is in a bridge is the bridge's, whose MAC peers learn."""
    return {
        address["local"]: _Owner(seen.name, link["ifname"], link.get("address", ""))
        for seen in snapshot.nodes.values()
        for link in seen.network[0]
        if "ifname" in link and seen.bridge_of(link["ifname"]) in ("", link["ifname"])
        for address in link.get("addr_info", ())
        if address.get("scope") == "global" and "local" in address
    }


def _twins(snapshot: LabSnapshot) -> Iterator[Finding]:
    """Yield two nodes with one address on the underlay."""
    having: dict[str, list[str]] = {}
    for seen in snapshot.nodes.values():
        own = {
            a.get("local") for link in seen.network[0] for a in link.get("addr_info", ()) if a.get("scope") == "global"
        }
        for address in own:
            having.setdefault(str(address), []).append(seen.name)
    for node in snapshot.topology.nodes:
        others = [name for name in having.get(node.ip, ()) if name != node.name] if node.ip else []
        for name in others:
            yield Finding(
                "address-twice",
                f"address {node.ip}",
                f"is on {name}, and is that of {node.name}",
                (f"{name}: ip address",),
                "ovnlab up",
                keys=frozenset({f"address {name}"}),
                effects=(*everything_on(node.name), *everything_on(name)),
            )


def _route(seen: NodeSnapshot, address: str) -> Row | None:
    """Return the route of the main table that an address takes, None where there is none (longest prefix, lowest
    metric).
    """
    wanted = ipaddress.ip_address(address)
    best: tuple[int, int, Row] | None = None
    for route in seen.network[1]:
        if "table" in route or route.get("type") in ("local", "broadcast", "multicast", "anycast"):
            continue
        prefix = route.get("dst", "")
        if prefix == "default":
            prefix = "::/0" if wanted.version == 6 else "0.0.0.0/0"
            if (":" in str(route.get("gateway", ""))) != (wanted.version == 6) and "gateway" in route:
                continue
        network = ipaddress.ip_network(prefix, strict=False)
        if wanted.version == network.version and wanted in network:
            key = (network.prefixlen, -int(route.get("metric", 0)))
            if best is None or key > best[:2]:
                best = (*key, route)
    return best[2] if best else None


def _hops(route: Row) -> list[tuple[str, str]]:
    """Return gateway (empty on the link) and device of each next hop."""
    return [
        (str(hop.get("gateway") or hop.get("via", {}).get("host", "")), str(hop.get("dev", "")))
        for hop in route.get("nexthops", [route])
    ]


def _ways(snapshot: LabSnapshot, owners: Mapping[str, _Owner]) -> Iterator[Finding]:
    """Walk from every chassis to each of its peers, and to its databases, as the routes say."""
    told: dict[tuple[str, str], tuple[Finding, set[tuple[str, str]]]] = {}
    nodes = {node.name: node for node in snapshot.topology.nodes}
    for node in snapshot.topology.nodes:
        if not node.ip or node.name not in snapshot.nodes or node.machine.host:
            continue
        others = [
            *snapshot.topology.peers(node),
            *(c for c in snapshot.topology.centrals(node.zone) if c.name != node.name),
        ]
        for peer in others:
            lost = _walk(snapshot, nodes, owners, node.name, peer.ip)
            if lost is None:
                continue
            key = (lost.object, lost.problem)
            told.setdefault(key, (lost, set()))[1].add((node.name, peer.name))
    for finding, pairs in told.values():
        effects = [key for a, b in sorted(pairs) for key in _between(snapshot, a, b)]
        yield Finding(
            finding.cause,
            finding.object,
            finding.problem,
            finding.evidence,
            finding.remedy,
            finding.certainty,
            finding.keys,
            tuple(dict.fromkeys(effects)),
            (),
            finding.drift,
        )


def _between(snapshot: LabSnapshot, a: str, b: str) -> tuple[str, ...]:
    central = snapshot.topology.node(b)
    database = (f"connection {a}", f"lag {a}", f"claims {a}", f"registered {a}") if central and central.central else ()
    return (f"tunnel {a} {b}", f"size tunnel {a} {b}", f"bfd {a} {b}", f"bfd {b} {a}", f"underlay {a} {b}", *database)


def _walk(
    snapshot: LabSnapshot, nodes: Mapping[str, Node], owners: Mapping[str, _Owner], start: str, address: str
) -> Finding | None:
    """Return what is wrong with the routes on the way, None where it leads there, or cannot be followed."""
    at = start
    for _ in range(MOST_HOPS):
        seen = snapshot.nodes.get(at)
        if seen is None or not seen.answer("network").ok:
            return None
        own = {a.get("local") for link in seen.network[0] for a in link.get("addr_info", ())}
        if address in own:
            return None
        if at != start and not _forwards(seen, address):
            return Finding(
                "no-forwarding",
                at,
                "does not forward packets between its networks",
                (f"{at}: net.ipv4.ip_forward is 0",),
                f"ovnlab exec {at} -- sysctl -w net.ipv4.ip_forward=1",
                keys=frozenset({f"route {at}"}),
            )
        route = _route(seen, address)
        if route is None or route.get("type") in REFUSING:
            return _no_route(nodes, at, address, route)
        hops = _hops(route)
        foreign = _foreign(nodes, at, address, route, hops)
        if foreign is not None:
            return foreign
        gateway, device = hops[0]
        link = seen.links.get(device, {})
        if "UP" not in link.get("flags", ["UP"]):
            return None  # the device says it
        if not gateway:
            return None  # on the link: neighbours are looked at elsewhere
        owner = owners.get(gateway)
        if owner is None or owner.node == at:
            return Finding(
                "no-gateway",
                f"the route of {at} to {address}",
                f"goes via {gateway}, which no node has",
                (f"{at}: ip route get {address}: via {gateway} dev {device}",),
                "ovnlab up",
                keys=frozenset({f"route {at}"}),
            )
        at = owner.node
    return Finding(
        "route-loop",
        f"the routes to {address}",
        f"lead from {start} in a circle",
        (f"{MOST_HOPS} hops were followed",),
        "ovnlab up",
        keys=frozenset({f"route {start}"}),
    )


def _forwards(seen: NodeSnapshot, address: str) -> bool:
    answer = seen.answer("forwarding").text.split()
    wanted = answer[1:2] if ":" in address else answer[:1]
    return wanted != ["0"]


def _no_route(nodes: Mapping[str, Node], at: str, address: str, route: Row | None) -> Finding:
    node = nodes.get(at)
    meant = next((r for r in node.routes if _contains(r.prefix, address)), None) if node else None
    if route is not None:
        problem, evidence = f"has a route to {address} that leads nowhere", f"{route.get('type')} {route.get('dst')}"
    else:
        problem, evidence = f"has no route to {address}", "no route of the main table matches"
    network = (
        meant.prefix
        if meant
        else str(ipaddress.ip_network(node.cidr, strict=False))
        if node and node.cidr and _contains(node.cidr, address)
        else address
    )
    on_link = not meant and node is not None and bool(node.cidr) and _contains(node.cidr, address)
    remedy = "ovnlab up"
    if route is not None:
        remedy = f"ovnlab exec {at} -- ip route del {route.get('type')} {route.get('dst')}"
    if on_link and node is not None and route is None:
        problem = f"has no route to its own network {network}"
        remedy = f"ovnlab exec {at} -- ip route replace {network} dev {node.underlay_device} src {node.ip}"
    return Finding(
        "no-route",
        f"routes of {at}",
        problem,
        (f"{at}: ip route: {evidence}",),
        remedy,
        keys=frozenset({f"route {at}"}),
        drift=(
            f"configure {at}: the route to {network}",
            f"configure {at}: there is no route to {network}",
        ),
    )


def _foreign(
    nodes: Mapping[str, Node], at: str, address: str, route: Row, hops: list[tuple[str, str]]
) -> Finding | None:
    """Return a route to an address of the node's own network that does not go by its own device."""
    node = nodes.get(at)
    if node is None or not node.cidr or not _contains(node.cidr, address) or not node.underlay_device:
        return None
    gateway, device = hops[0]
    if not gateway and device in (node.underlay_device, "eth1"):
        return None
    how = f"via {gateway} dev {device}" if gateway else f"dev {device}"
    return Finding(
        "route-foreign",
        f"routes of {at}",
        f"the route to {address} goes {how}, and it is on the link of {node.underlay_device}",
        (f"{at}: ip route: {route.get('dst')} {how}",),
        f"ovnlab exec {at} -- ip route del {route.get('dst')}",
        keys=frozenset({f"route {at}"}),
    )


def _contains(prefix: str, address: str) -> bool:
    network, own = ipaddress.ip_network(prefix, strict=False), ipaddress.ip_address(address)
    return network.version == own.version and own in network


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────────────────────


def _neighbours(snapshot: LabSnapshot, owners: Mapping[str, _Owner]) -> Iterator[Finding]:
    """Yield wrong MAC addresses of peers: in the kernel, and in the userspace datapath's tunnels."""
    ips = {node.ip: node.name for node in snapshot.topology.nodes if node.ip}
    for seen in snapshot.nodes.values():
        known = {
            str(n.get("dst")): (str(n.get("lladdr", "")), "ip neigh", n) for n in seen.network[2] if n.get("lladdr")
        }
        tunnels: dict[str, tuple[str, str, Row]] = {
            ip: (mac, "ovs-appctl tnl/neigh/show", {}) for ip, (mac, _) in seen.tunnel_neighbours.items()
        }
        for source in (known, tunnels):
            for ip, (mac, tool, row) in source.items():
                owner = owners.get(ip)
                if (
                    ip not in ips
                    or owner is None
                    or not owner.mac
                    or owner.node == seen.name
                    or mac.lower() == owner.mac.lower()
                ):
                    continue
                route = _route(seen, ip)
                if "FAILED" in row.get("state", ()) or route is None or any(gateway for gateway, _ in _hops(route)):
                    continue  # what is beyond a router has that one's MAC
                drop = (
                    f"ovnlab exec {seen.name} -- ip neigh del {ip} dev {row.get('dev')}"
                    if row
                    else f"ovnlab appctl {seen.name} tnl/neigh/set br-eth1 {ip} {owner.mac}"
                )
                a, b = seen.name, owner.node
                yield Finding(
                    "neighbour",
                    f"neighbour {ip} on {a}",
                    f"has MAC {mac}, and {b} has {owner.mac}",
                    (f"{a}: {tool}: {ip} {mac}",),
                    drop,
                    keys=frozenset({f"neighbour {a}"}),
                    effects=_between(snapshot, a, b),
                )


CAUSE = Cause(
    name="underlay",
    title="The underlay does not carry the tunnels",
    reads="ip link, address, route (walked hop by hop through routers of the lab), neigh and rule of each node, "
    "tnl/neigh/show, tc qdisc",
    certainty="certain; shaping: likely",
    explains="pairs through the tunnels of the node, BFD that is down, chassis that are not connected; a smaller MTU: "
    "pairs that fail with large packets only",
    remedy="the ip command that puts it back, or ovnlab up",
    find=_find,
)
