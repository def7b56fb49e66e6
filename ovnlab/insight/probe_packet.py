"""The packet that a trace is about: from whom, to whom, and all that its headers must say for that."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.insight.lab_view import LabView, ZoneView
from ovnlab.insight.names import LogicalPort
from ovnlab.nodes.target import Target
from ovnlab.tasks.probe import BoundVM
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import eui64, host_of, ip_of, is_mac
from ovnlab.topology.resolved import interface_name
from ovnlab.topology.unknown_name import unknown_name

_TERM = re.compile(r"\s*([a-z][a-z0-9._]*)\s*==\s*(\"[^\"]*\"|[^\s&|!]+)\s*$")

_EPHEMERAL = (49152, 65535)
"""Ports that a probe is sent from (RFC 6335, 6)."""


class NoNextHop(OvnlabError):
    """A machine that sends nothing to an address, because it knows no next hop."""


class NoRoute(NoNextHop):
    """A machine that sends nothing to an address, because it has no route there."""


@dataclass(frozen=True)
class End:
    """An end of a packet's path: a fake VM, another machine of the topology, or only an address.

    `port` is its logical port, `node` where it is, `place` what runs commands there, None for a mere address.
    """

    name: str
    ip: str = ""
    mac: str = ""
    port: LogicalPort | None = None
    node: str = ""
    place: Target | None = None
    bound: BoundVM | None = None
    ips: tuple[str, ...] = ()
    device: str = ""


@dataclass(frozen=True)
class ProbePacket:
    """A packet. `fields` are those of an OVN expression (ovn-sb(5), Logical_Flow match), with their values.

    `datapath` is where it enters, `chassis` on which one, `in_port` by which port of its br-int; `marker` bytes of its
    payload that no other packet has. `unsent` says why its source would not send it; `mistaken` that the source has
    another MAC address for its next hop than that has; `size` is that of the payload in bytes, 0 for the least.
    """

    source: End
    destination: End
    protocol: str
    zone: ZoneView
    datapath: str
    chassis: str
    in_port: str
    fields: Mapping[str, str]
    more: str = ""
    marker: bytes = b""
    next_hop: str = ""
    unsent: str = ""
    mistaken: str = ""
    size: int = 0

    @property
    def microflow(self) -> str:
        """Return the packet as an OVN expression."""
        terms = [f"{key} == {value}" for key, value in self.fields.items()]
        return " && ".join([*terms, *([f"({self.more})"] if self.more else [])])


@dataclass(frozen=True)
class TraceRequest:
    """A request for a trace. `ip` selects one of the destination's addresses, empty for any."""

    source: str
    destination: str
    protocol: str = "icmp"
    port: int = 0
    expression: str = ""
    ip: str = ""
    size: int = 0


def question(look: LabView, wish: TraceRequest, *, strict: bool = True) -> ProbePacket:
    """Return the packet that is meant. Raises UsageError for what nobody can be.

    Where no packet can leave, it raises OvnlabError if `strict`, otherwise the question says why.
    """
    source = endpoint(look, wish.source)
    port = source.port
    if port is None:
        raise UsageError(
            f"{wish.source} is at no logical port, and a trace begins at one",
            hint=f"trace from {_some_vms(look)}",
        )
    zone = look.zone_of(source.node or look.topology.central.name)
    given, more = _terms(wish.expression)
    if "inport" in given or "inport" in more:
        raise UsageError("--expr cannot have another inport: name the port as SRC")
    destination = endpoint(look, wish.destination, near=source)
    if wish.ip:
        destination = dataclasses.replace(destination, ip=wish.ip, ips=(wish.ip,))
    if destination.port is not None and destination.port.name == port.name and port.type != "localnet":
        raise UsageError(f"{wish.source} and {wish.destination} are the same port: such a packet never leaves it")
    version = _version(source, destination)
    source = dataclasses.replace(source, ip=_of_version(source.ips, version) or source.ip)
    destination = dataclasses.replace(destination, ip=_of_version(destination.ips, version) or destination.ip)
    if not destination.ip and not destination.mac:
        raise OvnlabError("has no address", where=wish.destination)
    unsent = mistaken = ""
    try:
        mac, hop, known = _next_hop(look, zone, source, destination)
        if known:
            mac, mistaken = known, f"{source.name} has {known} as MAC address of {hop}, which has {mac}"
    except NoNextHop as error:
        if strict or "eth.dst" in given:
            raise
        mac, hop, unsent = _any_hop(zone, source, destination), "", f"{source.name} {error.message}"
    if port.type == "localnet":
        chassis, in_port = _entry(look, zone, source, destination)
    else:
        chassis, in_port = source.node, source.bound.port if source.bound else interface_name(source.name)
    fields = {
        "inport": f'"{port.name}"',
        "eth.src": source.mac,
        "eth.dst": mac,
        **_above(wish, source.ip, destination.ip, version),
    }
    fields = {**_without_overridden(fields, given), **given}
    if any(key.startswith("arp.") for key in fields):  # as the packet is made, so it is asked about
        fields.setdefault("arp.op", "1")
        fields.setdefault("arp.sha", source.mac)
    return ProbePacket(
        source, destination, wish.protocol, zone, port.datapath, chassis, in_port, fields, more,
        secrets.token_bytes(16), hop, unsent, mistaken, _fitting(source, version, wish),
    )  # fmt: skip


