"""Objects that a packet passes, as keys that findings explain: ends, nodes, tunnels, datapaths, gateways."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ovnlab.insight.causes.gateways import networks_of
from ovnlab.insight.names import LogicalPort
from ovnlab.insight.snapshot import LabSnapshot, ZoneSnapshot
from ovnlab.topology.addresses import host_of


@dataclass(frozen=True)
class PacketPath:
    """The keys of what a packet and its answer pass, and the tunnels that they take, in their direction."""

    keys: frozenset[str] = frozenset()
    tunnels: tuple[tuple[str, str], ...] = ()


@dataclass
class _Walk:
    """Keys and tunnels that are being collected."""

    keys: set[str] = field(default_factory=set)
    tunnels: list[tuple[str, str]] = field(default_factory=list)

    def tunnel(self, a: str, b: str) -> None:
        if a and b and a != b:
            self.tunnels += [(a, b), (b, a)]
            self.keys |= {f"tunnel {a} {b}", f"tunnel {b} {a}", f"node {a}", f"node {b}"}


def passes(snapshot: LabSnapshot, source: str, target: str, address: str) -> PacketPath:
    """Return what a packet from a fake VM or node to an address passes.

    `target` is the name of the fake VM, node or load balancer that has the address, or the address itself. Tunnel
    ports by address (`tunnel-to NODE IP`) are keys as well.
    """
    walk = _Walk()
    zone = next(
        (zone for zone in snapshot.zones.values() if source in zone.names.ports or target in zone.names.ports), None
    )
    zone = zone or next(iter(snapshot.zones.values()), None)
    if zone is None:
        return PacketPath()
    ends = _ends(snapshot, zone, target, address)
    walk.keys |= {f"vm {source}", f"inside {source}", f"vip {address}", f"floating {address}"}
    source_node = snapshot.topology.node(source)
    if source_node is not None:
        walk.keys.add(f"node {source}")
    for end in ends or [""]:
        _toward(snapshot, zone, walk, source, end, address)
    ips = {node.name: node.ip for node in snapshot.topology.nodes}
    walk.keys |= {f"tunnel-to {a} {ips.get(b, '')}" for a, b in walk.tunnels}
    return PacketPath(frozenset(walk.keys), tuple(dict.fromkeys(walk.tunnels)))


def _ends(snapshot: LabSnapshot, zone: ZoneSnapshot, target: str, address: str) -> list[str]:
    """Return the logical ports that a packet to an address comes to."""
    if target in zone.names.ports:
        return [target]
    by_ip = {ip: port.name for port in zone.names.ports.values() if not port.type for ip in port.ips}
    for row in snapshot.rows:
        if row.table == "Load_Balancer":
            behind = [b for vip, b in row.columns["vips"].items() if host_of(vip) == address]
            if behind:
                return [by_ip[host_of(b.strip())] for b in behind[0].split(",") if host_of(b.strip()) in by_ip]
        if row.table == "NAT" and row.columns["external_ip"] == address and row.columns["logical_ip"] in by_ip:
            return [by_ip[row.columns["logical_ip"]]]
    return [by_ip[address]] if address in by_ip else []


def _home(snapshot: LabSnapshot, port: LogicalPort | None, name: str) -> str:
    if port is None:
        return name if snapshot.topology.node(name) is not None else ""
    owner = port.parent or port.name
    return snapshot.home(owner) or port.chassis or ""


def _toward(snapshot: LabSnapshot, zone: ZoneSnapshot, walk: _Walk, source: str, end: str, address: str) -> None:
    names = zone.names
    near, far = names.ports.get(source), names.ports.get(end)
    here, there = _home(snapshot, near, source), _home(snapshot, far, end) if end else ""
    walk.keys |= {f"node {node}" for node in (here, there) if node}
    if end:
        walk.keys |= {f"vm {end}", f"inside {end}", f"ping to {end}"}
    for row in snapshot.rows:
        if row.table == "Load_Balancer" and any(host_of(vip) == address for vip in row.columns["vips"]):
            walk.keys.add(f"balancer {row.name}")
    if near is None and far is None:
        return
    outside = near is None or far is None
    start = near.datapath if near is not None else far.datapath if far is not None else ""
    goal = far.datapath if far is not None and near is not None else ""
    route = _route(zone, start, goal) if goal else _outward(zone, start)
    walk.keys |= {f"{names.datapaths[name].kind} {name}" for name in route if name in names.datapaths}
    routers = [name for name in route if name in names.datapaths and names.datapaths[name].kind == "router"]
    if routers:
        walk.keys |= {f"routed {name}" for name in (source, end) if name}
    physical = {
        port.options.get("network_name", "")
        for name in route
        for port in names.ports_of(name)
        if port.type == "localnet"
    }
    gateways = [(name, port) for name in routers for port in names.ports_of(name) if port.type == "chassisredirect"]
    if outside or (gateways and physical):
        _through_gateways(zone, walk, gateways, here or there, there if there and here else "")
        home = there if near is None else here
        _hosts(snapshot, walk, address if far is None else "")
        walk.keys |= {f"physical {home} {network}" for network in physical if home}
    if here and there:
        switched = not routers and physical
        if switched:
            walk.keys |= {f"physical {node} {network}" for node in (here, there) for network in physical}
        else:
            walk.tunnel(here, there)
    elif physical and not gateways:
        walk.keys |= {f"physical {node} {network}" for node in (here or there,) for network in physical}


def _through_gateways(
    zone: ZoneSnapshot, walk: _Walk, gateways: list[tuple[str, LogicalPort]], home: str, other: str
) -> None:
    for router, port in gateways:
        walk.keys.add(f"gateway {router}")
        if port.chassis:
            networks = networks_of(zone, port.options.get("distributed-port", port.name.removeprefix("cr-")))
            walk.keys |= {f"physical {port.chassis} {network}" for network in networks}
            walk.tunnel(home, port.chassis)
            walk.tunnel(other, port.chassis)


def _hosts(snapshot: LabSnapshot, walk: _Walk, address: str) -> None:
    """Walk the machine outside that has an address, and the routers of the lab between."""
    for node in snapshot.topology.nodes:
        if node.role == "host" and (address in node.addresses or node.forwards):
            walk.keys.add(f"node {node.name}")


def _neighbours(zone: ZoneSnapshot, datapath: str) -> Iterator[str]:
    for port in zone.names.ports_of(datapath):
        peer = zone.names.peer(port)
        if peer is not None:
            yield peer.datapath


def _route(zone: ZoneSnapshot, start: str, goal: str) -> list[str]:
    """Return the datapaths on the shortest way from one to another."""
    before: dict[str, str] = {start: ""}
    queue = deque([start])
    while queue:
        at = queue.popleft()
        if at == goal:
            way = [at]
            while before[way[-1]]:
                way.append(before[way[-1]])
            return way
        for following in _neighbours(zone, at):
            if following not in before:
                before[following] = at
                queue.append(following)
    return [start, goal]


def _outward(zone: ZoneSnapshot, start: str) -> list[str]:
    """Return the datapaths to the nearest switch with a physical network."""
    having = {port.datapath for port in zone.names.ports.values() if port.type == "localnet"}
    ways = [way for goal in having if len(way := _route(zone, start, goal)) > 1 or goal == start]
    return min(ways, key=len) if ways else [start]


def is_address(word: str) -> bool:
    """Return True for an IP address."""
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True