def _fitting(source: End, version: int, wish: TraceRequest) -> int:
    """Return the size of a payload. Raises UsageError for more than the source's MTU lets out in one packet."""
    headers = (20 if version == 4 else 40) + (20 if wish.protocol == "tcp" else 8)
    mtu = source.bound.mtu if source.bound is not None else 0
    if wish.size and mtu and wish.size + headers > mtu:
        most = mtu - headers
        raise UsageError(f"invalid --size {wish.size}: expected at most {most}, as {source.name} has MTU {mtu}")
    return wish.size


def _terms(expression: str) -> tuple[dict[str, str], str]:
    """Return the fields that an expression gives one value each, and the rest of it."""
    if not expression.strip():
        return {}, ""
    if re.search(r"\|\||!|\(|<|>", expression):
        return {}, expression
    found: dict[str, str] = {}
    rest = []
    for term in expression.split("&&"):
        match = _TERM.match(term)
        if match:
            found[match[1]] = match[2]
        else:
            rest.append(term.strip())
    return found, " && ".join(rest)


def _without_overridden(fields: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that still make sense beside those given: another protocol replaces this one."""
    layers = {"icmp4", "icmp6", "tcp", "udp", "sctp"}
    mine = {key.partition(".")[0] for key in given} & layers
    left = dict(fields)
    if mine:
        left = {key: value for key, value in left.items() if key.partition(".")[0] not in layers - mine}
    if any(key.startswith("arp.") for key in given):
        left = {key: value for key, value in left.items() if key.partition(".")[0] in ("inport", "eth")}
    return left


def _above(wish: TraceRequest, source: str, destination: str, version: int) -> dict[str, str]:
    """Return the fields from IP up."""
    if not destination or not source:
        return {}
    ip = f"ip{version}"
    fields = {f"{ip}.src": source, f"{ip}.dst": destination, "ip.ttl": "64"}
    if wish.protocol == "icmp":
        kind = "icmp4" if version == 4 else "icmp6"
        return {**fields, f"{kind}.type": "8" if version == 4 else "128", f"{kind}.code": "0"}
    lowest, highest = _EPHEMERAL
    fields[f"{wish.protocol}.src"] = str(lowest + secrets.randbelow(highest - lowest))
    fields[f"{wish.protocol}.dst"] = str(wish.port)
    if wish.protocol == "tcp":
        fields["tcp.flags"] = "2"  # SYN
    return fields


def endpoint(look: LabView, name: str, near: End | None = None) -> End:
    """Return a fake VM by its name, a node, or whoever has an address."""
    home = look.home(name)
    if home is not None:
        node, bound = home
        port = look.zone_of(node).names.ports.get(name)
        ips = tuple(ip_of(address) for address in bound.addresses)
        place = Target(name, look.nodes[node], vm=name, interface=interface_name(name)) if node in look.nodes else None
        mac = bound.mac or next(iter(port.macs if port else ()), "")
        every = ips or (port.ips if port else ())
        return End(name, next(iter(ips), ""), mac, port, node, place, bound, every, interface_name(name))
    vlan = look.topology.vlan(name)
    if vlan is not None:
        return _vlan_endpoint(look, name)
    node_of = look.topology.node(name)
    if node_of is not None:
        return _node_endpoint(look, name)
    for zone in look.zones.values():
        if name in zone.names.ports:
            port = zone.names.ports[name]
            return End(
                name, next(iter(port.ips), ""), next(iter(port.macs), ""), port, port.chassis or "", ips=port.ips
            )
    if look.topology.vm(name) is not None:
        raise OvnlabError("is not bound to a node", where=name, hint=f"ovnlab bind {name} NODE")
    if is_mac(name):
        return _whoever(look, name, near, by_mac=True)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise unknown_name(look.topology, name) from None
    return _whoever(look, str(ipaddress.ip_address(name)), near)


def _vlan_endpoint(look: LabView, name: str) -> End:
    vm, vlan = look.topology.vlan(name) or (None, None)
    home = look.home(vm.name) if vm else None
    if vm is None or vlan is None or home is None:
        raise OvnlabError("is not bound to a node", where=name)
    node, bound = home
    ips = tuple(ip_of(address) for address in vlan.addresses)
    running = look.nodes.get(node)
    place = Target(name, running, vm=vm.name, interface=vlan.interface, is_vlan=True) if running else None
    port = look.zone_of(node).names.ports.get(name)
    return End(name, next(iter(ips), ""), vlan.mac, port, node, place, bound, ips, vlan.interface)


def _node_endpoint(look: LabView, name: str) -> End:
    """Return a machine of the topology, at the localnet port of the physical network that it is on."""
    node = look.topology.node(name)
    if node is None:
        raise unknown_name(look.topology, name)
    running = look.nodes.get(name)
    state = look.states.get(name)
    for nic in node.nics:
        joined = [
            port
            for zone in look.zones.values()
            for port in zone.names.ports.values()
            if port.type == "localnet" and port.options.get("network_name") == nic.network
        ]
        port = min(joined, key=lambda port: port.tag, default=None)  # a machine's NIC tags nothing
        device = state.device(nic.carrier) if state else None
        ips = tuple(ip_of(address) for address in (device.addresses if device else nic.addresses))
        if ips:
            place = Target(name, running, interface=nic.carrier) if running else None
            mac = (device.mac if device else "") or nic.mac
            return End(name, ips[0], mac, port, name, place, None, ips)
    place = Target(name, running, interface=node.underlay_device) if running else None
    return End(name, node.ip, node.mac, None, name, place, None, node.addresses)


def _whoever(look: LabView, address: str, near: End | None, *, by_mac: bool = False) -> End:
    """Return whoever has an address: a fake VM, another machine, a logical port, or nobody that is known."""
    having = [
        bound.name
        for state in look.states.values()
        for bound in state.vms
        if (address == bound.mac if by_mac else address in [ip_of(word) for word in bound.addresses])
    ]
    if having:  # of several the one that can be meant: tenants may have the same addresses
        nearest = min((endpoint(look, name) for name in having), key=lambda end: distance(look, near, end))
        return dataclasses.replace(nearest, ip="" if by_mac else address, ips=() if by_mac else (address,))
    for found in look.topology.nodes:
        if not found.chassis and any(address == ip for ip in _node_ips(look, found.name)) and not by_mac:
            return dataclasses.replace(endpoint(look, found.name), ip=address, ips=(address,))
    for zone in look.zones.values():
        for port in zone.names.ports.values():
            if port.type != "chassisredirect" and (address in port.macs if by_mac else address in port.ips):
                mac = port.mac_of(address) or next(iter(port.macs), "")
                kind = port if port.type in ("", "localport", "vtep", "virtual") else None
                return End(address, "" if by_mac else address, mac, kind, ips=() if by_mac else (address,))
    return End(address, "" if by_mac else address, address.lower() if by_mac else "", ips=() if by_mac else (address,))


def distance(look: LabView, near: End | None, end: End) -> int:
    """Return how far two ends are from each other: 0 on one logical switch, 1 where routers join theirs, 2 where none
    do.
    """
    if near is None or near.port is None or end.port is None:
        return 1
    if near.port.datapath == end.port.datapath:
        return 0
    names = look.zone_of(near.node).names
    joined, new = {near.port.datapath}, [near.port.datapath]
    while new:
        datapath = new.pop()
        peers = (names.peer(port) for port in names.ports_of(datapath))
        beside = {peer.datapath for peer in peers if peer is not None} - joined
        joined |= beside
        new += beside
    return 1 if end.port.datapath in joined or len(look.zones) > 1 else 2


def _node_ips(look: LabView, name: str) -> list[str]:
    state, node = look.states.get(name), look.topology.node(name)
    if state is None or node is None:
        return []
    return [ip_of(word) for nic in node.nics for word in state.device(nic.carrier).addresses]


def _version(source: End, destination: End) -> int:
    """Return the IP version that both have; that of the destination where it is one address."""
    theirs = [ipaddress.ip_address(ip).version for ip in destination.ips]
    mine = [ipaddress.ip_address(ip).version for ip in source.ips]
    both = [version for version in theirs if version in mine]
    return next(iter([*both, *theirs, *mine]), 4)


def _of_version(ips: tuple[str, ...], version: int) -> str:
    return next((ip for ip in ips if ipaddress.ip_address(ip).version == version), "")


@dataclass(frozen=True)
class EgressRoute:
    """The route of a machine to an address: the next hop (itself if it is near), and the MACs that it knows."""

    hop: str | None
    neighbours: Mapping[str, str] = field(default_factory=dict)


def way(end: End, address: str) -> EgressRoute:
    """Ask a machine's own routes, or where it cannot be asked go by what it was bound as.

    `hop` is None where it has no route to there.
    """
    if end.bound is not None and end.place is None and address:
        return EgressRoute(_hop(end.bound, address, end.device))
    if end.place is None or not address:
        return EgressRoute(address or None)
    script = f"set -- {address}\n{render('node/look-up-route.sh.j2')}"
    if end.place.vm:
        script = f"ip netns exec {end.place.vm} sh -s <<'ovnlab-end'\n{script}\novnlab-end"
    printed = run_script(end.place.node.context, script, where=f"{end.name}: its routes")
    facts = dict(line.partition(" ")[::2] for line in printed.splitlines())
    routes = msgspec.json.decode(facts.get("route") or "[]")
    known = {
        entry["dst"]: entry["lladdr"]
        for entry in msgspec.json.decode(facts.get("neighbours") or "[]")
        if "lladdr" in entry and "dst" in entry
    }
    if not routes:
        return EgressRoute(None, known)
    return EgressRoute(routes[0].get("gateway") or routes[0].get("via", {}).get("host") or address, known)


def _hop(bound: BoundVM, address: str, device: str) -> str | None:
    """Return the next hop by the routes in a fake VM's namespace that leave by a device."""
    wanted = ipaddress.ip_address(address)
    found = [(ipaddress.ip_network(route.network), route.gateway) for route in bound.routes if route.device == device]
    leading = [(network.prefixlen, hop) for network, hop in found if wanted in network]
    return (max(leading)[1] or address) if leading else None


def _next_hop(look: LabView, zone: ZoneView, source: End, destination: End) -> tuple[str, str, str]:
    """Return the MAC address that the packet goes to, and whose IP address that is.

    The third is what the source has for that MAC address where it is another one.
    """
    if not destination.ip:
        return destination.mac, "", ""
    if many := _of_many(source, destination.ip):
        return many, "", ""
    found = way(source, destination.ip)
    if found.hop is None:
        raise NoRoute(
            f"has no route to {destination.ip}: nothing leaves it",
            where=source.name,
            hint=f"ovnlab exec {source.name} -- ip route",
        )
    known = found.neighbours.get(found.hop, "")
    macs = _macs_of(look, zone, source, found.hop)
    if macs:
        mistaken = known and known not in macs and known not in _holders(look, found.hop)
        return macs[0], found.hop, known if mistaken else ""
    if known:
        return known, found.hop, ""
    if destination.ip == found.hop and destination.mac and destination.node:
        return destination.mac, found.hop, ""
    datapath = source.port.datapath if source.port else ""
    routers = [peer for port in zone.names.ports_of(datapath) if (peer := zone.names.peer(port))]
    mac = next((mac for peer in routers for mac in peer.macs if _answers(look, found.hop)), None)
    if mac:
        return mac, found.hop, ""
    raise NoNextHop(
        f"sends packets for {destination.ip} to {found.hop}, and nobody is known to have that address",
        where=source.name,
        hint="--expr 'eth.dst == MAC' says whom to send it to",
    )


def _macs_of(look: LabView, zone: ZoneView, source: End, hop: str) -> list[str]:
    """Return the MAC addresses of whoever has an address on the source's logical switch."""
    datapath = source.port.datapath if source.port else ""
    found = []
    for port in list(zone.names.ports_of(datapath)):  # a port of the same switch, or of a router on it
        peer = zone.names.peer(port)
        found += [mac for candidate in (port, peer) if candidate and (mac := candidate.mac_of(hop))]
        found += [mac for mac in (peer.macs if peer else ()) if link_local(mac) == hop]
    distributed = _distributed(look, hop)
    if distributed is not None and not found:
        found.append(distributed[0])
    return [mac.lower() for mac in found]


def _holders(look: LabView, ip: str) -> set[str]:
    """Return the MAC addresses of the fake VMs that have an address, whatever OVN knows of them."""
    return {
        bound.mac
        for state in look.states.values()
        for bound in state.vms
        if ip in (ip_of(word) for word in bound.addresses)
    }


def _any_hop(zone: ZoneView, source: End, destination: End) -> str:
    """Return the next hop if the source had a route: the destination on the same switch, or a router."""
    datapath = source.port.datapath if source.port else ""
    if destination.port is not None and destination.port.datapath == datapath and destination.mac:
        return destination.mac
    routers = [peer for port in zone.names.ports_of(datapath) if (peer := zone.names.peer(port))]
    return next((mac for peer in routers for mac in peer.macs), destination.mac or "ff:ff:ff:ff:ff:ff")


def link_local(mac: str) -> str:
    """Return the IPv6 address that a router's port has by its MAC address."""
    return eui64("fe80::/64", mac)


def _of_many(source: End, ip: str) -> str:
    """Return the MAC address of a broadcast or multicast address (RFC 1112, 6.4; RFC 2464, 7); empty for any other."""
    address = ipaddress.ip_address(ip)
    if address.is_multicast and address.version == 4:
        return f"01:00:5e:{int(address) >> 16 & 0x7F:02x}:{int(address) >> 8 & 0xFF:02x}:{int(address) & 0xFF:02x}"
    if address.is_multicast:
        return ":".join(["33", "33", *(f"{byte:02x}" for byte in address.packed[-4:])])
    networks = [ipaddress.ip_interface(word).network for word in (source.bound.addresses if source.bound else ())]
    broadcasts = {str(network.broadcast_address) for network in networks if network.version == 4}
    return "ff:ff:ff:ff:ff:ff" if ip in {"255.255.255.255", *broadcasts} else ""


def _distributed(look: LabView, ip: str) -> tuple[str, str] | None:
    """Return the MAC and the logical port of a floating IP that is translated where its fake VM is (ovn-nb(5), NAT)."""
    for row in look.northbound:
        if row.table == "NAT" and row.columns["external_ip"] == ip and row.columns["external_mac"]:
            return str(row.columns["external_mac"][0]), str(next(iter(row.columns["logical_port"]), ""))
    return None


def _answers(look: LabView, ip: str) -> bool:
    """Return True if routers answer for an address that is on none of their ports: of NAT, or of a load balancer."""
    for row in look.northbound:
        if row.table == "NAT" and row.columns.get("external_ip") == ip:
            return True
        if row.table == "Load_Balancer":
            vips = row.columns.get("vips", {})
            if any(host_of(vip) == ip for vip in vips):
                return True
    return False


def _entry(look: LabView, zone: ZoneView, source: End, destination: End) -> tuple[str, str]:
    """Return the chassis where packets of a physical network enter, and the port of br-int that they enter by.

    Where the destination is on the same logical switch, its own; the one of a floating IP that is distributed;
    otherwise the one that speaks for the router there, or any that is on that network.
    """
    port = source.port
    if port is None:
        return "", ""
    network = port.options.get("network_name", "")
    mapped = [
        name
        for name, state in look.states.items()
        if network in bridge_mappings(state.external_ids.get("ovn-bridge-mappings", ""))
    ]
    if not mapped:
        raise OvnlabError(f"no chassis has a bridge for physical network {network}", where=source.name)
    routers = [peer for near in zone.names.ports_of(port.datapath) if (peer := zone.names.peer(near))]
    redirects = [zone.names.ports.get(peer.options.get("chassis-redirect-port", "")) for peer in routers]
    active = [found.chassis for found in redirects if found is not None and found.chassis in mapped]
    near = destination.port
    own = [near.chassis] if near is not None and near.datapath == port.datapath and near.chassis in mapped else []
    floating = _distributed(look, destination.ip)
    if floating is not None and floating[1] in zone.names.ports:
        own += [chassis] if (chassis := zone.names.ports[floating[1]].chassis) else []
    chassis = next(iter([*filter(None, own), *filter(None, active), *mapped]))
    return chassis, f"patch-br-int-to-{port.name}"


def bridge_mappings(text: str) -> dict[str, str]:
    """Return the bridge of each physical network (ovn-controller(8), external_ids:ovn-bridge-mappings)."""
    return dict(part.strip().partition(":")[::2] for part in text.split(",") if ":" in part)


def _some_vms(look: LabView) -> str:
    names = [bound.name for state in look.states.values() for bound in state.vms][:4]
    return ", ".join(names) or "a fake VM that is bound"
